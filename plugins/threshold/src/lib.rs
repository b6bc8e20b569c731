//! Lets messages pass whose number (the first of the specification's `fields`) reaches a limit; drops the
//! others. The limit is the desired property `limit`, 25 when there is none.
//!
//! A limit that is no number is refused: the one before stays in force. What is in force is in the
//! reported property `limit`.

use serde_json::json;
use weir_guest::{Configuration, Configured, Desired, Message, Module, Outcome, export, twin};

const DEFAULT: f64 = 25.0;

struct Threshold {
    limit: f64,
    is_reported: bool,
}

impl Module for Threshold {
    fn start(configuration: &Configuration) -> Result<Self, String> {
        configuration.outputs.first().ok_or("the threshold needs an output")?;
        let limit = configuration.desired()?.number("limit")?.unwrap_or(DEFAULT);
        Ok(Self { limit, is_reported: false })
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        if !self.is_reported {
            self.report();
        }
        match message.number(0) >= Some(self.limit) {
            true => Outcome::Pass(0),
            false => Outcome::Drop,
        }
    }
}

impl Configured for Threshold {
    fn configure(&mut self, desired: &Desired) -> Result<(), String> {
        self.limit = desired.number("limit")?.unwrap_or(DEFAULT);
        self.report();
        Ok(())
    }
}

impl Threshold {
    /// Not in `start`, which has no effects.
    fn report(&mut self) {
        let reported = twin::report(&json!({ "limit": self.limit }).to_string());
        self.is_reported = reported.is_ok();
    }
}

export!(Threshold, desired);
