//! What a client is sent: parcels, commands and desired patches in, PUBLISH packets out. No I/O, no waiting.
//!
//! A [`Parcel`] is a batch of the hub for a module's input, with the way back for its answer. Invariants:
//!
//! 1. Messages go out in the order in which they came; one parcel is sent whole before the next.
//! 2. A parcel is answered once: when all its messages are acknowledged (QoS 1) or written (QoS 0),
//!    or when the connection ends, however it ends: dropping an [`Outbound`] answers what is open.
//! 3. A command is settled when it is acknowledged (QoS 1) or written (QoS 0); one that is not goes back
//!    when the session leaves its queue.
//! 4. What is sent and not acknowledged is bounded by the window, what is not written by the buffer.

use crate::sending::{Place, Sender, Sent};
use crate::subscriptions::Subscriptions;
use crate::translate::{put_command, put_input, put_text};
use crate::wire::Outgoing;
use std::collections::VecDeque;
use std::vec::IntoIter;
use tokio::sync::oneshot;
use tracing::debug;
use weir_core::command::{Command, LockToken, Settlement};
use weir_core::id::{Identity, InputName};
use weir_core::port::{Answer, Batch, Delivery, Fault, Outcome};
use weir_core::topic::desired_topic;
use weir_core::twin::DesiredPatch;
use weir_hub::parcels::Parcel;
use weir_mqtt_codec::{PacketId, Qos};

#[derive(Debug)]
struct Open {
    /// What is not sent yet.
    rest: IntoIter<Delivery>,
    input: InputName,
    qos: Qos,
    /// One for each message; `Accepted` until something else is known.
    outcomes: Vec<Outcome>,
    /// Messages, sent or not, of which nothing is known.
    open: usize,
    answer: Option<oneshot::Sender<Result<Answer, Fault>>>,
}

/// The sending side of one session.
#[derive(Debug)]
pub(crate) struct Outbound {
    /// The oldest first; only the last has messages that are not sent.
    parcels: VecDeque<Open>,
    /// Number of the first parcel.
    first: u64,
    sender: Sender,
    /// Commands of which the client, or their form, has decided.
    decided: Vec<(LockToken, Settlement)>,
    /// A patch of the desired properties has been sent and has not arrived.
    patching: bool,
}

impl Outbound {
    /// Of a connection on which nothing was sent yet.
    pub(crate) fn new(sender: Sender) -> Self {
        Self { parcels: VecDeque::new(), first: 0, sender, decided: Vec::new(), patching: false }
    }

