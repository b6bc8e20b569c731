//! Looking at the queues without taking anything: usage, peeking, finding a message.

use crate::message::EndpointId;
use crate::queue::owed::State;
use crate::queue::{Index, Queue};
use crate::read;
use crate::segment::body::Loaded;
use crate::view::{EntryState, Found, Peeked, Place, QueueUsage, Usage};
use crate::writer::Job;
use crate::{Error, Store};
use tokio::sync::oneshot;
use weir_core::id::{MessageId, Sequence};
use weir_core::limits;

impl Store {
    /// Figures of all queues, from memory.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let queues = self.shared.queues().values().map(|queue| self.queue_usage(queue)).collect();
        Usage { queues, bytes: self.shared.used_bytes(), max_bytes: self.shared.max_bytes }
    }

    fn queue_usage(&self, queue: &Queue) -> QueueUsage {
        let (usage, oldest) = {
            let index = queue.lock();
            let usage = QueueUsage {
                endpoint: queue.id,
                name: queue.name.clone(),
                messages: index.messages,
                bytes: index.bytes,
                held: index.held,
                retrying: index.retrying_len(),
                in_flight: index.in_flight,
                oldest: None,
                expired: index.expired.iter().map(|(route, count)| (*route, *count)).collect(),
                dropped: index.dropped,
                damaged: index.damaged,
                dead_letters_dropped: index.dead_letters_dropped,
                limit: index.limit,
            };
            (usage, index.oldest())
        };
        let record = oldest.and_then(|sequence| self.shared.cache().record(sequence));
        QueueUsage { oldest: record.map(|record| record.message.enqueued()), ..usage }
    }

    /// Entries of a queue in the order of their sequence.
    ///
    /// # Errors
    /// [`Error::UnknownEndpoint`], or when the file cannot be read.
    pub async fn peek(
        &self,
        endpoint: EndpointId,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        let queue = self.shared.queue(endpoint).ok_or(Error::UnknownEndpoint)?;
        let limit = limit.min(limits::PAGE_ITEMS);
        let mut from = after.map_or(0, |after| after.0.saturating_add(1));
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(segment) = self.segment_from(from).await? else { break };
            peek_segment(&queue, &segment, from, limit, &mut found);
            from = segment.directory.last() + 1;
        }
        Ok(found)
    }

    /// The first segment that has messages from `from` on.
    async fn segment_from(&self, from: u64) -> Result<Option<Loaded>, Error> {
        let seed = self.shared.seed;
        self.shared
            .readers
            .with("read messages", async |connection| {
                read::segment_from(connection, from, seed).await
            })
            .await
    }

    /// Looks for a stored message.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn find(&self, id: MessageId) -> Result<Option<Found>, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Find(id, reply)).await?;
        for first in answer.await.map_err(|_| Error::Closed)? {
            let Some(segment) = self.segment_from(first).await? else { continue };
            for index in 0..segment.directory.items.len() {
                let index = u32::try_from(index).expect("a segment has few messages");
                let sequence = segment.directory.sequence(index);
                let record = segment.record(sequence);
                if let Some(record) = record.filter(|record| record.message.id() == id) {
                    let places = self.places(&segment, index, sequence);
                    return Ok(Some(Found { sequence: Sequence(sequence), record, places }));
                }
            }
        }
        Ok(None)
    }

    fn places(&self, segment: &Loaded, item: u32, sequence: u64) -> Vec<Place> {
        let mut places = Vec::new();
        for lane in &segment.directory.lanes {
            let is_there = lane.items.binary_search_by_key(&item, |item| item.index).is_ok();
            if let Some(queue) = self.shared.queue(lane.endpoint).filter(|_| is_there)
                && let Some((state, _)) = state_of(&queue.lock(), lane.priority, sequence)
            {
                let (endpoint, priority) = (lane.endpoint, lane.priority);
                places.push(Place { endpoint, priority, state });
            }
        }
        places
    }
}

fn peek_segment(queue: &Queue, segment: &Loaded, from: u64, limit: usize, found: &mut Vec<Peeked>) {
    let directory = &segment.directory;
    let mut items: Vec<_> = directory
        .lanes
        .iter()
        .filter(|lane| lane.endpoint == queue.id)
        .flat_map(|lane| lane.items.iter().map(move |item| (lane.priority, item)))
        .collect();
    items.sort_unstable_by_key(|(_, item)| item.index);
    for (priority, item) in items {
        let sequence = directory.sequence(item.index);
        if found.len() == limit || sequence < from {
            continue;
        }
        let Some((state, attempts)) = state_of(&queue.lock(), priority, sequence) else {
            continue;
        };
        if let Some(record) = segment.record(sequence) {
            found.push(Peeked {
                sequence: Sequence(sequence),
                priority,
                expires: item.expires,
                route: item.route,
                state,
                attempts,
                record,
            });
        }
    }
}

/// State and attempts so far; none when the entry has left.
fn state_of(index: &Index, priority: u32, sequence: u64) -> Option<(EntryState, u32)> {
    if let Some(owed) = index.owed(sequence) {
        return Some(match owed.state {
            State::InFlight => (EntryState::InFlight, owed.attempt),
            State::Held => (EntryState::Held, owed.attempt),
            State::Due | State::Retry(_) => (EntryState::Retrying, owed.attempt),
        });
    }
    index.is_alive(priority, sequence).then_some((EntryState::Waiting, 0))
}
