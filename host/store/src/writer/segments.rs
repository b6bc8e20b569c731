//! Which segments there are, how much of each is still needed, and which slots are free.
//!
//! Owned by the writer. A change under way is remembered so that a failed commit can be undone.
//! Invariant: every slot below `end` is either in exactly one segment, free, or taken by the group
//! under way.

use crate::segment::body::PAGE_BYTES;
use crate::segment::directory::Directory;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use weir_core::clock::Timestamp;

/// New slots are made in steps, because a page that is new costs three more that say so …
const STEP: u32 = 8;
/// … unless a group needs more than a few: then those three are shared already.
const FEW: u32 = 3;

/// What the writer knows of a segment without reading it.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Sequence of its last message.
    pub(super) last: u64,
    /// Entries of it that have not left their queue.
    pub(super) live: u32,
    /// Entries of it in all lanes.
    pub(super) entries: u32,
    pub(super) messages: u32,
    pub(super) body_bytes: u64,
    pub(super) slots: SmallVec<[u32; 2]>,
    pub(super) min_expires: Timestamp,
    /// Smallest and largest number of a message.
    pub(super) ids: (u64, u64),
}

impl Segment {
    pub(super) fn of(directory: &Directory, live: u32) -> Self {
        Self {
            last: directory.last(),
            live,
            entries: directory.entries(),
            messages: u32::try_from(directory.items.len()).unwrap_or(u32::MAX),
            body_bytes: directory.body_bytes(),
            slots: directory.slots.iter().copied().collect(),
            min_expires: directory.min_expires(),
            ids: directory.ids,
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    all: BTreeMap<u64, Segment>,
    free: BTreeSet<u32>,
    /// Slots below this number exist in the file.
    end: u32,
    // The group under way:
    saved: Vec<(u64, Option<Segment>)>,
    taken: Vec<u32>,
    spare: Range<u32>,
    end_before: u32,
    died: Vec<u64>,
}

impl Segments {
    /// Takes a segment in as found in the file; [`Segments::loaded`] comes last.
    pub(crate) fn load(&mut self, directory: &Directory, live: u32) {
        if live == 0 {
            self.died.push(directory.first);
        }
        self.all.insert(directory.first, Segment::of(directory, live));
    }

    /// All segments are there; the slots below `end` that none of them has are free.
    pub(crate) fn loaded(&mut self, end: u32) {
        self.free = (0..end).collect();
        for slot in self.all.values().flat_map(|segment| &segment.slots) {
            self.free.remove(slot);
        }
        self.end = end;
        self.end_before = end;
    }

    /// Pages that hold bodies.
    pub(super) fn used_bytes(&self) -> u64 {
        (u64::from(self.end) - self.free.len() as u64) * PAGE_BYTES
    }

    pub(super) fn free_slots(&self) -> u64 {
        self.free.len() as u64
    }

    pub(super) fn end(&self) -> u32 {
        self.end
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Segment)> {
        self.all.iter().map(|(first, segment)| (*first, segment))
    }

    pub(super) fn get(&self, first: u64) -> Option<&Segment> {
        self.all.get(&first)
    }

    /// The segment that a message is in.
    pub(super) fn of(&self, sequence: u64) -> Option<(u64, &Segment)> {
        let (first, segment) = self.all.range(..=sequence).next_back()?;
        (sequence <= segment.last).then_some((*first, segment))
    }

    /// A slot to write to; the lowest free one, so that the file can shrink at its end.
    pub(super) fn take_slot(&mut self) -> u32 {
        let slot = self.free.pop_first().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        });
        self.taken.push(slot);
        slot
    }

    /// Slots to be made beside the ones that the group needs; free after its commit.
    pub(super) fn spare(&mut self) -> Range<u32> {
        let made = self.end - self.end_before;
        let start = self.end;
        if made > 0 && made <= FEW {
            self.end = self.end_before + STEP;
        }
        self.spare = start..self.end;
        self.spare.clone()
    }

    /// Notes the messages of a group that a segment takes: `entries` in all their lanes.
    pub(super) fn add(&mut self, first: u64, directory: &Directory) {
        let before = self.all.get(&first).cloned();
        let (live, entries) = before.as_ref().map_or((0, 0), |s| (s.live, s.entries));
        let mut segment = Segment::of(directory, live);
        segment.live += segment.entries - entries;
        if segment.live == 0 {
            self.died.push(first);
        }
        self.saved.push((first, before));
        self.all.insert(first, segment);
    }

    /// An entry has left its queue.
    pub(super) fn release(&mut self, sequence: u64) {
        if let Some((first, _)) = self.of(sequence) {
            self.release_many(first, 1);
        }
    }

    /// Entries of a segment have left their queue.
    pub(super) fn release_many(&mut self, first: u64, entries: u32) {
        let Some(segment) = self.all.get_mut(&first) else { return };
        if self.saved.last().is_none_or(|(saved, _)| *saved != first) {
            self.saved.push((first, Some(segment.clone())));
        }
        segment.live = segment.live.saturating_sub(entries);
        if segment.live == 0 {
            self.died.push(first);
        }
    }

    /// Nothing of the segment is known to expire.
    pub(super) fn forget_expiry(&mut self, first: u64) {
        self.set_min_expires(first, Timestamp::NEVER);
    }

    /// When something of the segment expires next.
    pub(super) fn set_min_expires(&mut self, first: u64, at: Timestamp) {
        if let Some(segment) = self.all.get_mut(&first) {
            segment.min_expires = at;
        }
    }

