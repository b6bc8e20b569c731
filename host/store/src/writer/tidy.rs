//! The work in the background, a bounded piece each second: what has expired deep in a queue leaves,
//! segments of which little is needed are written together, the file shrinks when it is idle.
//!
//! Each piece is a transaction of its own, between two groups. `live`, the number of entries a
//! segment still owes, changes only when an entry leaves; rewriting a segment keeps it.

use super::Writer;
use super::group::Group;
use super::script::{self, Script};
use super::segments::Segment;
use crate::Error;
use crate::message::EndpointId;
use crate::queue::{Queue, cost};
use crate::read;
use crate::segment::body::{Loaded, PAGE_BYTES, SLOT_PAYLOAD};
use crate::segment::build::rebuild;
use crate::segment::directory::{Directory, LaneItem};
use sqlx::{Executor, Row};
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::limits;

/// Segments looked at for expired entries in a round.
const SWEPT: usize = 64;
/// Slots deleted in a round.
const SHRUNK: u32 = 256;
/// Dead letters that leave in a round.
const TRIMMED: i64 = 4_096;
/// Free slots that are no reason to shrink: 1 MiB.
const KEPT_FREE: u64 = 64;
/// Live bytes that are written together: leaves room in a segment for an estimate that was low.
const COMPACTED_BYTES: u64 = 192 * 1024;

impl Writer {
    /// One round.
    pub(super) async fn tick(&mut self) -> Result<(), Error> {
        if self.outage.is_some() {
            self.probe().await?;
            if self.outage.is_some() {
                return Ok(());
            }
        }
        let idle = !std::mem::take(&mut self.busy);
        let result = self.tidy(idle).await;
        self.note_usage();
        match result {
            Ok(()) => Ok(()),
            Err(cause) => {
                self.segments.roll_back();
                self.begin_outage(&Error::database("tidy up")(cause));
                self.leave_connection().await
            }
        }
    }

    async fn tidy(&mut self, idle: bool) -> Result<(), sqlx::Error> {
        self.sweep().await?;
        self.collect().await?;
        self.compact(idle).await?;
        if idle {
            self.shrink().await?;
        }
        self.trim_dead_letters().await?;
        self.measure().await
    }

    /// Takes note of what left without a change, and buries what is dead.
    async fn collect(&mut self) -> Result<(), sqlx::Error> {
        let now = self.shared.clock.now();
        let mut group = Group::default();
        let queues: Vec<Arc<Queue>> = self.shared.queues().values().cloned().collect();
        for queue in queues {
            let left = {
                let mut index = queue.lock();
                index.expire_all_owed(now);
                !index.gone.is_empty()
            };
            if left {
                group.part(queue.id, |_| Some(queue));
            }
        }
        if group.is_empty() && !self.segments.has_dead() {
            return Ok(());
        }
        let script = self.write_script(&mut group);
        match self.database.run(script).await {
            Ok(()) => {
                self.group_committed(group);
                Ok(())
            }
            Err(cause) => {
                // Nobody waits for this group.
                self.group_failed(group, &Arc::new(Error::Closed));
                Err(cause)
            }
        }
    }

    /// Lets entries leave that expired before their turn.
    async fn sweep(&mut self) -> Result<(), sqlx::Error> {
        let now = self.shared.clock.now();
        let due: Vec<u64> = self
            .segments
            .iter()
            .filter(|(_, segment)| segment.min_expires <= now)
            .map(|(first, _)| first)
            .take(SWEPT)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let queues: Vec<Arc<Queue>> = self.shared.queues().values().cloned().collect();
        for queue in &queues {
            let mut index = queue.lock();
            index.loads_paused = true;
            index.epoch += 1;
        }
        let swept = self.sweep_segments(&due, now).await;
        for queue in &queues {
            queue.lock().loads_paused = false;
            queue.loads.notify_waiters();
            queue.wake.notify_one();
        }
        swept
    }

