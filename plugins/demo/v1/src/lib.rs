//! The demo's filter: keeps readings of 25 degrees and more. The hub reads the number
//! (`"fields": ["/temperature"]`).

use weir_guest::{Configuration, Message, Module, Outcome, export};

struct Hot;

impl Module for Hot {
    fn start(_: &Configuration) -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        match message.number(0) {
            Some(temperature) if temperature >= 25.0 => Outcome::Pass(0),
            Some(_) | None => Outcome::Drop,
        }
    }
}

export!(Hot);
