//! The last log lines of each module, for whoever looks from outside.
//!
//! Filled by the log's own subscriber in the binary, read by the API. In memory only, and bounded for
//! each module in lines and bytes: the log itself is the record.

use crate::sync::lock;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use weir_core::clock::Timestamp;
use weir_core::limits;

/// A line of a module's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Grows with every line of any module since the hub started; from 1.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// What the module said, on one line.
    pub message: String,
}

#[derive(Debug, Default)]
struct Lines {
    lines: VecDeque<LogLine>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    newest: u64,
    modules: BTreeMap<String, Lines>,
}

/// The rings of all modules; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct ModuleLogs(Arc<Mutex<Ring>>);

impl ModuleLogs {
    /// Adds a line; the oldest of the module go.
    pub fn push(&self, module: &str, level: &'static str, message: String, at: Timestamp) {
        let mut ring = lock(&self.0);
        ring.newest += 1;
        let number = ring.newest;
        // A module that is gone leaves its lines until others need the place.
        if ring.modules.len() >= limits::MODULES && !ring.modules.contains_key(module) {
            let silent = |lines: &Lines| lines.lines.back().map_or(0, |line| line.number);
            let longest = ring.modules.iter().min_by_key(|(_, lines)| silent(lines));
            if let Some(name) = longest.map(|(name, _)| name.clone()) {
                ring.modules.remove(&name);
            }
        }
        let lines = ring.modules.entry(module.to_owned()).or_default();
        lines.bytes += message.len();
        lines.lines.push_back(LogLine { number, at, level, message });
        while lines.lines.len() > limits::MODULE_LOG_KEPT_LINES
            || lines.bytes > limits::MODULE_LOG_KEPT_BYTES
        {
            let Some(oldest) = lines.lines.pop_front() else { break };
            lines.bytes -= oldest.message.len();
        }
    }

    /// Lines of a module after the one of this number, oldest first.
    #[must_use]
    pub fn after(&self, module: &str, number: u64, limit: usize) -> Vec<LogLine> {
        let ring = lock(&self.0);
        let lines = ring.modules.get(module).into_iter().flat_map(|lines| &lines.lines);
        lines.filter(|line| line.number > number).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_numbered_through() {
        let logs = ModuleLogs::default();
        let now = Timestamp::from_secs(1);
        for number in 0..limits::MODULE_LOG_KEPT_LINES + 5 {
            logs.push("a", "info", number.to_string(), now);
        }
        logs.push("b", "warn", "other".to_owned(), now);
        let kept = logs.after("a", 0, usize::MAX);
        assert_eq!(kept.len(), limits::MODULE_LOG_KEPT_LINES);
        assert_eq!((kept[0].number, kept[0].message.as_str()), (6, "5"));
        assert_eq!(logs.after("a", kept[1].number, 2)[0], kept[2]);
        assert_eq!(logs.after("b", 0, 9).len(), 1);
        assert_eq!(logs.after("c", 0, 9), []);
    }

    #[test]
    fn long_lines_push_others_out() {
        let logs = ModuleLogs::default();
        let line = "x".repeat(limits::MODULE_LOG_LINE_BYTES);
        for _ in 0..100 {
            logs.push("a", "info", line.clone(), Timestamp::from_secs(1));
        }
        let bytes: usize = logs.after("a", 0, 999).iter().map(|line| line.message.len()).sum();
        assert!(
            bytes <= limits::MODULE_LOG_KEPT_BYTES && bytes > limits::MODULE_LOG_KEPT_BYTES / 2
        );
    }

    #[test]
    fn a_new_module_takes_the_place_of_the_one_that_was_silent_longest() {
        let logs = ModuleLogs::default();
        for module in 0..limits::MODULES + 1 {
            logs.push(&module.to_string(), "info", "x".to_owned(), Timestamp::from_secs(1));
        }
        assert_eq!(logs.after("0", 0, 9), []);
        assert_eq!(logs.after("1", 0, 9).len(), 1);
    }
}
