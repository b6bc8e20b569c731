//! Misbehaves as its settings ask: for tests of the hub, never for use.
//!
//! `fault` names what goes wrong (see the table in [`Broken::commit`]), `when` says when: `always`
//! (default), `every` (each `every`-th message), `init`, `stop`, or `marked` (messages whose property
//! `poison` is set; the specification must ask for it). Everything else passes to output 0. Messages
//! that carry the property `outcome` are answered with the outcome of that name. Methods and desired
//! properties name their own faults (`calls`).

#![expect(clippy::disallowed_methods, reason = "it does what it should not")]

mod calls;
mod faults;

use weir_guest::{
    Configuration, Message, Module, Outcome, OutputMessage, Reject, Retry, export, hub, state, twin,
};

struct Broken {
    fault: String,
    when: When,
    seen: u64,
    size: usize,
}

#[derive(PartialEq)]
enum When {
    Always,
    Every(u64),
    Init,
    Stop,
    Marked,
}

impl Module for Broken {
    fn start(configuration: &Configuration) -> Result<Self, String> {
        let every = configuration.number("every")?.unwrap_or(7.0) as u64;
        let when = match configuration.text("when")?.as_deref() {
            None | Some("always") => When::Always,
            Some("every") => When::Every(every.max(1)),
            Some("init") => When::Init,
            Some("stop") => When::Stop,
            Some("marked") => When::Marked,
            Some(other) => return Err(format!("settings.when: {other:?} is not known")),
        };
        let fault = configuration.text("fault")?.unwrap_or_else(|| "none".to_owned());
        let size = configuration.number("size")?.unwrap_or(1_000.0) as usize;
        let mut broken = Self { fault, when, seen: 0, size };
        if broken.when == When::Init {
            if broken.fault == "refuse" {
                return Err("the settings do not please me".to_owned());
            }
            broken.commit();
        }
        Ok(broken)
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        self.seen += 1;
        let now = match self.when {
            When::Always => true,
            When::Every(every) => self.seen.is_multiple_of(every),
            When::Marked => message.property("poison").is_some(),
            When::Init | When::Stop => false,
        };
        if now && let Some(outcome) = self.commit() {
            return outcome;
        }
        match message.property("outcome") {
            Some(name) => named_outcome(name, &message),
            None => Outcome::Pass(0),
        }
    }

    fn handle_batch<'a>(&mut self, batch: impl Iterator<Item = Message<'a>>) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = batch.map(|message| self.handle(message)).collect();
        let count = outcomes.len();
        match self.fault.as_str() {
            "too-few-outcomes" => drop(outcomes.pop()),
            "too-many-outcomes" => outcomes.push(Outcome::Drop),
            "million-outcomes" => outcomes = vec![Outcome::Drop; 1_000_000],
            "no-outcomes" => outcomes.clear(),
            "shared-giant" => return faults::shared_giant(count),
            _ => {}
        }
        outcomes
    }

    fn stop(&mut self) {
        if self.when == When::Stop {
            self.commit();
        }
    }
}

fn named_outcome(name: &str, message: &Message<'_>) -> Outcome {
    match name {
        "drop" => Outcome::Drop,
        "hold" => Outcome::Hold,
        "retry" => Outcome::Retry(Retry { reason: "not now".to_owned(), after_ms: Some(250) }),
        "reject" => Outcome::Reject(Reject {
            reason: "never".to_owned(),
            code: Some("bad-unit".to_owned()),
        }),
        "annotate" => Outcome::annotate(0, "seen", "yes"),
        "emit" => Outcome::Emit(vec![OutputMessage::new(0, "one"), OutputMessage::new(0, "two")]),
        "release" => {
            hub::release(&[message.sequence]);
            Outcome::Hold
        }
        "send" => {
            let answer = hub::send(&OutputMessage::new(0, "sent"));
            state::set("sent", format!("{answer:?}").as_bytes(), None).ok();
            Outcome::Drop
        }
        "large" => {
            // Reads a body that stayed in the hub and gives its length back.
            let length = message.body_length();
            Outcome::annotate(0, "length", &length.to_string())
        }
        "echo" => Outcome::annotate(0, "echo", &format!("{message:?}")),
        _ => Outcome::Pass(0),
    }
}

trait BodyLength {
    fn body_length(&self) -> u64;
}

impl BodyLength for Message<'_> {
    fn body_length(&self) -> u64 {
        match &self.body {
            weir_guest::Body::Large(payload) => {
                let mut length = 0;
                loop {
                    let piece = payload.read(length, 10_000);
                    if piece.is_empty() {
                        break length;
                    }
                    length += piece.len() as u64;
                }
            }
            weir_guest::Body::Inline(bytes) => bytes.len() as u64,
            weir_guest::Body::Text(text) => text.len() as u64,
            weir_guest::Body::None => 0,
        }
    }
}

