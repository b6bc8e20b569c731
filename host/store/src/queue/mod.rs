//! The queue of one endpoint in memory: what waits, what is handed out, what is owed.
//!
//! Shared by the writer and the queue's reader under one short lock. The file is the truth after a
//! restart; while the hub runs this index is, and it changes after the commit (what a settled entry
//! leaves behind is taken out before it and put back when the commit fails). Invariants:
//!
//! 1. Of an entry there is at most one of: a place in a lane's window, an unloaded place behind it, a
//!    row of `owed`. Entries leave in this order and never go back.
//! 2. Within a lane the window is in order of sequence, and everything owed lies before it.
//! 3. An entry before the lane's persisted cursor that is still owed has a row in the file (`row`),
//!    or the transaction that moves the cursor writes it.
//! 4. `bytes` is the sum over all entries of the queue, in whatever state, plus what the writer has
//!    admitted to the group under way.
//! 5. An entry with a sender that waits for an earlier message (`retrying`) is not handed out.

pub(crate) mod lane;
pub(crate) mod owed;

use crate::message::{EndpointId, RouteNumber};
use crate::view::{ENTRY_OVERHEAD_BYTES, QueueLimit};
use lane::{Lane, Waiting};
use owed::{Owed, State};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;

/// One endpoint's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) id: EndpointId,
    pub(crate) name: String,
    state: Mutex<Index>,
    /// Something may have become due.
    pub(crate) wake: Notify,
    /// `loads_paused` is over.
    pub(crate) loads: Notify,
}

impl Queue {
    pub(crate) fn new(id: EndpointId, name: String) -> Self {
        Self { id, name, state: Mutex::default(), wake: Notify::new(), loads: Notify::new() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Index> {
        self.state.lock().expect("no code panics while it holds the lock")
    }
}

/// An entry that left without a change: it expired or turned out to be damaged when its turn came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) sequence: u64,
    /// It has a row in `owed`.
    pub(crate) row: bool,
}

/// The state under the lock.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) limit: QueueLimit,
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
    pub(crate) lanes: BTreeMap<u32, Lane>,
    owed: BTreeMap<u64, Owed>,
    /// To be handed out again, by priority and sequence.
    due: BTreeSet<(u32, u64)>,
    /// To be handed out again at a time.
    timers: BTreeSet<(Timestamp, u64)>,
    /// Messages that their senders' later ones wait for.
    retrying: BTreeSet<(u64, u64)>,
    /// Due, but behind one of `retrying`.
    parked: BTreeSet<(u64, u64)>,
    pub(crate) held: u64,
    pub(crate) in_flight: u64,
    /// Bytes of what is in flight or held: it cannot be dropped.
    pub(crate) pinned_bytes: u64,
    pub(crate) expired: BTreeMap<RouteNumber, u64>,
    pub(crate) dropped: u64,
    pub(crate) damaged: u64,
    pub(crate) dead_letters_dropped: u64,
    /// For the writer to take note of.
    pub(crate) gone: Vec<Gone>,
    /// Counts readers, so that an entry is known to belong to one that has left.
    pub(crate) readers: u64,
    pub(crate) has_reader: bool,
    /// The writer is changing places that are not loaded: what was read meanwhile is read again.
    pub(crate) loads_paused: bool,
    /// Changes with every such change.
    pub(crate) epoch: u64,
    window: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            limit: QueueLimit::default(),
            bytes: 0,
            messages: 0,
            lanes: BTreeMap::new(),
            owed: BTreeMap::new(),
            due: BTreeSet::new(),
            timers: BTreeSet::new(),
            retrying: BTreeSet::new(),
            parked: BTreeSet::new(),
            held: 0,
            in_flight: 0,
            pinned_bytes: 0,
            expired: BTreeMap::new(),
            dropped: 0,
            damaged: 0,
            dead_letters_dropped: 0,
            gone: Vec::new(),
            readers: 0,
            has_reader: false,
            loads_paused: false,
            epoch: 0,
            window: limits::LANE_ENTRIES,
        }
    }
}

/// What [`Index::choose`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// Entries to hand out, in order, of one priority.
    Batch(u32, Vec<Candidate>),
    /// The lane's next entries are on disk only.
    Load(u32),
    /// Nothing is due; the time when something may be.
    Nothing(Option<Timestamp>),
}

/// An entry that may be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) sequence: u64,
    /// It has been handed out before: it stands in `owed`.
    pub(crate) again: bool,
}

/// Room that an entry takes.
pub(crate) fn cost(bytes: u32) -> u64 {
    u64::from(bytes) + ENTRY_OVERHEAD_BYTES
}