    async fn sweep_segments(&mut self, due: &[u64], now: Timestamp) -> Result<(), sqlx::Error> {
        let seed = self.shared.seed;
        let mut rewritten = Vec::new();
        for first in due {
            let Some(directory) = self.directory(*first).await? else {
                // Damaged: its entries are missed when their turn comes.
                self.segments.forget_expiry(*first);
                continue;
            };
            rewritten.push(self.without_expired(directory, now));
        }
        let mut script = Script::new();
        script.list(&script::PUT_SEGMENTS, &rewritten, |values, (directory, _)| {
            values.add(directory.first.cast_signed());
            values.add(directory.encode(seed));
        });
        self.database.run(script).await?;
        for (directory, expired) in rewritten {
            let mut left = 0;
            for (endpoint, priority, sequence, item, bytes) in expired {
                let Some(queue) = self.shared.queue(endpoint) else { continue };
                let mut index = queue.lock();
                if index.expire_waiting(priority, sequence) {
                    *index.expired.entry(item.route).or_default() += 1;
                    index.bytes -= cost(bytes);
                    index.messages -= 1;
                    left += 1;
                }
            }
            let live = self.segments.get(directory.first).map_or(0, |segment| segment.live);
            self.segments.replace(&directory, live.saturating_sub(left));
            if self.builder.open_segment() == Some(directory.first) {
                // The builder's copy still has them.
                self.builder.forget();
            }
            self.segments.set_min_expires(directory.first, next_expiry(&directory, now));
        }
        self.segments.commit();
        Ok(())
    }

    /// The directory without entries that have expired and are not with a consumer.
    fn without_expired(&self, mut directory: Directory, now: Timestamp) -> Swept {
        let mut expired = Vec::new();
        let Directory { first, items, lanes, .. } = &mut directory;
        for lane in lanes.iter_mut() {
            let queue = self.shared.queue(lane.endpoint);
            lane.items.retain(|item| {
                let entry = items[item.index as usize];
                let sequence = *first + u64::from(entry.offset);
                let owed = queue.as_ref().is_some_and(|q| q.lock().owed(sequence).is_some());
                let leaves = item.expires <= now && !owed;
                if leaves {
                    expired.push((lane.endpoint, lane.priority, sequence, *item, entry.bytes));
                }
                !leaves
            });
        }
        lanes.retain(|lane| !lane.items.is_empty());
        (directory, expired)
    }

    async fn directory(&mut self, first: u64) -> Result<Option<Directory>, sqlx::Error> {
        let seed = self.shared.seed;
        let row = sqlx::query(read::SEGMENT_OF)
            .bind(first.cast_signed())
            .fetch_optional(self.database.connection()?)
            .await?;
        Ok(row.and_then(|row| read::directory_row(&row, seed).1).filter(|d| d.first == first))
    }

    /// Writes neighbours together of which little is left; when idle also whatever stands at the
    /// end of a file that has much free space.
    async fn compact(&mut self, idle: bool) -> Result<(), sqlx::Error> {
        let mut run = self.sparse_run();
        if run.is_empty() && idle && self.is_loose() {
            run.extend(self.owner_of_last_slot());
        }
        if run.is_empty() {
            return Ok(());
        }
        let mut parts = Vec::new();
        for first in &run {
            let Some(directory) = self.directory(*first).await? else { return Ok(()) };
            let slots = read::slots(self.database.connection()?, &directory.slots).await?;
            parts.push(Loaded::new(directory, &slots, self.shared.seed));
        }
        let (mut directory, entries) = self.what_is_left(run[0], &parts);
        if entries.is_empty() {
            return Ok(());
        }
        let bodies = rebuild(&directory, entries.into_iter(), self.shared.seed);
        directory.slots = bodies.iter().map(|_| self.segments.take_slot()).collect();
        let live = run.iter().filter_map(|first| self.segments.get(*first)).map(|s| s.live).sum();
        let slots: Vec<u32> = directory.slots.clone();
        let seed = self.shared.seed;
        let mut script = Script::new();
        script.list(&script::PUT_SLOTS, slots.into_iter().zip(bodies), |values, (id, body)| {
            values.add(i64::from(id));
            values.add(body);
        });
        script.list(&script::PUT_SEGMENTS, [&directory], |values, directory| {
            values.add(directory.first.cast_signed());
            values.add(directory.encode(seed));
        });
        script.list(&script::DELETE_SEGMENTS, &run[1..], |values, first| {
            values.add(first.cast_signed());
        });
        for first in &run[1..] {
            self.segments.remove(*first);
        }
        self.segments.replace(&directory, live);
        self.database.run(script).await?;
        self.segments.commit();
        Ok(())
    }

