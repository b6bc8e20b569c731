//! The faults that take more than a line.

use std::hint::black_box;
use weir_guest::{Annotation, Outcome, OutputMessage, Reject, hub, state, telemetry, twin};

pub fn endless_loop() {
    let mut number = 0u64;
    loop {
        number = black_box(number.wrapping_add(1));
    }
}

/// Small frames: the engine's stack ends first.
pub fn recurse(depth: u64) -> u64 {
    let next = black_box(recurse as fn(u64) -> u64);
    next(depth + 1).rotate_left(3) ^ depth
}

/// Frames of half a kilobyte in the guest's own memory: its stack there ends first.
#[expect(unconditional_recursion, reason = "it is to end on the stack's limit")]
pub fn recurse_wide(depth: u64) -> u64 {
    let local = black_box([depth; 64]);
    recurse_wide(depth + 1) + local[(depth % 64) as usize]
}

pub fn eat_memory() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 8 << 20]));
    }
}

pub fn eat_memory_slowly() {
    let mut hoard: Vec<u64> = Vec::new();
    loop {
        hoard.push(black_box(hoard.len() as u64));
    }
}

pub fn call_without_end() {
    loop {
        black_box(state::get("nothing").is_ok());
    }
}

pub fn log_lines(count: usize) {
    for at in 0..count {
        telemetry::log(
            telemetry::Level::Error,
            "the same line again",
            &[("at".to_owned(), at.to_string())],
        );
    }
}

/// Every outcome names the same large text: it costs the guest one text, and a host that copies what
/// it is shown as many as there are outcomes.
pub fn shared_giant(count: usize) -> Vec<Outcome> {
    let reason = std::mem::ManuallyDrop::new("x".repeat(16 << 20));
    (0..count)
        .map(|_| {
            // SAFETY: none; the text has several owners, as only a broken guest does it. The host
            // ends the call before any of them frees it.
            let reason = unsafe { std::ptr::read(&*reason) };
            Outcome::Reject(Reject { reason, code: None })
        })
        .collect()
}

pub fn property_twice() -> Outcome {
    let pair = ("name".to_owned(), "value".to_owned());
    Outcome::Annotate(Annotation { output: 0, set: vec![pair.clone(), pair], unset: Vec::new() })
}

pub fn fill_state(count: usize) {
    for at in 0..count {
        if let Err(error) = state::set(&format!("key-{at}"), &[0; 1_000], None) {
            state::set("refused", format!("{error:?}").as_bytes(), None).ok();
            break;
        }
    }
}

pub fn declare_metrics(count: usize) {
    for at in 0..count {
        let metric = telemetry::metric(&format!("series_{at}"), telemetry::Kind::Counter, &[]);
        telemetry::record_value(metric, 1.0);
    }
}

/// Asks the language's runtime for random numbers, which come from the host.
pub fn random(count: usize) {
    for _ in 0..count {
        black_box(std::collections::HashMap::<u8, u8>::new());
    }
}

/// What is not granted answers `denied` and the guest goes on.
pub fn ask_for_everything() -> Outcome {
    let answers = format!(
        "{:?} {:?} {:?} {:?}",
        twin::desired(),
        twin::report("{}"),
        state::set("a", b"b", None),
        hub::send(&weir_guest::OutputMessage::new(0, "ok")).is_ok(),
    );
    Outcome::annotate(0, "answers", &answers)
}

pub fn with_properties(count: usize) -> OutputMessage {
    OutputMessage { properties: numbered(count), ..OutputMessage::new(0, "x") }
}

pub fn annotated_with(count: usize) -> Outcome {
    Outcome::Annotate(Annotation { output: 0, set: numbered(count), unset: Vec::new() })
}

fn numbered(count: usize) -> Vec<(String, String)> {
    (0..count).map(|at| (at.to_string(), String::new())).collect()
}

/// What the hub says to a report, and what is reported then.
pub fn report(patch: &str) -> Outcome {
    let answer = twin::report(patch);
    let reported = twin::reported().map(|document| document.json).unwrap_or_default();
    let set = vec![("answer".to_owned(), format!("{answer:?}")), ("reported".to_owned(), reported)];
    Outcome::Annotate(Annotation { output: 0, set, unset: Vec::new() })
}

/// A patch of about this many bytes that is within all other rules.
pub fn reported(size: usize) -> String {
    let pieces: Vec<String> = vec!["x".repeat(1_000); size / 1_000];
    format!("{{\"a\":{pieces:?}}}")
}

/// A JSON text of exactly this many bytes.
pub fn json_text(size: usize) -> Vec<u8> {
    format!("\"{}\"", "x".repeat(size - 2)).into_bytes()
}
