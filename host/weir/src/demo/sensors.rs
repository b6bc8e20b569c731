//! Two simulated sensors: clients inside the process that send readings and wait for their commit.
//!
//! What a sensor sends is a function of its sequence number, so that the check knows what must be in
//! the file without having been told.

use anyhow::Result;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_core::properties::{Key, Properties, PropertiesBuilder, SystemProperty};
use weir_hub::authenticate::Proven;
use weir_hub::tasks::TaskKind;
use weir_hub::{Hub, Publication};

/// The sensors' device ids.
pub(super) const NAMES: [&str; 2] = ["sensor-1", "sensor-2"];
/// Between two readings of a sensor.
const PERIOD: Duration = Duration::from_millis(4);
/// Latencies kept for the percentile.
const LATENCIES: usize = 4_096;

/// A sensor's identity.
pub(super) fn identity(name: &str) -> Identity {
    Identity::device(name.parse().expect("a plain name"))
}

/// The reading of a sequence number: 15.0 to 34.9 degrees, every value equally often.
pub(super) fn temperature(sequence: u64) -> f64 {
    15.0 + f64::from(u32::try_from(sequence.wrapping_mul(7_919) % 200).unwrap_or(0)) / 10.0
}

#[derive(Debug, Default)]
struct Counts {
    sent: [AtomicU64; 2],
    acknowledged: [AtomicU64; 2],
    stop: AtomicBool,
    ended: AtomicU64,
    latencies: Mutex<VecDeque<Duration>>,
}

/// What the sensors did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Report {
    /// Readings sent, by sensor: numbers 0 up to this.
    pub(super) sent: [u64; 2],
    /// Readings that the hub has acknowledged.
    pub(super) acknowledged: [u64; 2],
}

/// Both sensors.
#[derive(Debug)]
pub(super) struct Sensors {
    counts: Arc<Counts>,
    run: String,
}

impl Default for Sensors {
    fn default() -> Self {
        Self { counts: Arc::default(), run: format!("{:08x}", fastrand::u32(..)) }
    }
}

impl Sensors {
    /// Begins to send.
    pub(super) fn start(&self, hub: &Hub) -> Result<()> {
        for (number, name) in NAMES.iter().enumerate() {
            let proven = Proven::trusted(identity(name));
            let session = hub.connect(proven, "demo", "in-process")?;
            let (counts, run) = (Arc::clone(&self.counts), self.run.clone());
            hub.tasks().spawn(TaskKind::PerClient, "sensor", move |stop| async move {
                tokio::select! {
                    () = send(number, &session, &counts, &run) => {}
                    () = stop.draining() => {}
                }
                counts.ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        Ok(())
    }

    /// Stops sending and waits until everything sent is acknowledged.
    pub(super) async fn stop(&self) {
        self.counts.stop.store(true, Ordering::SeqCst);
        while self.counts.ended.load(Ordering::SeqCst) < NAMES.len() as u64 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Numbers so far.
    pub(super) fn report(&self) -> Report {
        let read = |counters: &[AtomicU64; 2]| [0, 1].map(|at| counters[at].load(Ordering::SeqCst));
        Report { sent: read(&self.counts.sent), acknowledged: read(&self.counts.acknowledged) }
    }

    /// Marks the readings of this run in a file that may hold older ones.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// 99th percentile of the time from sending to the acknowledgement, of the last readings.
    pub(super) fn latency(&self) -> Duration {
        let latencies = self.counts.latencies.lock().unwrap_or_else(|e| e.into_inner());
        let mut sorted: Vec<Duration> = latencies.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }
}

async fn send(number: usize, session: &weir_hub::Session, counts: &Counts, run: &str) {
    let mut intake = session.intake();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: VecDeque<Instant> = VecDeque::new();
    let properties = properties();
    while !(counts.stop.load(Ordering::SeqCst) && waiting.is_empty()) {
        tokio::select! {
            _ = ticks.tick(), if intake.has_room() && !counts.stop.load(Ordering::SeqCst) => {
                let sequence = counts.sent[number].load(Ordering::SeqCst);
                let message = reading(number, sequence, run, &properties);
                waiting.push_back(Instant::now());
                intake.submit(vec![Publication { message, reliable: true }]).await;
                counts.sent[number].store(sequence + 1, Ordering::SeqCst);
            }
            settled = intake.settled(), if intake.is_waiting() => {
                // A full store is waited out; the sensor keeps what it has.
                let Ok(count) = settled else { continue };
                counts.acknowledged[number].fetch_add(count as u64, Ordering::SeqCst);
                let mut latencies = counts.latencies.lock().unwrap_or_else(|e| e.into_inner());
                for sent in waiting.drain(..count.min(waiting.len())) {
                    if latencies.len() == LATENCIES {
                        latencies.pop_front();
                    }
                    latencies.push_back(sent.elapsed());
                }
            }
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn properties() -> Properties {
    let mut builder = PropertiesBuilder::default();
    let pairs = [
        (SystemProperty::ContentType, "application/json"),
        (SystemProperty::ContentEncoding, "utf-8"),
    ];
    for (property, value) in pairs {
        builder.push(Key::System(property), Some(value)).expect("two short properties fit");
    }
    builder.build()
}

fn reading(number: usize, sequence: u64, run: &str, properties: &Properties) -> Message {
    let body = json!({
        "run": run, "sensor": NAMES[number], "seq": sequence, "temperature": temperature(sequence),
    });
    Message { body: body.to_string().into(), properties: properties.clone(), output: None }
}
