//! A lane: the entries of one endpoint and priority that have not been handed out yet.

use crate::message::RouteNumber;
use std::collections::VecDeque;
use weir_core::clock::Timestamp;

/// An entry that waits for its first delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) sequence: u64,
    pub(crate) expires: Timestamp,
    /// Size of the entry in its segment.
    pub(crate) bytes: u32,
    pub(crate) route: RouteNumber,
}

/// See the module. The window is the front of the lane; behind it are `unloaded` entries on disk only.
#[derive(Debug)]
pub(crate) struct Lane {
    /// As it stands in the file: what lies before it and has no row in `owed` is settled.
    pub(crate) cursor: u64,
    pub(crate) window: VecDeque<Waiting>,
    /// Entries behind the window.
    pub(crate) unloaded: u64,
    /// Where they begin.
    pub(crate) load_from: u64,
    /// Sequence of the last committed entry: the file may already have later ones.
    pub(crate) last: u64,
    /// Most entries in the window.
    pub(crate) room: usize,
    /// Up to this sequence, entries may have been handed out before the hub was killed.
    pub(crate) suspect: u64,
}

impl Lane {
    pub(super) fn new(room: usize) -> Self {
        let window = VecDeque::new();
        Self { cursor: 0, window, unloaded: 0, load_from: 0, last: 0, room, suspect: 0 }
    }

    /// Sets the most entries in the window; what is over is on disk only.
    pub(crate) fn set_room(&mut self, room: usize) {
        self.room = room;
        if self.window.len() > room {
            let over = self.window.split_off(room);
            self.unloaded += over.len() as u64;
            self.load_from = over[0].sequence;
        }
    }

    /// Adds a committed entry, in memory while there is room and nothing is on disk only.
    pub(crate) fn push(&mut self, waiting: Waiting) {
        self.last = waiting.sequence;
        if self.unloaded == 0 && self.window.len() < self.room {
            self.window.push_back(waiting);
        } else {
            self.push_unloaded(waiting.sequence);
        }
    }

    /// Notes an entry that is on disk only.
    pub(crate) fn push_unloaded(&mut self, sequence: u64) {
        if self.unloaded == 0 {
            self.load_from = sequence;
        }
        self.unloaded += 1;
        self.last = self.last.max(sequence);
    }

    /// True when something that waits may have been handed out before the hub was killed.
    pub(crate) fn has_suspects(&self) -> bool {
        let on_disk = (self.unloaded > 0).then_some(self.load_from);
        let next = self.window.front().map(|front| front.sequence).or(on_disk);
        next.is_some_and(|next| next <= self.suspect)
    }

    /// Place of an entry in the window.
    pub(crate) fn find(&self, sequence: u64) -> Option<usize> {
        match self.window.front() {
            // Almost always the one that is asked for.
            Some(front) if front.sequence == sequence => Some(0),
            Some(_) => self.window.binary_search_by_key(&sequence, |entry| entry.sequence).ok(),
            None => None,
        }
    }

    /// Takes in what was read from the file: entries in order, of those behind the window up to
    /// `upto`, of which there should be `expected`. `complete` says that there are no more. Gives the
    /// number of entries that should have been there and were not.
    pub(crate) fn load(
        &mut self,
        entries: impl Iterator<Item = Waiting>,
        upto: u64,
        expected: u64,
        complete: bool,
    ) -> u64 {
        let mut found = 0;
        for entry in entries.filter(|entry| entry.sequence <= upto) {
            found += 1;
            self.load_from = entry.sequence + 1;
            self.window.push_back(entry);
        }
        let lost = if complete { expected.saturating_sub(found) } else { 0 };
        self.unloaded = self.unloaded.saturating_sub(found + lost);
        if complete {
            self.load_from = self.load_from.max(upto + 1);
        }
        lost
    }
}
