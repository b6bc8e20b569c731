//! A connection to port 443: it keeps its client with it for all requests that come over it.

use super::client::Client;
use super::{Https, Stream};
use crate::connection;
use axum::{Extension, Router};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::debug;
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
        let router = self.router.clone().layer(Extension(client));
        let ended = connection::answer(stream, router, &stop).await;
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
