//! The way in: from a connected client's messages to the queues.
//!
//! **This is the hot path; read it first.** A head hands over what one read of the socket brought, as
//! a batch. Invariants:
//!
//! 1. A message counts as taken only after the commit: [`Intake::settled`] resolves then, in order,
//!    and the counters and explanations of accepted messages say so.
//! 2. Nothing overtakes: when the store refuses a batch, all behind it on this connection come back
//!    too and are submitted again in order.
//! 3. What waits is bounded, for each sender in messages and bytes, for all senders together in bytes.
//! 4. What the store has refused takes nothing from the room of those whom it serves: it has a room of
//!    its own, and a sender that finds none there is given up at once.

use crate::Hub;
use crate::explain::Footprint;
use crate::presence::Seen;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use weir_core::clock::Timestamp;
use weir_core::id::{Identity, MessageId};
use weir_core::limits;
use weir_core::message::Message;
use weir_core::properties::SystemProperty;
use weir_store::{Append, Appended, Chain, Receipt, Why};

/// One message on its way in.
#[derive(Debug)]
pub struct Publication {
    /// What the client sent.
    pub message: Message,
    /// True when the client waits for an acknowledgement (QoS 1). Others are dropped, and counted,
    /// when there is no room.
    pub reliable: bool,
}

/// Why messages could not be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// A queue stayed full, or the disk stayed unwritable, for [`limits::MAX_WITHHELD_ACK`].
    #[error("there was no room for {} s: {reason}", limits::MAX_WITHHELD_ACK.as_secs())]
    NoRoom {
        /// Which queue, or what is wrong with the store.
        reason: String,
    },
    /// The store refused, and [`limits::REFUSED_BYTES`] wait already until it takes more.
    #[error("there was no room, and too much waits for some already")]
    TooMuchWaits,
}

/// A batch that waits for its commit.
struct Waiting {
    /// How many messages the client sent in it.
    messages: usize,
    bytes: usize,
    /// When it came in.
    taken: Timestamp,
    /// Numbers of its messages; of those on disk cut off.
    ids: Range<u64>,
    /// Messages that no route wanted.
    unrouted: u64,
    /// Set while the store has it.
    receipt: Option<Receipt>,
    /// What the store gave back, to be submitted again.
    rest: Vec<Append>,
    /// Which of the appended messages are reliable, in order; cut along with `rest`.
    reliable: Vec<bool>,
    room: Room,
}

impl Waiting {
    /// The store has answered: a part of the batch from its beginning is on disk, and counts. Says why
    /// the rest is not.
    fn stored(&mut self, appended: Appended, hub: &Hub, sender: &Identity) -> Option<Why> {
        self.receipt = None;
        let (rest, why) = match appended.refused {
            Some(refused) => (refused.rest, Some(refused.why)),
            None => (Vec::new(), None),
        };
        let upto = rest.first().map_or(self.ids.end, |append| append.message.id().0);
        hub.explanations().accept(self.ids.start..upto);
        hub.count_received(sender, appended.accepted as u64, 0);
        if appended.accepted > 0 {
            let waited = hub.clock().now().since(self.taken);
            hub.metrics().commit_seconds.observe(waited.as_secs_f64());
        }
        self.ids.start = upto;
        self.rest = rest;
        why
    }
}

/// What routing makes of a batch.
struct Routed {
    taken: Timestamp,
    ids: Range<u64>,
    unrouted: u64,
    appends: Vec<Append>,
    reliable: Vec<bool>,
}

/// What a batch takes room from; it is given back when the batch goes.
enum Room {
    /// What waits for its commit.
    Intake { _share: OwnedSemaphorePermit },
    /// What the store has refused; also while it is submitted again.
    Refused { _share: OwnedSemaphorePermit },
}

/// What one sender has handed over and not got back.
pub struct Intake {
    hub: Hub,
    identity: Identity,
    seen: Seen,
    chain: Chain,
    waiting: VecDeque<Waiting>,
    /// Messages in `waiting`.
    messages: usize,
    /// Bytes in `waiting`.
    bytes: usize,
    /// Messages that are on disk and were not asked for yet.
    done: usize,
    /// What [`Intake::settled`] is to answer when these are given.
    failed: Option<IntakeError>,
    /// The store refused a batch: those behind it come back too.
    broken: bool,
    /// When what came back is submitted again.
    again_at: Option<Instant>,
    no_room_since: Option<Timestamp>,
}

