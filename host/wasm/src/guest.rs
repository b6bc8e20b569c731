//! What the host keeps for one instance: the data of its store.
//!
//! Every import goes through [`Guest::enter`], which counts the call and holds the deadline, because
//! the epoch is looked at only in the guest's own code.

use crate::limiter::Limiter;
use crate::log::ModuleLog;
use crate::metrics::Metrics;
use crate::stopwatch::Stopwatch;
use crate::ticker::Ticker;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmtime::component::{Resource, ResourceTable};
use weir_core::clock::{Clock, Timestamp};
use weir_core::module::{LimitSpec, ModuleSpec};
use weir_core::module_state::ModuleState;
use weir_core::module_twin::ModuleTwin;
use weir_core::port::Emission;

/// Handles (large bodies, streams, timers) that a guest may keep at once.
const HANDLES: usize = 1_024;

/// Why the host ends a call; becomes a [`weir_core::port::Fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The guest broke a rule of the interface or a budget.
    Contract(String),
    /// The deadline passed while the guest was in the host.
    TimeOut,
    /// The guest ended itself.
    Exit,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contract(what) => f.write_str(what),
            Self::TimeOut => f.write_str("out of time"),
            Self::Exit => f.write_str("the module called exit"),
        }
    }
}

impl std::error::Error for Stop {}

/// A breach of the interface as an error that ends the call.
pub(crate) fn contract(what: impl Into<String>) -> wasmtime::Error {
    Stop::Contract(what.into()).into()
}

/// What the guest is doing, which decides what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Instantiation and `init`: no effects, because nothing would commit them.
    Init,
    /// Any other call: effects are collected.
    Effects,
}

/// The effects and the budget of the call under way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) phase: Phase,
    /// Tick at which the call is over.
    deadline: u64,
    host_calls: u32,
    pub(crate) sends: Vec<Emission>,
    pub(crate) sent_bytes: u64,
    pub(crate) releases: Vec<u64>,
}

impl Call {
    fn new(phase: Phase, deadline: u64) -> Self {
        let (sends, releases) = (Vec::new(), Vec::new());
        Self { phase, deadline, host_calls: 0, sends, sent_bytes: 0, releases }
    }
}

pub(crate) struct Guest {
    pub(crate) spec: Arc<ModuleSpec>,
    /// The specification's limits under the host's ceilings.
    pub(crate) limits: LimitSpec,
    pub(crate) state_granted: bool,
    pub(crate) report_granted: bool,
    pub(crate) clock: Clock,
    pub(crate) started: Stopwatch,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) limiter: Limiter,
    pub(crate) table: ResourceTable,
    handles: usize,
    pub(crate) call: Call,
    state: Arc<Mutex<ModuleState>>,
    twin: Arc<Mutex<ModuleTwin>>,
    pub(crate) log: ModuleLog,
    pub(crate) metrics: Arc<Mutex<Metrics>>,
}

/// What a new [`Guest`] is made of.
pub(crate) struct GuestParts {
    pub(crate) spec: Arc<ModuleSpec>,
    pub(crate) limits: LimitSpec,
    pub(crate) state_granted: bool,
    pub(crate) report_granted: bool,
    pub(crate) clock: Clock,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) state: Arc<Mutex<ModuleState>>,
    pub(crate) twin: Arc<Mutex<ModuleTwin>>,
    pub(crate) log: ModuleLog,
    pub(crate) metrics: Arc<Mutex<Metrics>>,
}

impl Guest {
    pub(crate) fn new(parts: GuestParts) -> Self {
        let memory = usize::try_from(parts.limits.memory.0).unwrap_or(usize::MAX);
        Self {
            spec: parts.spec,
            limits: parts.limits,
            state_granted: parts.state_granted,
            report_granted: parts.report_granted,
            clock: parts.clock,
            started: Stopwatch::start(),
            ticker: parts.ticker,
            limiter: Limiter::new(memory),
            table: ResourceTable::new(),
            handles: 0,
            call: Call::new(Phase::Init, 0),
            state: parts.state,
            twin: parts.twin,
            log: parts.log,
            metrics: parts.metrics,
        }
    }

    /// Begins a call that may last `ticks`.
    pub(crate) fn begin(&mut self, phase: Phase, ticks: u64) {
        self.call = Call::new(phase, self.ticker.now().saturating_add(ticks));
        self.log.begin();
    }

    /// Every import begins with this: a host call is counted, and none begins after the deadline.
    pub(crate) fn enter(&mut self) -> wasmtime::Result<()> {
        self.call.host_calls += 1;
        if self.call.host_calls > self.limits.host_calls {
            return Err(contract(format!(
                "it called the hub more than {} times in one call (limits.host-calls)",
                self.limits.host_calls
            )));
        }
        match self.remaining_ticks() {
            0 => Err(Stop::TimeOut.into()),
            _ => Ok(()),
        }
    }

    /// Ticks until the deadline.
    pub(crate) fn remaining_ticks(&self) -> u64 {
        self.call.deadline.saturating_sub(self.ticker.now())
    }

    /// The module's state, and the present time for its expiry.
    pub(crate) fn state(&self) -> (MutexGuard<'_, ModuleState>, Timestamp) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state, self.clock.now())
    }

    /// The module's twin.
    pub(crate) fn twin(&self) -> MutexGuard<'_, ModuleTwin> {
        self.twin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the guest a handle.
    pub(crate) fn push<T: Send + 'static>(&mut self, entry: T) -> wasmtime::Result<Resource<T>> {
        if self.handles >= HANDLES {
            return Err(contract(format!("it keeps more than {HANDLES} handles")));
        }
        let handle = self.table.push(entry)?;
        self.handles += 1;
        Ok(handle)
    }

    /// Takes a handle back.
    pub(crate) fn delete<T: Send + 'static>(
        &mut self,
        handle: Resource<T>,
    ) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        self.handles -= 1;
        Ok(())
    }
}
