//! What the handle, the writer and the queues' readers have in common.

use crate::Error;
use crate::message::{EndpointId, RouteNumber};
use crate::queue::Queue;
use crate::queue::lane::Waiting;
use crate::read;
use crate::segment::Seed;
use crate::segment::body::Loaded;
use crate::segment::cache::Cache;
use crate::sqlite::Readers;
use crate::view::Health;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{Notify, watch};
use weir_core::clock::Clock;
use weir_core::record::Record;

const NO_PANIC: &str = "no code panics while it holds the lock";

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) seed: Seed,
    pub(crate) clock: Clock,
    pub(crate) readers: Readers,
    pub(crate) max_bytes: u64,
    /// Room was made somewhere.
    pub(crate) room: Notify,
    queues: RwLock<BTreeMap<EndpointId, Arc<Queue>>>,
    routes: RwLock<BTreeMap<RouteNumber, String>>,
    cache: Mutex<Cache>,
    health: watch::Sender<Health>,
    used_bytes: AtomicU64,
    closed: AtomicBool,
}

impl Shared {
    pub(crate) fn new(
        seed: Seed,
        clock: Clock,
        readers: Readers,
        max_bytes: u64,
        health: Health,
    ) -> Self {
        Self {
            seed,
            clock,
            readers,
            max_bytes,
            room: Notify::new(),
            queues: RwLock::default(),
            routes: RwLock::default(),
            cache: Mutex::default(),
            health: watch::Sender::new(health),
            used_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn queue(&self, endpoint: EndpointId) -> Option<Arc<Queue>> {
        self.queues().get(&endpoint).cloned()
    }

    pub(crate) fn queues(&self) -> RwLockReadGuard<'_, BTreeMap<EndpointId, Arc<Queue>>> {
        self.queues.read().expect(NO_PANIC)
    }

    pub(crate) fn queues_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<EndpointId, Arc<Queue>>> {
        self.queues.write().expect(NO_PANIC)
    }

    pub(crate) fn routes(&self) -> RwLockReadGuard<'_, BTreeMap<RouteNumber, String>> {
        self.routes.read().expect(NO_PANIC)
    }

    pub(crate) fn routes_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<RouteNumber, String>> {
        self.routes.write().expect(NO_PANIC)
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect(NO_PANIC)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_used_bytes(&self, bytes: u64) {
        self.used_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The writer has ended: whoever waits learns it.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for queue in self.queues().values() {
            queue.wake.notify_one();
        }
        self.room.notify_waiters();
    }

    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(crate) fn set_unwritable(&self, reason: &str) {
        let now = self.clock.now();
        self.health.send_modify(|health| {
            *health = Health {
                writable: false,
                reason: Some(reason.to_owned()),
                since: now,
                ..health.clone()
            };
        });
    }

    pub(crate) fn set_writable(&self) {
        let now = self.clock.now();
        self.health.send_modify(|health| {
            *health = Health { writable: true, reason: None, since: now, ..health.clone() };
        });
    }

    /// Entries were found to be damaged.
    pub(crate) fn note_damaged(&self, queue: &Queue, entries: u64) {
        if entries > 0 {
            tracing::error!(endpoint = %queue.name, entries, "stored messages are damaged and lost");
            self.health.send_modify(|health| health.damaged_entries += entries);
        }
    }

    /// The record of a stored message, from memory or from the file.
    pub(crate) async fn record(&self, sequence: u64) -> Result<Option<Record>, Error> {
        if let Some(record) = self.cache().record(sequence) {
            return Ok(Some(record));
        }
        Ok(self.segment_of(sequence).await?.and_then(|segment| segment.record(sequence)))
    }

    /// The segment that a message is in, read from the file.
    pub(crate) async fn segment_of(&self, sequence: u64) -> Result<Option<Loaded>, Error> {
        let seed = self.seed;
        self.readers
            .with("read messages", async |connection| {
                read::segment_of(connection, sequence, seed).await
            })
            .await
    }

    /// Reads the next entries of a lane into its window. Does nothing when there is no need.
    pub(crate) async fn load_lane(&self, queue: &Queue, priority: u32) {
        loop {
            let (from, upto, expected, epoch, room) = {
                let mut index = queue.lock();
                let epoch = index.epoch;
                let paused = index.loads_paused;
                let lane = index.lane(priority);
                if lane.unloaded == 0 {
                    return;
                }
                if paused {
                    (None, 0, 0, epoch, 0)
                } else {
                    (Some(lane.load_from), lane.last, lane.unloaded, epoch, lane.room)
                }
            };
            let Some(from) = from else {
                // The writer changes places that are not loaded; it wakes the queue when it is done.
                queue.loads.notified().await;
                continue;
            };
            let seed = self.seed;
            let lane = read::Lane { endpoint: queue.id, priority, from };
            let read = self
                .readers
                .with("read a queue", async |connection| {
                    read::lane(connection, lane, room, seed).await
                })
                .await;
            match read {
                Ok(read) => {
                    let mut index = queue.lock();
                    let unchanged = index.epoch == epoch
                        && !index.loads_paused
                        && index.lane(priority).load_from == from;
                    if !unchanged {
                        continue;
                    }
                    // What is owed stands before the lane, whatever the cursor in the file says.
                    let owed = |entry: &Waiting| index.owed(entry.sequence).is_some();
                    let fresh: Vec<Waiting> =
                        read.entries.into_iter().filter(|entry| !owed(entry)).collect();
                    let lane = index.lane(priority);
                    let lost = lane.load(fresh.into_iter(), upto, expected, read.complete);
                    index.damaged += lost;
                    index.messages -= lost;
                    drop(index);
                    self.note_damaged(queue, lost);
                    return;
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::warn!(endpoint = %queue.name, error = %error, "a queue cannot be read");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    return;
                }
            }
        }
    }
}
