//! Entries that have been handed out at least once, or passed over, and have not left the queue.

use super::lane::Waiting;
use super::{Gone, Index, cost};
use crate::message::RouteNumber;
use weir_core::clock::Timestamp;

/// What an owed entry waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// With the consumer.
    InFlight,
    /// For its turn.
    Due,
    /// For the consumer to release it.
    Held,
    /// For a time.
    Retry(Timestamp),
}

/// An owed entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) priority: u32,
    pub(crate) route: RouteNumber,
    pub(crate) expires: Timestamp,
    pub(crate) bytes: u32,
    /// Number of its last or present delivery; of the next one while it is due again.
    pub(crate) attempt: u32,
    pub(crate) state: State,
    /// Its sender's later messages wait for it.
    pub(crate) holds_sender: bool,
    /// [`super::sender_number`].
    pub(crate) sender: u64,
    /// A consumer has seen it.
    pub(crate) handed_out: bool,
    /// A consumer had seen it before its present delivery.
    pub(crate) seen_before: bool,
    /// It has a row in the file.
    pub(crate) row: bool,
    /// Which of the queue's readers it went to.
    pub(crate) reader: u64,
}

impl Owed {
    pub(super) fn first_delivery(
        waiting: &Waiting,
        priority: u32,
        sender: u64,
        reader: u64,
    ) -> Self {
        Self {
            priority,
            route: waiting.route,
            expires: waiting.expires,
            bytes: waiting.bytes,
            attempt: 1,
            state: State::InFlight,
            holds_sender: false,
            sender,
            handed_out: true,
            seen_before: false,
            row: false,
            reader,
        }
    }
}

impl Index {
    /// An owed entry as it stands.
    pub(crate) fn owed(&self, sequence: u64) -> Option<Owed> {
        self.owed.get(&sequence).copied()
    }

    /// All owed entries before `before`, in order.
    pub(crate) fn owed_before(&self, before: u64) -> impl Iterator<Item = (u64, &Owed)> {
        self.owed.range(..before).map(|(sequence, owed)| (*sequence, owed))
    }

    /// Notes that an owed entry has a row in the file, or has none.
    pub(crate) fn set_row(&mut self, sequence: u64, row: bool) {
        if let Some(owed) = self.owed.get_mut(&sequence) {
            owed.row = row;
        }
    }

    /// Takes an entry out for good, or until the commit decides.
    pub(crate) fn take(&mut self, sequence: u64) -> Option<Owed> {
        let owed = self.owed.remove(&sequence)?;
        match owed.state {
            State::InFlight => {
                self.in_flight -= 1;
                self.pinned_bytes -= cost(owed.bytes);
            }
            State::Held => {
                self.held -= 1;
                self.pinned_bytes -= cost(owed.bytes);
            }
            State::Retry(time) => {
                self.timers.remove(&(time, sequence));
            }
            State::Due => {
                self.due.remove(&(owed.priority, sequence));
                self.parked.remove(&(owed.sender, sequence));
            }
        }
        if owed.holds_sender {
            self.retrying.remove(&(owed.sender, sequence));
            self.unpark(owed.sender);
        }
        self.bytes -= cost(owed.bytes);
        self.messages -= 1;
        Some(owed)
    }

    /// Puts an entry in; the reverse of [`Index::take`].
    pub(crate) fn put(&mut self, sequence: u64, owed: Owed) {
        self.bytes += cost(owed.bytes);
        self.messages += 1;
        self.enter(sequence, owed);
    }

    /// Puts an entry in whose room is counted already.
    pub(super) fn enter(&mut self, sequence: u64, owed: Owed) {
        match owed.state {
            State::InFlight => {
                self.in_flight += 1;
                self.pinned_bytes += cost(owed.bytes);
            }
            State::Held => {
                self.held += 1;
                self.pinned_bytes += cost(owed.bytes);
            }
            State::Retry(time) => {
                self.timers.insert((time, sequence));
            }
            State::Due => {
                self.due.insert((owed.priority, sequence));
            }
        }
        if owed.holds_sender {
            self.retrying.insert((owed.sender, sequence));
        }
        self.owed.insert(sequence, owed);
    }

    /// Moves an entry to another state.
    fn change(&mut self, sequence: u64, change: impl FnOnce(&mut Owed)) {
        if let Some(mut owed) = self.take(sequence) {
            change(&mut owed);
            self.put(sequence, owed);
        }
    }

    /// Gives an entry in flight back: it is due again.
    pub(crate) fn put_back(&mut self, sequence: u64, counted: bool) {
        if self.owed.get(&sequence).is_some_and(|owed| owed.state == State::InFlight) {
            self.change(sequence, |owed| {
                owed.state = State::Due;
                owed.attempt += u32::from(counted);
            });
        }
    }

    /// Gives everything back that a reader had in flight.
    pub(crate) fn put_back_all(&mut self) {
        for sequence in self.all_in(|state| matches!(state, State::InFlight)) {
            self.put_back(sequence, false);
        }
    }

    /// Makes held entries due again.
    pub(crate) fn redeliver_held(&mut self) {
        for sequence in self.all_in(|state| matches!(state, State::Held)) {
            self.change(sequence, |owed| owed.state = State::Due);
        }
    }

    fn all_in(&self, wanted: impl Fn(State) -> bool) -> Vec<u64> {
        let all = self.owed.iter().filter(|(_, owed)| wanted(owed.state));
        all.map(|(sequence, _)| *sequence).collect()
    }

    /// Makes due what has waited long enough.
    pub(super) fn wake_timers(&mut self, now: Timestamp) {
        while let Some((time, sequence)) = self.timers.first().copied()
            && time <= now
        {
            self.change(sequence, |owed| owed.state = State::Due);
        }
    }

    /// Messages of the sender that waited are looked at again.
    fn unpark(&mut self, sender: u64) {
        while let Some((_, sequence)) = self.parked.range((sender, 0)..=(sender, u64::MAX)).next() {
            let sequence = *sequence;
            self.parked.remove(&(sender, sequence));
            let priority = self.owed[&sequence].priority;
            self.due.insert((priority, sequence));
        }
    }

    /// An owed entry that is not in flight has expired: it leaves, counted.
    pub(super) fn expire_owed(&mut self, sequence: u64) {
        if let Some(owed) = self.take(sequence) {
            *self.expired.entry(owed.route).or_default() += 1;
            self.gone.push(Gone { sequence, row: owed.row });
        }
    }

    /// Lets everything owed that has expired leave, held entries too; what is in flight stays.
    pub(crate) fn expire_all_owed(&mut self, now: Timestamp) {
        let expired: Vec<u64> = self
            .owed
            .iter()
            .filter(|(_, owed)| owed.expires <= now && owed.state != State::InFlight)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in expired {
            self.expire_owed(sequence);
        }
    }

    /// Entries that wait for another attempt, parked ones included.
    pub(crate) fn retrying_len(&self) -> u64 {
        self.owed.len() as u64 - self.in_flight - self.held
    }

    /// The oldest owed entry of a lane that may be dropped: neither in flight nor held.
    pub(crate) fn oldest_droppable(&self, priority: u32) -> Option<u64> {
        let parked = self.owed.iter().find(|(_, owed)| {
            owed.priority == priority && matches!(owed.state, State::Due | State::Retry(_))
        });
        parked.map(|(sequence, _)| *sequence)
    }
}
