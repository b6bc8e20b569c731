//! The demo's filter with a fault that only messages bring out: it starts well and then panics, so
//! the hub goes back to the version before.

use weir_guest::{Configuration, Message, Module, Outcome, export};

struct Faulty;

impl Module for Faulty {
    fn start(_: &Configuration) -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&mut self, _: Message<'_>) -> Outcome {
        panic!("version 3 has a fault")
    }
}

export!(Faulty);
