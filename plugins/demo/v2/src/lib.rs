//! The demo's filter with another rule: keeps readings of 20 degrees and more, and marks those of
//! 30 and more.

use weir_guest::{Configuration, Message, Module, Outcome, export};

struct HotAndMarked;

impl Module for HotAndMarked {
    fn start(_: &Configuration) -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        match message.number(0) {
            Some(temperature) if temperature >= 30.0 => Outcome::annotate(0, "alarm", "true"),
            Some(temperature) if temperature >= 20.0 => Outcome::Pass(0),
            Some(_) | None => Outcome::Drop,
        }
    }
}

export!(HotAndMarked);
