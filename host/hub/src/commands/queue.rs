//! One queue: its lock tokens and what they stand for.
//!
//! The store's reader hands entries out; here each gets a lock. An entry that is in flight there has a
//! lock here, or is being settled.

use super::error::CommandError;
use super::feedback::{self, End};
use crate::Hub;
use crate::sync::lock;
use crate::tasks::TaskKind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tracing::{error, warn};
use weir_core::clock::Timestamp;
use weir_core::command::{Ack, Command, LockToken, Settlement};
use weir_core::id::{Identity, Sequence};
use weir_core::limits;
use weir_core::properties::SystemProperty;
use weir_store::{Change, CommitError, Disposition, EndpointId, Entry, Reader};

/// The client that has the queue: its session, and which of the session's holders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Holder {
    pub(super) session: u64,
    pub(super) number: u64,
}

/// Who has a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The connected client; until it leaves.
    Connected(Holder),
    /// A client that polls.
    Polling {
        /// When the lock ends.
        until: Timestamp,
    },
}

/// An identity's queue, which may not have been made yet, and its holder.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) queue: watch::Sender<Option<Arc<Queue>>>,
    pub(super) holder: watch::Sender<Option<Holder>>,
}

impl Slot {
    pub(super) fn queue(&self) -> Option<Arc<Queue>> {
        self.queue.borrow().clone()
    }

    pub(super) fn set_queue(&self, queue: Arc<Queue>) {
        self.queue.send_replace(Some(queue));
    }

    pub(super) fn is_held(&self) -> bool {
        self.holder.borrow().is_some()
    }

    /// Whoever holds it, holds it no more.
    pub(super) fn dismiss(&self) {
        self.holder.send_replace(None);
    }
}

/// What a lock stands for.
#[derive(Debug, Clone)]
struct Locked {
    sequence: Sequence,
    attempt: u32,
    owner: Owner,
    told: Option<feedback::Told>,
}

/// An open queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) endpoint: EndpointId,
    pub(super) reader: Reader,
    pub(super) sending: tokio::sync::Mutex<()>,
    identity: Identity,
    locks: Mutex<HashMap<LockToken, Locked>>,
}

impl Queue {
    pub(super) fn open(
        hub: &Hub,
        endpoint: EndpointId,
        identity: &Identity,
    ) -> Result<Arc<Self>, weir_store::Error> {
        Ok(Arc::new(Self {
            endpoint,
            reader: hub.store().reader(endpoint)?,
            sending: tokio::sync::Mutex::default(),
            identity: identity.clone(),
            locks: Mutex::default(),
        }))
    }

    pub(super) fn messages(&self) -> u64 {
        self.reader.messages()
    }

