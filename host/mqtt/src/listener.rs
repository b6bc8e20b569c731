//! The door: accepts connections, makes TLS of them, and hands them to their own tasks.
//!
//! Nothing that a stranger does holds the accept loop: handshakes run in the connection's task, under
//! limits. Those who have not proven who they are may have a quarter of the places; further ones wait
//! in the system's backlog, so that a storm of honest clients is served in turn. One source may have a
//! fifth of them.

use crate::connection::Connection;
use crate::error::{Error, Refused};
use crate::handshake::{Client, Peer, first_packet, return_code, welcome};
use crate::sources::{Sources, Visit};
use crate::wire::Wire;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};
use weir_core::limits;
use weir_hub::Hub;
use weir_hub::tasks::{Stop, TaskKind};
use weir_mqtt_codec::{Connack, Packet};

/// Pause after an accept that failed: without descriptors the next one fails at once, too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a listener's bytes are protected.
#[derive(Debug, Clone)]
pub enum Security {
    /// Not at all; credentials are checked all the same.
    Plain,
    /// TLS. A new configuration holds for the next handshake; connections stay.
    Tls(watch::Receiver<Arc<rustls::ServerConfig>>),
}

/// The MQTT head; cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    hub: Hub,
    /// Places for those who have not proven who they are, of all listeners together.
    unknown: Arc<Semaphore>,
    sources: Arc<Sources>,
}

impl Server {
    /// A head for this hub.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        let unknown = Arc::new(Semaphore::new(limits::MAX_UNKNOWN_CLIENTS));
        Self { hub, unknown, sources: Arc::default() }
    }

    /// Serves a listener until the hub stops.
    pub fn listen(&self, listener: TcpListener, security: Security) {
        let server = self.clone();
        self.hub.tasks().spawn(TaskKind::Essential, "mqtt listener", move |stop| async move {
            tokio::select! {
                () = stop.draining() => {}
                () = server.accept(listener, security) => {}
            }
        });
    }

    async fn accept(&self, listener: TcpListener, security: Security) {
        let mut failing = false;
        loop {
            let Ok(place) = Arc::clone(&self.unknown).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, address)) => {
                    failing = false;
                    self.admit(stream, address, security.clone(), place);
                }
                Err(cause) => {
                    if !failing {
                        warn!(error = %cause, "connections cannot be accepted");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        security: Security,
        place: OwnedSemaphorePermit,
    ) {
        let Some(visit) = self.visit(address) else { return };
        let guest = Guest { _place: place, visit };
        let server = self.clone();
        self.hub.tasks().spawn(TaskKind::PerClient, "mqtt client", move |stop| async move {
            server.greet(stream, address, security, guest, stop).await;
        });
    }

    /// None when the connection is to be closed, because too many come from there.
    fn visit(&self, address: SocketAddr) -> Option<Visit> {
        match self.sources.enter(address.ip(), Instant::now()) {
            Ok(visit) => Some(visit),
            Err(crowded) => {
                if crowded.news {
                    warn!(peer = %address, "too many connections from there that have not logged in, further ones are closed");
                }
                None
            }
        }
    }

    async fn greet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        security: Security,
        guest: Guest,
        stop: Stop,
    ) {
        // Acknowledgements are small and wanted now.
        if let Err(cause) = stream.set_nodelay(true) {
            debug!(peer = %address, error = %cause, "the socket keeps its delay");
        }
        let peer = Peer { address, protocol: "mqtt", certificates: Vec::new() };
        // A task keeps the size of its largest step for life: the steps are boxed, and so given back.
        match security {
            Security::Plain => Box::pin(self.host(stream, peer, guest, &stop)).await,
            Security::Tls(config) => {
                let config = Arc::clone(&config.borrow());
                let handshake = Box::pin(shake_hands(stream, config));
                let shaken = tokio::select! {
                    shaken = handshake => shaken,
                    () = stop.draining() => return,
                };
                match shaken {
                    Ok((stream, certificates)) => {
                        let peer = Peer { certificates, ..peer };
                        Box::pin(self.host(stream, peer, guest, &stop)).await;
                    }
                    Err(end) => log_end(&peer, None, &end),
                }
            }
        }
    }

    /// Serves a byte stream that is open already, such as a WebSocket's, until it ends. Waits for a
    /// place among those who have not proven who they are.
    pub async fn serve<S>(&self, stream: S, peer: Peer, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let place = Arc::clone(&self.unknown).acquire_owned();
        let place = tokio::select! {
            place = place => place,
            () = stop.draining() => return,
        };
        if let (Ok(place), Some(visit)) = (place, self.visit(peer.address)) {
            Box::pin(self.host(stream, peer, Guest { _place: place, visit }, &stop)).await;
        }
    }

    /// From the first packet to the last.
    async fn host<S>(&self, stream: S, peer: Peer, guest: Guest, stop: &Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut wire = Wire::new(stream);
        let entering = Box::pin(self.enter(&mut wire, &peer));
        let entered = tokio::select! {
            entered = entering => entered,
            () = stop.draining() => Err(Error::Draining),
        };
        let client = match entered {
            Ok(client) => client,
            Err(end) => return Box::pin(self.turn_away(wire, &peer, guest, end, stop)).await,
        };
        // Its place among the unknown is free for the next.
        drop(guest);
        let session_present = client.persistent && !client.subscriptions.is_empty();
        put_connack(&mut wire, Connack::Accepted { session_present });
        let identity = client.session.identity().to_string();
        info!(client = identity, peer = %peer.address, session_present, "client connected");
        let connection = Connection::new(&self.hub, wire, client);
        let end = Box::pin(connection.run(stop)).await;
        log_end(&peer, Some(&identity), &end);
    }

    async fn enter<S>(&self, wire: &mut Wire<S>, peer: &Peer) -> Result<Client, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let packet = first_packet(wire).await?;
        welcome(&self.hub, packet, peer).await
    }

    /// Tells a client that it is not let in; those who fail often wait for it.
    async fn turn_away<S>(
        &self,
        mut wire: Wire<S>,
        peer: &Peer,
        guest: Guest,
        end: Error,
        stop: &Stop,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        log_end(peer, None, &end);
        if let Error::Refused(refused) = &end {
            if let Refused::Credentials { .. } = refused {
                let delay = guest.visit.failed(Instant::now());
                tokio::select! {
                    () = sleep(delay) => {}
                    () = stop.draining() => {}
                }
            }
            put_connack(&mut wire, return_code(refused));
        }
        if !matches!(end, Error::Lost(_)) {
            wire.close().await;
        }
    }
}

