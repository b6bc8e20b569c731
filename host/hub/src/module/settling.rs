//! From an answer to the disk, and back when the store refuses.
//!
//! Used by the runner only. Invariant: changes go to the store in the order of the calls on one chain;
//! one that is refused takes all behind it with it, and their messages come again in order.

use super::calls::Answered;
use super::effects::{Effects, Emitted, Held};
use super::runner::{Runner, Submitted};
use super::{CounterView, Counters, State};
use crate::Hub;
use crate::twins::{PlannedReport, TwinError};
use futures::stream::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use weir_core::id::Identity;
use weir_core::port::{Answer, StartReason};
use weir_core::twin::Patch;
use weir_store::{Change, CommitError, EndpointId, Write};

/// Least time between two attempts to store what did not fit.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

/// What is to be noted when a change is on disk.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) emitted: Emitted,
    pub(super) planned: Vec<PlannedReport>,
    pub(super) tally: CounterView,
}

impl Noted {
    async fn note(self, hub: &Hub, counters: &Counters) {
        self.emitted.note(hub);
        counters.add(&self.tally);
        for report in self.planned {
            report.committed(hub).await;
        }
    }
}

fn is_empty(change: &Change) -> bool {
    let Change { settle, append, state, replayed, documents } = change;
    settle.is_empty()
        && append.is_empty()
        && state.is_none()
        && replayed.is_empty()
        && documents.is_empty()
}

/// Adds the reports of a call to its change: the twin, its history and what is told of them.
async fn plan_reports(
    hub: &Hub,
    module: &Identity,
    change: &mut Change,
    reports: Vec<Patch>,
) -> Result<Vec<PlannedReport>, weir_store::Error> {
    let mut planned = Vec::with_capacity(reports.len());
    for patch in reports {
        let plan = hub.twins().plan_report(hub, module, &patch).await;
        match plan {
            Ok(mut plan) => {
                change.documents.append(&mut plan.documents);
                change.append.extend(plan.append.take());
                planned.push(plan);
            }
            Err(TwinError::Store(cause)) => return Err(cause),
            // The module is being deleted, or its twin is damaged.
            Err(error) => {
                warn!(%module, %error, "a report of the module is lost");
            }
        }
    }
    Ok(planned)
}

impl Runner {
    /// Hands what an answer says to the store; `tally` is counted when it is on disk.
    pub(super) async fn settle(&mut self, entries: Vec<Held>, answer: Answer, tally: CounterView) {
        self.settle_with(entries, answer, tally, Vec::new(), None).await;
    }

    /// The same with documents, for someone who waits until it is on disk.
    pub(super) async fn settle_with(
        &mut self,
        entries: Vec<Held>,
        mut answer: Answer,
        tally: CounterView,
        documents: Vec<Write>,
        answered: Option<Answered>,
    ) {
        let reports = std::mem::take(&mut answer.reports);
        let inputs: Vec<EndpointId> = self.readers.iter().map(|input| input.endpoint).collect();
        let effects = Effects {
            hub: &self.hub,
            identity: &self.identity,
            spec: &self.version.spec,
            component: self.version.spec.component,
            inputs: &inputs,
            on_probation: self.probation.is_some(),
        };
        let (mut change, emitted) = effects.change(&entries, answer);
        change.documents = documents;
        let submitted = Submitted { entries, answered };
        match plan_reports(&self.hub, &self.identity, &mut change, reports).await {
            Ok(planned) => self.submit(submitted, change, Noted { emitted, planned, tally }).await,
            Err(cause) => self.not_stored(submitted, change, cause),
        }
    }

    pub(super) async fn submit(&mut self, submitted: Submitted, change: Change, noted: Noted) {
        // Nobody waits for the disk when there is nothing to write, but for what came before.
        if is_empty(&change) {
            let (hub, counters) = (self.hub.clone(), Arc::clone(&self.counters));
            self.commits.push_back(Box::pin(async move {
                noted.note(&hub, &counters).await;
                (submitted, Ok(()))
            }));
            return;
        }
        let store = self.hub.store().clone();
        match store.slot().await {
            Ok(slot) => {
                let commit = slot.commit(change, &self.chain);
                let (hub, counters) = (self.hub.clone(), Arc::clone(&self.counters));
                self.commits.push_back(Box::pin(async move {
                    let result = commit.await.map(drop);
                    // What the store refuses was not done.
                    if result.is_ok() {
                        noted.note(&hub, &counters).await;
                    }
                    (submitted, result)
                }));
            }
            Err(closed) => self.not_stored(submitted, change, closed),
        }
    }

    fn not_stored(&mut self, submitted: Submitted, change: Change, cause: weir_store::Error) {
        let (cause, change) = (Arc::new(cause), Box::new(change));
        let result = Err(CommitError::Unavailable { cause, change });
        self.commits.push_back(Box::pin(async move { (submitted, result) }));
    }

    pub(super) async fn committed(
        &mut self,
        submitted: Submitted,
        result: Result<(), CommitError>,
    ) {
        let entries = submitted.told(&self.identity, result.is_ok());
        let Err(error) = result else { return };
        // The store took nothing of this and of all behind it.
        warn!(module = %self.identity, error = %error, "what the module did could not be stored, it is undone");
        self.put_back(&entries);
        while let Some((submitted, _)) = self.commits.next().await {
            let entries = submitted.told(&self.identity, false);
            self.put_back(&entries);
        }
        self.hub.twins().undo_plans(&self.hub, &self.identity).await;
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
        while let Some((submitted, result)) = self.commits.next().await {
            self.committed(submitted, result).await;
        }
    }
}
