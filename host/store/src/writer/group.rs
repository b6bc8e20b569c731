//! A group: what one transaction will do, and how to undo its traces in memory when it fails.

use super::documents::Written;
use crate::chain::Chain;
use crate::message::{
    Append, Appended, Change, CommitError, Committed, DeadLetterId, EndpointId, Why,
};
use crate::queue::lane::Waiting;
use crate::queue::owed::Owed;
use crate::queue::{Gone, Queue, cost};
use crate::segment::body::Encoded;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::module_state::StateChange;

/// An entry that leaves, or changes its state, with the commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    pub(super) sequence: u64,
    pub(super) before: Owed,
    /// In the queue's index again after the commit (held, to be retried).
    pub(super) after: Option<Owed>,
}

/// An entry that was dropped to make room.
#[derive(Debug)]
pub(super) enum Dropped {
    Waiting(u32, Waiting),
    Owed(u64, Owed),
}

impl Dropped {
    /// Its sequence, when it has a row in the file.
    pub(super) fn row(&self) -> Option<u64> {
        match self {
            Self::Owed(sequence, owed) if owed.row => Some(*sequence),
            Self::Owed(..) | Self::Waiting(..) => None,
        }
    }
}

/// What the group does to one queue.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) queue: Arc<Queue>,
    /// Bytes admitted.
    pub(super) admitted: u64,
    pub(super) appended: Vec<(u32, Waiting)>,
    pub(super) settled: Vec<Settled>,
    /// Places in `settled` of those that stay owed, by sequence: a later change of the group may settle
    /// them again.
    pub(super) stay: BTreeMap<u64, usize>,
    /// Their bytes, which the queue's index does not count until the commit.
    pub(super) stay_bytes: u64,
    pub(super) dropped: Vec<Dropped>,
    pub(super) gone: Vec<Gone>,
    /// Where the cursors are to be, by priority.
    pub(super) targets: BTreeMap<u32, u64>,
    /// Where they were.
    pub(super) cursors: Vec<(u32, u64)>,
    /// Owed entries that get a row.
    pub(super) rows: Vec<u64>,
    /// Entries on disk only that leave (a purge).
    pub(super) unloaded: Vec<Unloaded>,
    /// What is dropped is not counted as such: the operator asked for it.
    pub(super) purge: bool,
}

/// Entries on disk only, as they were before a purge.
#[derive(Debug)]
pub(super) struct Unloaded {
    pub(super) priority: u32,
    pub(super) entries: u64,
    pub(super) from: u64,
    pub(super) bytes: u64,
}

/// A batch of appends that is in the group, at least in part.
#[derive(Debug)]
pub(super) struct AppendPart {
    pub(super) batch: Vec<Append>,
    pub(super) encoded: Encoded,
    pub(super) chain: Chain,
    pub(super) accepted: usize,
    pub(super) first: u64,
    pub(super) refused: Option<Why>,
    pub(super) reply: oneshot::Sender<Appended>,
}

/// A change that is in the group.
#[derive(Debug)]
pub(super) struct ChangePart {
    pub(super) change: Box<Change>,
    pub(super) encoded: Encoded,
    pub(super) chain: Chain,
    pub(super) first: u64,
    pub(super) unknown: usize,
    pub(super) revision: Option<u64>,
    pub(super) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// A message that becomes a dead letter.
#[derive(Debug)]
pub(super) struct DeadRow {
    pub(super) endpoint: u32,
    pub(super) sequence: u64,
    pub(super) route: u32,
    pub(super) at: Timestamp,
    pub(super) attempts: u32,
    pub(super) reason: String,
    pub(super) code: Option<String>,
    pub(super) module_digest: Option<Digest>,
    /// With its table: see `weir_core::record`.
    pub(super) record: Vec<u8>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) parts: Vec<Part>,
    by_endpoint: HashMap<u32, usize>,
    pub(super) appends: Vec<AppendPart>,
    pub(super) changes: Vec<ChangePart>,
    pub(super) dead: Vec<DeadRow>,
    /// There were some.
    pub(super) dead_letters: bool,
    /// The last change of each key, by module and key.
    pub(super) state: BTreeMap<(String, String), StateChange>,
    pub(super) replayed: Vec<DeadLetterId>,
    /// The last write of each document, by kind and key.
    pub(super) documents: BTreeMap<(&'static str, String), Written>,
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Group {
    /// Index of the part of a queue; `find` knows the queue. None for an unknown endpoint.
    pub(super) fn part(
        &mut self,
        endpoint: EndpointId,
        find: impl FnOnce(EndpointId) -> Option<Arc<Queue>>,
    ) -> Option<usize> {
        // A group has few parts, and the ones in use are the first.
        let near = &self.parts[..self.parts.len().min(4)];
        if let Some(at) = near.iter().position(|part| part.queue.id == endpoint) {
            return Some(at);
        }
        if let Some(at) = self.by_endpoint.get(&endpoint.0) {
            return Some(*at);
        }
        self.parts.push(Part::new(&find(endpoint)?));
        let at = self.parts.len() - 1;
        self.by_endpoint.insert(endpoint.0, at);
        Some(at)
    }

    /// True when there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
            && self.appends.is_empty()
            && self.changes.is_empty()
            && self.state.is_empty()
            && self.replayed.is_empty()
            && self.documents.is_empty()
    }

    /// True when no further job is taken in.
    pub(super) fn is_full(&self) -> bool {
        use weir_core::limits;
        self.messages >= limits::GROUP_MESSAGES || self.bytes >= limits::GROUP_BYTES
    }
}

impl Part {
    fn new(queue: &Arc<Queue>) -> Self {
        Self {
            queue: Arc::clone(queue),
            admitted: 0,
            appended: Vec::new(),
            settled: Vec::new(),
            stay: BTreeMap::new(),
            stay_bytes: 0,
            dropped: Vec::new(),
            gone: Vec::new(),
            targets: BTreeMap::new(),
            cursors: Vec::new(),
            rows: Vec::new(),
            unloaded: Vec::new(),
            purge: false,
        }
    }

