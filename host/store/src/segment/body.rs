//! Bodies: entries in bytes, and bytes in slots.

use super::Seed;
use super::directory::Directory;
use bytes::Bytes;
use weir_core::message::StampedMessage;
use weir_core::record::{self, Record};

/// A page of the database.
pub(crate) const PAGE_BYTES: u64 = 16_384;
/// A slot's row: the most that a page of 16 KiB takes as one row without an overflow page, rounded
/// down.
pub(crate) const SLOT_BYTES: usize = 16_336;
/// `checksum u32, used u32, first u64, part u32`.
pub(crate) const SLOT_HEAD: usize = 20;
/// Bytes of a body in one slot.
pub(crate) const SLOT_PAYLOAD: usize = SLOT_BYTES - SLOT_HEAD;
/// `length u32, checksum u32` before every record.
pub(crate) const ENTRY_HEAD: usize = 8;

/// Entries encoded by the caller, so that the writer only copies: checksums lack the sequence.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    /// Where each entry ends.
    pub(crate) ends: Vec<u32>,
}

impl Encoded {
    pub(crate) fn of<'a>(
        messages: impl Iterator<Item = (&'a StampedMessage, u32)> + Clone,
        seed: Seed,
    ) -> Self {
        let total =
            messages.clone().map(|(message, _)| ENTRY_HEAD + record::encoded_len(message)).sum();
        let mut bytes = Vec::with_capacity(total);
        let mut ends = Vec::with_capacity(messages.size_hint().0);
        for (message, table) in messages {
            let start = bytes.len();
            bytes.extend_from_slice(&[0; ENTRY_HEAD]);
            record::encode(message, table, &mut bytes);
            let record = &bytes[start + ENTRY_HEAD..];
            let length = u32::try_from(record.len()).expect("a message has a size limit");
            let checksum = seed.checksum(record);
            bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
            bytes[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
            ends.push(u32::try_from(bytes.len()).expect("a batch has a size limit"));
        }
        Self { bytes, ends }
    }

    /// Where the entry at `index` is.
    pub(crate) fn range(&self, index: usize) -> std::ops::Range<usize> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        start..self.ends[index] as usize
    }
}

/// Puts the head before a slot's payload and fills the slot up with zeros. `slot` begins with
/// [`SLOT_HEAD`] free bytes.
pub(crate) fn finish_slot(slot: &mut Vec<u8>, first: u64, part: u32, seed: Seed) {
    let used = u32::try_from(slot.len() - SLOT_HEAD).expect("a slot has one size");
    slot[4..8].copy_from_slice(&used.to_le_bytes());
    slot[8..16].copy_from_slice(&first.to_le_bytes());
    slot[16..20].copy_from_slice(&part.to_le_bytes());
    let checksum = seed.checksum(&slot[4..SLOT_HEAD]);
    slot[0..4].copy_from_slice(&checksum.to_le_bytes());
    slot.resize(SLOT_BYTES, 0);
}

/// The payload of a slot, if the slot is what the directory says it is.
pub(crate) fn slot_payload(slot: &[u8], first: u64, part: u32, seed: Seed) -> Option<&[u8]> {
    let (head, payload) = slot.split_at_checked(SLOT_HEAD)?;
    let checksum = u32::from_le_bytes(head[0..4].try_into().ok()?);
    let used = u32::from_le_bytes(head[4..8].try_into().ok()?) as usize;
    let expected = seed.checksum(&head[4..]) == checksum
        && head[8..16] == first.to_le_bytes()
        && head[16..20] == part.to_le_bytes();
    if expected { payload.get(..used) } else { None }
}

/// A segment in memory: its directory and its body, checked entry by entry.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) directory: Directory,
    body: Bytes,
    /// Where each entry starts; `None` where the entry is damaged.
    starts: Vec<Option<u32>>,
}

impl Loaded {
    /// Puts the slots together; `None` for those that are missing or damaged.
    pub(crate) fn new(directory: Directory, slots: &[Option<Vec<u8>>], seed: Seed) -> Self {
        let total = directory.body_bytes();
        let mut body = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
        for (part, slot) in slots.iter().enumerate() {
            let part = u32::try_from(part).unwrap_or(u32::MAX);
            let payload =
                slot.as_ref().and_then(|slot| slot_payload(slot, directory.first, part, seed));
            match payload {
                Some(payload) => body.extend_from_slice(payload),
                None => body.resize(body.len() + SLOT_PAYLOAD, 0),
            }
        }
        let mut at = 0usize;
        let starts = directory
            .items
            .iter()
            .map(|item| {
                let start = at;
                at += item.bytes as usize;
                let sequence = directory.first + u64::from(item.offset);
                let entry = body.get(start..at)?;
                is_sound(entry, sequence, seed).then(|| u32::try_from(start).ok()).flatten()
            })
            .collect();
        Self { directory, body: body.into(), starts }
    }

    /// The record of a message; none when it is not here or damaged.
    pub(crate) fn record(&self, sequence: u64) -> Option<Record> {
        record::decode(self.entry(sequence)?.slice(ENTRY_HEAD..)).ok()
    }

    /// The whole entry of a message.
    pub(crate) fn entry(&self, sequence: u64) -> Option<Bytes> {
        let index = self.index(sequence)?;
        let start = self.starts[index]? as usize;
        Some(self.body.slice(start..start + self.directory.items[index].bytes as usize))
    }

    /// True when every entry is there and undamaged.
    pub(crate) fn all_sound(&self) -> bool {
        self.starts.iter().all(Option::is_some)
    }

    /// Index of a message's item.
    pub(crate) fn index(&self, sequence: u64) -> Option<usize> {
        let offset = u32::try_from(sequence.checked_sub(self.directory.first)?).ok()?;
        let items = &self.directory.items;
        match items.get(offset as usize) {
            Some(item) if item.offset == offset => Some(offset as usize),
            Some(_) | None => items.binary_search_by_key(&offset, |item| item.offset).ok(),
        }
    }
}

fn is_sound(entry: &[u8], sequence: u64, seed: Seed) -> bool {
    let Some((head, record)) = entry.split_at_checked(ENTRY_HEAD) else { return false };
    let (length, checksum) = head.split_at(4);
    u32::try_from(record.len()).is_ok_and(|bytes| length == bytes.to_le_bytes())
        && checksum == Seed::with_sequence(seed.checksum(record), sequence).to_le_bytes()
}
