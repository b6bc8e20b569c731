//! Bodies from callers: bounded in bytes and in silence.

use crate::problem::Problem;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use weir_core::error_code::ErrorCode;
use weir_core::limits;

/// The whole body.
///
/// # Errors
/// 413 when it is longer than `limit`, 400 when it breaks off or nothing comes for
/// [`limits::API_SILENCE`].
pub(crate) async fn read(mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body has more than the {limit} bytes that are allowed here");
        Problem::new(ErrorCode::TooLarge, detail)
    };
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(too_large());
    }
    let mut whole = BytesMut::with_capacity(announced);
    loop {
        let frame = tokio::time::timeout(limits::API_SILENCE, body.frame()).await;
        let frame = frame.map_err(|_| {
            let silence = limits::API_SILENCE.as_secs();
            Problem::invalid(format!("nothing came of the body for {silence} s"))
        })?;
        let Some(frame) = frame else { return Ok(whole.freeze()) };
        let frame = frame.map_err(|_| Problem::invalid("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
}
