//! Connections of AMQP clients, from the door to the log line about their end.
//!
//! The steps of a connection that has not proven who it is are limited in time, together; later the library's
//! idle time-out and the gate's deadlines hold. When this task ends, it ends the stream, and the library's
//! tasks with it.

use crate::context::Context;
use crate::gate::{Gate, Opening};
use crate::refusal::Refusal;
use crate::sasl::Sasl;
use crate::session;
use crate::tokens::Tokens;
use fe2o3_amqp::acceptor::{ConnectionAcceptor, ListenerConnectionHandle, SessionAcceptor};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, sleep, timeout, timeout_at};
use tracing::{debug, info, warn};
use weir_core::limits;
use weir_hub::Hub;
use weir_hub::door::{Door, Guest, Peer, Security, Serve};
use weir_hub::tasks::Stop;

/// Between two looks at a connection.
const LOOK: Duration = Duration::from_secs(5);
/// … while its links end.
const ENDING_LOOK: Duration = Duration::from_millis(10);
/// The library has been busy with one read for so long: it waits for itself.
const STUCK: Duration = Duration::from_secs(60);

/// The AMQP head; cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    hub: Hub,
    door: Door,
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
        Self { door: Door::new(hub.clone()), hub }
    }

    /// Serves a listener until the hub stops.
    pub fn listen(&self, listener: TcpListener, security: Security) {
        self.door.listen("amqp", listener, security, self.clone());
    }

    /// Serves a byte stream that is open already, such as a WebSocket's, until it ends. Waits for a
    /// place among those who have not proven who they are.
    pub async fn serve<S>(&self, stream: S, peer: Peer, stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(guest) = self.door.enter(&peer, &stop).await {
            Box::pin(self.host(stream, peer, guest, &stop)).await;
        }
    }

    /// From the first byte to the last.
    async fn host<S>(&self, stream: S, peer: Peer, guest: Guest, stop: &Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let gate = Gate::new(stream);
        let state = gate.state();
        let address = peer.address;
        let deadline = Instant::now() + limits::AMQP_PROOF_LIMIT;
        let opening = Box::pin(timeout_at(deadline, self.open(gate, peer, guest, stop)));
        let opened = tokio::select! {
            opened = opening => opened.unwrap_or_else(|_| Err("it was not opened in time".to_owned())),
            () = stop.draining() => Err("the hub stops".to_owned()),
        };
        let end = match opened {
            Ok((connection, context)) => {
                Box::pin(run(connection, Arc::new(context), deadline, stop)).await
            }
            Err(reason) => reason,
        };
        let reason = state.fault().unwrap_or(end);
        let proven = state.is_proven();
        state.kill();
        match proven {
            true => info!(peer = %address, reason, "connection ended"),
            false => debug!(peer = %address, reason, "connection without a client"),
        }
    }

    /// Up to the Open of both sides.
    async fn open<S>(
        &self,
        mut gate: Gate<S>,
        peer: Peer,
        guest: Guest,
        stop: &Stop,
    ) -> Result<(ListenerConnectionHandle, Context), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opening = gate.opening().await.map_err(|cause| cause.to_string())?;
        let opening = opening.ok_or("another protocol was spoken")?;
        let state = gate.state();
        let tokens = Arc::new(Tokens::default());
        let idle = u32::try_from(limits::AMQP_IDLE.as_millis()).expect("a few minutes");
        let acceptor = ConnectionAcceptor::builder()
            .container_id(self.hub.config().iothub_hostname.clone())
            .max_frame_size(u32::try_from(limits::AMQP_FRAME_BYTES).expect("a few KiB"))
            .channel_max(limits::AMQP_CHANNEL_MAX)
            .idle_time_out(idle)
            .buffer_size(limits::AMQP_FRAMES);
        let proven = Arc::new(AtomicBool::new(false));
        let connection = match opening {
            Opening::Plain => acceptor.build().accept(gate).await,
            Opening::Sasl => {
                let sasl = Sasl {
                    hub: self.hub.clone(),
                    peer: peer.clone(),
                    tokens: Arc::clone(&tokens),
                    proven: Arc::clone(&proven),
                };
                acceptor.sasl_acceptor(sasl).build().accept(gate).await
            }
        };
        let connection = connection.map_err(|cause| cause.to_string())?;
        let context = Context::new(self.hub.clone(), peer, state, tokens, guest, stop.clone());
        if proven.load(Ordering::SeqCst) {
            context.proven();
        }
        Ok((connection, context))
    }
}

/// Serves an open connection until something ends it, and says what.
async fn run(
    mut connection: ListenerConnectionHandle,
    context: Arc<Context>,
    proof: Instant,
    stop: &Stop,
) -> String {
    let acceptor = SessionAcceptor::builder()
        .buffer_size(limits::AMQP_FRAMES)
        .handle_max(limits::AMQP_HANDLE_MAX)
        .build();
    let mut sessions: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    let mut look = interval(LOOK);
    let error = loop {
        tokio::select! {
            () = stop.draining() => break Some(Refusal::Draining),
            Some(()) = sessions.next() => {}
            _ = look.tick() => {
                if context.gate.busy_for() > STUCK {
                    warn!(peer = %context.peer.address, "a connection was stuck and is closed");
                    return "it was stuck".to_owned();
                }
                if !context.gate.is_proven() && Instant::now() >= proof {
                    break Some(Refusal::Limit("nobody has proven who he is in time"));
                }
            }
            incoming = connection.next_incoming_session() => {
                let Some(incoming) = incoming else { break None };
                let accepted = acceptor.accept_incoming_session(incoming, &mut connection).await;
                match accepted {
                    Ok(session) => {
                        sessions.push(Box::pin(session::serve(session, Arc::clone(&context))));
                    }
                    Err(cause) => {
                        debug!(peer = %context.peer.address, ?cause, "a session could not begin");
                        break Some(Refusal::Limit("a session could not begin"));
                    }
                }
            }
        }
    };
    match error {
        Some(refusal) => {
            let text = refusal.to_string();
            // Links end first, in good order: what was committed is still answered.
            let links = async {
                while !context.members.is_empty() {
                    tokio::select! {
                        Some(()) = sessions.next() => {}
                        () = sleep(ENDING_LOOK) => {}
                    }
                }
            };
            drop(timeout(limits::AMQP_FAREWELL, links).await);
            drop(sessions);
            let closing = connection.close_with_error(refusal.to_amqp());
            drop(timeout(limits::AMQP_FAREWELL, closing).await);
            text
        }
        None => match timeout(limits::AMQP_FAREWELL, connection.on_close()).await {
            Ok(Ok(())) => "the client closed the connection".to_owned(),
            Ok(Err(cause)) => cause.to_string(),
            Err(_) => "the connection was lost".to_owned(),
        },
    }
}
