//! The plain list that the queue is compared with.

use std::collections::BTreeMap;
use weir_core::clock::Timestamp;
use weir_store::{Disposition, QueueLimit, WhenFull};

/// Queue, priority and expiry.
pub(super) type Spot = (usize, u32, Timestamp);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    Waiting,
    InFlight,
    Held,
    /// To be delivered again; not before the time.
    Again(Timestamp),
}

#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) sequence: u64,
    pub(super) id: u64,
    pub(super) device: String,
    pub(super) priority: u32,
    pub(super) expires: Timestamp,
    pub(super) cost: u64,
    pub(super) state: State,
    /// Unknown after a crash.
    pub(super) attempt: Option<u32>,
    /// It has been handed out; unknown after a crash.
    pub(super) seen: Option<bool>,
    pub(super) holds_sender: bool,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) queues: Vec<Vec<Item>>,
    pub(super) limits: Vec<QueueLimit>,
    pub(super) dead: Vec<(usize, u64)>,
    /// The state of one module.
    pub(super) state: BTreeMap<String, Vec<u8>>,
}

impl Model {
    pub(super) fn bytes(&self, queue: usize) -> u64 {
        self.queues[queue].iter().map(|item| item.cost).sum()
    }

    /// What may be handed out now: all of the lowest priority that has anything, in order.
    pub(super) fn due(&self, queue: usize, now: Timestamp) -> Vec<Item> {
        let items = &self.queues[queue];
        let blocked = |item: &Item| {
            items.iter().any(|other| {
                other.holds_sender
                    && other.device == item.device
                    && other.sequence < item.sequence
                    // One that has expired blocks nobody, once that is noticed.
                    && (other.expires > now || other.state == State::InFlight)
            })
        };
        let mut due: Vec<Item> = items
            .iter()
            .filter(|item| match item.state {
                State::Waiting => true,
                State::Again(time) => time <= now,
                State::InFlight | State::Held => false,
            })
            .filter(|item| item.expires > now && !blocked(item))
            .cloned()
            .collect();
        let lowest = due.iter().map(|item| item.priority).min();
        due.retain(|item| Some(item.priority) == lowest);
        due.sort_by_key(|item| item.sequence);
        due
    }

    pub(super) fn expire(&mut self, now: Timestamp) {
        for queue in &mut self.queues {
            queue.retain(|item| item.expires > now || item.state == State::InFlight);
        }
    }

    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        let all = self.queues.iter().flatten();
        all.into_iter().any(|item| item.expires <= now && item.state != State::InFlight)
    }

    /// Bytes that a message of this cost is over the limit.
    fn over(&self, queue: usize, cost: u64) -> u64 {
        let max = self.limits[queue].max_bytes.unwrap_or(u64::MAX);
        (self.bytes(queue) + cost).saturating_sub(max)
    }

    /// Whether a message is admitted; `fresh` and later are of the same batch and are not dropped
    /// for it.
    pub(super) fn has_room(&self, targets: &[Spot], cost: u64, fresh: u64) -> bool {
        targets.iter().all(|(queue, _, _)| {
            let items = self.queues[*queue].iter();
            let can_go: u64 = items.filter(|i| droppable(i, fresh)).map(|i| i.cost).sum();
            let may_drop = self.limits[*queue].when_full == WhenFull::DropOldest;
            let over = self.over(*queue, cost);
            over == 0 || (may_drop && can_go >= over)
        })
    }

    /// Drops what must go for a message that is admitted.
    pub(super) fn make_room(&mut self, targets: &[Spot], cost: u64, fresh: u64) {
        for (queue, _, _) in targets {
            while self.over(*queue, cost) > 0 {
                let victim = self.queues[*queue]
                    .iter()
                    .filter(|item| droppable(item, fresh))
                    .max_by_key(|item| (item.priority, u64::MAX - item.sequence))
                    .map(|item| item.sequence)
                    .unwrap();
                self.queues[*queue].retain(|item| item.sequence != victim);
            }
        }
    }

    /// Does what a change says of an entry; false when it is not there.
    pub(super) fn settle(
        &mut self,
        queue: usize,
        sequence: u64,
        disposition: &Disposition,
    ) -> bool {
        let items = &mut self.queues[queue];
        let Some(item) = items.iter_mut().find(|item| item.sequence == sequence) else {
            return false;
        };
        match disposition {
            Disposition::Done => items.retain(|item| item.sequence != sequence),
            Disposition::Dead { .. } => {
                self.dead.push((queue, item.id));
                items.retain(|item| item.sequence != sequence);
            }
            Disposition::Hold => {
                item.state = State::Held;
                item.holds_sender = false;
            }
            Disposition::Retry { not_before, hold_sender } => {
                item.state = State::Again(*not_before);
                item.holds_sender |= *hold_sender;
                item.attempt = item.attempt.map(|attempt| attempt + 1);
            }
        }
        true
    }
}

fn droppable(item: &Item, fresh: u64) -> bool {
    item.sequence < fresh && matches!(item.state, State::Waiting | State::Again(_))
}