    /// Neighbouring segments, each at least three quarters dead, that together need fewer slots.
    fn sparse_run(&self) -> Vec<u64> {
        let open = self.builder.open_segment();
        let mut run: Vec<u64> = Vec::new();
        let (mut slots, mut bytes, mut messages, mut start) = (0, 0, 0, 0);
        for (first, segment) in self.segments.iter() {
            let sparse = segment.live > 0
                && u64::from(segment.live) * 4 <= u64::from(segment.messages.max(segment.entries))
                && Some(first) != open;
            let (more_bytes, more) = (live_bytes(segment), segment.live as usize);
            let fits = bytes + more_bytes <= COMPACTED_BYTES
                && messages + more <= limits::SEGMENT_MESSAGES
                && (run.is_empty() || u32::try_from(segment.last - start).is_ok());
            if !(sparse && fits) {
                if gains(slots, bytes) {
                    return run;
                }
                run.clear();
                (slots, bytes, messages) = (0, 0, 0);
            }
            if sparse {
                if run.is_empty() {
                    start = first;
                }
                run.push(first);
                slots += segment.slots.len() as u64;
                bytes += more_bytes;
                messages += more;
            }
        }
        if gains(slots, bytes) { run } else { Vec::new() }
    }

    /// A directory of what the segments still owe, and its entries.
    fn what_is_left(&self, first: u64, parts: &[Loaded]) -> (Directory, Vec<bytes::Bytes>) {
        let mut directory = Directory::new(first);
        let mut entries = Vec::new();
        for part in parts {
            let old = &part.directory;
            let mut wanted: Vec<Vec<(usize, LaneItem)>> = vec![Vec::new(); old.items.len()];
            for (at, lane) in old.lanes.iter().enumerate() {
                let Some(queue) = self.shared.queue(lane.endpoint) else { continue };
                let index = queue.lock();
                for item in &lane.items {
                    if index.is_alive(lane.priority, old.sequence(item.index)) {
                        wanted[item.index as usize].push((at, *item));
                    }
                }
            }
            for (index, places) in wanted.into_iter().enumerate() {
                let sequence = old.first + u64::from(old.items[index].offset);
                let Some(entry) = part.entry(sequence).filter(|_| !places.is_empty()) else {
                    continue;
                };
                let offset = u32::try_from(sequence - first).expect("a run spans 32 bits");
                let new_index = u32::try_from(directory.items.len()).expect("a run is short");
                directory.items.push(crate::segment::directory::Item {
                    offset,
                    bytes: old.items[index].bytes,
                });
                for (at, item) in places {
                    let lane = &old.lanes[at];
                    let item = LaneItem { index: new_index, ..item };
                    directory.lane(lane.endpoint, lane.priority).push(item);
                }
                entries.push(entry);
            }
            directory.ids = (directory.ids.0.min(old.ids.0), directory.ids.1.max(old.ids.1));
        }
        (directory, entries)
    }

    /// True when more than a quarter of the file is free.
    fn is_loose(&self) -> bool {
        let free = self.segments.free_slots();
        free > KEPT_FREE && free * 4 > u64::from(self.segments.end())
    }

    fn owner_of_last_slot(&self) -> Option<u64> {
        let last = self.segments.end().checked_sub(1)?;
        let owner = self.segments.iter().find(|(_, segment)| segment.slots.contains(&last));
        owner.map(|(first, _)| first).filter(|first| Some(*first) != self.builder.open_segment())
    }

