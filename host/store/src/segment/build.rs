//! Builds segments: takes entries, gives the rows to write.
//!
//! The last segment stays open over groups, so that single messages share a slot; its last slot is
//! then written again, which costs no more than a fresh one. A group that would not gain from what is
//! left in the slot begins a new segment. What is built here becomes real with the commit: after a
//! failed one the builder forgets its open segment and begins a new one.

use super::Seed;
use super::body::{ENTRY_HEAD, SLOT_BYTES, SLOT_HEAD, SLOT_PAYLOAD, finish_slot};
use super::directory::{Directory, Item, LaneItem};
use crate::message::Target;
use weir_core::id::MessageId;
use weir_core::limits;

/// Rows to write.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) slots: Vec<(u32, Vec<u8>)>,
    pub(crate) directories: Vec<Directory>,
}

#[derive(Debug)]
struct Open {
    directory: Directory,
    body_bytes: usize,
    /// Head and payload of the last slot.
    last: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Builder {
    seed: Seed,
    open: Option<Open>,
    /// The open segment was written to since the last [`Builder::finish`].
    touched: bool,
    rows: Rows,
}

impl Builder {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed, open: None, touched: false, rows: Rows::default() }
    }

    /// A batch of so many bytes comes: decides whether the open segment goes on. Writing its last
    /// slot again costs a page; what is left in the slot is worth it unless there is little or the
    /// batch is large.
    pub(crate) fn begin(&mut self, batch_bytes: usize) {
        if let Some(open) = &self.open {
            let left = SLOT_BYTES - open.last.len();
            let worth =
                if batch_bytes > 4 * SLOT_PAYLOAD { SLOT_PAYLOAD } else { SLOT_PAYLOAD / 4 };
            if !self.touched && left < worth && batch_bytes > left {
                self.open = None;
            }
        }
    }

    /// Adds a message. `entry` lacks the sequence in its checksum.
    pub(crate) fn push(
        &mut self,
        entry: &[u8],
        sequence: u64,
        id: MessageId,
        targets: &[Target],
        take_slot: &mut dyn FnMut() -> u32,
    ) -> u64 {
        if self.open.as_ref().is_some_and(|open| open.is_full(entry.len(), sequence)) {
            self.close();
        }
        let seed = self.seed;
        let open = self.open.get_or_insert_with(|| Open {
            directory: Directory::new(sequence),
            body_bytes: 0,
            last: Vec::new(),
        });
        self.touched = true;
        open.list(entry.len(), sequence, id, targets);
        let (head, record) = entry.split_at(ENTRY_HEAD);
        let checksum = u32::from_le_bytes(head[4..].try_into().expect("the head has eight bytes"));
        let checksum = Seed::with_sequence(checksum, sequence).to_le_bytes();
        for piece in [&head[..4], &checksum, record] {
            open.write(piece, seed, &mut self.rows.slots, take_slot);
        }
        open.directory.first
    }

    /// Ends the group: the rows to write for everything added since the last call.
    pub(crate) fn finish(&mut self) -> Rows {
        if self.touched {
            let open = self.open.as_ref().expect("a touched segment is open");
            open.write_out(self.seed, &mut self.rows);
        }
        self.touched = false;
        std::mem::take(&mut self.rows)
    }

    /// Forgets the open segment: it was deleted, or its last rows were not committed.
    pub(crate) fn forget(&mut self) {
        self.open = None;
        self.touched = false;
        self.rows = Rows::default();
    }

    /// Key of the segment that still takes messages.
    pub(crate) fn open_segment(&self) -> Option<u64> {
        self.open.as_ref().map(|open| open.directory.first)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && self.touched
        {
            open.write_out(self.seed, &mut self.rows);
        }
        self.touched = false;
    }
}

impl Open {
    fn is_full(&self, entry_bytes: usize, sequence: u64) -> bool {
        self.directory.items.len() >= limits::SEGMENT_MESSAGES
            || self.body_bytes + entry_bytes > limits::SEGMENT_BYTES
            || u32::try_from(sequence - self.directory.first).is_err()
    }

    fn list(&mut self, bytes: usize, sequence: u64, id: MessageId, targets: &[Target]) {
        let directory = &mut self.directory;
        let index = u32::try_from(directory.items.len()).expect("a segment has 1,024 messages");
        let offset = u32::try_from(sequence - directory.first).expect("checked by is_full");
        let length = u32::try_from(bytes).expect("a message has a size limit");
        directory.items.push(Item { offset, bytes: length });
        directory.ids = (directory.ids.0.min(id.0), directory.ids.1.max(id.0));
        for target in targets {
            let item = LaneItem { index, route: target.route, expires: target.expires };
            directory.lane(target.endpoint, target.priority).push(item);
        }
        self.body_bytes += bytes;
    }

    fn write(
        &mut self,
        mut piece: &[u8],
        seed: Seed,
        slots: &mut Vec<(u32, Vec<u8>)>,
        take_slot: &mut dyn FnMut() -> u32,
    ) {
        while !piece.is_empty() {
            if self.last.len() == SLOT_BYTES {
                let full = std::mem::take(&mut self.last);
                self.write_slot(full, seed, slots);
            }
            if self.last.is_empty() {
                self.directory.slots.push(take_slot());
                self.last.reserve_exact(SLOT_BYTES);
                self.last.resize(SLOT_HEAD, 0);
            }
            let (now, rest) = piece.split_at(piece.len().min(SLOT_BYTES - self.last.len()));
            self.last.extend_from_slice(now);
            piece = rest;
        }
    }

