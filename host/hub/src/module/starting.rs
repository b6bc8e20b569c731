//! From nothing to a running instance, and back: starting, resting after failures, ending.
//!
//! Used by the runner's loop only. Invariant: an instance starts when all that its predecessor did is
//! on disk, on a state that holds nothing else, and is given first what that one held.

use super::circuit::Circuit;
use super::holding::Holding;
use super::parts::Input;
use super::runner::{Event, Runner};
use super::{CounterView, State};
use crate::tasks::Stop;
use futures::stream::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tracing::{error, info, warn};
use weir_core::module::WhenOpen;
use weir_core::module_state::ModuleState;
use weir_core::port::{Answer, Instance, Outcome};

impl Runner {
    /// Starts an instance of the present version; false when it did not, after a pause.
    pub(super) async fn start(&mut self, stop: &Stop) -> bool {
        if let Some(rest) = self.circuit.rests(self.hub.clock().now()) {
            self.rest(rest, stop).await;
            return false;
        }
        // What the instance before this one held is known when its last batches are on disk.
        self.flush().await;
        if self.stale && !self.reload_state().await {
            let wait = self.restart.next_wait(fastrand::f64());
            self.set_state(State::BackingOff);
            self.rest(wait, stop).await;
            return false;
        }
        self.set_state(State::Starting);
        let (state, twin) = (Arc::clone(&self.state), Arc::clone(&self.twin));
        let start = self.version.start(&self.identity, self.reason, state, twin);
        match self.hub.runtime().start(start).await {
            Ok(instance) => {
                self.restart.reset();
                self.replace_instance(Some(instance));
                self.desired.due = true;
                self.set_state(State::Running);
                true
            }
            Err(cause) if self.previous.is_some() => {
                self.go_back(&cause.to_string()).await;
                false
            }
            Err(cause) => {
                let wait = self.restart.next_wait(fastrand::f64());
                error!(module = %self.identity, error = %cause, retry_in = ?wait, "module did not start");
                self.note(&cause.to_string());
                self.set_state(State::BackingOff);
                self.rest(wait, stop).await;
                false
            }
        }
    }

    /// Waits, but hears what it is told meanwhile.
    pub(super) async fn rest(&mut self, wait: Duration, stop: &Stop) {
        let bypass = self.version.spec.errors.when_open == WhenOpen::Bypass;
        let until = tokio::time::sleep(wait);
        tokio::pin!(until);
        if let Some(call) = self.again.take() {
            self.hang_up(call);
        }
        loop {
            let event = tokio::select! {
                () = &mut until => return,
                // Nothing is taken from the queues while the module rests.
                event = self.event(stop, bypass) => event,
            };
            match event {
                Event::Drain | Event::Control(None) => return,
                Event::Control(Some(control)) => {
                    self.control(control).await;
                    return;
                }
                Event::Committed(submitted, result) => self.committed(submitted, result).await,
                Event::Call(call) => self.hang_up(call),
                Event::Desired => {}
                Event::Part(part) => {
                    let Some(part) = self.end_loops(part).await else { continue };
                    let answer = Answer {
                        outcomes: vec![Outcome::Pass { output: 0 }; part.entries.len()],
                        ..Answer::default()
                    };
                    self.settle(part.entries, answer, CounterView::default()).await;
                }
            }
        }
    }

    /// Reads state and twin anew when everything submitted is on disk or undone; false when it could not.
    pub(super) async fn reload_state(&mut self) -> bool {
        let module = self.identity.module.as_ref().map(ToString::to_string).unwrap_or_default();
        let quota = usize::try_from(self.version.spec.limits.state.0).unwrap_or(usize::MAX);
        let read = async {
            let values = self.hub.store().module_state(&module).await?;
            self.reload_twin().await?;
            Ok(values)
        };
        match read.await {
            Ok(values) => {
                *crate::sync::lock(&self.state) = ModuleState::new(values, quota);
                self.stale = false;
            }
            Err::<_, weir_store::Error>(cause) => {
                error!(module, error = %cause, "the module's state could not be read");
                self.stale = true;
            }
        }
        !self.stale
    }

    /// Opens the readers of the present version's inputs; those that stay are kept. What waits to be
    /// handled again goes back, because its input may have another number now.
    pub(super) async fn open_inputs(&mut self) {
        for part in std::mem::take(&mut self.parts) {
            self.put_back(&part.entries);
        }
        let mut old = std::mem::take(&mut self.readers);
        for name in &self.version.spec.inputs {
            let endpoint = match self.hub.input_endpoint(&self.identity, name).await {
                Ok(endpoint) => endpoint,
                Err(cause) => {
                    error!(module = %self.identity, input = %name, error = %cause, "an input's queue could not be opened");
                    continue;
                }
            };
            if let Some(at) = old.iter().position(|input| input.endpoint == endpoint) {
                self.readers.push(old.swap_remove(at));
                continue;
            }
            match self.hub.store().reader(endpoint) {
                Ok(reader) => self.readers.push(Input { endpoint, reader }),
                Err(cause) => {
                    error!(module = %self.identity, input = %name, error = %cause, "an input's queue is in use");
                }
            }
        }
        self.turn = 0;
    }

    pub(super) fn replace_instance(
        &mut self,
        instance: Option<Arc<dyn Instance>>,
    ) -> Option<Arc<dyn Instance>> {
        self.holding = Holding::default();
        for input in &self.readers {
            input.reader.redeliver_held();
        }
        std::mem::replace(&mut self.instance, instance)
    }

    pub(super) fn reset_circuit(&mut self) {
        self.circuit = Circuit::new(self.version.spec.errors.open_after.0);
        self.restart.reset();
    }

    pub(super) async fn finish(&mut self) {
        if let Some(instance) = self.instance.take()
            && let Ok(answer) = instance.stop().await
        {
            self.settle(Vec::new(), answer, CounterView::default()).await;
        }
        while let Some((submitted, result)) = self.commits.next().await {
            submitted.told(&self.identity, result.is_ok());
            if let Err(error) = result {
                warn!(module = %self.identity, error = %error, "the module's last work was not stored, it will be done again");
                break;
            }
        }
        self.parts.clear();
        self.readers.clear();
        self.stopped = true;
        self.set_state(State::Stopped);
        info!(module = %self.identity, "module stopped");
    }
}
