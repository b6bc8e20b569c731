//! One connection from CONNACK to its end: writes PUBLISH packets, reads PUBACKs, keeps time.
//!
//! All of it is one loop over one `select!`; every branch is cancel-safe, and what is half written
//! stays in `out`. Many packets go into one write and many PUBACKs come from one read.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::time::{Instant, sleep_until};
use weir_mqtt_codec::{Delivery, Packet, decode, put_puback};

use super::dial::{LIMITS, Stream, Wire};
use super::session::Session;
use crate::intake::{Inbox, Job};

/// Room for a read; thousands of PUBACKs.
const READ_BYTES: usize = 16 * 1024;

/// How long the peer may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From one packet sent to the next.
    pub(super) keep_alive: Duration,
    /// For a PUBACK or PINGRESP.
    pub(super) answer: Duration,
}

enum Event {
    Read(std::io::Result<usize>),
    Written(std::io::Result<usize>),
    Job(Job),
    Due,
}

/// Runs the connection until it ends; says why, for people.
pub(super) async fn drive(
    wire: Wire,
    session: &mut Session,
    inbox: &mut Inbox<'_>,
    first: Option<Job>,
    patience: Patience,
) -> String {
    let Wire { stream, mut input, session_present } = wire;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut out = BytesMut::new();
    let mut pulse = Pulse::new(patience);
    let mut is_flushed = true;
    session.begin(session_present, &mut out);
    if let Some(job) = first {
        session.add(job);
    }
    loop {
        if let Err(reason) = read_packets(&mut input, session, &mut pulse, &mut out) {
            return reason;
        }
        session.fill(&mut out);
        pulse.awaits_puback(session.is_waiting());
        input.reserve(READ_BYTES);
        let event = tokio::select! {
            read = reader.read_buf(&mut input) => Event::Read(read),
            written = write(&mut writer, &mut out), if !(out.is_empty() && is_flushed) => {
                Event::Written(written)
            }
            job = inbox.next(), if session.has_room() => Event::Job(job),
            () = sleep_until(pulse.due()) => Event::Due,
        };
        match event {
            Event::Read(Ok(0)) => return "the peer closed the connection".to_owned(),
            Event::Read(Ok(_)) => {}
            Event::Written(Ok(0)) => is_flushed = true,
            Event::Written(Ok(_)) => {
                is_flushed = false;
                pulse.sent();
            }
            Event::Read(Err(error)) | Event::Written(Err(error)) => {
                return format!("the connection was lost: {error}");
            }
            Event::Job(job) => session.add(job),
            Event::Due => match pulse.check() {
                Ok(()) => pulse.ping(&mut out),
                Err(reason) => return reason,
            },
        }
    }
}

/// Writes some of `out`; flushes when it is empty, and says 0 then: TLS keeps bytes of its own.
async fn write(writer: &mut WriteHalf<Stream>, out: &mut BytesMut) -> std::io::Result<usize> {
    match out.is_empty() {
        true => writer.flush().await.map(|()| 0),
        false => match writer.write_buf(out).await? {
            0 => Err(std::io::ErrorKind::WriteZero.into()),
            bytes => Ok(bytes),
        },
    }
}

fn read_packets(
    input: &mut BytesMut,
    session: &mut Session,
    pulse: &mut Pulse,
    out: &mut BytesMut,
) -> Result<(), String> {
    loop {
        match decode(input, &LIMITS) {
            Ok(None) => return Ok(()),
            Ok(Some(Packet::Puback(id))) => {
                if session.acknowledge(id) {
                    pulse.acknowledged();
                }
            }
            Ok(Some(Packet::Pingresp)) => pulse.answered(),
            // Subscriptions of whoever used this client id before: taken and dropped.
            Ok(Some(Packet::Publish(publish))) => match publish.delivery {
                Delivery::AtMostOnce => {}
                Delivery::AtLeastOnce { id, .. } => put_puback(id, out),
                Delivery::ExactlyOnce { .. } => {
                    return Err("the peer sent a message of QoS 2".to_owned());
                }
            },
            Ok(Some(packet)) => return Err(format!("the peer sent {}", packet.kind())),
            Err(error) => return Err(format!("the peer does not speak MQTT 3.1.1: {error}")),
        }
    }
}

