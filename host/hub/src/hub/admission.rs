//! Who is let in, who stays, and who has to leave.

use super::Hub;
use crate::authenticate::{Credentials, Proof, Proven, Records, Refusal};
use crate::clients::{Arrival, ClientView, Leave, Seat};
use crate::events::Topic;
use crate::session::Session;
use std::sync::Arc;
use weir_core::id::{Identity, ModuleId};

/// Why a client is not let in although it has proven who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// As many clients as are allowed.
    #[error("the hub has as many clients as it takes")]
    Full,
    /// The hub is starting or stopping.
    #[error("the hub is not ready")]
    NotReady,
    /// The name belongs to a Wasm module.
    #[error("a Wasm module of this name runs in the hub")]
    WasmModule,
}

impl Hub {
    /// Judges what a client shows to prove that it is `identity`.
    ///
    /// # Errors
    /// [`Refusal`]; the head logs it and tells the client only that it is refused.
    pub fn authenticate(
        &self,
        identity: &Identity,
        credentials: Credentials<'_>,
    ) -> Result<Proven, Refusal> {
        let now = self.0.clock.now();
        let judged = self.with_records(identity, |records| {
            self.0.authenticator.authenticate(records, credentials, now)
        });
        if judged.is_err() {
            self.0.metrics.refusals.inc();
        }
        judged
    }

    fn with_records<T>(&self, identity: &Identity, look: impl FnOnce(Records<'_>) -> T) -> T {
        let own = self.0.identities.get(identity);
        let device = identity
            .module
            .as_ref()
            .and_then(|_| self.0.identities.get(&Identity::device(identity.device.clone())));
        look(Records {
            own: own.as_ref().map(|found| &*found.record),
            device: device.as_ref().map(|found| &*found.record),
        })
    }

    pub(crate) fn renew(&self, identity: &Identity, session: u64, proof: Proof) {
        self.0.clients.renew(identity, session, proof);
        // The record may have changed since the proof was judged.
        self.recheck(identity);
    }

    /// Looks again at what the client of an identity has shown, now that a record has changed: it stays
    /// if that would be taken again.
    pub(crate) fn recheck(&self, identity: &Identity) {
        let Some(proof) = self.0.clients.proof(identity) else { return };
        if !self.with_records(identity, |records| proof.holds(records)) {
            self.dismiss(identity, Leave::Revoked);
        }
    }

    /// Lets a client in that has proven who it is; an older connection of the same identity leaves.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect(
        &self,
        proven: Proven,
        protocol: &'static str,
        peer: &str,
    ) -> Result<Session, ConnectError> {
        let Proven { identity, expires, proof } = proven;
        self.may_enter(&identity)?;
        let now = self.0.clock.now();
        let limit = self.0.config.max_clients;
        let arrival = Arrival { protocol, peer, now, proof };
        let place = self.0.clients.enter(&identity, arrival, limit);
        let place = place.ok_or(ConnectError::Full)?;
        // The record may have changed since the proof was judged.
        self.recheck(&identity);
        let seen = self.0.presences.came(self, &identity, protocol, Some(place.number()));
        let data = serde_json::json!({ "protocol": protocol, "peer": peer });
        self.tell(Topic::Client, "connected", &identity, data);
        self.0.metrics.connects.inc();
        self.0.metrics.clients.set(i64::try_from(self.0.clients.count()).unwrap_or(i64::MAX));
        Ok(Session::new(self.clone(), place, expires, protocol, seen))
    }

    pub(crate) fn may_enter(&self, identity: &Identity) -> Result<(), ConnectError> {
        if !self.is_ready() {
            return Err(ConnectError::NotReady);
        }
        if let Some(module) = &identity.module
            && identity.device == self.0.config.edge_device
            && self.0.modules.is_wasm(module)
        {
            return Err(ConnectError::WasmModule);
        }
        Ok(())
    }

    pub(crate) fn client_left(&self, identity: &Identity, session: u64) {
        self.0.presences.left(identity, session, self.0.clock.now());
        self.tell(Topic::Client, "disconnected", identity, serde_json::Value::Null);
        self.0.metrics.disconnects.inc();
    }

    pub(crate) fn dismiss(&self, identity: &Identity, why: Leave) {
        self.0.clients.dismiss(identity, why);
    }

    pub(crate) fn seat(&self, module: &ModuleId) -> Arc<Seat> {
        self.0.clients.seat(module)
    }

    /// Whether the client of an identity is connected.
    #[must_use]
    pub fn is_connected(&self, identity: &Identity) -> bool {
        self.0.clients.has(identity)
    }

    /// Everyone who is connected.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientView> {
        self.0.clients.list()
    }
}
