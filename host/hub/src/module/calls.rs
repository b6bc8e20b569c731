//! Method calls of a module: waiting for their turn between batches, and answered when what they did is
//! on disk.
//!
//! [`crate::Hub::invoke`] comes in through [`Modules::call`]; the runner does the rest. A module is connected while
//! it runs or starts; while it rests after too many faults, or waits for room or for the disk, it is not.
//! During a swap calls wait for the new version. Invariants:
//!
//! 1. The answer is given after the commit of what the call did, and of all that it may have read.
//! 2. What waits is bounded; a call whose caller has gone is not made.
//! 3. A call that failed has not happened. On probation it goes to the old version, as a batch does.

use super::runner::Runner;
use super::{CounterView, Modules, State};
use crate::methods::MethodError;
use crate::sync::lock;
use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::timeout;
use weir_core::id::{Identity, ModuleId};
use weir_core::method::{MethodAnswer, MethodCall, MethodName};
use weir_core::port::{Called, Fault};

/// A call that waits for its turn.
pub(super) struct Call {
    name: MethodName,
    payload: Bytes,
    reply: oneshot::Sender<Result<MethodAnswer, MethodError>>,
}

/// An answer that waits for the commit.
pub(super) struct Answered {
    answer: MethodAnswer,
    reply: oneshot::Sender<Result<MethodAnswer, MethodError>>,
}

impl Answered {
    /// What the call did is on disk.
    pub(super) fn give(self) {
        drop(self.reply.send(Ok(self.answer)));
    }

    /// It could not be stored, so the call has not happened.
    pub(super) fn undo(self, target: &Identity) {
        let reason = "what it did could not be stored".to_owned();
        drop(self.reply.send(Err(MethodError::Failed { target: target.clone(), reason })));
    }
}

impl State {
    fn is_connected(&self) -> bool {
        match self {
            Self::Starting | Self::Running => true,
            Self::BackingOff | Self::CircuitOpen | Self::Paused { .. } | Self::Stopped => false,
        }
    }
}

impl Modules {
    /// Calls a method of a Wasm module.
    ///
    /// # Errors
    /// [`MethodError`].
    pub(crate) async fn call(
        &self,
        target: &Identity,
        module: &ModuleId,
        call: MethodCall,
    ) -> Result<MethodAnswer, MethodError> {
        let not_connected = || MethodError::NotConnected(target.clone());
        let (calls, mut report) = {
            let running = lock(&self.running);
            let found = running.get(module).ok_or_else(not_connected)?;
            (found.calls.clone(), found.report.clone())
        };
        let connected = report.wait_for(|report| report.state.is_connected());
        match timeout(call.connect_timeout, connected).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(not_connected()),
        }
        let (reply, answered) = oneshot::channel();
        let MethodCall { name, payload, response_timeout, .. } = call;
        calls.try_send(Call { name, payload, reply }).map_err(|error| match error {
            tokio::sync::mpsc::error::TrySendError::Full(_) => MethodError::Busy,
            tokio::sync::mpsc::error::TrySendError::Closed(_) => not_connected(),
        })?;
        match timeout(response_timeout, answered).await {
            Err(_) => Err(MethodError::TimedOut(response_timeout)),
            // The module was stopped.
            Ok(Err(_)) => Err(not_connected()),
            Ok(Ok(result)) => result,
        }
    }
}

impl Runner {
    /// Makes a call, if somebody waits for it.
    pub(super) async fn call(&mut self, call: Call) {
        if call.reply.is_closed() {
            return;
        }
        let Some(instance) = self.instance.clone().filter(|found| found.handlers().methods) else {
            self.hang_up(call);
            return;
        };
        match instance.call_method(call.name.as_str(), call.payload.clone()).await {
            Ok(Called { answer, mut effects }) => {
                self.keep_quota(&[], &mut effects);
                let tally = CounterView::of_effects(&effects);
                let answered = Answered { answer, reply: call.reply };
                self.settle_with(Vec::new(), effects, tally, Vec::new(), Some(answered)).await;
            }
            Err(fault) => self.method_fault(call, &fault).await,
        }
    }

    /// Nobody is there who could take the call.
    pub(super) fn hang_up(&self, call: Call) {
        drop(call.reply.send(Err(MethodError::NotConnected(self.identity.clone()))));
    }

    async fn method_fault(&mut self, call: Call, fault: &Fault) {
        if self.call_fault(fault, true).await {
            self.again = Some(call);
            return;
        }
        drop(call.reply.send(Err(match fault {
            Fault::TimeOut(time) => MethodError::TimedOut(*time),
            Fault::Trap(_) | Fault::Contract(_) | Fault::Unavailable { .. } => {
                MethodError::Failed { target: self.identity.clone(), reason: fault.to_string() }
            }
        })));
    }
}
