//! Versions of a module: the present one, the one before it, and the time of trial between them.

use std::sync::{Arc, Mutex};
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::module::ModuleSpec;
use weir_core::module_state::ModuleState;
use weir_core::module_twin::ModuleTwin;
use weir_core::port::{ModuleStart, StartReason};

/// A specification with its number; code and configuration change together.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    /// Counts the module's versions from 1.
    pub(crate) number: u32,
    /// What it is.
    pub(crate) spec: Arc<ModuleSpec>,
}

impl Version {
    /// What the runtime needs to start it.
    pub(crate) fn start(
        &self,
        identity: &Identity,
        reason: StartReason,
        state: Arc<Mutex<ModuleState>>,
        twin: Arc<Mutex<ModuleTwin>>,
    ) -> ModuleStart {
        ModuleStart {
            identity: identity.clone(),
            spec: Arc::clone(&self.spec),
            component: self.spec.component,
            reason,
            state,
            twin,
        }
    }
}

/// The time of trial of a new version: so many batches and so long without a fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probation {
    since: Timestamp,
    batches: u32,
}

impl Probation {
    /// Begins.
    pub(crate) fn begin(now: Timestamp) -> Self {
        Self { since: now, batches: 0 }
    }

    /// A batch went well; true when the trial is passed.
    pub(crate) fn passed(&mut self, now: Timestamp) -> bool {
        self.batches = self.batches.saturating_add(1);
        self.batches >= limits::PROBATION_BATCHES && now.since(self.since) >= limits::PROBATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_needs_both_batches_and_time() {
        let mut trial = Probation::begin(Timestamp::from_secs(0));
        for _ in 0..200 {
            assert!(!trial.passed(Timestamp::from_secs(29)));
        }
        assert!(trial.passed(Timestamp::from_secs(30)));
        let mut slow = Probation::begin(Timestamp::from_secs(0));
        assert!(!slow.passed(Timestamp::from_secs(3_600)));
    }
}
