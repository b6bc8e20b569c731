//! What an operator says about a Wasm module: the manifest's module object, checked.
//!
//! The same object is taken by `PUT /api/v1/modules/{name}` and by a deployment. Unknown members are
//! refused; members that name what this version does not do are refused by name, never ignored.
//! The host's [`Ceilings`] hold over every specification: who writes one cannot grant himself more.

mod ceilings;
mod size;

pub use ceilings::{Ceilings, GrantCeilings};
pub use size::Size;

use crate::digest::Digest;
use crate::id::{InputName, OutputName};
use crate::limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// One thing that is wrong with a specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SpecProblem {
    /// JSON Pointer into the specification.
    pub pointer: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// True when the specification is well-formed but the host's policy does not allow it.
    pub policy: bool,
}

impl SpecProblem {
    fn form(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), policy: false }
    }

    fn policy(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into(), policy: true }
    }
}

/// A module's specification.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModuleSpec {
    /// Always `wasm` here.
    #[serde(rename = "type")]
    pub kind: ModuleKind,
    /// `sha256:…` of an uploaded artifact.
    pub component: Digest,
    /// The author's version; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Names of the inputs, in the order of the indexes that the guest sees.
    #[serde(default)]
    pub inputs: Vec<InputName>,
    /// Names of the outputs, in the order of the indexes that the guest uses.
    #[serde(default)]
    pub outputs: Vec<OutputName>,
    /// How the guest gets bodies.
    #[serde(default)]
    pub body: BodyForm,
    /// JSON pointers that the hub reads out of the body at native speed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// Application properties that the guest gets; `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<String>,
    /// System properties that the guest gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<String>,
    /// System properties that the guest may set on what it emits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set_system: Vec<String>,
    /// How messages are put together into a call.
    #[serde(default)]
    pub batch: BatchSpec,
    /// What a call may use.
    #[serde(default)]
    pub limits: LimitSpec,
    /// What the guest may ask of the hub.
    #[serde(default)]
    pub grants: GrantSpec,
    /// What happens when something goes wrong.
    #[serde(default)]
    pub errors: ErrorSpec,
    /// The guest's own configuration: a JSON object.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// Not supported yet; refused by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<serde_json::Value>,
    /// Not supported yet; refused by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<serde_json::Value>,
    /// Only `warm` is supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// Kinds of modules that this specification describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModuleKind {
    /// A WebAssembly component.
    Wasm,
}

/// How the guest gets bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BodyForm {
    /// As bytes.
    #[default]
    Bytes,
    /// As text; a body that is not UTF-8 comes as bytes.
    Text,
    /// Not at all.
    None,
}

/// How messages are put together into a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BatchSpec {
    /// At most so many messages (1 to 64).
    pub messages: u16,
    /// At most so many bytes.
    pub bytes: Size,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self { messages: 64, bytes: Size(limits::BATCH_BYTES as u64) }
    }
}

/// What a call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LimitSpec {
    /// Linear memory.
    pub memory: Size,
    /// Time of one call.
    pub cpu_ms_per_call: u32,
    /// Calls into the hub during one call.
    pub host_calls: u32,
    /// Messages out of one call.
    pub sends_per_call: u32,
    /// Bytes out of one call.
    pub bytes_per_call: Size,
    /// Bodies above this stay in the hub and are read piece by piece.
    pub body_inline: Size,
    /// Key-value state.
    pub state: Size,
    /// Messages that the module may hold.
    pub held: u32,
    /// Log lines in a second.
    pub log_lines: u32,
}

impl Default for LimitSpec {
    fn default() -> Self {
        Self {
            memory: Size(limits::MODULE_MEMORY_BYTES as u64),
            cpu_ms_per_call: 250,
            host_calls: limits::MODULE_HOST_CALLS,
            sends_per_call: limits::MODULE_OUTPUTS,
            bytes_per_call: Size(limits::MODULE_OUTPUT_BYTES as u64),
            body_inline: Size(64 * 1024),
            state: Size(limits::MODULE_STATE_BYTES as u64),
            held: 10_000,
            log_lines: limits::MODULE_LOG_LINES,
        }
    }
}

impl LimitSpec {
    /// Time of one call.
    #[must_use]
    pub fn call(&self) -> Duration {
        Duration::from_millis(u64::from(self.cpu_ms_per_call))
    }
}

