//! Emptying a queue.

use super::Writer;
use super::group::{Dropped, Group, Part, Unloaded};
use crate::Error;
use crate::message::EndpointId;
use crate::queue::owed::State;
use crate::queue::{Queue, cost};
use crate::read;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries on disk only: how many of which segment, and their size.
#[derive(Debug, Default)]
struct OnDisk {
    by_segment: BTreeMap<u64, u32>,
    entries: u64,
    bytes: u64,
}

impl Writer {
    /// Removes everything that is not in flight.
    pub(super) async fn purge(&mut self, endpoint: EndpointId) -> Result<u64, Error> {
        if self.outage.is_some() {
            return Err(self.outage_copy());
        }
        let queue = self.shared.queue(endpoint).ok_or(Error::UnknownEndpoint)?;
        {
            let mut index = queue.lock();
            index.loads_paused = true;
            index.epoch += 1;
        }
        let result = self.purge_paused(&queue).await;
        queue.lock().loads_paused = false;
        queue.loads.notify_waiters();
        queue.wake.notify_one();
        result
    }

    async fn purge_paused(&mut self, queue: &Arc<Queue>) -> Result<u64, Error> {
        let lanes: Vec<(u32, u64)> = {
            let index = queue.lock();
            let unloaded = index.lanes.iter().filter(|(_, lane)| lane.unloaded > 0);
            unloaded.map(|(priority, lane)| (*priority, lane.load_from)).collect()
        };
        let mut on_disk = BTreeMap::new();
        for (priority, from) in lanes {
            let lane = read::Lane { endpoint: queue.id, priority, from };
            on_disk.insert(priority, self.count_on_disk(lane).await?);
        }
        let mut group = Group::default();
        let at = group.part(queue.id, |_| Some(Arc::clone(queue))).expect("the queue is given");
        let count = self.empty(&mut group.parts[at], &on_disk);
        let failure = self.commit_group(group).await;
        match (failure, &self.outage) {
            (Ok(()), None) => Ok(count),
            (Ok(()), Some(_)) => Err(self.outage_copy()),
            (Err(error), _) => Err(error),
        }
    }

    async fn count_on_disk(&mut self, lane: read::Lane) -> Result<OnDisk, Error> {
        let seed = self.shared.seed;
        let mut found = OnDisk::default();
        let mut from = lane.from;
        loop {
            let connection = self.database.connection().map_err(Error::database("read a queue"))?;
            let lane = read::Lane { from, ..lane };
            let read = read::lane(connection, lane, 65_536, seed).await;
            let read = read.map_err(Error::database("read a queue"))?;
            for entry in &read.entries {
                from = entry.sequence + 1;
                found.entries += 1;
                found.bytes += cost(entry.bytes);
                if let Some((first, _)) = self.segments.of(entry.sequence) {
                    *found.by_segment.entry(first).or_default() += 1;
                }
            }
            if read.complete {
                return Ok(found);
            }
        }
    }

    fn empty(&mut self, part: &mut Part, on_disk: &BTreeMap<u32, OnDisk>) -> u64 {
        part.purge = true;
        let queue = Arc::clone(&part.queue);
        let mut index = queue.lock();
        let owed: Vec<u64> = index
            .owed_before(u64::MAX)
            .filter(|(_, owed)| owed.state != State::InFlight)
            .map(|(sequence, _)| sequence)
            .collect();
        for sequence in owed {
            let owed = index.take(sequence).expect("it was found there");
            part.pass(owed.priority, sequence);
            part.dropped.push(Dropped::Owed(sequence, owed));
            self.segments.release(sequence);
        }
        let priorities: Vec<u32> = index.lanes.keys().copied().collect();
        for priority in priorities {
            while let Some(waiting) = index.lane(priority).window.pop_front() {
                index.bytes -= cost(waiting.bytes);
                index.messages -= 1;
                part.pass(priority, waiting.sequence);
                part.dropped.push(Dropped::Waiting(priority, waiting));
                self.segments.release(waiting.sequence);
            }
            let Some(on_disk) = on_disk.get(&priority) else { continue };
            let lane = index.lane(priority);
            part.pass(priority, lane.last);
            let before = (lane.unloaded, lane.load_from);
            lane.unloaded = 0;
            lane.load_from = lane.last + 1;
            let bytes = on_disk.bytes.min(index.bytes);
            index.bytes -= bytes;
            index.messages -= before.0;
            part.unloaded.push(Unloaded { priority, entries: before.0, from: before.1, bytes });
            for (first, entries) in &on_disk.by_segment {
                self.segments.release_many(*first, *entries);
            }
        }
        let unloaded: u64 = part.unloaded.iter().map(|unloaded| unloaded.entries).sum();
        part.dropped.len() as u64 + unloaded
    }
}
