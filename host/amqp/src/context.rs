//! What the links of one connection share.

use crate::cbs::Answers;
use crate::gate::GateState;
use crate::member::{Member, Members};
use crate::refusal::Refusal;
use crate::tokens::{Proof, PutError, Tokens};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::info;
use weir_core::id::Identity;
use weir_hub::Hub;
use weir_hub::authenticate::Proven;
use weir_hub::door::{Guest, Peer};
use weir_hub::tasks::Stop;

/// One connection.
pub(crate) struct Context {
    pub(crate) hub: Hub,
    pub(crate) peer: Peer,
    pub(crate) gate: Arc<GateState>,
    pub(crate) cbs: Answers,
    tokens: Arc<Tokens>,
    pub(crate) members: Members,
    stop: Stop,
    /// Until someone on the connection has proven who he is.
    guest: Mutex<Option<Guest>>,
}

impl Context {
    pub(crate) fn new(
        hub: Hub,
        peer: Peer,
        gate: Arc<GateState>,
        tokens: Arc<Tokens>,
        guest: Guest,
        stop: Stop,
    ) -> Self {
        let (cbs, members, guest) = (Answers::default(), Members::default(), Some(guest));
        Self { hub, peer, gate, cbs, tokens, members, stop, guest: Mutex::new(guest) }
    }

    /// Someone has proven who he is: the place among the unknown is free for the next.
    pub(crate) fn proven(&self) {
        self.gate.set_proven();
        drop(self.guest.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// How long a client whose credentials were refused is to wait for the answer.
    fn failed(&self) -> std::time::Duration {
        let guest = self.guest.lock().unwrap_or_else(PoisonError::into_inner);
        guest.as_ref().map_or(std::time::Duration::ZERO, Guest::failed)
    }

    /// Takes a token; who fails often waits for the answer. Says whose it is.
    ///
    /// # Errors
    /// [`PutError`].
    pub(crate) async fn put_token(&self, token: &str) -> Result<String, PutError> {
        match self.tokens.put(&self.hub, token) {
            Ok(identity) => {
                self.proven();
                Ok(identity.map_or_else(|| "service".to_owned(), |identity| identity.to_string()))
            }
            Err(cause) => {
                if let PutError::Credentials(_) | PutError::Service(_) = cause {
                    tokio::time::sleep(self.failed()).await;
                }
                Err(cause)
            }
        }
    }

    /// The member of an identity, which must be proven now, whatever was proven before.
    ///
    /// # Errors
    /// [`Refusal`]: the link is refused.
    pub(crate) fn member(&self, identity: &Identity) -> Result<Arc<Member>, Refusal> {
        let proof = self.tokens.prove(&self.hub, identity, &self.peer.certificates)?;
        self.proven();
        self.members.get(identity, || {
            let Proof { proven, until } = proof;
            // The end of the proof moves with each renewal, so it is watched here.
            let proven = Proven { expires: None, ..proven };
            let address = self.peer.address.to_string();
            let session = self.hub.connect(proven, self.peer.protocol, &address);
            let session = session.map_err(Refusal::Connect)?;
            info!(client = %session.identity(), peer = address, "client connected");
            Ok(Member::new(session, self.hub.clock().clone(), until, self.stop.clone()))
        })
    }

    /// The service client on this connection, for a link at `path`.
    ///
    /// # Errors
    /// [`Refusal::NoRight`].
    pub(crate) fn service(&self, path: &str) -> Result<&'static weir_hub::ServicePolicy, Refusal> {
        self.tokens.service(&self.hub, path)
    }

    /// Until when its token counts.
    pub(crate) fn service_until(&self) -> Option<weir_core::clock::Timestamp> {
        self.tokens.service_until()
    }
}