    /// Notes what becomes of an entry; a later word of the group takes the place of an earlier one.
    pub(super) fn put_aside(&mut self, settled: Settled) {
        self.stay_bytes -= self.staying(settled.sequence).map_or(0, |owed| cost(owed.bytes));
        self.stay_bytes += settled.after.map_or(0, |owed| cost(owed.bytes));
        match self.stay.get(&settled.sequence) {
            Some(&at) => self.settled[at] = settled,
            None => {
                if settled.after.is_some() {
                    self.stay.insert(settled.sequence, self.settled.len());
                }
                self.settled.push(settled);
            }
        }
    }

    /// Bytes that the group has brought or put aside: they cannot be dropped before its commit.
    pub(super) fn fixed_bytes(&self) -> u64 {
        self.admitted + self.stay_bytes
    }

    /// An entry that an earlier change of the group has put aside, as it is to be after the commit.
    pub(super) fn staying(&self, sequence: u64) -> Option<Owed> {
        self.settled[*self.stay.get(&sequence)?].after
    }

    /// The cursor has to pass this entry.
    pub(super) fn pass(&mut self, priority: u32, sequence: u64) {
        let target = self.targets.entry(priority).or_default();
        *target = (*target).max(sequence + 1);
    }

    /// The commit succeeded: what it appended is there to be handed out. True when room was made.
    pub(super) fn apply(&mut self) -> bool {
        let mut index = self.queue.lock();
        for settled in &self.settled {
            if let Some(after) = settled.after {
                index.put(settled.sequence, after);
            }
        }
        for (priority, waiting) in self.appended.drain(..) {
            index.push(priority, waiting);
        }
        if !self.purge {
            index.dropped += self.dropped.len() as u64;
        }
        drop(index);
        self.queue.wake.notify_one();
        !self.settled.is_empty() || !self.dropped.is_empty() || !self.gone.is_empty()
    }

    /// The commit failed: everything is as before.
    pub(super) fn undo(mut self) {
        use crate::queue::owed::State;
        let mut index = self.queue.lock();
        index.bytes -= self.admitted;
        for settled in self.settled.drain(..).rev() {
            let mut owed = settled.before;
            // Its consumer may have left meanwhile.
            let orphaned = owed.reader != index.readers || !index.has_reader;
            if owed.state == State::InFlight && orphaned {
                owed.state = State::Due;
            }
            index.put(settled.sequence, owed);
        }
        for dropped in self.dropped.drain(..).rev() {
            match dropped {
                Dropped::Owed(sequence, owed) => index.put(sequence, owed),
                Dropped::Waiting(priority, waiting) => {
                    index.bytes += cost(waiting.bytes);
                    index.messages += 1;
                    index.lane(priority).window.push_front(waiting);
                }
            }
        }
        for (priority, cursor) in self.cursors.drain(..) {
            index.lane(priority).cursor = cursor;
        }
        for sequence in self.rows.drain(..) {
            index.set_row(sequence, false);
        }
        for Unloaded { priority, entries, from, bytes } in self.unloaded.drain(..) {
            index.bytes += bytes;
            index.messages += entries;
            let lane = index.lane(priority);
            // Nothing is committed while the commit that failed is under way.
            lane.unloaded = entries;
            lane.load_from = from;
        }
        index.gone.append(&mut self.gone);
        drop(index);
        self.queue.wake.notify_one();
    }
}
