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

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use std::convert::Infallible;
    use std::time::Duration;

    /// Pieces of 4 bytes with a pause before each; it never ends.
    fn drip(pause: Duration) -> Body {
        let pieces = futures::stream::repeat(()).then(move |()| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, Infallible>(Bytes::from_static(b"drip"))
        });
        Body::from_stream(pieces)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_falls_silent_is_given_up() {
        let refused = read(drip(Duration::from_secs(11)), 100).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidRequest);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_without_a_length_is_cut_at_the_limit() {
        let refused = read(drip(Duration::from_secs(1)), 100).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::TooLarge);
        let whole = read(Body::from("x".repeat(100)), 100).await.unwrap();
        assert_eq!(whole.len(), 100);
    }
}