/// What the guest may ask of the hub; deny by default but for state and report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct GrantSpec {
    /// Reported properties of its own twin.
    pub report: bool,
    /// Key-value state.
    pub state: bool,
    /// Durable timers; not supported yet.
    pub timers: u32,
    /// Targets of direct methods; not supported yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods_on: Vec<String>,
    /// URL prefixes; not supported yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<String>,
}

impl Default for GrantSpec {
    fn default() -> Self {
        Self { report: true, state: true, timers: 0, methods_on: Vec::new(), http: Vec::new() }
    }
}

/// What happens when something goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ErrorSpec {
    /// For outcomes `retry`.
    pub retry: RetrySpec,
    /// For outcomes `reject`.
    pub reject: RejectPolicy,
    /// For a message that makes the module trap when it is alone.
    pub trap: TrapPolicy,
    /// Faults in a minute after which the module is given no more messages for a while.
    pub open_after: OpenAfter,
    /// What becomes of messages while it is given none.
    pub when_open: WhenOpen,
}

/// Number of faults; a type of its own for its default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OpenAfter(pub u32);

impl Default for OpenAfter {
    fn default() -> Self {
        Self(limits::CIRCUIT_FAULTS)
    }
}

/// How a message is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RetrySpec {
    /// Deliveries before the message is a dead letter.
    pub max_attempts: u32,
    /// First wait, in milliseconds; it doubles.
    pub backoff_ms: u32,
    /// Longest wait, in milliseconds.
    pub backoff_max_ms: u32,
    /// What waits behind a message that is tried again.
    pub order: RetryOrder,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            max_attempts: limits::MAX_ATTEMPTS,
            backoff_ms: 1_000,
            backoff_max_ms: 60_000,
            order: RetryOrder::Sender,
        }
    }
}

/// What waits behind a message that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RetryOrder {
    /// Later messages of the same sender.
    #[default]
    Sender,
    /// Nothing.
    None,
}

/// What becomes of a message that the module rejects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RejectPolicy {
    /// Kept with the reason.
    #[default]
    DeadLetter,
    /// Dropped and counted.
    Drop,
}

/// What becomes of a message that makes the module trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrapPolicy {
    /// Kept with the reason.
    #[default]
    DeadLetter,
    /// Dropped and counted.
    Drop,
}

/// What becomes of messages while a module's circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenOpen {
    /// They wait in the queue.
    #[default]
    Queue,
    /// They go on unchanged to the module's first output.
    Bypass,
}

impl ModuleSpec {
    /// Everything that is wrong with it: form, what is not supported yet, and the host's ceilings.
    #[must_use]
    pub fn problems(&self, ceilings: &Ceilings) -> Vec<SpecProblem> {
        let mut found = Vec::new();
        self.check_names(&mut found);
        self.check_fields(&mut found);
        self.check_ranges(&mut found);
        self.check_unsupported(&mut found);
        ceilings.check(self, &mut found);
        found
    }

    fn check_names(&self, found: &mut Vec<SpecProblem>) {
        let mut seen = BTreeSet::new();
        for (at, name) in self.inputs.iter().enumerate() {
            if !seen.insert(name.as_str()) {
                found.push(SpecProblem::form(
                    format!("/inputs/{at}"),
                    format!("input {name} is named twice"),
                ));
            }
        }
        let mut seen = BTreeSet::new();
        for (at, name) in self.outputs.iter().enumerate() {
            if !seen.insert(name.as_str()) {
                found.push(SpecProblem::form(
                    format!("/outputs/{at}"),
                    format!("output {name} is named twice"),
                ));
            }
        }
        for (pointer, count) in [("/inputs", self.inputs.len()), ("/outputs", self.outputs.len())] {
            if count > 64 {
                found.push(SpecProblem::form(pointer, format!("{count} names; 64 are allowed")));
            }
        }
        if self.errors.when_open == WhenOpen::Bypass && self.outputs.is_empty() {
            found.push(SpecProblem::form(
                "/errors/when-open",
                "bypass sends on to the first output, and there is none",
            ));
        }
    }

    fn check_fields(&self, found: &mut Vec<SpecProblem>) {
        if self.fields.len() > 64 {
            found.push(SpecProblem::form("/fields", "more than 64 JSON pointers"));
        }
        for (at, pointer) in self.fields.iter().enumerate() {
            let well_formed = pointer.is_empty() || pointer.starts_with('/');
            let escapes = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            if !well_formed || !escapes || pointer.len() > 1024 {
                found.push(SpecProblem::form(
                    format!("/fields/{at}"),
                    format!("{pointer:?} is no JSON pointer (RFC 6901), for example /machine/temperature"),
                ));
            }
        }
    }

