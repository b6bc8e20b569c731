//! A module and its versions as they are shown.

use super::module_spec::ModuleSpecForm;
use super::time;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use weir_core::module::ModuleSpec;
use weir_hub::{CounterView, Fortune, ModuleView, State, VersionRow};

/// A Wasm module.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "filter", "state": "running", "version": 2, "onProbation": false,
    "spec": {"type": "wasm", "component": "sha256:0f0f…", "inputs": ["in"], "outputs": ["out"]},
    "counters": {"batches": 10, "messages": 640, "dropped": 320, "passed": 320, "emitted": 0,
        "held": 0, "retried": 0, "rejected": 0, "faults": 0, "dead": 0, "returns": 0},
    "usage": {"calls": 10, "messages": 640, "busyMicros": 900, "memoryBytes": 1114112,
        "logLines": 0, "logDropped": 0},
    "stateBytes": 0, "stateKeys": 0
}))]
pub(super) struct Module {
    /// Its name.
    pub(super) name: String,
    /// `starting`, `running`, `backing-off`, `circuit-open`, `paused` or `stopped`.
    state: &'static str,
    /// The full queue that a paused module waits for; missing when the store cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_on: Option<String>,
    /// The version in force; counts from 1.
    pub(super) version: u32,
    /// A fault now brings the version before it back.
    pub(super) on_probation: bool,
    /// What it is.
    #[schema(value_type = ModuleSpecForm)]
    pub(super) spec: Arc<ModuleSpec>,
    /// What it has done since the hub started.
    counters: Counters,
    /// What its instance has used.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    /// The last fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_fault: Option<Fault>,
    /// The last return to an older version.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_return: Option<Return>,
    /// Bytes of its key-value state.
    state_bytes: usize,
    /// Keys of its key-value state.
    state_keys: usize,
}

/// Outcomes since the hub started.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModuleCounters)]
struct Counters {
    batches: u64,
    messages: u64,
    dropped: u64,
    passed: u64,
    emitted: u64,
    held: u64,
    retried: u64,
    rejected: u64,
    /// Traps, time-outs and breaches of the contract.
    faults: u64,
    /// Messages set aside because the module fails on them.
    dead: u64,
    /// Returns to an older version.
    returns: u64,
}

/// What an instance has used.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ModuleUsage)]
struct Usage {
    calls: u64,
    messages: u64,
    busy_micros: u64,
    memory_bytes: u64,
    log_lines: u64,
    log_dropped: u64,
}

/// A fault.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModuleFault)]
struct Fault {
    at: String,
    what: String,
}

/// A return to an older version.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ModuleReturn)]
struct Return {
    at: String,
    /// The version that failed.
    failed_version: u32,
    why: String,
}

impl From<CounterView> for Counters {
    fn from(view: CounterView) -> Self {
        let CounterView { batches, messages, dropped, passed, emitted, held, .. } = view;
        let CounterView { retried, rejected, faults, dead, returns, .. } = view;
        Self {
            batches,
            messages,
            dropped,
            passed,
            emitted,
            held,
            retried,
            rejected,
            faults,
            dead,
            returns,
        }
    }
}

impl From<ModuleView> for Module {
    fn from(view: ModuleView) -> Self {
        let (state, paused_on) = match view.state {
            State::Starting => ("starting", None),
            State::Running => ("running", None),
            State::BackingOff => ("backing-off", None),
            State::CircuitOpen => ("circuit-open", None),
            State::Paused { on } => ("paused", on),
            State::Stopped => ("stopped", None),
        };
        Self {
            name: view.name.to_string(),
            state,
            paused_on,
            version: view.version,
            on_probation: view.on_probation,
            spec: view.spec,
            counters: view.counters.into(),
            usage: view.usage.map(|usage| Usage {
                calls: usage.calls,
                messages: usage.messages,
                busy_micros: usage.busy_micros,
                memory_bytes: usage.memory_bytes,
                log_lines: usage.log_lines,
                log_dropped: usage.log_dropped,
            }),
            last_fault: view
                .last_fault
                .map(|fault| Fault { at: fault.at.to_string(), what: fault.what }),
            last_return: view.last_return.map(|back| Return {
                at: back.at.to_string(),
                failed_version: back.failed,
                why: back.why,
            }),
            state_bytes: view.state_bytes,
            state_keys: view.state_keys,
        }
    }
}

/// A version in a module's history.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ModuleVersion, example = json!({
    "number": 2, "at": "2026-05-04T10:00:00Z", "fortune": "returned",
    "why": "the module trapped: unreachable",
    "spec": {"type": "wasm", "component": "sha256:0f0f…", "inputs": ["in"], "outputs": ["out"]}
}))]
pub(super) struct Version {
    /// Counts from 1.
    number: u32,
    /// When it was installed.
    at: Option<String>,
    /// `installed`, or `returned`: it failed and the one before it came back.
    fortune: &'static str,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// What it is.
    #[schema(value_type = ModuleSpecForm)]
    spec: Arc<ModuleSpec>,
}

impl From<VersionRow> for Version {
    fn from(row: VersionRow) -> Self {
        let (fortune, why) = match row.fortune {
            Fortune::Installed => ("installed", None),
            Fortune::Returned { why } => ("returned", Some(why)),
        };
        Self { number: row.number, at: time(row.at), fortune, why, spec: row.spec }
    }
}
