//! The door on port 443: TLS only, connections with limits in number, size and patience.
//!
//! As that of the control plane (`crate::serve`), with two differences: client certificates are kept
//! with the connection, and connections can become WebSockets.

use super::Https;
use super::client::{Client, Peer};
use crate::patience::Patient;
use axum::Extension;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};
use weir_core::limits;
use weir_hub::tasks::{Stop, TaskKind};

/// After an error of accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Door {
    pub(super) https: Https,
    pub(super) router: axum::Router,
    pub(super) tls: TlsAcceptor,
}

pub(super) async fn accept(listener: TcpListener, door: Arc<Door>, stop: Stop) {
    let places = Arc::new(Semaphore::new(limits::HTTPS_CONNECTIONS));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stop.draining() => return,
        };
        let Ok(place) = place else { return };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection to https could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = stop.draining() => return,
        };
        let door = Arc::clone(&door);
        let tasks = door.https.hub().tasks().clone();
        tasks.spawn(TaskKind::PerClient, "https client", move |stop| {
            greet(door, stream, address, place, stop)
        });
    }
}

async fn greet(
    door: Arc<Door>,
    stream: TcpStream,
    address: SocketAddr,
    place: OwnedSemaphorePermit,
    stop: Stop,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, peer = %address, "no delay could not be set");
    }
    // A task keeps the size of its largest step for life: the handshake is boxed, and so given back.
    let handshake = Box::pin(timeout(limits::HANDSHAKE_LIMIT, door.tls.accept(stream)));
    let stream = match handshake.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, peer = %address, "a handshake failed"),
        Err(_) => return debug!(peer = %address, "a handshake took too long"),
    };
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = shown.iter().map(|der| der.to_vec()).collect();
    let client = Client::new(Peer { address, certificates });
    talk(&door, stream, client, stop).await;
    drop(place);
}

async fn talk(door: &Door, stream: TlsStream<TcpStream>, client: Client, stop: Stop) {
    let peer = client.address();
    let service = TowerToHyperService::new(door.router.clone().layer(Extension(client)));
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