    /// True when something of QoS 1 could be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.sender.has_room()
    }

    /// True when a patch of the desired properties could be sent: one after the other, so that the hub
    /// knows what has arrived.
    pub(crate) fn wants_desired(&self) -> bool {
        self.sender.has_room() && !self.patching
    }

    /// True when a further parcel could be begun.
    pub(crate) fn wants_parcel(&self) -> bool {
        self.sender.has_room() && self.parcels.back().is_none_or(|last| last.rest.len() == 0)
    }

    /// Takes a parcel; one that the client has not subscribed to goes back.
    pub(crate) fn accept(&mut self, parcel: Parcel, subscriptions: &Subscriptions) {
        let Parcel { batch: Batch { deliveries }, answer } = parcel;
        let input = deliveries.first().and_then(|first| first.input_name.clone());
        let wanted = input.and_then(|input| {
            let qos = subscriptions.qos_of_input(&input)?;
            Some((input, qos))
        });
        let Some((input, qos)) = wanted else {
            let reason = "the client has not subscribed to this input".to_owned();
            // The dispatcher looks again at once when the client subscribes.
            drop(answer.send(Err(Fault::Unavailable { reason, retry_after: None })));
            return;
        };
        let open = deliveries.len();
        let outcomes = vec![Outcome::Accepted; open];
        let rest = deliveries.into_iter();
        self.parcels.push_back(Open { rest, input, qos, outcomes, open, answer: Some(answer) });
        self.close_finished();
    }

    /// Writes what the window and the buffer have room for.
    pub(crate) fn fill(&mut self, out: &mut Outgoing) {
        while self.sender.has_room() && out.has_room() {
            let number = self.first + (self.parcels.len() as u64).saturating_sub(1);
            let Some(last) = self.parcels.back_mut() else { return };
            if last.answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
                // The hub has given the batch up and will deliver it again.
                last.open -= last.rest.len();
                last.rest = Vec::new().into_iter();
            }
            let at = last.outcomes.len() - last.rest.len();
            let Some(delivery) = last.rest.next() else { break };
            let place = Place { parcel: number, at };
            let sent = Sent::Input { place, number: delivery.number };
            let put = |client: &Identity, sending, out: &mut Outgoing| {
                put_input(client, &last.input, &delivery.message, sending, out.buffer())
            };
            if let Err(cause) = self.sender.send(sent, last.qos, delivery.attempt > 1, out, put) {
                let reason = cause.to_string();
                self.settle(place, Some(Outcome::Reject { reason, code: None }));
            }
        }
        self.close_finished();
    }

    /// Sends a command; one that does not fit MQTT is rejected. At QoS 1 there must be
    /// [room](Self::has_room).
    pub(crate) fn command(&mut self, command: &Command, qos: Qos, out: &mut Outgoing) {
        let sent = Sent::Command { lock: command.lock, sequence: command.sequence };
        let put = |client: &Identity, sending, out: &mut Outgoing| {
            put_command(client, &command.message, sending, out.buffer())
        };
        if let Err(cause) = self.sender.send(sent, qos, command.delivery_count > 1, out, put) {
            debug!(lock = %command.lock, %cause, "command rejected");
            self.decided.push((command.lock, Settlement::Reject));
        }
    }

    /// Sends a patch of the desired properties, when one [is wanted](Self::wants_desired).
    pub(crate) fn desired(&mut self, patch: &DesiredPatch, qos: Qos, out: &mut Outgoing) {
        let put = |_: &Identity, sending, out: &mut Outgoing| {
            put_text(desired_topic(patch.version), &patch.json, sending, out.buffer())
        };
        self.patching = true;
        let put = self.sender.send(Sent::Desired, qos, false, out, put);
        put.expect("a twin is far smaller than a packet, and its topic short");
    }

    /// The commands that were decided since the last call.
    pub(crate) fn take_decided(&mut self) -> Vec<(LockToken, Settlement)> {
        std::mem::take(&mut self.decided)
    }

    /// The client has acknowledged a delivery.
    pub(crate) fn acknowledge(&mut self, id: PacketId) {
        if let Some(sent) = self.sender.acknowledge(id) {
            self.taken(sent);
            self.close_finished();
        }
    }

    /// So many bytes of the stream are with the socket.
    pub(crate) fn written(&mut self, bytes: u64) {
        while let Some(sent) = self.sender.written(bytes) {
            self.taken(sent);
        }
        self.close_finished();
    }

    fn taken(&mut self, sent: Sent) {
        match sent {
            Sent::Input { place, .. } => self.settle(place, None),
            Sent::Command { lock, .. } => self.decided.push((lock, Settlement::Complete)),
            Sent::Desired => self.patching = false,
        }
    }

    fn settle(&mut self, place: Place, outcome: Option<Outcome>) {
        let Some(parcel) = place.parcel.checked_sub(self.first) else { return };
        let parcel = usize::try_from(parcel).ok().and_then(|at| self.parcels.get_mut(at));
        let Some(parcel) = parcel else { return };
        parcel.open -= 1;
        if let Some(outcome) = outcome {
            parcel.outcomes[place.at] = outcome;
        }
    }

    /// Answers parcels of which everything is known. The answers may go out of order; the hub settles
    /// them in order.
    fn close_finished(&mut self) {
        for parcel in &mut self.parcels {
            if parcel.open == 0
                && let Some(answer) = parcel.answer.take()
            {
                let outcomes = std::mem::take(&mut parcel.outcomes);
                drop(answer.send(Ok(Answer { outcomes, ..Answer::default() })));
            }
        }
        while self.parcels.front().is_some_and(|first| first.answer.is_none()) {
            self.parcels.pop_front();
            self.first += 1;
        }
    }

    /// Gives back what the client has not taken.
    fn abandon(&mut self) {
        for sent in self.sender.give_up() {
            if let Sent::Input { place, .. } = sent {
                self.settle(place, Some(Outcome::Abandon { sent: true }));
            }
        }
        if let Some(last) = self.parcels.back_mut() {
            let from = last.outcomes.len() - last.rest.len();
            last.outcomes[from..].fill(Outcome::Abandon { sent: false });
            last.open -= last.rest.len();
            last.rest = Vec::new().into_iter();
        }
        self.close_finished();
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.abandon();
    }
}

#[cfg(test)]
mod tests;