    /// Puts an entry under a lock. None when it was handed out too often: it goes to the dead letters.
    pub(super) fn hand_out(
        self: &Arc<Self>,
        hub: &Hub,
        entry: Entry,
        owner: Owner,
    ) -> Option<Command> {
        let message = &entry.record.message;
        let ack = message.properties().system(SystemProperty::Ack).and_then(Ack::from_name);
        let told = feedback::Told::of(ack.unwrap_or_default(), message);
        let locked = Locked { sequence: entry.sequence, attempt: entry.attempt, owner, told };
        if entry.attempt > limits::COMMAND_DELIVERIES {
            self.bury(hub, locked);
            return None;
        }
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            error!(identity = %self.identity, "the system gives no random bytes for a lock");
            self.reader.put_back(&[entry.sequence], false);
            return None;
        }
        let token = LockToken::new(random);
        lock(&self.locks).insert(token, locked);
        Some(Command {
            lock: token,
            sequence: entry.sequence.0,
            delivery_count: entry.attempt,
            enqueued: message.enqueued(),
            expires: entry.expires,
            message: entry.record.message,
        })
    }

    /// In a task of its own, because whoever asked for the next command may stop asking.
    fn bury(self: &Arc<Self>, hub: &Hub, locked: Locked) {
        let (queue, owned) = (Arc::clone(self), hub.clone());
        hub.tasks().spawn(TaskKind::PerClient, "bury", move |_| async move {
            let end = End::DeliveryCountExceeded;
            if let Err(error) = queue.commit(&owned, &locked, Some(end)).await {
                warn!(identity = %queue.identity, %error, "a command cannot be given up");
                queue.reader.put_back(&[locked.sequence], false);
            }
        });
    }

    /// Says what becomes of a locked command; `holder` is none for a client that polls.
    pub(super) async fn settle(
        &self,
        hub: &Hub,
        token: LockToken,
        holder: Option<Holder>,
        settlement: Settlement,
    ) -> Result<(), CommandError> {
        let locked = {
            let mut locks = lock(&self.locks);
            match locks.get(&token).map(|locked| (locked.owner, holder)) {
                Some((Owner::Connected(owner), Some(holder))) if owner == holder => {}
                Some((Owner::Polling { .. }, None)) => {}
                Some(_) | None => return Err(CommandError::LockLost),
            }
            locks.remove(&token).expect("it was found there")
        };
        let end = match settlement {
            Settlement::Complete => Some(End::Success),
            Settlement::Reject => Some(End::Rejected),
            Settlement::Abandon if locked.attempt >= limits::COMMAND_DELIVERIES => {
                Some(End::DeliveryCountExceeded)
            }
            Settlement::Abandon => None,
        };
        let mut open = Unsettled { queue: self, sequence: Some(locked.sequence) };
        let result = self.commit(hub, &locked, end).await;
        open.sequence = None;
        if result.is_err() {
            // The client may try again while it has the lock.
            lock(&self.locks).insert(token, locked);
        }
        result
    }

    async fn commit(
        &self,
        hub: &Hub,
        locked: &Locked,
        end: Option<End>,
    ) -> Result<(), CommandError> {
        let disposition = match end {
            Some(End::Success) => Disposition::Done,
            Some(end) => Disposition::Dead {
                reason: end.reason().to_owned(),
                code: Some(end.name().to_owned()),
                module_digest: None,
            },
            None => Disposition::Retry { not_before: hub.clock().now(), hold_sender: false },
        };
        let told = end.and_then(|end| locked.told.as_ref().map(|told| (told, end)));
        let append = match told {
            Some((told, end)) => feedback::record(hub, &self.identity, told, end).await?,
            None => None,
        };
        let settle = vec![(self.endpoint, locked.sequence, disposition)];
        let append = append.into_iter().collect();
        let mut result = hub.store().commit(Change { settle, append, ..Change::default() }).await;
        if let Err(CommitError::Full { change, .. }) = result {
            // A store that is full must not keep a client from taking its commands out of it.
            let settle = change.settle;
            result = hub.store().commit(Change { settle, ..Change::default() }).await;
        }
        match result {
            Ok(_) => {
                hub.metrics().command_ended(end.map_or("abandoned", End::label));
                Ok(())
            }
            Err(_) => Err(CommandError::Unavailable),
        }
    }

    /// Locks of clients that poll end by time.
    pub(super) fn release_ended(&self, now: Timestamp) {
        self.release(|owner| matches!(owner, Owner::Polling { until } if *until <= now));
    }

    /// The locks of a client that has left.
    pub(super) fn release_holder(&self, holder: Holder) {
        self.release(|owner| *owner == Owner::Connected(holder));
    }

    /// All locks.
    pub(super) fn release_all(&self) {
        self.release(|_| true);
    }

    /// The client may have seen what is released, so it counts as handed out.
    fn release(&self, ended: impl Fn(&Owner) -> bool) {
        let mut sequences = Vec::new();
        lock(&self.locks).retain(|_, locked| {
            let ends = ended(&locked.owner);
            if ends {
                sequences.push(locked.sequence);
            }
            !ends
        });
        if !sequences.is_empty() {
            sequences.sort();
            self.reader.put_back(&sequences, true);
        }
    }

    /// When the next lock of a client that polls ends.
    pub(super) fn next_end(&self) -> Option<Timestamp> {
        let locks = lock(&self.locks);
        let ends = locks.values().filter_map(|locked| match locked.owner {
            Owner::Polling { until } => Some(until),
            Owner::Connected(_) => None,
        });
        ends.min()
    }
}

/// An entry whose settlement is under way: given back when nobody waits for that any more.
struct Unsettled<'a> {
    queue: &'a Queue,
    sequence: Option<Sequence>,
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        if let Some(sequence) = self.sequence {
            self.queue.reader.put_back(&[sequence], true);
        }
    }
}