/// When something must be heard or said. Progress is what counts, so that a slow link is no dead one.
struct Pulse {
    patience: Patience,
    last_sent: Instant,
    ping_sent: Option<Instant>,
    /// Since when a PUBACK is awaited; the last one renews it.
    waiting_since: Option<Instant>,
}

impl Pulse {
    fn new(patience: Patience) -> Self {
        Self { patience, last_sent: Instant::now(), ping_sent: None, waiting_since: None }
    }

    fn sent(&mut self) {
        self.last_sent = Instant::now();
    }

    fn acknowledged(&mut self) {
        self.waiting_since = None;
    }

    fn answered(&mut self) {
        self.ping_sent = None;
    }

    fn awaits_puback(&mut self, waiting: bool) {
        match waiting {
            true => self.waiting_since = self.waiting_since.or_else(|| Some(Instant::now())),
            false => self.waiting_since = None,
        }
    }

    fn ping_at(&self) -> Instant {
        // A quarter of the keep-alive is left for the way [MQTT-3.1.2-23].
        self.last_sent + self.patience.keep_alive * 3 / 4
    }

    fn due(&self) -> Instant {
        let answer = self.ping_sent.into_iter().chain(self.waiting_since).min();
        let limit = answer.map(|since| since + self.patience.answer);
        let ping = self.ping_sent.is_none().then(|| self.ping_at());
        limit.into_iter().chain(ping).min().unwrap_or_else(|| self.ping_at())
    }

    fn check(&self) -> Result<(), String> {
        let now = Instant::now();
        let is_late =
            |since: Option<Instant>| since.is_some_and(|since| now >= since + self.patience.answer);
        let secs = self.patience.answer.as_secs();
        if is_late(self.waiting_since) {
            return Err(format!("no PUBACK within {secs} s"));
        }
        if is_late(self.ping_sent) {
            return Err(format!("no PINGRESP within {secs} s"));
        }
        Ok(())
    }

    fn ping(&mut self, out: &mut BytesMut) {
        let now = Instant::now();
        if self.ping_sent.is_none() && now >= self.ping_at() {
            Packet::Pingreq.encode(out).expect("a PINGREQ has no size to exceed");
            self.ping_sent = Some(now);
            self.last_sent = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn pulse() -> Pulse {
        let (keep_alive, answer) = (Duration::from_secs(60), Duration::from_secs(20));
        Pulse::new(Patience { keep_alive, answer })
    }

    fn in_secs(pulse: &Pulse) -> u64 {
        (pulse.due() - Instant::now()).as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_pinged_before_its_keep_alive_ends_and_dies_without_an_answer() {
        let (mut pulse, mut out) = (pulse(), BytesMut::new());
        assert_eq!(in_secs(&pulse), 45);
        advance(Duration::from_secs(45)).await;
        pulse.check().unwrap();
        pulse.ping(&mut out);
        assert_eq!(&out[..], [0xc0, 0]);
        assert_eq!(in_secs(&pulse), 20);
        advance(Duration::from_secs(20)).await;
        assert_eq!(pulse.check().unwrap_err(), "no PINGRESP within 20 s");
        pulse.answered();
        pulse.check().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn each_puback_renews_the_patience_and_silence_ends_it() {
        let mut pulse = pulse();
        pulse.awaits_puback(true);
        advance(Duration::from_secs(19)).await;
        pulse.acknowledged();
        pulse.awaits_puback(true);
        advance(Duration::from_secs(19)).await;
        pulse.check().unwrap();
        pulse.awaits_puback(true);
        advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.check().unwrap_err(), "no PUBACK within 20 s");
        pulse.awaits_puback(false);
        pulse.check().unwrap();
    }
}
