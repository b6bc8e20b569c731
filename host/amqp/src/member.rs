//! One identity on a connection: its session with the hub, shared by its links.
//!
//! Made with the first link of the identity, gone with the last. Invariants:
//!
//! 1. Of each kind there is one link; a later one ends the earlier.
//! 2. Partners carry the same correlation id; one with another id ends.
//! 3. When the session ends or the proof is over, every link of the identity ends, and no other's.

use crate::refusal::Refusal;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::Identity;
use weir_hub::tasks::Stop;
use weir_hub::{Leave, Session};

/// Kinds of links of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Telemetry,
    Inputs,
    Commands,
    TwinRequests,
    TwinAnswers,
    MethodRequests,
    MethodAnswers,
}

impl Kind {
    fn partner(self) -> Option<Self> {
        match self {
            Self::TwinRequests => Some(Self::TwinAnswers),
            Self::TwinAnswers => Some(Self::TwinRequests),
            Self::MethodRequests => Some(Self::MethodAnswers),
            Self::MethodAnswers => Some(Self::MethodRequests),
            Self::Telemetry | Self::Inputs | Self::Commands => None,
        }
    }
}

/// A link's place with its identity.
struct Slot {
    correlation: Option<String>,
    /// Dropped to end the link.
    _hold: oneshot::Sender<()>,
}

/// An identity on a connection.
pub(crate) struct Member {
    pub(crate) session: Session,
    clock: Clock,
    until: watch::Receiver<Timestamp>,
    stop: Stop,
    /// Between the two links of its twin.
    pub(crate) twin: crate::twin::Channel,
    slots: Mutex<HashMap<Kind, Slot>>,
}

/// A link's membership: dropped with the link.
pub(crate) struct Seat {
    pub(crate) member: Arc<Member>,
    replaced: oneshot::Receiver<()>,
}

impl Member {
    pub(crate) fn new(
        session: Session,
        clock: Clock,
        until: watch::Receiver<Timestamp>,
        stop: Stop,
    ) -> Self {
        let (twin, slots) = (crate::twin::Channel::default(), Mutex::default());
        Self { session, clock, until, stop, twin, slots }
    }

    /// Takes the place of a kind of link.
    pub(crate) fn sit(self: &Arc<Self>, kind: Kind, correlation: Option<String>) -> Seat {
        let (hold, replaced) = oneshot::channel();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(partner) = kind.partner()
            && slots.get(&partner).is_some_and(|partner| partner.correlation != correlation)
        {
            slots.remove(&partner);
        }
        slots.insert(kind, Slot { correlation, _hold: hold });
        Seat { member: Arc::clone(self), replaced }
    }

    /// True while the hub has not asked it to go.
    fn stays(&self) -> bool {
        use futures::FutureExt;
        self.session.left().now_or_never().is_none()
    }
}

impl Seat {
    /// Resolves when the link must end. Borrows nothing.
    pub(crate) fn ended(&mut self) -> impl Future<Output = Refusal> + Send + use<> {
        let (left, stop) = (self.member.session.left(), self.member.stop.clone());
        let (clock, until) = (self.member.clock.clone(), self.member.until.clone());
        let (_, never) = oneshot::channel();
        let replaced = std::mem::replace(&mut self.replaced, never);
        async move {
            tokio::select! {
                why = left => Refusal::Left(why),
                () = over(&clock, until) => Refusal::Left(Leave::Expired),
                _ = replaced => Refusal::Replaced,
                () = stop.draining() => Refusal::Draining,
            }
        }
    }
}

/// Between two looks at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(30);

async fn over(clock: &Clock, mut until: watch::Receiver<Timestamp>) {
    let mut renewed = true;
    loop {
        let left = until.borrow_and_update().since(clock.now());
        if left == Duration::ZERO {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(LOOK)) => {}
            changed = until.changed(), if renewed => renewed = changed.is_ok(),
        }
    }
}

/// The identities of one connection.
#[derive(Default)]
pub(crate) struct Members(Mutex<HashMap<Identity, Weak<Member>>>);

impl Members {
    /// True when no identity has a link.
    pub(crate) fn is_empty(&self) -> bool {
        let members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.values().all(|member| member.strong_count() == 0)
    }

    /// The member of an identity, made by `enter` if it is not here yet.
    pub(crate) fn get(
        &self,
        identity: &Identity,
        enter: impl FnOnce() -> Result<Member, Refusal>,
    ) -> Result<Arc<Member>, Refusal> {
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let present = members.get(identity).and_then(Weak::upgrade);
        if let Some(member) = present.filter(|member| member.stays()) {
            return Ok(member);
        }
        let member = Arc::new(enter()?);
        members.retain(|_, member| member.strong_count() > 0);
        members.insert(identity.clone(), Arc::downgrade(&member));
        Ok(member)
    }
}
