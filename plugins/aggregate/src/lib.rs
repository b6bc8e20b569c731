//! Gathers messages into windows and sends one message for each: count, minimum, maximum and mean of
//! the specification's first field.
//!
//! A window closes when it has `count` messages (default 10), or when a message arrives that was
//! taken in `window-ms` (default 60000) or more after the window's first; that message opens the
//! next window. Messages of an open window are held: they stay unacknowledged until the window's
//! result is on disk, so a crash loses none. Held messages come again, first and in order, when the
//! module starts anew, which rebuilds the window; the number of windows sent is kept in the state.

use weir_guest::{
    Configuration, Message, Module, Outcome, OutputMessage, export, hub, state, warn,
};

struct Aggregate {
    count: usize,
    window: u64,
    open: Option<Window>,
}

struct Window {
    opened: u64,
    held: Vec<u64>,
    numbers: usize,
    least: f64,
    greatest: f64,
    sum: f64,
}

impl Module for Aggregate {
    fn start(configuration: &Configuration) -> Result<Self, String> {
        configuration.outputs.first().ok_or("the aggregate needs an output")?;
        let count = configuration.number("count")?.unwrap_or(10.0);
        let window_ms = configuration.number("window-ms")?.unwrap_or(60_000.0);
        if count < 1.0 || window_ms < 1.0 {
            return Err("settings.count and settings.window-ms are 1 at least".to_owned());
        }
        Ok(Self { count: count as usize, window: window_ms as u64 * 1_000_000, open: None })
    }

    fn handle(&mut self, message: Message<'_>) -> Outcome {
        let over = |window: &Window| message.enqueued >= window.opened.saturating_add(self.window);
        if self.open.as_ref().is_some_and(over) {
            self.close();
        }
        let window = self.open.get_or_insert_with(|| Window::open_at(message.enqueued));
        window.add(&message);
        // Released in the same call, the last message of a window is done although it says hold.
        if window.held.len() >= self.count {
            self.close();
        }
        Outcome::Hold
    }
}

impl Aggregate {
    fn close(&mut self) {
        let Some(window) = self.open.take() else { return };
        let number = match state::increment("windows", 1) {
            Ok(number) => number,
            Err(error) => {
                warn!("windows are not numbered: {error:?}");
                0
            }
        };
        let mut message = OutputMessage::new(0, window.result());
        message.properties.push(("window".to_owned(), number.to_string()));
        match hub::send(&message) {
            Ok(_) => hub::release(&window.held),
            // The messages stay held and come again after the trap.
            Err(error) => panic!("the window's result is refused: {error:?}"),
        }
    }
}

impl Window {
    fn open_at(opened: u64) -> Self {
        let held = Vec::new();
        Self { opened, held, numbers: 0, least: f64::MAX, greatest: f64::MIN, sum: 0.0 }
    }

    fn add(&mut self, message: &Message<'_>) {
        self.held.push(message.sequence);
        if let Some(number) = message.number(0) {
            self.numbers += 1;
            self.least = self.least.min(number);
            self.greatest = self.greatest.max(number);
            self.sum += number;
        }
    }

    fn result(&self) -> String {
        let messages = self.held.len();
        match self.numbers {
            0 => serde_json::json!({ "messages": messages }),
            numbers => serde_json::json!({
                "messages": messages,
                "minimum": self.least,
                "maximum": self.greatest,
                "mean": self.sum / numbers as f64,
            }),
        }
        .to_string()
    }
}

export!(Aggregate);
