//! A directory row: what a segment holds and for whom.
//!
//! A segment is a run of messages in order of their sequence. Its directory says, for each message,
//! how long its entry in the body is, in which slots the body is, and for each lane (endpoint and
//! priority) which of the messages were put into it. Usually every message goes to the same lanes by
//! the same route without expiry, so lanes are written as runs: five bytes for a whole group.
//!
//! Invariants: offsets grow; the sum of the lengths is the length of the body; the row ends with a
//! checksum over everything before it and over `first`, seeded with the store's own number, so that
//! a row of another store or under another key is not believed.

use super::{Seed, varint};
use crate::message::{EndpointId, RouteNumber};
use weir_core::clock::Timestamp;

const VERSION: u8 = 1;

/// One message of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    /// Sequence, less the segment's first.
    pub(crate) offset: u32,
    /// Length of its entry in the body.
    pub(crate) bytes: u32,
}

/// A message's place in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaneItem {
    /// Index into the segment's items.
    pub(crate) index: u32,
    pub(crate) route: RouteNumber,
    pub(crate) expires: Timestamp,
}

/// The messages of a segment that were put into one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LaneItems {
    pub(crate) endpoint: EndpointId,
    pub(crate) priority: u32,
    pub(crate) items: Vec<LaneItem>,
}

/// A decoded directory row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directory {
    /// Sequence of the first message when the segment was begun; the row's key.
    pub(crate) first: u64,
    pub(crate) items: Vec<Item>,
    /// Smallest and largest number of a message in it.
    pub(crate) ids: (u64, u64),
    /// Where the body is, in order.
    pub(crate) slots: Vec<u32>,
    pub(crate) lanes: Vec<LaneItems>,
}

impl Directory {
    pub(crate) fn new(first: u64) -> Self {
        Self { first, items: Vec::new(), ids: (u64::MAX, 0), slots: Vec::new(), lanes: Vec::new() }
    }

    /// Sequence of the item at `index`.
    pub(crate) fn sequence(&self, index: u32) -> u64 {
        self.first + u64::from(self.items[index as usize].offset)
    }

    /// Sequence of its last message.
    pub(crate) fn last(&self) -> u64 {
        self.first + self.items.last().map_or(0, |item| u64::from(item.offset))
    }

    /// Number of entries in all lanes.
    pub(crate) fn entries(&self) -> u32 {
        let sum: usize = self.lanes.iter().map(|lane| lane.items.len()).sum();
        u32::try_from(sum).unwrap_or(u32::MAX)
    }

    /// Length of the body.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.items.iter().map(|item| u64::from(item.bytes)).sum()
    }

    /// The earliest expiry in any lane.
    pub(crate) fn min_expires(&self) -> Timestamp {
        let all = self.lanes.iter().flat_map(|lane| &lane.items);
        all.map(|item| item.expires).min().unwrap_or(Timestamp::NEVER)
    }

    /// The list of a lane, made if there is none.
    pub(crate) fn lane(&mut self, endpoint: EndpointId, priority: u32) -> &mut Vec<LaneItem> {
        let at = self.lanes.iter().position(|l| l.endpoint == endpoint && l.priority == priority);
        let at = at.unwrap_or_else(|| {
            self.lanes.push(LaneItems { endpoint, priority, items: Vec::new() });
            self.lanes.len() - 1
        });
        &mut self.lanes[at].items
    }

    /// The row's bytes.
    pub(crate) fn encode(&self, seed: Seed) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.items.len() * 2 + self.lanes.len() * 16);
        out.push(VERSION);
        varint::put(&mut out, self.items.len() as u64);
        out.extend_from_slice(&self.ids.0.to_le_bytes());
        out.extend_from_slice(&self.ids.1.to_le_bytes());
        varint::put(&mut out, self.slots.len() as u64);
        for slot in &self.slots {
            varint::put(&mut out, u64::from(*slot));
        }
        self.encode_items(&mut out);
        varint::put(&mut out, self.lanes.len() as u64);
        for lane in &self.lanes {
            encode_lane(lane, &mut out);
        }
        let checksum = seed.checksum_of(self.first, &out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    fn encode_items(&self, out: &mut Vec<u8>) {
        let mut next = 0;
        let mut at = 0;
        // Stretches without a gap: gap, length, then the sizes.
        while at < self.items.len() {
            let start = self.items[at].offset;
            let stretch = self.items[at..].iter().zip(start..);
            let length = stretch.take_while(|(item, expected)| item.offset == *expected).count();
            varint::put(out, u64::from(start - next));
            varint::put(out, length as u64);
            for item in &self.items[at..at + length] {
                varint::put(out, u64::from(item.bytes));
            }
            at += length;
            next = self.items[at - 1].offset + 1;
        }
    }

    /// Reads a row; none when it is damaged.
    pub(crate) fn decode(first: u64, row: &[u8], seed: Seed) -> Option<Self> {
        let (body, checksum) = row.split_last_chunk::<4>()?;
        if seed.checksum_of(first, body) != u32::from_le_bytes(*checksum) {
            return None;
        }
        let mut bytes = body.strip_prefix(&[VERSION])?;
        let count = varint::get_u32(&mut bytes)? as usize;
        let (min, rest) = bytes.split_first_chunk::<8>()?;
        let (max, rest) = rest.split_first_chunk::<8>()?;
        bytes = rest;
        let ids = (u64::from_le_bytes(*min), u64::from_le_bytes(*max));
        let slots = (0..varint::get(&mut bytes)?)
            .map(|_| varint::get_u32(&mut bytes))
            .collect::<Option<Vec<u32>>>()?;
        let items = decode_items(&mut bytes, count)?;
        let lanes = (0..varint::get(&mut bytes)?)
            .map(|_| decode_lane(&mut bytes, items.len()))
            .collect::<Option<Vec<LaneItems>>>()?;
        bytes.is_empty().then_some(Self { first, items, ids, slots, lanes })
    }
}

