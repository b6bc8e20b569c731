//! A connection over which requests come: limits in size and patience, and an orderly end.
//!
//! The same for all listeners; what differs is who may connect, and what the router answers.

use crate::patience::Patient;
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use weir_core::limits;
use weir_hub::tasks::Stop;

/// Answers requests until the client goes, the hub stops, or the connection is upgraded.
///
/// # Errors
/// The client broke HTTP or the connection, or had no patience for a part of it.
pub(crate) async fn answer<S>(stream: S, router: Router, stop: &Stop) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let stream = TokioIo::new(Patient::new(stream, limits::API_SILENCE));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::API_HEAD_LIMIT)
        .max_buf_size(limits::API_HEAD_BYTES)
        .max_headers(limits::API_HEADERS)
        .half_close(false)
        .serve_connection(stream, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = &mut connection => ended,
        () = stop.draining() => {
            // The request in hand is answered, no other is read.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
