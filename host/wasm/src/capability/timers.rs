//! `timers`: not built yet; every call answers `denied`, so that a module can do without.

use crate::bindings::weir::module::timers::{Host, Schedule, TimerError};
use crate::guest::Guest;
use wasmtime::Result;

impl Host for Guest {
    fn set(&mut self, _name: String, _schedule: Schedule) -> Result<Result<(), TimerError>> {
        self.enter()?;
        Ok(Err(TimerError::Denied))
    }

    fn cancel(&mut self, _name: String) -> Result<Result<(), TimerError>> {
        self.enter()?;
        Ok(Err(TimerError::Denied))
    }
}
