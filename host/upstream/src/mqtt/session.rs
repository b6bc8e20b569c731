//! Batches under way: which message has which packet id, what is acknowledged, what is sent again.
//!
//! No I/O. `run` feeds it batches and PUBACKs, and takes bytes from it. Invariants:
//!
//! 1. PUBLISH packets leave in the order of the batches.
//! 2. The packets from the oldest without a PUBACK on are never more than the window.
//! 3. Only what the broker has not acknowledged is ever sent twice. A batch that fails or is given up
//!    comes again whole; messages of it that were acknowledged are remembered and answered from
//!    memory, and those still under way are joined to the batch instead of being sent again. (An
//!    answer that is already on its way when its future is dropped is lost; that batch is sent again.)
//! 4. On a session that the broker has kept, unacknowledged packets are sent again first, in order,
//!    with their ids and DUP [MQTT-4.4.0-1], [MQTT-4.6.0-1]; on a new one they are forgotten here and
//!    come again with their batch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::BytesMut;
use weir_core::limits;
use weir_core::port::{Delivery, Outcome};
use weir_mqtt_codec::PacketId;

use super::publish::Publisher;
use crate::intake::{EARLIER_FAILED, Job, Reply};

/// Encoding pauses when this much waits to be written, so that a slow link costs little memory.
const OUT_BYTES: usize = 256 * 1024;
/// Acknowledged messages of failed batches that are remembered; more than fail at once.
const MAX_KNOWN: usize = limits::BATCHES_AHEAD * limits::UPSTREAM_BATCH;

/// What makes a delivery the same again.
type Same = (u64, u64);

fn same(delivery: &Delivery) -> Same {
    (delivery.number, delivery.message.id().0)
}

pub(super) struct Session {
    publisher: Publisher,
    window: usize,
    keeps_unacknowledged: bool,
    /// Oldest first. The first has the number `first`.
    batches: VecDeque<Open>,
    first: u64,
    /// The batch that is being sent; those before it are sent.
    sending: u64,
    /// In order of sending.
    in_flight: VecDeque<Sent>,
    last_id: u16,
    /// Acknowledged, but nobody has been told.
    known: HashSet<Same>,
    /// Unacknowledged on a connection that is gone.
    unacknowledged: Vec<(PacketId, Delivery)>,
    /// PUBACKs so far.
    acknowledged: u64,
}

struct Open {
    deliveries: Vec<Delivery>,
    slots: Vec<Slot>,
    /// The first that waits for sending; those before it do not.
    next: usize,
    in_flight: usize,
    /// `None` where nobody ever waited: packets of an earlier connection.
    reply: Option<Reply>,
}

enum Slot {
    Waiting,
    InFlight,
    Done(Outcome),
}

struct Sent {
    id: PacketId,
    batch: u64,
    index: usize,
    is_acknowledged: bool,
}

impl Open {
    fn is_given_up(&self) -> bool {
        self.reply.as_ref().is_none_or(Reply::is_given_up)
    }

    /// True when some of it waits for sending and must not be sent any more.
    fn is_overtaking(&self) -> bool {
        self.next < self.slots.len() && self.reply.as_ref().is_some_and(Reply::is_stale)
    }

    fn is_done(&self) -> bool {
        self.in_flight == 0 && (self.next == self.slots.len() || self.is_given_up())
    }

    /// Moves `next` to the first message that waits for sending.
    fn skip_settled(&mut self) {
        let waiting = self.slots[self.next..].iter().position(|slot| matches!(slot, Slot::Waiting));
        self.next = waiting.map_or(self.slots.len(), |ahead| self.next + ahead);
    }

    fn acknowledged(&self) -> impl Iterator<Item = Same> {
        let pairs = self.deliveries.iter().zip(&self.slots);
        pairs
            .filter(|(_, slot)| matches!(slot, Slot::Done(Outcome::Accepted)))
            .map(|(d, _)| same(d))
    }
}

impl Session {
    pub(super) fn new(publisher: Publisher, window: usize, keeps_unacknowledged: bool) -> Self {
        Self {
            publisher,
            window,
            keeps_unacknowledged,
            batches: VecDeque::new(),
            first: 0,
            sending: 0,
            in_flight: VecDeque::new(),
            last_id: 0,
            known: HashSet::new(),
            unacknowledged: Vec::new(),
            acknowledged: 0,
        }
    }

