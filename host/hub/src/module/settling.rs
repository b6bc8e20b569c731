//! From an answer to the disk, and back when the store refuses.
//!
//! Used by the runner only. Invariant: changes go to the store in the order of the calls on one chain;
//! one that is refused takes all behind it with it, and their messages come again in order.

use super::effects::{Effects, Emitted, Held};
use super::runner::Runner;
use super::{CounterView, State};
use futures::stream::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use weir_core::port::{Answer, StartReason};
use weir_store::{Change, CommitError, Committed, EndpointId};

/// Least time between two attempts to store what did not fit.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

impl Runner {
    /// Hands what an answer says to the store; `tally` is counted when it is on disk.
    pub(super) async fn settle(&mut self, entries: Vec<Held>, answer: Answer, tally: CounterView) {
        let inputs: Vec<EndpointId> = self.readers.iter().map(|input| input.endpoint).collect();
        let effects = Effects {
            hub: &self.hub,
            identity: &self.identity,
            spec: &self.version.spec,
            component: self.version.spec.component,
            inputs: &inputs,
            on_probation: self.probation.is_some(),
        };
        let (change, emitted) = effects.change(&entries, answer);
        self.submit(entries, change, emitted, tally).await;
    }

    pub(super) async fn submit(
        &mut self,
        entries: Vec<Held>,
        change: Change,
        emitted: Emitted,
        tally: CounterView,
    ) {
        match self.hub.store().slot().await {
            Ok(slot) => {
                let commit = slot.commit(change, &self.chain);
                let (hub, counters) = (self.hub.clone(), Arc::clone(&self.counters));
                self.commits.push_back(Box::pin(async move {
                    let result = commit.await;
                    // What the store refuses was not done.
                    if result.is_ok() {
                        emitted.note(&hub);
                        counters.add(&tally);
                    }
                    (entries, result)
                }));
            }
            Err(closed) => {
                let result = Err(CommitError::Unavailable {
                    cause: Arc::new(closed),
                    change: Box::new(change),
                });
                self.commits.push_back(Box::pin(async move { (entries, result) }));
            }
        }
    }

    pub(super) async fn committed(
        &mut self,
        entries: Vec<Held>,
        result: Result<Committed, CommitError>,
    ) {
        let Err(error) = result else { return };
        // The store took nothing of this and of all behind it.
        warn!(module = %self.identity, error = %error, "what the module did could not be stored, it is undone");
        self.put_back(&entries);
        while let Some((entries, _)) = self.commits.next().await {
            self.put_back(&entries);
        }
        self.chain = self.hub.store().chain();
        self.instance = None;
        self.reason = StartReason::Recover;
        self.reload_state().await;
        let full = match &error {
            CommitError::Full { endpoint, .. } => *endpoint,
            CommitError::Unavailable { .. }
            | CommitError::Broken { .. }
            | CommitError::Mismatch { .. } => None,
        };
        let on = full.and_then(|endpoint| self.hub.endpoint_name(endpoint));
        self.set_state(State::Paused { on });
        // Room anywhere wakes everyone who waits, so there is a floor.
        tokio::join!(self.hub.store().room(), tokio::time::sleep(ROOM_PAUSE));
    }

    /// Everything submitted so far is on disk, or undone.
    pub(super) async fn flush(&mut self) {
        while let Some((entries, result)) = self.commits.next().await {
            self.committed(entries, result).await;
        }
    }
}