    fn check_ranges(&self, found: &mut Vec<SpecProblem>) {
        if !(1..=64).contains(&self.batch.messages) {
            found.push(SpecProblem::form("/batch/messages", "1 to 64 messages"));
        }
        if self.batch.bytes.0 == 0 || self.batch.bytes.0 > limits::BATCH_BYTES as u64 {
            found.push(SpecProblem::form("/batch/bytes", "1 byte to 1Mi"));
        }
        if self.limits.cpu_ms_per_call == 0 {
            found.push(SpecProblem::form("/limits/cpu-ms-per-call", "at least 1"));
        }
        if self.errors.retry.max_attempts == 0 {
            found.push(SpecProblem::form("/errors/retry/max-attempts", "at least 1"));
        }
    }

    fn check_unsupported(&self, found: &mut Vec<SpecProblem>) {
        let mut refuse = |named: bool, pointer: &str, what: &str| {
            if named {
                found.push(SpecProblem::form(pointer, format!("{what} not supported yet")));
            }
        };
        refuse(self.parallel.is_some(), "/parallel", "several instances of a module are");
        refuse(self.rollout.is_some(), "/rollout", "shadow and canary rollouts are");
        let warm = self.isolation.as_deref().is_none_or(|isolation| isolation == "warm");
        refuse(!warm, "/isolation", "isolation other than \"warm\" is");
        refuse(self.grants.timers > 0, "/grants/timers", "timers are");
        refuse(
            !self.grants.methods_on.is_empty(),
            "/grants/methods-on",
            "method calls by modules are",
        );
        refuse(!self.grants.http.is_empty(), "/grants/http", "http requests by modules are");
    }

    /// Index of an input.
    #[must_use]
    pub fn input_index(&self, name: &str) -> Option<u16> {
        let at = self.inputs.iter().position(|input| input.as_str() == name)?;
        u16::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModuleSpec, serde_json::Error> {
        serde_json::from_str(&text.replace("DIGEST", &format!("sha256:{}", "ab".repeat(32))))
    }

    fn problems(text: &str) -> Vec<String> {
        parse(text).unwrap().problems(&Ceilings::default()).into_iter().map(|p| p.pointer).collect()
    }

    #[test]
    fn the_shortest_specification_has_sane_defaults() {
        let spec =
            parse(r#"{"type":"wasm","component":"DIGEST","inputs":["in"],"outputs":["out"]}"#)
                .unwrap();
        assert!(spec.problems(&Ceilings::default()).is_empty());
        assert_eq!(spec.limits.memory, Size(64 << 20));
        assert_eq!(spec.batch.messages, 64);
        assert!(spec.grants.state && spec.grants.report);
    }

    #[test]
    fn an_unknown_member_is_refused_by_name() {
        let error = parse(r#"{"type":"wasm","component":"DIGEST","inputz":[]}"#).unwrap_err();
        assert!(error.to_string().contains("inputz"), "{error}");
    }

    #[test]
    fn what_is_not_supported_yet_is_refused_and_not_ignored() {
        let found = problems(
            r#"{"type":"wasm","component":"DIGEST","parallel":{"by":"x"},"isolation":"per-message","grants":{"http":["https://a/"]}}"#,
        );
        assert_eq!(found, ["/parallel", "/isolation", "/grants/http"]);
    }

    #[test]
    fn every_problem_is_listed_with_its_pointer() {
        let found = problems(
            r#"{"type":"wasm","component":"DIGEST","inputs":["a","a"],"fields":["temperature"],"batch":{"messages":65}}"#,
        );
        assert_eq!(found, ["/inputs/1", "/fields/0", "/batch/messages"]);
    }

    #[test]
    fn a_specification_cannot_grant_itself_more_than_the_host_allows() {
        let spec =
            parse(r#"{"type":"wasm","component":"DIGEST","limits":{"memory":"1Gi"}}"#).unwrap();
        let found = spec.problems(&Ceilings::default());
        assert_eq!(found.len(), 1);
        assert!(found[0].policy);
        assert_eq!(found[0].pointer, "/limits/memory");
    }
}