    /// True while a PUBACK is awaited.
    pub(super) fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// True when another batch may be added.
    pub(super) fn has_room(&self) -> bool {
        self.batches.len() < limits::BATCHES_AHEAD
    }

    /// A connection begins; to be called before batches are added. `session_present` as in CONNACK.
    pub(super) fn begin(&mut self, session_present: bool, out: &mut BytesMut) {
        let unacknowledged = std::mem::take(&mut self.unacknowledged);
        if !session_present || unacknowledged.is_empty() {
            return;
        }
        let batch = self.first + self.batches.len() as u64;
        let mut deliveries = Vec::with_capacity(unacknowledged.len());
        for (id, delivery) in unacknowledged {
            // It was a packet before, with the same topic and payload.
            if self.publisher.put(&delivery.message, id, true, out).is_ok() {
                let index = deliveries.len();
                self.in_flight.push_back(Sent { id, batch, index, is_acknowledged: false });
                deliveries.push(delivery);
            }
        }
        let (slots, count) =
            (deliveries.iter().map(|_| Slot::InFlight).collect(), deliveries.len());
        let open = Open { deliveries, slots, next: count, in_flight: count, reply: None };
        self.batches.push_back(open);
        self.remove_done();
    }

    /// Adds a batch; what is known of its messages is not sent again.
    pub(super) fn add(&mut self, job: Job) {
        let Job { deliveries, reply } = job;
        self.notice_given_up();
        let number = self.first + self.batches.len() as u64;
        let mut open = Open {
            slots: deliveries.iter().map(|_| Slot::Waiting).collect(),
            deliveries,
            next: 0,
            in_flight: 0,
            reply: Some(reply),
        };
        self.answer_known(&mut open);
        self.join_orphans(&mut open, number);
        open.skip_settled();
        self.batches.push_back(open);
        self.answer(number);
        self.remove_done();
    }

    /// What the broker has acknowledged of batches that nobody waits for any more is remembered.
    fn notice_given_up(&mut self) {
        let mut known = Vec::new();
        for open in self.batches.iter_mut().filter(|open| open.is_given_up()) {
            if open.reply.take().is_some() {
                known.extend(open.acknowledged());
            }
        }
        known.into_iter().for_each(|same| self.remember(same));
    }

    /// A batch behind one that was given up fails, unless all of it is sent already.
    fn stop_overtaking(&mut self) {
        let mut known = Vec::new();
        for open in self.batches.iter_mut().filter(|open| open.is_overtaking()) {
            known.extend(open.acknowledged());
            if let Some(reply) = open.reply.take() {
                reply.fail(EARLIER_FAILED, None);
            }
        }
        known.into_iter().for_each(|same| self.remember(same));
    }

    fn answer_known(&mut self, open: &mut Open) {
        if self.known.is_empty() {
            return;
        }
        for (delivery, slot) in open.deliveries.iter().zip(&mut open.slots) {
            if self.known.remove(&same(delivery)) {
                *slot = Slot::Done(Outcome::Accepted);
            }
        }
    }

    /// Packets under way that nobody waits for are those of a batch that now comes again.
    fn join_orphans(&mut self, open: &mut Open, number: u64) {
        if !self.batches.iter().any(|batch| batch.in_flight > 0 && batch.is_given_up()) {
            return;
        }
        let mut orphans: HashMap<Same, usize> = HashMap::new();
        for (at, sent) in self.in_flight.iter().enumerate().filter(|(_, s)| !s.is_acknowledged) {
            let batch = &self.batches[place(sent.batch, self.first)];
            if batch.is_given_up() {
                orphans.insert(same(&batch.deliveries[sent.index]), at);
            }
        }
        for (index, delivery) in open.deliveries.iter().enumerate() {
            let Some(at) = orphans.remove(&same(delivery)) else { continue };
            let sent = &mut self.in_flight[at];
            self.batches[place(sent.batch, self.first)].in_flight -= 1;
            (sent.batch, sent.index) = (number, index);
            open.slots[index] = Slot::InFlight;
            open.in_flight += 1;
        }
    }

