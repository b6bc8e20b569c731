//! A module's log: its lines go to `tracing` under the target `weir::module`, at a limited rate,
//! escaped and cut, so that a guest can neither flood nor forge the hub's log.

use crate::stopwatch::Stopwatch;
use std::fmt::Write as _;
use tracing::{Level, event};
use weir_core::limits::MODULE_LOG_LINE_BYTES;

/// Target of the lines; a filter such as `weir::module=warn` holds for all modules.
pub(crate) const TARGET: &str = "weir::module";

/// Bytes kept of what a guest wrote to stderr, for the text of a fault.
const LAST_WORDS_BYTES: usize = 1_024;

/// Writes one instance's lines.
#[derive(Debug)]
pub(crate) struct ModuleLog {
    module: String,
    lines_per_second: u32,
    window: Stopwatch,
    in_window: u32,
    dropped_in_window: u64,
    written: u64,
    dropped: u64,
    partial: [Vec<u8>; 2],
    last_words: Vec<u8>,
}

/// Which of a guest's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl ModuleLog {
    pub(crate) fn new(module: &str, lines_per_second: u32) -> Self {
        Self {
            module: module.to_owned(),
            lines_per_second,
            window: Stopwatch::start(),
            in_window: 0,
            dropped_in_window: 0,
            written: 0,
            dropped: 0,
            partial: [Vec::new(), Vec::new()],
            last_words: Vec::new(),
        }
    }

    /// A new call: what was written to stderr before says nothing about its end.
    pub(crate) fn begin(&mut self) {
        self.last_words.clear();
    }

    /// Lines written and lines dropped.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.written, self.dropped)
    }

    /// False when a line of this level would be thrown away.
    pub(crate) fn enabled(&mut self, level: Level) -> bool {
        self.turn_window();
        self.in_window < self.lines_per_second && is_enabled(level)
    }

    /// Writes a line with fields, or drops it.
    pub(crate) fn line(&mut self, level: Level, text: &str, fields: &[(String, String)]) {
        if !is_enabled(level) {
            return;
        }
        self.turn_window();
        if self.in_window >= self.lines_per_second {
            self.dropped += 1;
            self.dropped_in_window += 1;
            return;
        }
        self.in_window += 1;
        self.written += 1;
        write(level, &self.module, &escaped(text, fields));
    }

    /// Bytes to stdout or stderr; whole lines are written, the rest waits for its end.
    pub(crate) fn stream(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Err {
            self.last_words.extend_from_slice(bytes);
            let excess = self.last_words.len().saturating_sub(LAST_WORDS_BYTES);
            self.last_words.drain(..excess);
        }
        let (at, level) = match stream {
            Stream::Out => (0, Level::INFO),
            Stream::Err => (1, Level::WARN),
        };
        let mut waiting = std::mem::take(&mut self.partial[at]);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MODULE_LOG_LINE_BYTES.saturating_sub(waiting.len());
            waiting.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&waiting);
                if !line.trim().is_empty() {
                    self.line(level, line.trim_end(), &[]);
                }
                waiting.clear();
            }
        }
        self.partial[at] = waiting;
    }

    /// What the guest wrote to stderr in this call, as one line; a panic says there what happened.
    pub(crate) fn last_words(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.last_words);
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("note: run with"))
            .collect();
        match lines.is_empty() {
            true => None,
            false => Some(escaped(&lines.join(" "), &[])),
        }
    }

    fn turn_window(&mut self) {
        if self.window.elapsed().as_secs() == 0 {
            return;
        }
        self.window = Stopwatch::start();
        self.in_window = 0;
        let dropped = std::mem::take(&mut self.dropped_in_window);
        if dropped > 0 {
            tracing::warn!(target: TARGET, module = %self.module, dropped, "log lines over the module's rate dropped");
        }
    }
}

impl Drop for ModuleLog {
    fn drop(&mut self) {
        for (at, level) in [(0, Level::INFO), (1, Level::WARN)] {
            let rest = std::mem::take(&mut self.partial[at]);
            if !rest.is_empty() {
                self.line(level, String::from_utf8_lossy(&rest).trim_end(), &[]);
            }
        }
    }
}

fn is_enabled(level: Level) -> bool {
    match level {
        Level::ERROR => tracing::enabled!(target: TARGET, Level::ERROR),
        Level::WARN => tracing::enabled!(target: TARGET, Level::WARN),
        Level::INFO => tracing::enabled!(target: TARGET, Level::INFO),
        Level::DEBUG => tracing::enabled!(target: TARGET, Level::DEBUG),
        Level::TRACE => tracing::enabled!(target: TARGET, Level::TRACE),
    }
}

fn write(level: Level, module: &str, text: &str) {
    match level {
        Level::ERROR => event!(target: TARGET, Level::ERROR, module, "{text}"),
        Level::WARN => event!(target: TARGET, Level::WARN, module, "{text}"),
        Level::INFO => event!(target: TARGET, Level::INFO, module, "{text}"),
        Level::DEBUG => event!(target: TARGET, Level::DEBUG, module, "{text}"),
        Level::TRACE => event!(target: TARGET, Level::TRACE, module, "{text}"),
    }
}

/// Text and fields as one line of at most [`MODULE_LOG_LINE_BYTES`], control characters escaped.
pub(crate) fn escaped(text: &str, fields: &[(String, String)]) -> String {
    let mut line = String::with_capacity(text.len().min(MODULE_LOG_LINE_BYTES));
    let whole = append(&mut line, text)
        && fields.iter().all(|(name, value)| {
            append(&mut line, " ")
                && append(&mut line, name)
                && append(&mut line, "=")
                && append(&mut line, value)
        });
    if !whole {
        line.push('…');
    }
    line
}

/// False when the line is full and the rest was cut off.
fn append(line: &mut String, text: &str) -> bool {
    for character in text.chars() {
        // Room for the longest escape and the mark of the cut.
        if line.len() + 12 > MODULE_LOG_LINE_BYTES {
            return false;
        }
        // Line ends, terminal escapes, and marks that turn the direction of writing.
        let forges = character.is_control()
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match forges {
            true => write!(line, "{}", character.escape_unicode()).expect("a String takes all"),
            false => line.push(character),
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_forge_another() {
        let line = escaped("a\n2026 ERROR hub: gone\u{1b}[2J", &[("k".into(), "v\r".into())]);
        assert_eq!(line, "a\\u{a}2026 ERROR hub: gone\\u{1b}[2J k=v\\u{d}");
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = escaped(&"ä".repeat(100_000), &[("k".into(), "v".repeat(100_000))]);
        assert!(line.len() <= MODULE_LOG_LINE_BYTES, "{}", line.len());
        assert!(line.contains('…'));
    }

    #[test]
    fn last_words_are_one_line_without_the_runtimes_advice() {
        let mut log = ModuleLog::new("m", 10);
        log.stream(
            Stream::Err,
            b"\nthread 'main' panicked at a.rs:1:2:\nboom\nnote: run with `RUST",
        );
        assert_eq!(log.last_words().unwrap(), "thread 'main' panicked at a.rs:1:2: boom");
        log.begin();
        assert_eq!(log.last_words(), None);
    }
}
