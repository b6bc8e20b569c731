//! The listener: connections with limits in number, size and patience, and an orderly end.

use crate::{Api, Options, connection};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use weir_core::limits;
use weir_hub::Hub;
use weir_hub::tasks::{Stop, TaskKind};

/// After an error of accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API on `listener` until the hub drains. Returns at once; the work is done by tasks of
/// the hub.
pub fn serve(listener: TcpListener, hub: Hub, options: Options) {
    let tls = options.tls.clone().map(TlsAcceptor::from);
    let router = Api::new(hub.clone(), options).router();
    let server = Arc::new(Server { hub: hub.clone(), router, tls });
    hub.tasks().spawn(TaskKind::Essential, "api", move |stop| accept(listener, server, stop));
}

struct Server {
    hub: Hub,
    router: axum::Router,
    tls: Option<TlsAcceptor>,
}

async fn accept(listener: TcpListener, server: Arc<Server>, stop: Stop) {
    let places = Arc::new(Semaphore::new(limits::API_CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.draining() => return,
        };
        let Ok(place) = place else { return };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection to the api could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.draining() => return,
        };
        let server = Arc::clone(&server);
        let hub = server.hub.clone();
        hub.tasks().spawn(TaskKind::PerClient, "api-client", move |stop| {
            client(server, stream, peer, place, stop)
        });
    }
}

async fn client(
    server: Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    place: OwnedSemaphorePermit,
    stop: Stop,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, %peer, "no delay could not be set");
    }
    let Some(acceptor) = &server.tls else {
        return talk(&server, stream, peer, stop, place).await;
    };
    let handshake = tokio::time::timeout(limits::HANDSHAKE_LIMIT, acceptor.accept(stream));
    match handshake.await {
        Ok(Ok(stream)) => talk(&server, stream, peer, stop, place).await,
        Ok(Err(error)) => debug!(%error, %peer, "a handshake with the api failed"),
        Err(_) => debug!(%peer, "a handshake with the api took too long"),
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    server: &Server,
    stream: S,
    peer: SocketAddr,
    stop: Stop,
    _place: OwnedSemaphorePermit,
) {
    let ended = connection::answer(stream, server.router.clone(), &stop).await;
    if let Err(error) = ended {
        debug!(%error, %peer, "a connection to the api ended badly");
    }
}