    /// Encodes what the window allows.
    pub(super) fn fill(&mut self, out: &mut BytesMut) {
        self.stop_overtaking();
        while self.in_flight.len() < self.window && out.len() < OUT_BYTES {
            let Some(open) = self.batches.get_mut(place(self.sending, self.first)) else { return };
            if open.next == open.slots.len() || open.is_given_up() {
                self.sending += 1;
                self.remove_done();
                // Given up this moment, perhaps: what is behind it must not go on without it.
                self.stop_overtaking();
                continue;
            }
            let Some(id) = next_id(self.last_id, &self.in_flight) else { return };
            let index = open.next;
            match self.publisher.put(&open.deliveries[index].message, id, false, out) {
                Ok(()) => {
                    self.last_id = id.get();
                    open.slots[index] = Slot::InFlight;
                    open.in_flight += 1;
                    let batch = self.sending;
                    self.in_flight.push_back(Sent { id, batch, index, is_acknowledged: false });
                }
                Err(reject) => open.slots[index] = Slot::Done(reject),
            }
            open.skip_settled();
        }
    }

    /// PUBACKs so far, of all connections.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// A PUBACK came in. False when no packet of that id is under way.
    pub(super) fn acknowledge(&mut self, id: PacketId) -> bool {
        // Brokers acknowledge in order [MQTT-4.6.0-2], so that this is the first one.
        let found = self.in_flight.iter_mut().find(|sent| sent.id == id && !sent.is_acknowledged);
        let Some(sent) = found else { return false };
        sent.is_acknowledged = true;
        self.acknowledged += 1;
        let (number, index) = (sent.batch, sent.index);
        let open = &mut self.batches[place(number, self.first)];
        open.in_flight -= 1;
        open.slots[index] = Slot::Done(Outcome::Accepted);
        if open.is_given_up() {
            let same = same(&open.deliveries[index]);
            self.remember(same);
        }
        while self.in_flight.front().is_some_and(|sent| sent.is_acknowledged) {
            self.in_flight.pop_front();
        }
        self.answer(number);
        self.remove_done();
        true
    }

    /// Answers the batch if all of it has an outcome.
    fn answer(&mut self, number: u64) {
        let open = &mut self.batches[place(number, self.first)];
        if !open.is_done() || open.is_given_up() {
            return;
        }
        let outcomes = open.slots.drain(..).map(|slot| match slot {
            Slot::Done(outcome) => outcome,
            // A batch that is done has none of these.
            Slot::Waiting => Outcome::Abandon { sent: false },
            Slot::InFlight => Outcome::Abandon { sent: true },
        });
        let outcomes = outcomes.collect();
        open.next = 0;
        if let Some(reply) = open.reply.take() {
            reply.answer(outcomes);
        }
    }

    fn remove_done(&mut self) {
        while self.batches.front().is_some_and(Open::is_done) {
            self.answer(self.first);
            self.notice_given_up();
            self.batches.pop_front();
            self.first += 1;
        }
        self.sending = self.sending.max(self.first);
    }

    /// The connection is gone: every batch fails.
    pub(super) fn fail(&mut self, reason: &str, retry_after: Option<Duration>) {
        if self.keeps_unacknowledged {
            for sent in self.in_flight.iter().filter(|sent| !sent.is_acknowledged) {
                let delivery = &self.batches[place(sent.batch, self.first)].deliveries[sent.index];
                self.unacknowledged.push((sent.id, delivery.clone()));
            }
        }
        self.in_flight.clear();
        self.first += self.batches.len() as u64;
        for open in std::mem::take(&mut self.batches) {
            open.acknowledged().for_each(|same| self.remember(same));
            if let Some(reply) = open.reply {
                reply.fail(reason, retry_after);
            }
        }
        self.sending = self.first;
    }

    fn remember(&mut self, same: Same) {
        // Batches that never came again (expired, purged): forgetting costs duplicates at most.
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(same);
    }
}

fn place(number: u64, first: u64) -> usize {
    usize::try_from(number - first).expect("batches under way are few")
}

/// Ids count round, so that the next one in use, if any, is that of the oldest packet.
fn next_id(last: u16, in_flight: &VecDeque<Sent>) -> Option<PacketId> {
    let next = PacketId::new(last.wrapping_add(1)).unwrap_or(PacketId::MIN);
    in_flight.front().is_none_or(|oldest| oldest.id != next).then_some(next)
}

#[cfg(test)]
mod tests;
