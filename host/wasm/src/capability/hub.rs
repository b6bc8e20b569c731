//! `hub`: sending beside the outcomes, and settling held messages. Both are effects: collected here,
//! committed with the batch.

use crate::bindings::weir::module::hub::{Host, SendError};
use crate::bindings::weir::module::types::OutputMessage;
use crate::guest::{Guest, Phase, contract};
use crate::lift::{self, Refusal};
use wasmtime::Result;
use weir_core::limits;

impl Host for Guest {
    fn send(&mut self, message: OutputMessage) -> Result<Result<u32, SendError>> {
        self.enter()?;
        if self.call.phase == Phase::Init || usize::from(message.output) >= self.spec.outputs.len()
        {
            return Ok(Err(SendError::Denied));
        }
        let emission = match lift::emission(&self.spec, message) {
            Ok(emission) => emission,
            Err(Refusal::TooLarge(_)) => return Ok(Err(SendError::TooLarge)),
            Err(Refusal::Breach(what)) => return Err(contract(what)),
        };
        let bytes = self.call.sent_bytes + lift::emission_bytes(&emission);
        let count = self.call.sends.len() + 1;
        if count > self.limits.sends_per_call as usize || bytes > self.limits.bytes_per_call.0 {
            return Ok(Err(SendError::TooMany));
        }
        self.call.sent_bytes = bytes;
        self.call.sends.push(emission);
        Ok(Ok(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    fn release(&mut self, sequences: Vec<u64>) -> Result<()> {
        self.enter()?;
        if self.call.phase == Phase::Init {
            return Ok(());
        }
        if self.call.releases.len() + sequences.len() > 2 * limits::MODULE_HELD {
            return Err(contract("it released more messages than a module can hold"));
        }
        self.call.releases.extend(sequences);
        Ok(())
    }
}