    /// Key and last sequence of the last segment.
    pub(super) fn newest(&self) -> Option<(u64, u64)> {
        self.all.last_key_value().map(|(first, segment)| (*first, segment.last))
    }

    /// Removes the segments that nobody needs any more from the map; their rows are to be deleted in
    /// the same transaction, their slots are free after it. At most `limit` at a time.
    pub(super) fn bury(&mut self, limit: usize) -> Vec<u64> {
        let mut buried = Vec::new();
        let mut died = std::mem::take(&mut self.died);
        died.dedup();
        while let Some(first) = died.pop() {
            if buried.len() == limit {
                died.push(first);
                break;
            }
            // New messages may have come to it since.
            if self.all.get(&first).is_some_and(|segment| segment.live == 0) {
                self.remove(first);
                buried.push(first);
            }
        }
        self.died = died;
        buried
    }

    /// True when segments wait to be buried.
    pub(super) fn has_dead(&self) -> bool {
        !self.died.is_empty()
    }

    /// Removes a segment; its slots are free after the commit.
    pub(super) fn remove(&mut self, first: u64) {
        let before = self.all.remove(&first);
        self.saved.push((first, before));
    }

    /// Replaces a segment by what a rewritten directory says.
    pub(super) fn replace(&mut self, directory: &Directory, live: u32) {
        let before = self.all.insert(directory.first, Segment::of(directory, live));
        self.saved.push((directory.first, before));
        if live == 0 {
            self.died.push(directory.first);
        }
    }

    /// Slots at the end of the file that are free: they may be deleted. At most `limit`.
    pub(super) fn free_tail(&self, limit: u32) -> Range<u32> {
        let mut start = self.end;
        while start > 0 && self.end - start < limit && self.free.contains(&(start - 1)) {
            start -= 1;
        }
        start..self.end
    }

    /// The slots were deleted.
    pub(super) fn cut_tail(&mut self, tail: &Range<u32>) {
        self.free.retain(|slot| *slot < tail.start);
        self.end = tail.start;
        self.end_before = self.end;
    }

    /// The group is on disk.
    pub(super) fn commit(&mut self) {
        for (first, before) in self.saved.drain(..) {
            let now = self.all.get(&first);
            for slot in before.iter().flat_map(|segment| &segment.slots) {
                if !now.is_some_and(|segment| segment.slots.contains(slot)) {
                    self.free.insert(*slot);
                }
            }
        }
        self.taken.clear();
        self.free.extend(self.spare.clone());
        self.spare = 0..0;
        self.end_before = self.end;
    }

    /// The group is not on disk: everything as before.
    pub(super) fn roll_back(&mut self) {
        while let Some((first, before)) = self.saved.pop() {
            match before {
                Some(segment) => {
                    if segment.live == 0 {
                        self.died.push(first);
                    }
                    self.all.insert(first, segment);
                }
                None => {
                    self.all.remove(&first);
                }
            }
        }
        let end_before = self.end_before;
        self.free.extend(self.taken.drain(..).filter(|slot| *slot < end_before));
        self.end = end_before;
        self.spare = 0..0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{EndpointId, RouteNumber};
    use crate::segment::directory::{Item, LaneItem};

    fn directory(first: u64, messages: u32, slots: &[u32]) -> Directory {
        let mut directory = Directory::new(first);
        directory.slots = slots.to_vec();
        for index in 0..messages {
            directory.items.push(Item { offset: index, bytes: 10 });
            let route = RouteNumber(1);
            let item = LaneItem { index, route, expires: Timestamp::NEVER };
            directory.lane(EndpointId(1), 0).push(item);
        }
        directory
    }

    #[test]
    fn a_slot_is_free_only_after_the_commit_that_buries_its_segment() {
        let mut segments = Segments::default();
        let slot = segments.take_slot();
        segments.add(100, &directory(100, 2, &[slot]));
        segments.spare();
        segments.commit();
        assert_eq!(segments.free_slots(), u64::from(STEP) - 1);
        segments.release(100);
        segments.release(101);
        assert_eq!(segments.bury(9), [100]);
        assert_eq!(segments.free_slots(), u64::from(STEP) - 1);
        segments.commit();
        assert_eq!(segments.free_slots(), u64::from(STEP));
        assert_eq!(segments.used_bytes(), 0);
    }

    #[test]
    fn a_failed_group_leaves_no_trace() {
        let mut segments = Segments::default();
        let slot = segments.take_slot();
        segments.add(100, &directory(100, 2, &[slot]));
        segments.commit();
        segments.release(100);
        segments.release(101);
        assert_eq!(segments.bury(9), [100]);
        let other = segments.take_slot();
        segments.add(200, &directory(200, 1, &[other]));
        segments.spare();
        segments.roll_back();
        assert_eq!(segments.get(100).map(|segment| segment.live), Some(2));
        assert!(segments.get(200).is_none());
        assert_eq!(segments.take_slot(), other);
        assert_eq!(segments.end(), 2);
    }

    #[test]
    fn a_dead_segment_whose_burial_failed_is_buried_later() {
        let mut segments = Segments::default();
        let slot = segments.take_slot();
        segments.add(100, &directory(100, 1, &[slot]));
        segments.commit();
        segments.release(100);
        segments.commit();
        assert_eq!(segments.bury(9), [100]);
        segments.roll_back();
        assert_eq!(segments.bury(9), [100]);
    }
}
