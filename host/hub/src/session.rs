//! A connected client, as a head sees it.
//!
//! Made by [`crate::Hub::connect`] after the client has proven who it is. Dropping it is leaving:
//! the place in the registry is given back and nobody sits at the module's inputs any more.

use crate::Hub;
use crate::authenticate::Proven;
use crate::authorize::{self, Operation, Principal, Protocol};
use crate::clients::{Leave, Place, Seat};
use crate::commands::Commands;
use crate::intake::Intake;
use crate::methods::MethodRequests;
use crate::presence::Seen;
use crate::subscriptions::{self, Subscription, SubscriptionError};
use crate::sync::lock;
use crate::twins::{DesiredPatches, TwinError};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::Identity;
use weir_core::method::{MethodAnswer, MethodId};
use weir_core::port::Consumer;
use weir_core::twin::{Patch, Section, Twin};

/// A client's session with the hub. A head that serves an identity over several links shares it.
pub struct Session {
    hub: Hub,
    place: Place,
    /// When its token ends.
    expires: Option<Timestamp>,
    protocol: Protocol,
    seen: Seen,
    seated: Mutex<Option<Seated>>,
}

/// A seat, and who was put there.
type Seated = (Arc<Seat>, Arc<dyn Consumer>);

impl Session {
    pub(crate) fn new(
        hub: Hub,
        place: Place,
        expires: Option<Timestamp>,
        protocol: &str,
        seen: Seen,
    ) -> Self {
        let protocol = Protocol::of_session(protocol);
        Self { hub, place, expires, protocol, seen, seated: Mutex::default() }
    }

    /// The client has proven itself anew: when the identity changes, this proof is looked at, and not the
    /// one that it came with.
    pub fn renew(&self, proven: &Proven) {
        if proven.identity == *self.identity() {
            self.hub.renew(self.identity(), self.place.number(), proven.proof);
        }
    }

    fn may(&self, operation: Operation) -> bool {
        authorize::allows(self.hub.principal(self.identity()), operation, self.protocol)
    }

    /// Something came from the client. A head calls it for what does not come to the hub, such as the
    /// pings of an idle connection.
    pub fn note_activity(&self) {
        self.seen.note(self.hub.clock().now());
    }

