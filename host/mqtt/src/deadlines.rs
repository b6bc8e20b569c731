//! How long a client may be silent, take over a packet, or not read.
//!
//! A pure value: the connection says what happened and when, and asks who is late. Times that the hub
//! itself causes, by not reading while a queue is full, do not count against the client.

use std::time::Duration;
use tokio::time::Instant;
use weir_core::limits;

/// Silence of a client that asked for no keep-alive (IoT Edge's).
const NO_KEEP_ALIVE: Duration = Duration::from_secs(600);

/// What a client was too slow at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    /// No packet for one and a half times the keep-alive [MQTT-3.1.2-24].
    Silent,
    /// A packet has begun and does not end.
    Packet,
    /// It does not read what it is sent.
    Reading,
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(crate) struct Deadlines {
    silence: Duration,
    /// The last whole packet, or when reading was taken up again.
    heard: Instant,
    /// Since when the packet under way is unfinished.
    partial: Option<Instant>,
    /// Since when bytes wait to be written without progress.
    unwritten: Option<Instant>,
    reading: bool,
}

/// The silence that a keep-alive in seconds allows.
pub(crate) fn silence(keep_alive_secs: u16) -> Duration {
    match keep_alive_secs {
        0 => NO_KEEP_ALIVE,
        secs => Duration::from_secs(secs.into()).min(limits::MAX_KEEP_ALIVE).mul_f32(1.5),
    }
}

impl Deadlines {
    /// A connection whose CONNECT was just answered.
    pub(crate) fn new(keep_alive_secs: u16, now: Instant) -> Self {
        Self {
            silence: silence(keep_alive_secs),
            heard: now,
            partial: None,
            unwritten: None,
            reading: true,
        }
    }

    /// Bytes came: `packets` were whole, and the beginning of another is left or not.
    pub(crate) fn read(&mut self, packets: bool, partial: bool, now: Instant) {
        if packets {
            self.heard = now;
        }
        self.partial = match partial {
            true if packets => Some(now),
            true => self.partial.or(Some(now)),
            false => None,
        };
    }

    /// The hub takes up or stops reading.
    pub(crate) fn set_reading(&mut self, reading: bool, now: Instant) {
        if reading && !self.reading {
            self.heard = now;
            self.partial = self.partial.map(|_| now);
        }
        self.reading = reading;
    }

    /// Whether bytes wait to be written, and whether some of them could be since the last call.
    pub(crate) fn writing(&mut self, waiting: bool, progress: bool, now: Instant) {
        self.unwritten = match waiting {
            true if progress => Some(now),
            true => self.unwritten.or(Some(now)),
            false => None,
        };
    }

    /// When the client will be late if nothing happens, and at what; none while only the hub could
    /// be.
    pub(crate) fn next(&self) -> Option<(Instant, Late)> {
        let silent = self.reading.then(|| (self.heard + self.silence, Late::Silent));
        let packet = self.partial.filter(|_| self.reading);
        let packet = packet.map(|since| (since + limits::PACKET_LIMIT, Late::Packet));
        let reading = self.unwritten.map(|since| (since + limits::PACKET_LIMIT, Late::Reading));
        [silent, packet, reading].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What the client is late at, at this time.
    pub(crate) fn late(&self, now: Instant) -> Option<Late> {
        self.next().filter(|(at, _)| *at <= now).map(|(_, late)| late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn start() -> (Deadlines, Instant) {
        let now = Instant::now();
        (Deadlines::new(60, now), now)
    }

    #[test]
    fn keep_alive_is_one_and_a_half_times_what_was_asked_within_limits() {
        assert_eq!(silence(60), 90 * SECOND);
        assert_eq!(silence(1), Duration::from_millis(1500));
        assert_eq!(silence(0), 600 * SECOND);
        assert_eq!(silence(u16::MAX), limits::MAX_KEEP_ALIVE.mul_f32(1.5));
    }

    #[test]
    fn a_silent_client_is_late_after_its_keep_alive() {
        let (mut deadlines, now) = start();
        assert_eq!(deadlines.late(now + 89 * SECOND), None);
        assert_eq!(deadlines.late(now + 90 * SECOND), Some(Late::Silent));
        deadlines.read(true, false, now + 50 * SECOND);
        assert_eq!(deadlines.late(now + 139 * SECOND), None);
        assert_eq!(deadlines.next(), Some((now + 140 * SECOND, Late::Silent)));
    }

    #[test]
    fn dripping_bytes_do_not_prolong_a_packet() {
        let (mut deadlines, now) = start();
        for second in 0..20 {
            deadlines.read(false, true, now + second * SECOND);
            assert_eq!(deadlines.late(now + second * SECOND), None);
        }
        assert_eq!(deadlines.late(now + 20 * SECOND), Some(Late::Packet));
        deadlines.read(true, true, now + 20 * SECOND);
        assert_eq!(deadlines.late(now + 39 * SECOND), None, "the next packet has its own time");
        assert_eq!(deadlines.late(now + 40 * SECOND), Some(Late::Packet));
    }

    #[test]
    fn time_in_which_the_hub_does_not_read_does_not_count() {
        let (mut deadlines, now) = start();
        deadlines.read(false, true, now);
        deadlines.set_reading(false, now + SECOND);
        assert_eq!(deadlines.late(now + 10_000 * SECOND), None);
        let again = now + 1000 * SECOND;
        deadlines.set_reading(true, again);
        assert_eq!(deadlines.late(again + 19 * SECOND), None);
        assert_eq!(deadlines.late(again + 20 * SECOND), Some(Late::Packet));
    }

    #[test]
    fn a_client_that_does_not_read_is_late_without_progress() {
        let (mut deadlines, now) = start();
        deadlines.writing(true, false, now);
        deadlines.writing(true, false, now + 10 * SECOND);
        assert_eq!(deadlines.late(now + 20 * SECOND), Some(Late::Reading));
        deadlines.set_reading(false, now + 11 * SECOND);
        assert_eq!(deadlines.late(now + 20 * SECOND), Some(Late::Reading));
        deadlines.writing(true, true, now + 19 * SECOND);
        assert_eq!(deadlines.late(now + 38 * SECOND), None);
        deadlines.writing(false, true, now + 38 * SECOND);
        assert_eq!(deadlines.late(now + 60 * SECOND), None);
    }
}