impl Intake {
    pub(crate) fn new(hub: Hub, identity: Identity, seen: Seen) -> Self {
        let chain = hub.store().chain();
        Self {
            hub,
            identity,
            seen,
            chain,
            waiting: VecDeque::new(),
            messages: 0,
            bytes: 0,
            done: 0,
            failed: None,
            broken: false,
            again_at: None,
            no_room_since: None,
        }
    }

    /// True while more may be handed over: the head stops reading otherwise. What one sender has no
    /// room for takes from the room of all, so it is not added to.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.messages < limits::INTAKE_MESSAGES
            && self.bytes < limits::INTAKE_SENDER_BYTES
            && self.no_room_since.is_none()
    }

    /// True while batches wait for their commit.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.done > 0 || self.failed.is_some()
    }

    /// Stamps, routes and queues a batch. Waits for room among all that waits for its commit and in
    /// the writer's channel. Not cancel-safe: a head awaits it outside of `select!`. After a failure,
    /// which [`Intake::settled`] tells, the batch is dropped.
    pub async fn submit(&mut self, batch: Vec<Publication>) {
        let messages = batch.len();
        let bytes: usize = batch.iter().map(|publication| publication.message.size_bytes()).sum();
        let Some(share) = self.room(bytes).await else { return };
        let Routed { taken, ids, unrouted, appends, reliable } = self.route(batch);
        // Behind what came back from the store nothing may overtake: it is submitted with that.
        let stays = self.broken || self.again_at.is_some();
        let (receipt, rest) = match stays || appends.is_empty() {
            true => (None, appends),
            // A closed store: the receipt of an empty batch would lie, so the batch waits for ever.
            false => match self.hub.store().slot().await {
                Ok(slot) => (Some(slot.append(appends, &self.chain)), Vec::new()),
                Err(_) => return std::future::pending().await,
            },
        };
        self.messages += messages;
        self.bytes += bytes;
        let room = Room::Intake { _share: share };
        self.waiting.push_back(Waiting {
            messages,
            bytes,
            taken,
            ids,
            unrouted,
            receipt,
            rest,
            reliable,
            room,
        });
        if stays && let Err(error) = self.make_way() {
            self.failed = Some(error);
        }
    }

    /// Room for so many bytes; none when this sender has failed. What fills it may be this sender's
    /// own messages, so they are settled meanwhile: nobody else would.
    async fn room(&mut self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let hub = self.hub.clone();
        let mut permit = pin!(hub.intake_permit(bytes));
        while self.failed.is_none() {
            tokio::select! {
                biased;
                permit = &mut permit => return Some(permit),
                settled = self.settle_oldest() => match settled {
                    Ok(messages) => self.done += messages,
                    Err(error) => self.failed = Some(error),
                },
            }
        }
        None
    }

    fn route(&self, batch: Vec<Publication>) -> Routed {
        let now = self.hub.clock().now();
        self.seen.note(now);
        let first = self.hub.numbers().take(batch.len());
        let routing = self.hub.routing();
        let mut appends = Vec::with_capacity(batch.len());
        let mut reliable = Vec::with_capacity(batch.len());
        let ids = first.0..first.0 + batch.len() as u64;
        for (at, publication) in batch.into_iter().enumerate() {
            let id = MessageId(first.0 + at as u64);
            let client_id = publication.message.properties.system(SystemProperty::MessageId);
            // Thousands are kept, and a sender could make each as long as a topic.
            let client_id =
                client_id.filter(|id| id.len() <= limits::NAMED_ID_BYTES).map(Arc::from);
            let message = publication.message.stamp(&self.identity, id, now);
            let (append, trace) = routing.append(message);
            self.hub.explanations().note(Footprint {
                id,
                enqueued: now,
                sender: self.identity.clone(),
                table: routing.revision,
                trace,
                fates: Vec::new(),
                client_id,
            });
            if let Some(append) = append {
                appends.push(append);
                reliable.push(publication.reliable);
            }
        }
        let unrouted = ids.end - ids.start - appends.len() as u64;
        Routed { taken: now, ids, unrouted, appends, reliable }
    }

    /// Resolves when the oldest batch is on disk and says how many of the client's messages that
    /// are. Cancel-safe. Pending while nothing waits.
    ///
    /// # Errors
    /// [`IntakeError::NoRoom`]: the connection is to be closed without acknowledging.
    pub async fn settled(&mut self) -> Result<usize, IntakeError> {
        if self.done > 0 {
            return Ok(std::mem::take(&mut self.done));
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.settle_oldest().await,
        }
    }

    async fn settle_oldest(&mut self) -> Result<usize, IntakeError> {
        loop {
            if self.broken {
                self.collect().await?;
            }
            if self.again_at.is_some() {
                self.submit_again().await;
            }
            let Some(front) = self.waiting.front_mut() else {
                return std::future::pending().await;
            };
            if let Some(receipt) = &mut front.receipt {
                let appended = receipt.await;
                let refused = front.stored(appended, &self.hub, &self.identity);
                if let Some(why) = refused {
                    self.broken = true;
                    self.no_room(&why)?;
                    continue;
                }
            }
            self.no_room_since = None;
            let Some(done) = self.waiting.pop_front() else { continue };
            self.hub.explanations().accept(done.ids);
            self.hub.count_received(&self.identity, done.unrouted, done.unrouted);
            self.messages -= done.messages;
            self.bytes -= done.bytes;
            return Ok(done.messages);
        }
    }

    /// All batches behind a refused one were refused with it, because they share its chain.
    async fn collect(&mut self) -> Result<(), IntakeError> {
        for waiting in &mut self.waiting {
            if let Some(receipt) = &mut waiting.receipt {
                let appended = receipt.await;
                waiting.stored(appended, &self.hub, &self.identity);
            }
        }
        self.chain = self.hub.store().chain();
        self.broken = false;
        self.again_at = Some(Instant::now() + RETRY_ROOM);
        self.drop_unreliable();
        self.make_way()
    }

    /// What waits for a full queue gives back its part of the room that all share.
    fn make_way(&mut self) -> Result<(), IntakeError> {
        for waiting in &mut self.waiting {
            if let Room::Refused { .. } = waiting.room {
                continue;
            }
            let bytes = waiting.rest.iter().map(|append| append.message.message().size_bytes());
            let share = self.hub.refused_permit(bytes.sum()).ok_or(IntakeError::TooMuchWaits)?;
            waiting.room = Room::Refused { _share: share };
        }
        Ok(())
    }

    /// Nobody waits for unreliable messages: where there is no room they go.
    fn drop_unreliable(&mut self) {
        let mut dropped = 0;
        for waiting in &mut self.waiting {
            let skip = waiting.reliable.len() - waiting.rest.len();
            let mut reliable = waiting.reliable.split_off(skip).into_iter();
            let before = waiting.rest.len();
            waiting.rest.retain(|append| {
                let stays = reliable.next().unwrap_or(true);
                if !stays {
                    self.hub.explanations().forget(append.message.id());
                }
                stays
            });
            waiting.reliable = vec![true; waiting.rest.len()];
            dropped += (before - waiting.rest.len()) as u64;
        }
        self.hub.metrics().drop_messages("queue_full", dropped);
    }

    /// After a short pause, what came back goes to the store again, in order.
    async fn submit_again(&mut self) {
        if let Some(at) = self.again_at {
            tokio::time::sleep_until(at).await;
        }
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.rest.is_empty()) {
            let Ok(slot) = self.hub.store().slot().await else { return };
            let rest = std::mem::take(&mut waiting.rest);
            waiting.receipt = Some(slot.append(rest, &self.chain));
        }
        self.again_at = None;
    }

    fn no_room(&mut self, why: &Why) -> Result<(), IntakeError> {
        let now = self.hub.clock().now();
        let since = *self.no_room_since.get_or_insert(now);
        match now.since(since) < limits::MAX_WITHHELD_ACK {
            true => Ok(()),
            false => Err(IntakeError::NoRoom { reason: why.to_string() }),
        }
    }
}

/// Between two attempts to find room.
const RETRY_ROOM: Duration = Duration::from_millis(100);
