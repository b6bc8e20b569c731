//! A connection to port 443: requests with limits in size and patience, until the client goes, the hub
//! stops, or the connection becomes a WebSocket.

use super::client::Client;
use super::{Https, Stream};
use crate::patience::Patient;
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;
use weir_core::limits;
use weir_hub::door::{Guest, Peer, Serve};
use weir_hub::tasks::Stop;

/// Serves requests on connections that the door has let in.
#[derive(Clone)]
pub(super) struct Server {
    router: Router,
}

impl Server {
    pub(super) fn new(https: Https) -> Self {
        Self { router: super::router(https) }
    }

    async fn talk(&self, stream: Stream, client: Client, stop: Stop) {
        let peer = client.peer().address;
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(client)));
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
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.draining() => {
                // The request in hand is answered, no other is read.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, %peer, "an https connection ended badly");
        }
    }
}

impl Serve for Server {
    async fn serve<S>(&self, stream: S, peer: Peer, guest: Guest, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.talk(Box::new(stream), Client::new(peer, guest), stop).await;
    }
}
