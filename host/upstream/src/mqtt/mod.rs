//! `kind = "mqtt"`: any MQTT 3.1.1 broker, QoS 1.
//!
//! [`MqttUpstream::run`] owns the connection: it connects at its start, when a batch comes, and by
//! itself after growing waits, but never twice in a second; then [`drive`] moves packets until the
//! connection ends. What is sent and sent again is decided in [`session`].

mod dial;
mod drive;
mod publish;
mod session;
mod tls;

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::warn;
use weir_core::backoff::Backoff;
use weir_core::clock::Clock;
use weir_core::limits;
use weir_core::port::{Answer, Batch, BoxFuture, Consumer, Fault, Link, Upstream};

use self::dial::Dialer;
use self::drive::{Patience, drive};
use self::publish::Publisher;
use self::session::Session;
use crate::intake::{Inbox, Intake, Job};
use crate::link::LinkState;
use crate::{Error, MqttConfig};

/// Packet ids would run out, and a broker holds no more than this anyway.
const MAX_WINDOW: usize = 10_000;
/// A day; more is no limit.
const MAX_LIMIT_SECS: u64 = 24 * 60 * 60;
/// A connection that brought a PUBACK, or lasted this long, was a good one: waits begin anew.
const GOOD: Duration = Duration::from_secs(60);

pub(crate) struct MqttUpstream {
    config: MqttConfig,
    hub_name: String,
    dialer: Dialer,
    intake: Intake,
    link: LinkState,
}

impl MqttUpstream {
    pub(crate) fn new(config: &MqttConfig, clock: &Clock, hub_name: &str) -> Result<Self, Error> {
        check(config)?;
        Publisher::new(config, hub_name)?;
        let dialer = Dialer::new(config, hub_name)?;
        if config.password_file.is_some() && !config.tls {
            warn!("the upstream's password is sent without TLS");
        }
        if config.insecure {
            warn!("the upstream's certificate is not checked");
        }
        Ok(Self {
            config: config.clone(),
            hub_name: hub_name.to_owned(),
            dialer,
            intake: Intake::new(),
            link: LinkState::new("mqtt", clock),
        })
    }

    async fn work(&self) {
        let mut inbox = self.intake.inbox().await;
        let mut session = self.session();
        let mut schedule = Schedule::new();
        loop {
            let job = schedule.wait(&mut inbox).await;
            let started = Instant::now();
            let (reason, was_good) = match self.dialer.dial().await {
                Ok(wire) => {
                    self.link.up();
                    let (up, before) = (Instant::now(), session.acknowledged());
                    let reason = drive(wire, &mut session, &mut inbox, job, self.patience()).await;
                    (reason, session.acknowledged() > before || up.elapsed() >= GOOD)
                }
                Err(reason) => {
                    if let Some(job) = job {
                        job.reply.fail(&reason, None);
                    }
                    (reason, false)
                }
            };
            self.link.down(&reason);
            session.fail(&reason, None);
            schedule.ended(started, was_good, reason);
        }
    }

    fn session(&self) -> Session {
        let publisher = Publisher::new(&self.config, &self.hub_name)
            .expect("the configuration was checked when the upstream was made");
        Session::new(publisher, self.config.window, !self.config.clean_session)
    }

    fn patience(&self) -> Patience {
        Patience {
            keep_alive: Duration::from_secs(self.config.keep_alive_secs.into()),
            answer: Duration::from_secs(self.config.ack_timeout_secs),
        }
    }
}

fn check(config: &MqttConfig) -> Result<(), Error> {
    let between = |key, value: u64, most: u64| match (1..=most).contains(&value) {
        true => Ok(()),
        false => Err(Error::Setting { key, problem: format!("must be 1 to {most}") }),
    };
    between("window", config.window as u64, MAX_WINDOW as u64)?;
    between("keep_alive_secs", config.keep_alive_secs.into(), u16::MAX.into())?;
    between("connect_timeout_secs", config.connect_timeout_secs, MAX_LIMIT_SECS)?;
    between("ack_timeout_secs", config.ack_timeout_secs, MAX_LIMIT_SECS)?;
    between("max_packet_bytes", config.max_packet_bytes as u64, limit_of_mqtt())
}

const fn limit_of_mqtt() -> u64 {
    weir_mqtt_codec::MAX_REMAINING_LENGTH as u64
}

/// When the next attempt may and when it will be made.
struct Schedule {
    backoff: Backoff,
    /// Not before: one attempt in a second, whoever asks.
    earliest: Instant,
    /// Without a batch to send.
    by_itself: Instant,
    /// Of the last failure.
    reason: String,
}

impl Schedule {
    fn new() -> Self {
        let backoff = Backoff::new(limits::UPSTREAM_BACKOFF, limits::UPSTREAM_BACKOFF_CAP);
        let now = Instant::now();
        Self { backoff, earliest: now, by_itself: now, reason: String::new() }
    }

    /// Waits for the next attempt; the batch that caused it, if one did.
    async fn wait(&mut self, inbox: &mut Inbox<'_>) -> Option<Job> {
        loop {
            let job = tokio::select! {
                job = inbox.next() => job,
                () = sleep_until(self.by_itself) => return None,
            };
            let rest = self.earliest.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Some(job);
            }
            job.reply.fail(&self.reason, Some(rest));
        }
    }

    fn ended(&mut self, started: Instant, was_good: bool, reason: String) {
        if was_good {
            self.backoff.reset();
        }
        self.earliest = started + limits::UPSTREAM_BACKOFF;
        let wait = self.backoff.next_wait(fastrand::f64());
        self.by_itself = self.earliest.max(Instant::now() + wait);
        self.reason = reason;
    }
}

impl Consumer for MqttUpstream {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        self.intake.deliver(batch)
    }
}

impl Upstream for MqttUpstream {
    fn kind(&self) -> &'static str {
        "mqtt"
    }

    fn target(&self) -> String {
        self.dialer.target()
    }

    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.work())
    }

    fn link(&self) -> Link {
        self.link.get()
    }

    fn is_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.link.is_up())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_until_a_connection_was_good() {
        let mut schedule = Schedule::new();
        let mut ended = |was_good| {
            let now = Instant::now();
            schedule.ended(now, was_good, String::new());
            (schedule.backoff.failures(), schedule.by_itself - now)
        };
        assert_eq!((1..=10).map(|_| ended(false).0).collect::<Vec<_>>(), Vec::from_iter(1..=10));
        assert!(ended(false).1 > Duration::from_secs(20));
        assert_eq!(ended(true), (1, limits::UPSTREAM_BACKOFF));
    }
}
