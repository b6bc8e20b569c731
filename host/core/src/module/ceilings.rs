//! What the host allows any Wasm module at most: `[security.wasm]` of the host's file.

use super::{LimitSpec, ModuleSpec, Size, SpecProblem};
use serde::{Deserialize, Serialize};

/// Upper bounds for specifications. Read from the host's file, never from the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ceilings {
    /// Linear memory of one module.
    pub memory: Size,
    /// Time of one call.
    pub cpu_ms_per_call: u32,
    /// Calls into the hub during one call.
    pub host_calls: u32,
    /// Messages out of one call.
    pub sends_per_call: u32,
    /// Bytes out of one call.
    pub bytes_per_call: Size,
    /// Key-value state.
    pub state: Size,
    /// Held messages.
    pub held: u32,
    /// Log lines in a second.
    pub log_lines: u32,
    /// Largest component that may be uploaded.
    pub component: Size,
    /// Grants.
    pub grants: GrantCeilings,
}

/// Which grants a specification may ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantCeilings {
    /// Reported properties.
    pub report: bool,
    /// Key-value state.
    pub state: bool,
}

impl Default for GrantCeilings {
    fn default() -> Self {
        Self { report: true, state: true }
    }
}

impl Default for Ceilings {
    fn default() -> Self {
        let limits = LimitSpec::default();
        Self {
            memory: Size(256 << 20),
            cpu_ms_per_call: 1_000,
            host_calls: limits.host_calls,
            sends_per_call: limits.sends_per_call,
            bytes_per_call: limits.bytes_per_call,
            state: Size(64 << 20),
            held: limits.held,
            log_lines: limits.log_lines,
            component: Size(crate::limits::ARTIFACT_BYTES as u64),
            grants: GrantCeilings::default(),
        }
    }
}

impl Ceilings {
    pub(super) fn check(&self, spec: &ModuleSpec, found: &mut Vec<SpecProblem>) {
        let limits = &spec.limits;
        let sizes = [
            ("memory", limits.memory, self.memory),
            ("bytes-per-call", limits.bytes_per_call, self.bytes_per_call),
            ("state", limits.state, self.state),
        ];
        for (name, asked, allowed) in sizes {
            if asked > allowed {
                found.push(over(name, &asked.to_string(), &allowed.to_string()));
            }
        }
        let numbers = [
            ("cpu-ms-per-call", limits.cpu_ms_per_call, self.cpu_ms_per_call),
            ("host-calls", limits.host_calls, self.host_calls),
            ("sends-per-call", limits.sends_per_call, self.sends_per_call),
            ("held", limits.held, self.held),
            ("log-lines", limits.log_lines, self.log_lines),
        ];
        for (name, asked, allowed) in numbers {
            if asked > allowed {
                found.push(over(name, &asked.to_string(), &allowed.to_string()));
            }
        }
        let grants = [
            ("report", spec.grants.report, self.grants.report),
            ("state", spec.grants.state, self.grants.state),
        ];
        for (name, asked, allowed) in grants {
            if asked && !allowed {
                found.push(SpecProblem::policy(
                    format!("/grants/{name}"),
                    format!("the host does not grant {name} (security.wasm.grants.{name} in its configuration)"),
                ));
            }
        }
    }
}

fn over(name: &str, asked: &str, allowed: &str) -> SpecProblem {
    SpecProblem::policy(
        format!("/limits/{name}"),
        format!(
            "{asked} is over the host's ceiling of {allowed} (security.wasm in its configuration)"
        ),
    )
}
