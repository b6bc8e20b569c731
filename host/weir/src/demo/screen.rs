//! What the demo shows: one live line on a terminal, a line a second otherwise; and the keys.

use super::sensors::Sensors;
use crossterm::event::{Event, KeyCode, KeyModifiers};
use crossterm::terminal;
use std::io::{IsTerminal, Write};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir_hub::{CounterView, UplinkView};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// To version 2.
    Swap,
    /// To version 1.
    Back,
    /// To version 3, which is broken.
    Break,
    /// Cut or mend the upstream.
    Upstream,
    /// Explain the last message.
    Explain,
    /// Show the keys: any other key.
    Help,
    /// Leave.
    Quit,
}

/// Standard error as a screen.
pub(super) struct Screen {
    live: bool,
    keys: Option<mpsc::Receiver<Key>>,
    last: Option<(Instant, CounterView, u64)>,
}

impl Screen {
    /// Lines only, no keys.
    pub(super) fn lines() -> Self {
        Self { live: false, keys: None, last: None }
    }

    /// A live line and keys, where there is a terminal.
    pub(super) fn interactive() -> Self {
        let live = std::io::stderr().is_terminal() && std::io::stdin().is_terminal();
        let keys = (live && terminal::enable_raw_mode().is_ok()).then(listen);
        Self { live: keys.is_some(), keys, last: None }
    }

    /// A line that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.write(&if self.live { format!("\r\x1b[K{text}\r\n") } else { format!("{text}\n") });
    }

    /// Which keys there are.
    pub(super) fn keys(&mut self) {
        if self.live {
            self.say("[s] swap to v2  [1] back to v1  [b] swap to a broken v3 (watch it go back)");
            self.say("[u] cut or mend the upstream  [e] explain the last message  [q] quit");
        }
    }

    /// Rates since the last call.
    pub(super) fn rates(
        &mut self,
        version: &str,
        counters: CounterView,
        uplink: &UplinkView,
        sensors: &Sensors,
    ) {
        let now = Instant::now();
        let sent: u64 = sensors.report().sent.iter().sum();
        let (then, before, sent_before) = self.last.unwrap_or((now, counters, sent));
        self.last = Some((now, counters, sent));
        let seconds = now.duration_since(then).as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "rates are for people")]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        let text = format!(
            "{version}  in {:.0}/s  dropped {:.0}/s  out {:.0}/s  stored {}  p99 {:.0}ms  upstream {}",
            rate(sent, sent_before),
            rate(counters.dropped, before.dropped),
            rate(counters.passed, before.passed),
            uplink.waiting,
            sensors.latency().as_secs_f64() * 1e3,
            uplink.state,
        );
        self.write(&match self.live {
            true => format!("\r\x1b[K{}", fitting(&text, terminal::size().ok())),
            false => format!("{text}\n"),
        });
    }

    /// The next key; never, where there are none. Cancel-safe.
    pub(super) async fn key(&mut self) -> Key {
        match &mut self.keys {
            Some(keys) => keys.recv().await.unwrap_or(Key::Quit),
            None => std::future::pending().await,
        }
    }

    /// Gives the terminal back.
    pub(super) fn finish(&mut self) {
        if self.live {
            drop(terminal::disable_raw_mode());
            self.live = false;
            self.write("\n");
        }
    }

    fn write(&mut self, text: &str) {
        // A closed terminal is no reason to end the demo.
        let mut out = std::io::stderr().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.finish();
    }
}

/// As much of a line as a terminal of this size shows in one row: a longer one would wrap, and could
/// not be written over.
fn fitting(text: &str, size: Option<(u16, u16)>) -> &str {
    let columns = match size {
        Some((columns @ 20.., _)) => columns,
        // A terminal that does not know its size says 0.
        Some(_) | None => 80,
    };
    text.get(..usize::from(columns) - 1).unwrap_or(text)
}

/// Reads keys on a thread of its own, because a terminal is read blocking.
fn listen() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::task::spawn_blocking(move || {
        while !sender.is_closed() {
            if !crossterm::event::poll(Duration::from_millis(100)).unwrap_or(false) {
                continue;
            }
            let Ok(Event::Key(key)) = crossterm::event::read() else { continue };
            let control = key.modifiers.contains(KeyModifiers::CONTROL);
            let meant = match key.code {
                KeyCode::Char('c') if control => Key::Quit,
                KeyCode::Char('s') => Key::Swap,
                KeyCode::Char('1') => Key::Back,
                KeyCode::Char('b') => Key::Break,
                KeyCode::Char('u') => Key::Upstream,
                KeyCode::Char('e') => Key::Explain,
                KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                _ => Key::Help,
            };
            if sender.blocking_send(meant).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_never_wraps() {
        let text = "x".repeat(100);
        assert_eq!(fitting(&text, Some((80, 24))).len(), 79);
        assert_eq!(fitting(&text, Some((200, 24))).len(), 100);
        assert_eq!(fitting(&text, None).len(), 79);
        assert_eq!(fitting(&text, Some((0, 0))).len(), 79);
    }
}
