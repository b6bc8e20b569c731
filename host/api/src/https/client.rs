//! One connection, as the handlers of its requests see it: where it comes from and what it has shown.

use std::net::SocketAddr;
use std::sync::Arc;

/// Where a connection comes from, for the head that goes on with it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// The certificates that the client has shown in the TLS handshake, in DER, its own first.
    pub certificates: Vec<Vec<u8>>,
}

/// In the extensions of every request; cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(Arc<Peer>);

impl Client {
    pub(crate) fn new(peer: Peer) -> Self {
        Self(Arc::new(peer))
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::clone(&self.0)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }
}
