//! The reading end of one queue.

use crate::Error;
use crate::message::{EndpointId, Entry};
use crate::queue::{Candidate, Choice, Queue, sender_number};
use crate::segment::body::Loaded;
use crate::shared::Shared;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::Sequence;
use weir_core::record::Record;

/// Longest sleep before the clock is looked at again: it may have been set.
const NAP: Duration = Duration::from_secs(1);

/// Hands out the entries of one queue; there is one reader for each at a time. Dropping it gives
/// back what is in flight, without counting an attempt.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    /// The segment that was read last: the next entries are usually in it.
    last: Mutex<Option<Arc<Loaded>>>,
    /// One `next` at a time, over its reads of the file too.
    turn: tokio::sync::Mutex<()>,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, queue: Arc<Queue>) -> Result<Self, Error> {
        {
            let mut index = queue.lock();
            if index.has_reader {
                return Err(Error::ReaderTaken);
            }
            index.has_reader = true;
            index.readers += 1;
        }
        Ok(Self { shared, queue, last: Mutex::default(), turn: tokio::sync::Mutex::new(()) })
    }

    /// The queue.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.queue.id
    }

    /// The next entries that are due, at least one, all of one priority: the lowest number that has
    /// any. Entries to be delivered again come first. A single entry may exceed `max_bytes`.
    ///
    /// Cancel-safe: nothing is taken unless the future completes. Empty only after the store was
    /// closed.
    pub async fn next(&self, max_messages: usize, max_bytes: usize) -> Vec<Entry> {
        let _turn = self.turn.lock().await;
        loop {
            if self.shared.is_closed() {
                return Vec::new();
            }
            let now = self.shared.clock.now();
            let choice = self.queue.lock().choose(now, max_messages.max(1), max_bytes);
            match choice {
                Choice::Batch(priority, candidates) => {
                    let records = self.records(&candidates).await;
                    // No await between here and the return: taken means handed out.
                    let batch = self.hand_out(priority, &candidates, records);
                    if !batch.is_empty() {
                        return batch;
                    }
                }
                Choice::Load(priority) => self.shared.load_lane(&self.queue, priority).await,
                Choice::Nothing(None) => self.queue.wake.notified().await,
                Choice::Nothing(Some(until)) => self.wait_until(until).await,
            }
        }
    }

    /// As [`Reader::next`], but does not wait: empty when nothing is due now.
    pub async fn try_next(&self, max_messages: usize, max_bytes: usize) -> Vec<Entry> {
        let _turn = self.turn.lock().await;
        loop {
            if self.shared.is_closed() {
                return Vec::new();
            }
            let now = self.shared.clock.now();
            let choice = self.queue.lock().choose(now, max_messages.max(1), max_bytes);
            match choice {
                Choice::Batch(priority, candidates) => {
                    let records = self.records(&candidates).await;
                    let batch = self.hand_out(priority, &candidates, records);
                    if !batch.is_empty() {
                        return batch;
                    }
                }
                Choice::Load(priority) => self.shared.load_lane(&self.queue, priority).await,
                Choice::Nothing(_) => return Vec::new(),
            }
        }
    }

    /// Entries that have not left the queue, in flight included.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.queue.lock().messages
    }

    /// As [`Reader::next`], but only entries that were handed out before, are due again now and stand
    /// before `before`; does not wait for any. Cancel-safe.
    pub async fn next_again(
        &self,
        before: Sequence,
        max_messages: usize,
        max_bytes: usize,
    ) -> Vec<Entry> {
        let _turn = self.turn.lock().await;
        loop {
            if self.shared.is_closed() {
                return Vec::new();
            }
            let now = self.shared.clock.now();
            let chosen =
                self.queue.lock().choose_again(before.0, now, max_messages.max(1), max_bytes);
            let Some((priority, candidates)) = chosen else { return Vec::new() };
            let records = self.records(&candidates).await;
            let batch = self.hand_out(priority, &candidates, records);
            if !batch.is_empty() {
                return batch;
            }
        }
    }

    /// True while the queue has this entry and it has been handed out before.
    #[must_use]
    pub fn is_owed(&self, sequence: Sequence) -> bool {
        self.queue.lock().owed(sequence.0).is_some()
    }

    async fn wait_until(&self, until: Timestamp) {
        let nap = until.since(self.shared.clock.now()).clamp(Duration::from_millis(1), NAP);
        // Whichever comes first; both are cancel-safe.
        tokio::select! {
            () = self.queue.wake.notified() => {}
            () = tokio::time::sleep(nap) => {}
        }
    }

    /// The candidates' records, by sequence; absent where the file is damaged. When the file cannot
    /// be read at all this waits until it can.
    async fn records(&self, candidates: &[Candidate]) -> BTreeMap<u64, Record> {
        let mut records = BTreeMap::new();
        let mut missing = Vec::new();
        {
            let cache = self.shared.cache();
            for candidate in candidates {
                match cache.record(candidate.sequence) {
                    Some(record) => drop(records.insert(candidate.sequence, record)),
                    None => missing.push(candidate.sequence),
                }
            }
        }
        for sequence in missing {
            if let Some(record) = self.record(sequence).await {
                records.insert(sequence, record);
            }
        }
        records
    }

    async fn record(&self, sequence: u64) -> Option<Record> {
        let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.index(sequence).is_some()) {
            return known.record(sequence);
        }
        loop {
            match self.shared.segment_of(sequence).await {
                Ok(Some(segment)) => {
                    let segment = Arc::new(segment);
                    let record = segment.record(sequence);
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(segment);
                    return record;
                }
                Ok(None) | Err(Error::Closed) => return None,
                Err(error) => {
                    let endpoint = &self.queue.name;
                    tracing::warn!(%endpoint, error = %error, "messages cannot be read");
                    tokio::time::sleep(NAP).await;
                }
            }
        }
    }

    fn hand_out(
        &self,
        priority: u32,
        candidates: &[Candidate],
        mut records: BTreeMap<u64, Record>,
    ) -> Vec<Entry> {
        let now = self.shared.clock.now();
        let mut batch = Vec::with_capacity(candidates.len());
        let mut lost = 0;
        let mut index = self.queue.lock();
        if self.shared.is_closed() {
            return batch;
        }
        for candidate in candidates {
            let Some(record) = records.remove(&candidate.sequence) else {
                lost += u64::from(index.lose(priority, *candidate));
                continue;
            };
            let sender = sender_number(record.message.sender());
            let Some(owed) = index.hand_out(priority, *candidate, sender, now) else { continue };
            batch.push(Entry {
                sequence: Sequence(candidate.sequence),
                priority,
                attempt: owed.attempt,
                expires: owed.expires,
                route: owed.route,
                record,
                redelivered: owed.seen_before,
            });
        }
        drop(index);
        self.shared.note_damaged(&self.queue, lost);
        batch
    }

    /// These were not settled after all: they are delivered again, first and in order; `counted`
    /// says whether the delivery counts as an attempt. Those not in flight are ignored.
    pub fn put_back(&self, entries: &[Sequence], counted: bool) {
        let mut index = self.queue.lock();
        for sequence in entries {
            index.put_back(sequence.0, counted);
        }
        drop(index);
        self.queue.wake.notify_one();
    }

    /// Held entries are handed out again, first and in order (the module that held them restarts).
    /// No attempt is counted: a message may be held over any number of restarts.
    pub fn redeliver_held(&self) {
        self.queue.lock().redeliver_held();
        self.queue.wake.notify_one();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut index = self.queue.lock();
        index.put_back_all();
        index.has_reader = false;
    }
}
