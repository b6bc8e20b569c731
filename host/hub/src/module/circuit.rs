//! When a module that keeps failing is left alone for a while.

use std::collections::VecDeque;
use std::time::Duration;
use weir_core::clock::Timestamp;

/// Faults older than this no longer count.
const WINDOW: Duration = Duration::from_secs(60);
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(300);

/// Counts faults and says when the module rests.
#[derive(Debug)]
pub(crate) struct Circuit {
    open_after: u32,
    faults: VecDeque<Timestamp>,
    /// How many of these the search for one poison message has cost so far.
    search: usize,
    rest: Duration,
    open_until: Option<Timestamp>,
}

impl Circuit {
    /// Opens after so many faults in a minute.
    pub(crate) fn new(open_after: u32) -> Self {
        let faults = VecDeque::new();
        Self { open_after, faults, search: 0, rest: FIRST_REST, open_until: None }
    }

    /// A fault; true when it opened the circuit. `suspect` says that the messages come from a batch
    /// that has failed before.
    pub(crate) fn fault(&mut self, now: Timestamp, suspect: bool) -> bool {
        while self.faults.front().is_some_and(|&first| now.since(first) > WINDOW) {
            self.faults.pop_front();
        }
        self.faults.push_back(now);
        self.search = if suspect { self.search + 1 } else { 1 };
        if self.open_after == 0 || self.faults.len() < self.open_after as usize {
            return false;
        }
        self.faults.clear();
        self.search = 0;
        self.open_until = Some(now.after(self.rest));
        self.rest = (self.rest * 2).min(LONGEST_REST);
        true
    }

    /// A call that went well after the rest closes the circuit for good. One with `suspect` messages
    /// shows that the module works and a message is at fault: the search for it counts as one fault.
    pub(crate) fn success(&mut self, suspect: bool) {
        if suspect && self.search > 1 {
            let forgiven = (self.search - 1).min(self.faults.len());
            self.faults.truncate(self.faults.len() - forgiven);
            self.search = 1;
        }
        if self.open_until.is_none() {
            self.rest = FIRST_REST;
        }
    }

    /// How long the module still rests; none when it may be called.
    pub(crate) fn rests(&mut self, now: Timestamp) -> Option<Duration> {
        let until = self.open_until?;
        if until <= now {
            self.open_until = None;
            return None;
        }
        Some(until.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_circuit_opens_at_the_limit_and_rests_longer_each_time() {
        let mut circuit = Circuit::new(3);
        let mut now = Timestamp::from_secs(0);
        assert!(!circuit.fault(now, false) && !circuit.fault(now, false));
        assert!(circuit.fault(now, false));
        assert_eq!(circuit.rests(now), Some(Duration::from_secs(10)));
        now = Timestamp::from_secs(10);
        assert_eq!(circuit.rests(now), None);
        assert!(
            !circuit.fault(now, false) && !circuit.fault(now, false) && circuit.fault(now, false)
        );
        assert_eq!(circuit.rests(now), Some(Duration::from_secs(20)));
    }

    #[test]
    fn old_faults_are_forgotten() {
        let mut circuit = Circuit::new(2);
        assert!(!circuit.fault(Timestamp::from_secs(0), false));
        assert!(!circuit.fault(Timestamp::from_secs(61), false));
    }

    #[test]
    fn the_search_for_one_message_is_one_fault() {
        let mut circuit = Circuit::new(4);
        let now = Timestamp::from_secs(0);
        for _ in 0..2 {
            assert!(!circuit.fault(now, false) && !circuit.fault(now, true));
            circuit.success(true);
        }
        assert!(!circuit.fault(now, false), "three batches have failed");
        assert!(circuit.fault(now, false), "four have");
    }

    #[test]
    fn a_search_in_which_nothing_goes_well_opens_the_circuit() {
        let mut circuit = Circuit::new(3);
        let now = Timestamp::from_secs(0);
        assert!(!circuit.fault(now, false) && !circuit.fault(now, true));
        assert!(circuit.fault(now, true));
    }
}
