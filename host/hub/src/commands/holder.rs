//! A connected client's hold on its queue.

use super::error::CommandError;
use super::queue::{Holder, Owner, Queue, Slot};
use crate::Hub;
use crate::sync::lock;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use weir_core::clock::Timestamp;
use weir_core::command::{Command, LockToken, Settlement};
use weir_core::id::Identity;

/// The commands that come to one connected client. Dropping it gives back what was not settled.
pub struct Commands {
    hub: Hub,
    identity: Identity,
    slot: Arc<Slot>,
    me: Holder,
    queue: watch::Receiver<Option<Arc<Queue>>>,
    holder: watch::Receiver<Option<Holder>>,
}

/// Says what becomes of the commands of one hold, also while [`Commands::next`] is under way.
#[derive(Clone)]
pub struct Settler {
    hub: Hub,
    slot: Arc<Slot>,
    me: Holder,
}

impl super::CommandQueues {
    /// The client of this session holds the queue from now on; who held it before gets no more, and
    /// what he had not settled comes again.
    pub(crate) fn take(&self, hub: &Hub, identity: &Identity, session: u64) -> Commands {
        let number = self.holders.fetch_add(1, Ordering::Relaxed);
        let me = Holder { session, number };
        // Under the map's lock, so that the slot is not removed in between.
        let slots = &mut *lock(&self.slots);
        let slot = Arc::clone(slots.entry(identity.clone()).or_default());
        let mut before = None;
        slot.holder.send_if_modified(|present| {
            // Of two sessions of one identity the newer one counts, in whatever order they come here.
            let newer = present.is_none_or(|present| present < me);
            if newer {
                before = present.replace(me);
            }
            newer
        });
        if let (Some(before), Some(queue)) = (before, slot.queue()) {
            queue.release_holder(before);
        }
        let (queue, holder) = (slot.queue.subscribe(), slot.holder.subscribe());
        Commands { hub: hub.clone(), identity: identity.clone(), slot, me, queue, holder }
    }
}

impl Commands {
    /// The next command, locked for this client until it is settled or this is dropped. Cancel-safe.
    /// Pending for ever once another has the queue.
    pub async fn next(&mut self) -> Command {
        loop {
            if *self.holder.borrow_and_update() != Some(self.me) {
                return std::future::pending().await;
            }
            let queue = self.queue.borrow_and_update().clone();
            let Some(queue) = queue else {
                tokio::select! {
                    _ = self.queue.changed() => {}
                    _ = self.holder.changed() => {}
                }
                continue;
            };
            tokio::select! {
                biased;
                _ = self.holder.changed() => {}
                () = until(&self.hub, queue.next_end()) => {
                    queue.release_ended(self.hub.clock().now());
                }
                // No await after this: what was taken is locked and returned.
                entries = queue.reader.next(1, usize::MAX) => {
                    let Some(entry) = entries.into_iter().next() else {
                        return std::future::pending().await;
                    };
                    let owner = Owner::Connected(self.me);
                    if let Some(command) = queue.hand_out(&self.hub, entry, owner) {
                        if *self.holder.borrow() == Some(self.me) {
                            return command;
                        }
                        queue.release_holder(self.me);
                    }
                }
            }
        }
    }

    /// As [`Settler::settle`].
    ///
    /// # Errors
    /// As there.
    pub fn settle(
        &self,
        lock: LockToken,
        settlement: Settlement,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        self.settler().settle(lock, settlement)
    }

    /// For who waits for the next command in a future that owns this.
    #[must_use]
    pub fn settler(&self) -> Settler {
        Settler { hub: self.hub.clone(), slot: Arc::clone(&self.slot), me: self.me }
    }
}

impl Settler {
    /// Says what becomes of a command; resolves after the commit. The future borrows nothing, so that
    /// several may be under way.
    ///
    /// # Errors
    /// [`CommandError::LockLost`], or when the store cannot be written: the lock is in force then.
    pub fn settle(
        &self,
        lock: LockToken,
        settlement: Settlement,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let (hub, queue, me) = (self.hub.clone(), self.slot.queue(), self.me);
        async move {
            let queue = queue.ok_or(CommandError::LockLost)?;
            queue.settle(&hub, lock, Some(me), settlement).await
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        let mut slots = lock(&self.hub.commands().slots);
        let me = self.me;
        self.slot.holder.send_if_modified(|present| {
            let mine = *present == Some(me);
            if mine {
                *present = None;
            }
            mine
        });
        match self.slot.queue() {
            Some(queue) => queue.release_holder(me),
            None if !self.slot.is_held() => drop(slots.remove(&self.identity)),
            None => {}
        }
    }
}

/// Between two looks at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);

async fn until(hub: &Hub, end: Option<Timestamp>) {
    let Some(end) = end else { return std::future::pending().await };
    loop {
        match end.since(hub.clock().now()) {
            Duration::ZERO => return,
            left => tokio::time::sleep(left.min(LOOK)).await,
        }
    }
}