    /// `slot` is the last one so far.
    fn write_slot(&self, mut slot: Vec<u8>, seed: Seed, slots: &mut Vec<(u32, Vec<u8>)>) {
        let part = self.directory.slots.len() - 1;
        let part = u32::try_from(part).expect("a segment has few slots");
        finish_slot(&mut slot, self.directory.first, part, seed);
        slots.push((self.directory.slots[part as usize], slot));
    }

    fn write_out(&self, seed: Seed, rows: &mut Rows) {
        let mut copy = Vec::with_capacity(SLOT_BYTES);
        copy.extend_from_slice(&self.last);
        self.write_slot(copy, seed, &mut rows.slots);
        rows.directories.push(self.directory.clone());
    }
}

/// A segment made of what is left of others: `entries` are whole, with their checksums.
pub(crate) fn rebuild(
    directory: &Directory,
    entries: impl Iterator<Item = bytes::Bytes>,
    seed: Seed,
) -> Vec<Vec<u8>> {
    let mut slots = Vec::new();
    let mut slot = vec![0; SLOT_HEAD];
    let mut part = 0;
    for entry in entries {
        let mut piece = entry.as_ref();
        while !piece.is_empty() {
            if slot.len() == SLOT_BYTES {
                finish_slot(&mut slot, directory.first, part, seed);
                slots.push(std::mem::replace(&mut slot, vec![0; SLOT_HEAD]));
                part += 1;
            }
            let (now, rest) = piece.split_at(piece.len().min(SLOT_BYTES - slot.len()));
            slot.extend_from_slice(now);
            piece = rest;
        }
    }
    finish_slot(&mut slot, directory.first, part, seed);
    slots.push(slot);
    slots
}

#[cfg(test)]
mod tests {
    use super::super::body::{Encoded, Loaded};
    use super::*;
    use crate::message::{EndpointId, RouteNumber};
    use proptest::prelude::*;
    use weir_core::clock::Timestamp;
    use weir_core::id::Identity;
    use weir_core::message::{Message, StampedMessage};

    const SEED: Seed = Seed(3);

    fn message(id: u64, body: usize) -> StampedMessage {
        let sender = Identity::device("d".parse().unwrap());
        let body = vec![id.to_le_bytes()[0]; body].into();
        let message = Message { body, ..Message::default() };
        message.stamp(&sender, MessageId(id), Timestamp::from_secs(1))
    }

    proptest! {
        #[test]
        fn what_was_built_is_read_back(
            groups in proptest::collection::vec(proptest::collection::vec(0usize..40_000, 1..30), 1..12)
        ) {
            let mut builder = Builder::new(SEED);
            let mut slots = std::collections::BTreeMap::new();
            let mut segments = std::collections::BTreeMap::new();
            let (mut next_slot, mut sequence) = (0, 100);
            let mut sent = Vec::new();
            for group in groups {
                let batch: Vec<_> = group.iter().enumerate()
                    .map(|(at, body)| message(sequence + at as u64, *body)).collect();
                let encoded = Encoded::of(batch.iter().map(|message| (message, 1)), SEED);
                builder.begin(encoded.bytes.len());
                for (at, message) in batch.iter().enumerate() {
                    let target = Target {
                        endpoint: EndpointId(1), priority: 0, expires: Timestamp::NEVER, route: RouteNumber(1),
                    };
                    let mut take = || { next_slot += 1; next_slot };
                    builder.push(&encoded.bytes[encoded.range(at)], sequence, message.id(), &[target], &mut take);
                    sent.push((sequence, message.clone()));
                    sequence += 1;
                }
                let rows = builder.finish();
                slots.extend(rows.slots);
                segments.extend(rows.directories.into_iter().map(|directory| (directory.first, directory)));
            }
            for (sequence, message) in sent {
                let (_, directory) = segments.range(..=sequence).next_back().unwrap();
                let parts: Vec<_> = directory.slots.iter().map(|id| slots.get(id).cloned()).collect();
                prop_assert!(parts.iter().flatten().all(|slot| slot.len() == SLOT_BYTES));
                let loaded = Loaded::new(directory.clone(), &parts, SEED);
                prop_assert_eq!(loaded.record(sequence).map(|record| record.message), Some(message));
            }
        }
    }

    #[test]
    fn single_messages_share_a_slot() {
        let mut builder = Builder::new(SEED);
        let mut taken = 0;
        for sequence in 0..50 {
            let message = message(sequence, 100);
            let encoded = Encoded::of([(&message, 1)].into_iter(), SEED);
            builder.begin(encoded.bytes.len());
            let mut take = || {
                taken += 1;
                taken
            };
            builder.push(&encoded.bytes, sequence, message.id(), &[], &mut take);
            assert_eq!(builder.finish().slots.len(), 1);
        }
        assert_eq!(taken, 1);
    }

    #[test]
    fn a_damaged_entry_does_not_hide_its_neighbours() {
        let mut builder = Builder::new(SEED);
        let batch: Vec<_> = (0..3).map(|id| message(id, 50)).collect();
        let encoded = Encoded::of(batch.iter().map(|message| (message, 1)), SEED);
        for (at, message) in batch.iter().enumerate() {
            builder.push(
                &encoded.bytes[encoded.range(at)],
                at as u64,
                message.id(),
                &[],
                &mut || 1,
            );
        }
        let mut rows = builder.finish();
        let middle = SLOT_HEAD + encoded.range(1).start + 20;
        rows.slots[0].1[middle] ^= 1;
        let slots = [Some(rows.slots.remove(0).1)];
        let loaded = Loaded::new(rows.directories.remove(0), &slots, SEED);
        let found: Vec<_> = (0..3).map(|sequence| loaded.record(sequence).is_some()).collect();
        assert_eq!(found, [true, false, true]);
    }
}
