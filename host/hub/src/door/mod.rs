//! The door that heads share: accepts connections, makes TLS of them, and hands them to their own tasks.
//!
//! A head has one [`Door`] for all its listeners. Nothing that a stranger does holds an accept loop:
//! handshakes run in the connection's task, under limits. Those who have not proven who they are may
//! have a quarter of the places, one source a fifth of these; further ones wait, accepted and not yet
//! listened to, so that a storm of honest clients is served in turn and none of them is sent away: a
//! whole site may come from one address when the hub has started again. Who has proven who he is gives
//! up his [`Guest`].

mod sources;

use crate::Hub;
use crate::tasks::{Stop, TaskKind};
use sources::{Knock, Sources, Visit};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};
use weir_core::limits;

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

/// Where a connection comes from.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// How it speaks, for people: `mqtt`, `amqp-ws`.
    pub protocol: &'static str,
    /// The certificates that the client has shown in the TLS handshake, in DER, its own first.
    pub certificates: Vec<Vec<u8>>,
}

/// A connection that has not proven who it is; dropped when it has.
#[derive(Debug)]
pub struct Guest(Visit);

impl Guest {
    /// The credentials were refused; says how long the client is to wait for its answer.
    #[must_use]
    pub fn failed(&self) -> Duration {
        self.0.failed(Instant::now())
    }
}

/// What a head does with a byte stream. Cheap to clone.
pub trait Serve: Clone + Send + Sync + 'static {
    /// Serves a client until it goes, or the hub stops.
    fn serve<S>(
        &self,
        stream: S,
        peer: Peer,
        guest: Guest,
        stop: Stop,
    ) -> impl Future<Output = ()> + Send
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// The places of one head; cheap to clone.
#[derive(Debug, Clone)]
pub struct Door {
    hub: Hub,
    sources: Arc<Sources>,
}

impl Door {
    /// A door to this hub.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        Self { hub, sources: Arc::default() }
    }

    /// Serves a listener until the hub stops; `protocol` also names its tasks.
    pub fn listen(
        &self,
        protocol: &'static str,
        listener: TcpListener,
        security: Security,
        head: impl Serve,
    ) {
        let door = self.clone();
        self.hub.tasks().spawn(TaskKind::Essential, protocol, move |stop| async move {
            tokio::select! {
                () = stop.draining() => {}
                () = door.accept(protocol, listener, security, head) => {}
            }
        });
    }

    async fn accept(
        &self,
        protocol: &'static str,
        listener: TcpListener,
        security: Security,
        head: impl Serve,
    ) {
        let mut failing = false;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    failing = false;
                    let Some(knock) = self.knock(address) else { continue };
                    let peer = Peer { address, protocol, certificates: Vec::new() };
                    let (security, head) = (security.clone(), head.clone());
                    self.hub.tasks().spawn(TaskKind::PerClient, protocol, move |stop| async move {
                        if let Some(guest) = Box::pin(admit(knock, address, &stop)).await {
                            greet(stream, peer, security, guest, head, stop).await;
                        }
                    });
                }
                Err(cause) => {
                    if !failing {
                        warn!(protocol, error = %cause, "connections cannot be accepted");
                    }
                    failing = true;
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// None when the connection is to be closed, because too many wait already.
    fn knock(&self, address: SocketAddr) -> Option<Knock> {
        match self.sources.knock(address.ip(), Instant::now()) {
            Ok(knock) => {
                if let Knock::Wait(turn) = &knock
                    && turn.is_first
                {
                    info!(peer = %address, "many connections come from there at once, further ones wait");
                }
                Some(knock)
            }
            Err(crowded) => {
                if crowded.news {
                    warn!(peer = %address, "too many connections from there that have not logged in, further ones are closed");
                }
                None
            }
        }
    }

    /// A place for a byte stream that is open already, such as a WebSocket's. Waits for one among those
    /// who have not proven who they are; none when too many wait, or the hub stops.
    pub async fn enter(&self, peer: &Peer, stop: &Stop) -> Option<Guest> {
        admit(self.knock(peer.address)?, peer.address, stop).await
    }
}

/// Waits for the place of one that has come; none when it is not to have one.
async fn admit(knock: Knock, address: SocketAddr, stop: &Stop) -> Option<Guest> {
    let turn = match knock {
        Knock::Enter(visit) => return Some(Guest(visit)),
        Knock::Wait(turn) => turn,
    };
    let visit = tokio::select! {
        visit = turn.come() => visit,
        () = stop.draining() => return None,
    };
    if visit.is_none() {
        debug!(peer = %address, "a connection is closed that waited for a place");
    }
    visit.map(Guest)
}

async fn greet(
    stream: TcpStream,
    peer: Peer,
    security: Security,
    guest: Guest,
    head: impl Serve,
    stop: Stop,
) {
    // Acknowledgements are small and wanted now.
    if let Err(cause) = stream.set_nodelay(true) {
        debug!(peer = %peer.address, error = %cause, "the socket keeps its delay");
    }
    // A task keeps the size of its largest step for life: the steps are boxed, and so given back.
    match security {
        Security::Plain => Box::pin(head.serve(stream, peer, guest, stop)).await,
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
                    Box::pin(head.serve(stream, peer, guest, stop)).await;
                }
                Err(cause) => {
                    let (peer, protocol) = (peer.address, peer.protocol);
                    debug!(%peer, protocol, error = %cause, "the TLS handshake failed");
                }
            }
        }
    }
}

type Certificates = Vec<Vec<u8>>;

/// The TLS handshake; also says which certificates the client has shown.
async fn shake_hands(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> std::io::Result<(Box<TlsStream<TcpStream>>, Certificates)> {
    let shaken = timeout(limits::HANDSHAKE_LIMIT, TlsAcceptor::from(config).accept(stream)).await;
    let stream = shaken.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificates = shown.iter().map(|der| der.to_vec()).collect();
    Ok((Box::new(stream), certificates))
}