type Certificates = Vec<Vec<u8>>;

/// The TLS handshake; also says which certificates the client has shown.
async fn shake_hands(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> Result<(Box<TlsStream<TcpStream>>, Certificates), Error> {
    let limit = limits::HANDSHAKE_LIMIT;
    let stream = timeout(limit, TlsAcceptor::from(config).accept(stream))
        .await
        .map_err(|_| Error::TooSlow { step: "the TLS handshake", limit })?
        .map_err(Error::Handshake)?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = shown.iter().map(|der| der.to_vec()).collect();
    Ok((Box::new(stream), certificates))
}

/// A connection that has not proven who it is.
struct Guest {
    _place: OwnedSemaphorePermit,
    visit: Visit,
}

fn put_connack<S>(wire: &mut Wire<S>, connack: Connack) {
    Packet::Connack(connack).encode(wire.outgoing.buffer()).expect("a CONNACK has four bytes");
}

/// Everyone who comes and goes is in the log, strangers who said nothing useful only for the curious.
fn log_end(peer: &Peer, client: Option<&str>, end: &Error) {
    let reason = Chain(end);
    let address = peer.address;
    match (client, end) {
        (Some(client), end) if end.is_fault() => {
            warn!(client, peer = %address, %reason, "client broke a rule");
        }
        (Some(client), _) => info!(client, peer = %address, %reason, "client gone"),
        (None, Error::Refused(Refused::Unavailable(_))) => {
            info!(peer = %address, %reason, "client sent away");
        }
        (None, Error::Refused(_)) => warn!(peer = %address, %reason, "client refused"),
        (None, _) => debug!(peer = %address, %reason, "connection without a client"),
    }
}

/// An error with its causes on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(next) = cause {
            write!(f, ": {next}")?;
            cause = next.source();
        }
        Ok(())
    }
}
