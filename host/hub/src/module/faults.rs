//! What becomes of a batch on which the module fails, and of messages that are in a loop.
//!
//! Used by the runner only. Invariant: a message is given up only when the module fails on it alone,
//! and never by a version on probation.

use super::effects::Held;
use super::parts::Part;
use super::runner::{Runner, Submitted};
use super::settling::Noted;
use super::{CounterView, State};
use crate::explain::Fate;
use std::time::Duration;
use tracing::{error, warn};
use weir_core::limits;
use weir_core::module::TrapPolicy;
use weir_core::port::{Fault, StartReason};
use weir_store::{Change, Disposition};

impl Runner {
    /// The instance is spent and its batch undone. One that ended without an answer is met like a
    /// trap, so that a message which ends it each time does not hold up those behind it; but nobody
    /// undid what it did to the state.
    pub(super) async fn fault(&mut self, part: Part, fault: Fault) {
        self.instance = None;
        self.reason = StartReason::Recover;
        self.answer_fault(part, &fault).await;
        self.undo_unanswered(&fault).await;
    }

    /// The same for a call beside the batches; `counts` against the circuit. True when the version
    /// before took over.
    pub(super) async fn call_fault(&mut self, fault: &Fault, counts: bool) -> bool {
        self.instance = None;
        self.reason = StartReason::Recover;
        self.counters.fault();
        self.note(&fault.to_string());
        let went_back = self.probation.is_some();
        if went_back {
            warn!(module = %self.identity, error = %fault, "a version on probation failed");
            self.go_back(&fault.to_string()).await;
        } else {
            warn!(module = %self.identity, error = %fault, "module call failed");
            if counts && self.circuit.fault(self.hub.clock().now(), false) {
                error!(module = %self.identity, "the module failed too often and rests");
                self.set_state(State::CircuitOpen);
            }
        }
        self.undo_unanswered(fault).await;
        went_back
    }

    async fn undo_unanswered(&mut self, fault: &Fault) {
        if !fault.is_guest() {
            self.flush().await;
            self.reload_state().await;
        }
    }

    pub(super) async fn answer_fault(&mut self, mut part: Part, fault: &Fault) {
        self.counters.fault();
        self.note(&fault.to_string());
        let now = self.hub.clock().now();
        if self.probation.is_some() {
            warn!(module = %self.identity, error = %fault, "a version on probation failed");
            self.parts.push_front(part);
            self.go_back(&fault.to_string()).await;
            return;
        }
        warn!(module = %self.identity, messages = part.entries.len(), error = %fault, "module call failed");
        // The attempts of a message that stands alone are one fault: they are meant to fail.
        if part.alone == 0 && self.circuit.fault(now, part.suspect) {
            error!(module = %self.identity, "the module failed too often and rests");
            self.set_state(State::CircuitOpen);
        }
        part.suspect = true;
        part.timed_out |= matches!(fault, Fault::TimeOut(_));
        if part.entries.len() > 1 {
            let tail = part.entries.split_off(part.entries.len() / 2);
            self.parts.push_front(Part { entries: tail, ..part });
            self.parts.push_front(part);
            return;
        }
        part.alone += 1;
        match part.alone >= self.version.spec.errors.retry.max_attempts {
            true => self.set_aside(part, fault).await,
            false => self.parts.push_front(part),
        }
    }

    /// What the call with this part may take, where that is less than a call's limit.
    pub(super) fn search_time(&self, part: &Part) -> Option<Duration> {
        let spec = &self.version.spec;
        let last = part.entries.len() == 1 && part.alone + 1 >= spec.errors.retry.max_attempts;
        let short = part.timed_out && !last;
        short.then(|| spec.limits.call() / limits::MODULE_SEARCH_SHARE)
    }

    /// Messages that have come through too many modules end here; gives the others.
    pub(super) async fn end_loops(&mut self, mut part: Part) -> Option<Part> {
        if part.entries.iter().all(|held| held.entry.record.message.hops() < limits::MAX_HOPS) {
            return Some(part);
        }
        let (looped, others): (Vec<Held>, Vec<Held>) = part
            .entries
            .into_iter()
            .partition(|held| held.entry.record.message.hops() >= limits::MAX_HOPS);
        let reason = format!("came through {} modules: the routes form a loop", limits::MAX_HOPS);
        let code = Some("hop-limit".to_owned());
        self.end(looped, &Disposition::Dead { reason, code, module_digest: None }).await;
        part.entries = others;
        (!part.entries.is_empty()).then_some(part)
    }

    /// A message that the module cannot take, alone as it is.
    pub(super) async fn set_aside(&mut self, part: Part, fault: &Fault) {
        let code = match fault {
            Fault::TimeOut(_) => "time-out",
            Fault::Trap(_) | Fault::Contract(_) | Fault::Unavailable { .. } => "trap",
        };
        let disposition = match self.version.spec.errors.trap {
            TrapPolicy::DeadLetter => Disposition::Dead {
                reason: fault.to_string(),
                code: Some(code.to_owned()),
                module_digest: Some(self.version.spec.component),
            },
            TrapPolicy::Drop => Disposition::Done,
        };
        self.end(part.entries, &disposition).await;
    }

    pub(super) async fn end(&mut self, entries: Vec<Held>, disposition: &Disposition) {
        let tally = CounterView { dead: entries.len() as u64, ..CounterView::default() };
        let mut change = Change::default();
        let module = self.identity.module.as_ref();
        for held in &entries {
            let id = held.entry.record.message.id();
            self.hub.explanations().settle(id, module, Fate::Rejected);
            change.settle.push((held.endpoint, held.entry.sequence, disposition.clone()));
        }
        let submitted = Submitted { entries, answered: None };
        self.submit(submitted, change, Noted { tally, ..Noted::default() }).await;
    }
}
