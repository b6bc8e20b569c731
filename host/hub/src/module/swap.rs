//! Exchanging the version of a running module, and going back.
//!
//! The new version is instantiated and initialised aside, on a copy of the state, while the old one
//! works. The switch happens between two batches, after everything the old one did is on disk: the
//! transaction that records the version is the switch. From then on the new version is on
//! probation; its first fault brings the old one back and delivers the batch to it.

use super::desired::{self, Desired};
use super::runner::Runner;
use super::version::Probation;
use super::{Control, CounterView, State, Switch, record};
use crate::events::Topic;
use crate::sync::lock;
use serde_json::json;
use tracing::{error, info, warn};
use weir_core::module_state::ModuleState;
use weir_core::port::StartReason;
use weir_store::Expect;

impl Runner {
    pub(super) async fn control(&mut self, control: Control) {
        match control {
            Control::Fork(reply) => {
                let state = lock(&self.state).clone();
                let twin = lock(&self.twin).clone();
                drop(reply.send((state, twin)));
            }
            Control::Switch(switch) => self.switch(*switch).await,
            Control::Stop(done) => {
                self.finish().await;
                done.send(()).ok();
            }
        }
    }

    async fn switch(&mut self, switch: Switch) {
        let Switch { version, instance, state, twin, done } = switch;
        self.retire().await;
        if self.stale && !self.reload_state().await {
            drop(done.send(Err("the module's state could not be read".to_owned())));
            return;
        }
        let before = Some(self.version.number);
        let in_force = desired::of(&*instance, &twin);
        let (hub, name) = (self.hub.clone(), self.module_name().to_owned());
        let recorded = async {
            let store = hub.store();
            let kept = desired::begin(store, &name, version.number, before, in_force).await?;
            let with = (hub.clock().now(), kept);
            record::install(store, &name, &version, before, with, Expect::Present).await
        };
        if let Err(cause) = recorded.await {
            // The old version was stopped for nothing; it starts again.
            drop(done.send(Err(format!("the new version could not be recorded: {cause}"))));
            return;
        }
        let live = {
            let mut live = lock(&self.state);
            std::mem::replace(&mut *live, ModuleState::new(Default::default(), 0))
        };
        *lock(&state) = live;
        let quota = usize::try_from(version.spec.limits.state.0).unwrap_or(usize::MAX);
        lock(&state).set_quota(quota);
        self.state = state;
        // The reports of the old one go on, and what is in force is what the new one has started with.
        let reported = lock(&self.twin).reported().clone();
        lock(&twin).put_reported(reported);
        self.twin = twin;
        self.desired = Desired::of_new_version();
        self.previous = Some(std::mem::replace(&mut self.version, version));
        self.probation = Some(Probation::begin(self.hub.clock().now()));
        self.reset_circuit();
        self.open_inputs().await;
        self.replace_instance(Some(instance));
        self.set_state(State::Running);
        info!(module = %self.identity, version = self.version.number, "module switched");
        drop(done.send(Ok(())));
    }

    /// Ends the old version in good order: its last effects count and are on disk afterwards.
    async fn retire(&mut self) {
        if let Some(old) = self.replace_instance(None) {
            match old.stop().await {
                Ok(answer) => self.settle(Vec::new(), answer, CounterView::default()).await,
                Err(fault) => self.note(&fault.to_string()),
            }
        }
        self.reason = StartReason::Recover;
        self.flush().await;
    }

    /// Back to the version before, because this one failed.
    pub(super) async fn go_back(&mut self, why: &str) {
        let Some(previous) = self.previous.take() else { return };
        let failed = std::mem::replace(&mut self.version, previous);
        self.probation = None;
        self.note(why);
        self.flush().await;
        let (to, now) = (self.version.number, self.hub.clock().now());
        let recorded = record::go_back(self.hub.store(), self.module_name(), &failed, to, why, now);
        if let Err(cause) = recorded.await {
            error!(module = %self.identity, error = %cause, "the return to the old version could not be recorded");
        }
        self.counters.returned();
        self.reset_circuit();
        self.reason = StartReason::Recover;
        // Other desired properties may be in force for it.
        self.reload_state().await;
        self.open_inputs().await;
        self.replace_instance(None);
        self.report_return(failed.number, why);
        info!(
            module = %self.identity, failed = failed.number, version = self.version.number,
            "module went back to the version before"
        );
    }

    /// Counts a good batch of a version on probation.
    pub(super) async fn on_probation_success(&mut self) {
        let now = self.hub.clock().now();
        if !self.probation.as_mut().is_some_and(|trial| trial.passed(now)) {
            return;
        }
        let (name, number) = (self.module_name(), self.version.number);
        match record::pass(self.hub.store(), name, number).await {
            Ok(()) => {
                self.probation = None;
                self.previous = None;
                self.set_state(State::Running);
                info!(module = %self.identity, version = number, "the new version passed its probation");
            }
            Err(cause) => {
                warn!(module = %self.identity, error = %cause, "the end of the probation could not be recorded");
            }
        }
    }

    pub(super) fn module_name(&self) -> &str {
        self.identity.module.as_ref().map_or("", |module| module.as_str())
    }

    fn report_return(&self, failed: u32, why: &str) {
        let at = self.hub.clock().now();
        self.report.send_modify(|report| {
            report.last_return = Some(super::Return { at, failed, why: why.to_owned() });
        });
        let data = json!({"failed": failed, "version": self.version.number, "why": why});
        self.hub.tell(Topic::Module, "returned", self.module_name(), data);
    }
}
