//! WASI `clocks`, in whole milliseconds: finer clocks help side channels more than modules.

use crate::bindings::wasi::clocks::{monotonic_clock, wall_clock};
use crate::capability::wasi_io::Pollable;
use crate::guest::Guest;
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::Resource;

const NANOS_PER_MILLI: u64 = 1_000_000;

impl Guest {
    fn monotonic_millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl monotonic_clock::Host for Guest {
    fn now(&mut self) -> Result<u64> {
        self.enter()?;
        Ok(self.monotonic_millis().saturating_mul(NANOS_PER_MILLI))
    }

    fn resolution(&mut self) -> Result<u64> {
        self.enter()?;
        Ok(NANOS_PER_MILLI)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<Pollable>> {
        self.enter()?;
        self.push(Pollable(Some(Duration::from_nanos(when))))
    }

    fn subscribe_duration(&mut self, length: u64) -> Result<Resource<Pollable>> {
        self.enter()?;
        let when = self.started.elapsed().saturating_add(Duration::from_nanos(length));
        self.push(Pollable(Some(when)))
    }
}

impl wall_clock::Host for Guest {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        self.enter()?;
        let millis = u64::try_from(self.clock.now().as_micros().div_euclid(1_000)).unwrap_or(0);
        let rest = u32::try_from(millis % 1_000).expect("below a thousand");
        Ok(wall_clock::Datetime { seconds: millis / 1_000, nanoseconds: rest * 1_000_000 })
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        self.enter()?;
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: 1_000_000 })
    }
}