    /// Gives free space at the end of the file back.
    async fn shrink(&mut self) -> Result<(), sqlx::Error> {
        if !self.is_loose() {
            return Ok(());
        }
        let tail = self.segments.free_tail(SHRUNK);
        if tail.is_empty() {
            return Ok(());
        }
        let connection = self.database.connection()?;
        sqlx::query("DELETE FROM slot WHERE id >= ?")
            .bind(i64::from(tail.start))
            .execute(&mut *connection)
            .await?;
        self.segments.cut_tail(&tail);
        connection.execute("PRAGMA incremental_vacuum(512)").await?;
        Ok(())
    }

    /// Dead letters may be so many and so large; the oldest go first, counted.
    async fn trim_dead_letters(&mut self) -> Result<(), sqlx::Error> {
        if !std::mem::take(&mut self.dead_letters_grew) {
            return Ok(());
        }
        let max_bytes = (self.shared.max_bytes / limits::DEAD_LETTER_SHARE).cast_signed();
        let connection = self.database.connection()?;
        let row = connection
            .fetch_one("SELECT count(*), coalesce(sum(length(record)), 0) FROM dead_letter")
            .await?;
        let (count, bytes): (i64, i64) = (row.get(0), row.get(1));
        let mut over = (count.saturating_sub_unsigned(limits::DEAD_LETTERS), bytes - max_bytes);
        if over.0 <= 0 && over.1 <= 0 {
            return Ok(());
        }
        let oldest = "SELECT id, length(record), endpoint FROM dead_letter ORDER BY id LIMIT ?";
        let rows = sqlx::query(oldest).bind(TRIMMED).fetch_all(&mut *connection).await?;
        let (mut last, mut leave) = (0, Vec::new());
        for row in rows {
            if over.0 <= 0 && over.1 <= 0 {
                break;
            }
            last = row.get(0);
            over = (over.0 - 1, over.1 - row.get::<i64, _>(1));
            leave.push(EndpointId(u32::try_from(row.get::<i64, _>(2)).unwrap_or(u32::MAX)));
        }
        tracing::warn!(count = leave.len(), "the oldest dead letters leave, there are too many");
        let query = sqlx::query("DELETE FROM dead_letter WHERE id <= ?");
        query.bind::<i64>(last).execute(connection).await?;
        for queue in leave.into_iter().filter_map(|endpoint| self.shared.queue(endpoint)) {
            queue.lock().dead_letters_dropped += 1;
        }
        // The rest in the next round.
        self.dead_letters_grew = over.0 > 0 || over.1 > 0;
        Ok(())
    }

    /// Measures the file, so that the limit counts what is not bodies too.
    async fn measure(&mut self) -> Result<(), sqlx::Error> {
        let connection = self.database.connection()?;
        let pages: i64 = connection.fetch_one("PRAGMA page_count").await?.get(0);
        let free: i64 = connection.fetch_one("PRAGMA freelist_count").await?.get(0);
        let used = pages.saturating_sub(free).cast_unsigned();
        let others = used.saturating_sub(u64::from(self.segments.end()));
        self.other_bytes = others * PAGE_BYTES;
        Ok(())
    }
}

/// A directory without its expired entries, and those.
type Swept = (Directory, Vec<(EndpointId, u32, u64, LaneItem, u32)>);

/// Bytes of a segment that are still needed, about.
fn live_bytes(segment: &Segment) -> u64 {
    let share = u64::from(segment.live.min(segment.entries));
    segment.body_bytes * share / u64::from(segment.entries.max(1))
}

fn gains(slots: u64, bytes: u64) -> bool {
    bytes / SLOT_PAYLOAD as u64 + 1 < slots
}

/// When something more expires; what is with a consumer is not waited for.
fn next_expiry(directory: &Directory, now: Timestamp) -> Timestamp {
    let all = directory.lanes.iter().flat_map(|lane| &lane.items).map(|item| item.expires);
    all.filter(|expires| *expires > now).min().unwrap_or(Timestamp::NEVER)
}
