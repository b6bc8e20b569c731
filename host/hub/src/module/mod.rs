//! Wasm modules: what is to run, what runs, and how one version takes the place of another.
//!
//! [`Modules`] is the service behind the API; each running module is a [`runner::Runner`] task that
//! listens to [`Control`] messages. The store is the truth about versions.

mod calls;
mod circuit;
mod desired;
mod effects;
mod faults;
mod holding;
mod parts;
mod record;
mod runner;
mod service;
mod settling;
mod starting;
mod swap;
mod version;

pub use record::{Fortune, VersionRow};
pub use service::{FaultView, ModuleChange, ModuleError, ModuleView, Modules};

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::oneshot;
use version::Version;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::module_state::ModuleState;
use weir_core::module_twin::ModuleTwin;
use weir_core::port::{Answer, Instance, InstanceUsage, Outcome};

/// What a running module can be told.
enum Control {
    /// Give a copy of state and twin, taken between two batches.
    Fork(oneshot::Sender<(ModuleState, ModuleTwin)>),
    /// Take another version.
    Switch(Box<Switch>),
    /// End; the queues stay.
    Stop(oneshot::Sender<()>),
}

/// A version that is ready to take over.
struct Switch {
    version: Version,
    instance: Arc<dyn Instance>,
    state: Arc<Mutex<ModuleState>>,
    twin: Arc<Mutex<ModuleTwin>>,
    done: oneshot::Sender<Result<(), String>>,
}

/// What a module is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum State {
    /// Its instance is being made.
    Starting,
    /// It takes messages.
    Running,
    /// Its last start failed; another follows.
    BackingOff,
    /// It failed too often and rests.
    CircuitOpen,
    /// What it emits has no room.
    Paused {
        /// The full queue; none when the store itself cannot be written.
        on: Option<String>,
    },
    /// It was told to end.
    Stopped,
}

/// A return to an older version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Return {
    /// When.
    pub at: Timestamp,
    /// The version that failed.
    pub failed: u32,
    /// How.
    pub why: String,
}

/// The present state of a module's task.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// What it is doing.
    pub state: State,
    /// The version in force.
    pub version: u32,
    /// Its component.
    pub component: Option<Digest>,
    /// True while a fault brings the old version back.
    pub on_probation: bool,
    /// Figures of the instance.
    pub usage: Option<InstanceUsage>,
    /// The last fault, and when.
    pub last_fault: Option<(Timestamp, String)>,
    /// The last return to an older version.
    pub last_return: Option<Return>,
}

/// What a module has done since the hub started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    batches: AtomicU64,
    messages: AtomicU64,
    dropped: AtomicU64,
    passed: AtomicU64,
    emitted: AtomicU64,
    held: AtomicU64,
    retried: AtomicU64,
    rejected: AtomicU64,
    faults: AtomicU64,
    dead: AtomicU64,
    returns: AtomicU64,
}

/// What a module has done since the hub started, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CounterView {
    /// Calls that went well.
    pub batches: u64,
    /// Messages in these calls.
    pub messages: u64,
    /// Outcome `drop`.
    pub dropped: u64,
    /// Outcomes `pass` and `annotate`.
    pub passed: u64,
    /// Messages made by `emit` and `send`.
    pub emitted: u64,
    /// Outcome `hold`.
    pub held: u64,
    /// Outcome `retry`.
    pub retried: u64,
    /// Outcome `reject`.
    pub rejected: u64,
    /// Traps, time-outs and breaches of the contract.
    pub faults: u64,
    /// Messages set aside because the module fails on them.
    pub dead: u64,
    /// Returns to an older version.
    pub returns: u64,
}

impl CounterView {
    /// What a call beside the batches did.
    fn of_effects(effects: &Answer) -> Self {
        Self { emitted: effects.sends.len() as u64, ..Self::default() }
    }

    /// What one call did, when its change is on disk.
    fn of_call(messages: usize, answer: &Answer) -> Self {
        let mut view = Self {
            batches: 1,
            messages: messages as u64,
            emitted: answer.sends.len() as u64,
            ..Self::default()
        };
        for outcome in &answer.outcomes {
            match outcome {
                Outcome::Drop | Outcome::Accepted | Outcome::Abandon { .. } => view.dropped += 1,
                Outcome::Pass { .. } | Outcome::Annotate { .. } => view.passed += 1,
                Outcome::Emit(emissions) => view.emitted += emissions.len() as u64,
                Outcome::Hold => view.held += 1,
                Outcome::Retry { .. } => view.retried += 1,
                Outcome::Reject { .. } => view.rejected += 1,
            }
        }
        view
    }
}

impl Counters {
    fn add(&self, view: &CounterView) {
        let add = |counter: &AtomicU64, by: u64| {
            if by > 0 {
                counter.fetch_add(by, Ordering::Relaxed);
            }
        };
        add(&self.batches, view.batches);
        add(&self.messages, view.messages);
        add(&self.dropped, view.dropped);
        add(&self.passed, view.passed);
        add(&self.emitted, view.emitted);
        add(&self.held, view.held);
        add(&self.retried, view.retried);
        add(&self.rejected, view.rejected);
        add(&self.faults, view.faults);
        add(&self.dead, view.dead);
        add(&self.returns, view.returns);
    }

    fn fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    fn returned(&self) {
        self.returns.fetch_add(1, Ordering::Relaxed);
    }

    /// The present numbers.
    pub(crate) fn view(&self) -> CounterView {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CounterView {
            batches: read(&self.batches),
            messages: read(&self.messages),
            dropped: read(&self.dropped),
            passed: read(&self.passed),
            emitted: read(&self.emitted),
            held: read(&self.held),
            retried: read(&self.retried),
            rejected: read(&self.rejected),
            faults: read(&self.faults),
            dead: read(&self.dead),
            returns: read(&self.returns),
        }
    }
}