impl Broken {
    /// Does what the setting asks; gives an outcome where that is the fault.
    fn commit(&mut self) -> Option<Outcome> {
        let size = self.size;
        match self.fault.as_str() {
            "panic" => panic!("the guest panics on purpose"),
            "trap" => core::arch::wasm32::unreachable(),
            "exit" => std::process::exit(3),
            "loop" => faults::endless_loop(),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(3_600)),
            "recursion" => self.seen = faults::recurse(1),
            "recursion-wide" => self.seen = faults::recurse_wide(1),
            "memory" => faults::eat_memory(),
            "memory-slowly" => faults::eat_memory_slowly(),
            "host-calls" => faults::call_without_end(),
            "log-flood" => faults::log_lines(size),
            "log-giant" => weir_guest::error!("{}", "x".repeat(size)),
            "log-forge" => weir_guest::error!("a line\n2026-01-01 ERROR weir: forged\u{1b}[2J"),
            "stdout-flood" => (0..size).for_each(|at| println!("line {at}")),
            "stdout-endless-line" => (0..size).for_each(|_| print!("no end of line ")),
            "send-flood" => {
                drop((0..size).map(|_| hub::send(&OutputMessage::new(0, "x"))).collect::<Vec<_>>())
            }
            "send-large" => {
                for _ in 0..size {
                    let message = OutputMessage::new(0, vec![0; 200_000]);
                    hub::send(&message).ok();
                }
            }
            "send-giant" => {
                let answer = hub::send(&OutputMessage::new(0, vec![0; size]));
                state::set("giant", format!("{answer:?}").as_bytes(), None).ok();
            }
            "send-unknown-output" => {
                let answer = hub::send(&OutputMessage::new(99, "x"));
                state::set("unknown", format!("{answer:?}").as_bytes(), None).ok();
            }
            "release-flood" => hub::release(&vec![1; size]),
            "emit-flood" => {
                return Some(Outcome::Emit(vec![OutputMessage::new(0, "x"); size]));
            }
            "emit-giant" => return Some(Outcome::Emit(vec![OutputMessage::new(0, vec![0; size])])),
            "unknown-output" => return Some(Outcome::Pass(99)),
            "huge-property" => {
                return Some(Outcome::annotate(0, "huge", &"x".repeat(size)));
            }
            "emit-properties" => return Some(Outcome::Emit(vec![faults::with_properties(size)])),
            "annotate-properties" => return Some(faults::annotated_with(size)),
            "send-properties" => {
                let answer = hub::send(&faults::with_properties(size));
                state::set("sent", format!("{answer:?}").as_bytes(), None).ok();
            }
            "twice-property" => return Some(faults::property_twice()),
            "forged-system" => {
                let mut message = OutputMessage::new(0, "x");
                message.system.push(("connectionDeviceId".to_owned(), "boss".to_owned()));
                return Some(Outcome::Emit(vec![message]));
            }
            "state-flood" => faults::fill_state(size),
            "state-giant" => {
                let answer = state::set("giant", &vec![0; size], None);
                state::set("answer", format!("{answer:?}").as_bytes(), None).ok();
            }
            "state-then-panic" => {
                state::set("trace", b"left behind", None).ok();
                hub::send(&OutputMessage::new(0, "never")).ok();
                panic!("after effects");
            }
            "report" => return Some(faults::report(r#"{"said":{"a":1,"b":null}}"#)),
            "report-giant" => return Some(faults::report(&faults::reported(size))),
            "report-not-json" => return Some(faults::report("{\"a\":")),
            "report-no-object" => return Some(faults::report("[1]")),
            "report-bad-name" => return Some(faults::report(r#"{"a":{"b.c":1}}"#)),
            "report-deep" => {
                let deep = format!("{}1{}", "{\"a\":".repeat(size), "}".repeat(size));
                return Some(faults::report(&deep));
            }
            "report-forged" => return Some(faults::report(r#"{"weir-desired":null}"#)),
            "report-flood" => {
                let taken = (0..size).take_while(|_| twin::report(r#"{"a":1}"#).is_ok()).count();
                return Some(Outcome::annotate(0, "taken", &taken.to_string()));
            }
            "report-then-panic" => {
                twin::report(r#"{"trace":"left behind"}"#).ok();
                panic!("after a report");
            }
            "metric-flood" => faults::declare_metrics(size),
            "random-flood" => faults::random(size),
            "denied" => return Some(faults::ask_for_everything()),
            _ => {}
        }
        None
    }
}

export!(Broken, methods, desired);