fn decode_items(bytes: &mut &[u8], count: usize) -> Option<Vec<Item>> {
    let mut items = Vec::with_capacity(count.min(bytes.len()));
    let mut offset = 0u32;
    while items.len() < count {
        offset = offset.checked_add(varint::get_u32(bytes)?)?;
        let length = varint::get_u32(bytes)? as usize;
        if length == 0 || length > count - items.len() {
            return None;
        }
        for _ in 0..length {
            items.push(Item { offset, bytes: varint::get_u32(bytes)? });
            offset = offset.checked_add(1)?;
        }
    }
    Some(items)
}

/// Of one route, without gaps, and all without expiry or all with one.
fn run_length(items: &[LaneItem]) -> usize {
    let Some(first) = items.first() else { return 0 };
    let never = first.expires == Timestamp::NEVER;
    items
        .iter()
        .zip(first.index..)
        .take_while(|(item, index)| {
            item.index == *index
                && item.route == first.route
                && (item.expires == Timestamp::NEVER) == never
        })
        .count()
}

fn encode_lane(lane: &LaneItems, out: &mut Vec<u8>) {
    varint::put(out, u64::from(lane.endpoint.0));
    varint::put(out, u64::from(lane.priority));
    varint::put(out, lane.items.len() as u64);
    let (mut at, mut next, mut expires) = (0, 0, 0i64);
    while at < lane.items.len() {
        let run = &lane.items[at..at + run_length(&lane.items[at..])];
        let never = run[0].expires == Timestamp::NEVER;
        varint::put(out, u64::from(run[0].index - next));
        varint::put(out, (run.len() as u64) << 1 | u64::from(!never));
        varint::put(out, u64::from(run[0].route.0));
        if !never {
            for item in run {
                let micros = item.expires.as_micros();
                varint::put_signed(out, micros.wrapping_sub(expires));
                expires = micros;
            }
        }
        at += run.len();
        next = run[run.len() - 1].index + 1;
    }
}

fn decode_lane(bytes: &mut &[u8], of: usize) -> Option<LaneItems> {
    let endpoint = EndpointId(varint::get_u32(bytes)?);
    let priority = varint::get_u32(bytes)?;
    let count = varint::get_u32(bytes)? as usize;
    if count > of {
        return None;
    }
    let mut items = Vec::with_capacity(count);
    let (mut index, mut expires) = (0u32, 0i64);
    while items.len() < count {
        index = index.checked_add(varint::get_u32(bytes)?)?;
        let head = varint::get(bytes)?;
        let route = RouteNumber(varint::get_u32(bytes)?);
        let length = usize::try_from(head >> 1).ok()?;
        if length == 0 || length > count - items.len() || index as usize + length > of {
            return None;
        }
        for _ in 0..length {
            let at = match head & 1 {
                0 => Timestamp::NEVER,
                _ => {
                    expires = expires.wrapping_add(varint::get_signed(bytes)?);
                    Timestamp::from_micros(expires)
                }
            };
            items.push(LaneItem { index, route, expires: at });
            index += 1;
        }
    }
    Some(LaneItems { endpoint, priority, items })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: Seed = Seed(7);

    prop_compose! {
        fn directories()(
            first in 0u64..1 << 50,
            steps in proptest::collection::vec((0u32..3, 1u32..3_000_000, 0u32..4, 0u32..3, proptest::option::of(any::<i32>())), 0..80),
            slots in proptest::collection::vec(any::<u32>(), 0..17),
        ) -> Directory {
            let mut directory = Directory::new(first);
            directory.slots = slots;
            let mut offset = 0;
            for (index, (gap, bytes, lane, route, expires)) in (0..).zip(steps) {
                offset += gap;
                directory.items.push(Item { offset, bytes });
                offset += 1;
                let expires = expires.map_or(Timestamp::NEVER, |s| Timestamp::from_secs(s.into()));
                let item = LaneItem { index, route: RouteNumber(route), expires };
                directory.lane(EndpointId(lane), lane).push(item);
                if route == 0 {
                    directory.lane(EndpointId(9), 0).push(item);
                }
            }
            directory
        }
    }

    proptest! {
        #[test]
        fn a_row_comes_back(directory in directories()) {
            let row = directory.encode(SEED);
            prop_assert_eq!(Directory::decode(directory.first, &row, SEED), Some(directory));
        }

        #[test]
        fn a_row_that_was_changed_is_not_believed(directory in directories(), at: usize, bit in 0u8..8) {
            let mut row = directory.encode(SEED);
            let at = at % row.len();
            row[at] ^= 1 << bit;
            prop_assert_eq!(Directory::decode(directory.first, &row, SEED), None);
        }
    }

    #[test]
    fn a_row_of_another_store_or_key_is_not_believed() {
        let mut directory = Directory::new(5);
        directory.items.push(Item { offset: 0, bytes: 9 });
        let row = directory.encode(SEED);
        assert!(Directory::decode(5, &row, SEED).is_some());
        assert_eq!(Directory::decode(6, &row, SEED), None);
        assert_eq!(Directory::decode(5, &row, Seed(8)), None);
    }

    #[test]
    fn a_hundred_messages_of_one_route_cost_two_bytes_each() {
        let mut directory = Directory::new(1 << 40);
        for index in 0..100 {
            directory.items.push(Item { offset: index, bytes: 150 });
            let item = LaneItem { index, route: RouteNumber(3), expires: Timestamp::NEVER };
            directory.lane(EndpointId(1), 0).push(item);
        }
        assert!(directory.encode(SEED).len() < 250);
    }
}