/// A sender as a number, the same over restarts (FNV-1a); two senders of one number only wait for
/// each other without need.
pub(crate) fn sender_number(sender: &Identity) -> u64 {
    let module = sender.module.as_ref().map_or("", |module| module.as_str());
    let bytes = sender.device.as_str().bytes().chain([b'/']).chain(module.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Index {
    /// The next entries to hand out. Expired ones leave on the way.
    pub(crate) fn choose(
        &mut self,
        now: Timestamp,
        max_messages: usize,
        max_bytes: usize,
    ) -> Choice {
        self.wake_timers(now);
        // What is held has a limit of its own, and only new messages may bring its release.
        let full = self.retrying_len() >= limits::MAX_OWED as u64;
        let priorities: Vec<u32> = self.lanes.keys().copied().collect();
        for priority in priorities {
            let mut batch = Vec::new();
            let mut room = max_bytes;
            let all_due =
                self.choose_due((priority, u64::MAX), now, max_messages, &mut room, &mut batch);
            // While too many wait for another attempt, new ones would only join them.
            if all_due && !full && batch.len() < max_messages {
                self.expire_front(priority, now);
                let lane = &self.lanes[&priority];
                for waiting in &lane.window {
                    // One that expired further in leaves when it has come to the front.
                    if batch.len() >= max_messages
                        || waiting.expires <= now
                        || !fits(&batch, &mut room, waiting.bytes)
                    {
                        break;
                    }
                    batch.push(Candidate { sequence: waiting.sequence, again: false });
                }
                if batch.is_empty() && lane.window.is_empty() && lane.unloaded > 0 {
                    return Choice::Load(priority);
                }
            }
            if !batch.is_empty() {
                return Choice::Batch(priority, batch);
            }
        }
        Choice::Nothing(self.timers.first().map(|(time, _)| *time))
    }

    /// The next entries to hand out of those that are due again and stand before `before`.
    pub(crate) fn choose_again(
        &mut self,
        before: u64,
        now: Timestamp,
        max_messages: usize,
        max_bytes: usize,
    ) -> Option<(u32, Vec<Candidate>)> {
        self.wake_timers(now);
        let priorities: Vec<u32> = self.lanes.keys().copied().collect();
        priorities.into_iter().find_map(|priority| {
            let (mut batch, mut room) = (Vec::new(), max_bytes);
            self.choose_due((priority, before), now, max_messages, &mut room, &mut batch);
            (!batch.is_empty()).then_some((priority, batch))
        })
    }

    /// Entries of a priority, before a sequence, to be handed out again. False when there are more
    /// than fit: nothing may overtake them.
    fn choose_due(
        &mut self,
        (priority, before): (u32, u64),
        now: Timestamp,
        max_messages: usize,
        room: &mut usize,
        batch: &mut Vec<Candidate>,
    ) -> bool {
        let mut from = 0;
        loop {
            let mut rest = self.due.range((priority, from)..(priority, before.max(from)));
            let Some((_, sequence)) = rest.next().copied() else { return true };
            from = sequence + 1;
            let owed = self.owed[&sequence];
            if owed.expires <= now {
                self.expire_owed(sequence);
            } else if self.is_blocked(owed.sender, sequence) {
                self.due.remove(&(priority, sequence));
                self.parked.insert((owed.sender, sequence));
            } else if batch.len() < max_messages && fits(batch, room, owed.bytes) {
                batch.push(Candidate { sequence, again: true });
            } else {
                return false;
            }
        }
    }

    fn expire_front(&mut self, priority: u32, now: Timestamp) {
        let lane = self.lanes.get_mut(&priority).expect("the caller walks the lanes");
        while let Some(front) = lane.window.front()
            && front.expires <= now
        {
            let waiting = lane.window.pop_front().expect("it has a front");
            *self.expired.entry(waiting.route).or_default() += 1;
            self.bytes -= cost(waiting.bytes);
            self.messages -= 1;
            self.gone.push(Gone { sequence: waiting.sequence, row: false });
        }
    }

    /// True when an earlier message of the sender is being retried.
    pub(crate) fn is_blocked(&self, sender: u64, sequence: u64) -> bool {
        let mut earlier = self.retrying.range((sender, 0)..(sender, sequence));
        earlier.next().is_some()
    }

    /// Hands out a candidate; none when it is no longer there or must wait.
    pub(crate) fn hand_out(
        &mut self,
        priority: u32,
        candidate: Candidate,
        sender: u64,
        now: Timestamp,
    ) -> Option<Owed> {
        if candidate.again {
            if !self.due.contains(&(priority, candidate.sequence)) {
                return None;
            }
            let owed = self.take(candidate.sequence)?;
            let seen_before = owed.handed_out;
            let (state, reader) = (State::InFlight, self.readers);
            let owed = Owed { sender, state, handed_out: true, seen_before, reader, ..owed };
            self.put(candidate.sequence, owed);
            return Some(owed);
        }
        let lane = self.lanes.get_mut(&priority)?;
        let at = lane.find(candidate.sequence)?;
        let waiting = lane.window.remove(at).expect("it was found there");
        let seen_before = candidate.sequence <= lane.suspect;
        let mut owed = Owed::first_delivery(&waiting, priority, sender, self.readers);
        owed.seen_before = seen_before;
        let expired = waiting.expires <= now;
        if expired || self.is_blocked(sender, candidate.sequence) {
            owed.state = State::Due;
            owed.handed_out = seen_before;
        }
        self.enter(candidate.sequence, owed);
        if expired {
            self.expire_owed(candidate.sequence);
        }
        (owed.state == State::InFlight).then_some(owed)
    }

    /// The candidate's bytes are damaged: it leaves, counted.
    /// False when it has left already.
    pub(crate) fn lose(&mut self, priority: u32, candidate: Candidate) -> bool {
        let left = match candidate.again {
            true => self.take(candidate.sequence).map(|owed| owed.row),
            false => self.take_waiting(priority, candidate.sequence).map(|_| false),
        };
        let Some(row) = left else { return false };
        self.damaged += 1;
        self.gone.push(Gone { sequence: candidate.sequence, row });
        true
    }

    fn take_waiting(&mut self, priority: u32, sequence: u64) -> Option<Waiting> {
        let lane = self.lanes.get_mut(&priority)?;
        let waiting = lane.window.remove(lane.find(sequence)?)?;
        self.bytes -= cost(waiting.bytes);
        self.messages -= 1;
        Some(waiting)
    }

    /// The oldest entry that has not left, as far as it is known.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let owed = self.owed.first_key_value().map(|(sequence, _)| *sequence);
        let waiting = self.lanes.values().filter_map(|lane| lane.window.front());
        waiting.map(|waiting| waiting.sequence).chain(owed).min()
    }

    /// Removes an entry that has expired before its turn, in memory or on disk only. False when it
    /// has left already. The caller counts it.
    pub(crate) fn expire_waiting(&mut self, priority: u32, sequence: u64) -> bool {
        let Some(lane) = self.lanes.get_mut(&priority) else { return false };
        if let Some(at) = lane.find(sequence) {
            lane.window.remove(at);
            return true;
        }
        let on_disk = lane.unloaded > 0 && (lane.load_from..=lane.last).contains(&sequence);
        lane.unloaded -= u64::from(on_disk);
        on_disk
    }

    /// Takes a committed entry in.
    pub(crate) fn push(&mut self, priority: u32, waiting: Waiting) {
        self.messages += 1;
        self.lane(priority).push(waiting);
    }

    /// The lane, made if there is none.
    pub(crate) fn lane(&mut self, priority: u32) -> &mut Lane {
        let room = self.window;
        self.lanes.entry(priority).or_insert_with(|| Lane::new(room))
    }

    /// Sets how many entries of a lane are known in memory.
    pub(crate) fn set_window(&mut self, entries: usize) {
        self.window = entries;
        for lane in self.lanes.values_mut() {
            lane.set_room(entries);
        }
    }

    /// The first entries of each lane may have been handed out by a hub that was killed.
    pub(crate) fn suspect_front(&mut self) {
        for lane in self.lanes.values_mut() {
            let last = lane.window.iter().take(limits::HANDED_OUT).next_back();
            lane.suspect = last.map_or(0, |waiting| waiting.sequence);
        }
    }

    /// True when the entry has not left.
    pub(crate) fn is_alive(&self, priority: u32, sequence: u64) -> bool {
        self.owed.contains_key(&sequence)
            || self.lanes.get(&priority).is_some_and(|lane| {
                lane.find(sequence).is_some() || (lane.unloaded > 0 && sequence >= lane.load_from)
            })
    }
}

fn fits(batch: &[Candidate], room: &mut usize, bytes: u32) -> bool {
    match room.checked_sub(bytes as usize) {
        Some(rest) => {
            *room = rest;
            true
        }
        None if batch.is_empty() => {
            *room = 0;
            true
        }
        None => false,
    }
}