    /// Who the client is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.place.identity()
    }

    /// The way in for its messages.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake::new(self.hub.clone(), self.identity().clone(), self.seen.clone())
    }

    /// Resolves when the client must be disconnected. Borrows nothing, so that a head can wait for it
    /// while it uses the session. Cancel-safe.
    pub fn left(&self) -> impl Future<Output = Leave> + Send + use<> {
        let (left, clock, expires) = (self.place.left(), self.hub.clock().clone(), self.expires);
        async move {
            tokio::select! {
                why = left => why,
                () = expired(&clock, expires) => Leave::Expired,
            }
        }
    }

    /// Takes the seat at the module's inputs: from now on `consumer` is given what waits there. Taking
    /// it again with the same consumer makes the hub look again at inputs that it had refused.
    /// Does nothing for who has no inputs here: a device, and a module of another device, whatever it
    /// is called.
    pub fn take_inputs(&self, consumer: Arc<dyn Consumer>) {
        if let Some(module) = &self.identity().module
            && self.may(Operation::TakeInputs)
        {
            let seat = self.hub.seat(module);
            seat.send_replace(Some(Arc::clone(&consumer)));
            *lock(&self.seated) = Some((seat, consumer));
        }
    }

    /// Leaves the seat: what was handed over and not acknowledged goes back to the queue.
    pub fn leave_inputs(&self) {
        let Some((seat, mine)) = lock(&self.seated).take() else { return };
        seat.send_if_modified(|sitting| {
            let is_mine = sitting.as_ref().is_some_and(|sitting| Arc::ptr_eq(sitting, &mine));
            if is_mine {
                *sitting = None;
            }
            is_mine
        });
    }

    /// From now on the client can be called; a later call of this takes the place of an earlier one.
    /// Who answers a call must have got it from here, in this session.
    #[must_use]
    pub fn take_methods(&self) -> MethodRequests {
        self.hub.methods().take(&self.hub, self.identity(), self.place.number())
    }

    /// Passes an answer on to whoever called. False when nobody waits for it: it is late, of no call, or
    /// of a call of another client.
    pub fn answer_method(&self, id: MethodId, answer: MethodAnswer) -> bool {
        self.note_activity();
        let waited = self.may(Operation::AnswerMethods)
            && self.hub.methods().answer(self.place.number(), id, answer);
        if !waited {
            self.hub.metrics().method_answers_dropped.inc();
        }
        waited
    }

    /// The client's cloud-to-device messages. There is one holder at a time: a later call, of this
    /// session or of one that takes its place, ends an earlier one.
    #[must_use]
    pub fn take_commands(&self) -> Commands {
        self.hub.commands().take(&self.hub, self.identity(), self.place.number())
    }

    /// The client's twin. The hub remembers which desired version the client has now.
    ///
    /// # Errors
    /// [`TwinError`].
    pub async fn twin(&self) -> Result<Twin, TwinError> {
        self.hub.twins().give(&self.hub, self.identity()).await
    }

    /// Merges a patch into the client's reported properties; resolves with the new `$version` after the
    /// commit. Goes on when it is dropped.
    ///
    /// # Errors
    /// [`TwinError`]; [`TwinError::Refused`] names what is wrong with the patch.
    pub async fn report(&self, patch: &[u8]) -> Result<u64, TwinError> {
        let patch = Patch::parse(Section::Reported, patch)?;
        self.hub.twins().report(&self.hub, self.identity(), patch).await
    }

    /// Desired patches from now on: first one with what has changed since the client last knew, if
    /// anything. To be called before the client is told that it is subscribed.
    #[must_use]
    pub fn watch_desired(&self) -> DesiredPatches {
        self.hub.twins().watch(&self.hub, self.identity())
    }

    /// What the client has subscribed to, from disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, weir_store::Error> {
        subscriptions::load(self.hub.store(), self.identity()).await
    }

    /// Keeps subscriptions on disk; resolves after the commit.
    ///
    /// # Errors
    /// When the client has more than its share of filters, or the store cannot be written.
    pub async fn subscribe(&self, filters: &[Subscription]) -> Result<(), SubscriptionError> {
        subscriptions::add(self.hub.store(), self.identity(), filters).await
    }

    /// Forgets subscriptions; resolves after the commit.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn unsubscribe(&self, filters: &[String]) -> Result<(), weir_store::Error> {
        subscriptions::remove(self.hub.store(), self.identity(), filters).await
    }

    /// Forgets everything the client ever subscribed to (a clean session).
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn forget_subscriptions(&self) -> Result<(), weir_store::Error> {
        subscriptions::forget(self.hub.store(), self.identity()).await
    }
}

impl Hub {
    /// What an identity is to the table of [`authorize`].
    #[must_use]
    pub fn principal(&self, identity: &Identity) -> Principal {
        match &identity.module {
            None => Principal::Device,
            Some(_) if identity.device != *self.edge_device() => Principal::LeafModule,
            Some(module) if self.modules().is_wasm(module) => Principal::WasmModule,
            Some(_) => Principal::EdgeModule,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave_inputs();
        self.hub.methods().leave(self.identity(), self.place.number());
        self.hub.client_left(self.identity(), self.place.number());
    }
}

/// Between two looks at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

async fn expired(clock: &Clock, expires: Option<Timestamp>) {
    let Some(expires) = expires else { return std::future::pending().await };
    loop {
        match expires.since(clock.now()) {
            Duration::ZERO => return,
            left => tokio::time::sleep(left.min(LOOK)).await,
        }
    }
}
