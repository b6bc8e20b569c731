//! Connections of MQTT clients, from the door to the log line about their end.

use crate::connection::Connection;
use crate::error::{Error, Refused};
use crate::handshake::{Client, first_packet, return_code, welcome};
use crate::resending::Unacknowledged;
use crate::wire::Wire;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{debug, info, warn};
use weir_hub::Hub;
use weir_hub::door::{Door, Guest, Peer, Security, Serve};
use weir_hub::tasks::Stop;
use weir_mqtt_codec::{Connack, Packet};

/// The MQTT head; cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    hub: Hub,
    door: Door,
    unacknowledged: Arc<Unacknowledged>,
}

impl Serve for Server {
    async fn serve<S>(&self, stream: S, peer: Peer, guest: Guest, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.host(stream, peer, guest, &stop).await;
    }
}

impl Server {
    /// A head for this hub.
    #[must_use]
    pub fn new(hub: Hub) -> Self {
        Self { door: Door::new(hub.clone()), hub, unacknowledged: Arc::default() }
    }

    /// Serves a listener until the hub stops.
    pub fn listen(&self, listener: TcpListener, security: Security) {
        self.door.listen("mqtt", listener, security, self.clone());
    }

    /// Serves a byte stream that is open already, such as a WebSocket's, until it ends. Waits for a
    /// place among those who have not proven who they are.
    pub async fn serve<S>(&self, stream: S, peer: Peer, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(guest) = self.door.enter(&peer, &stop).await {
            Box::pin(self.host(stream, peer, guest, &stop)).await;
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
        let connection = Connection::new(&self.hub, wire, client, &self.unacknowledged);
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
                let delay = guest.failed();
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
