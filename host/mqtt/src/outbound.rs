//! Deliveries to a client: parcels from the hub in, PUBLISH packets out. No I/O, no waiting.
//!
//! A [`Parcel`] is a batch of the hub with the way back for its answer. Invariants:
//!
//! 1. Messages go out in the order in which they came; one parcel is sent whole before the next.
//! 2. A parcel is answered once: when all its messages are acknowledged (QoS 1) or written (QoS 0),
//!    or when the connection ends, however it ends: dropping an [`Outbound`] answers what is open.
//! 3. What is sent and not acknowledged is bounded by the window, what is not written by the buffer.

use crate::subscriptions::Subscriptions;
use crate::translate::put_input;
use crate::window::Window;
use crate::wire::Outgoing;
use std::collections::VecDeque;
use std::vec::IntoIter;
use tokio::sync::oneshot;
use weir_core::id::{Identity, InputName};
use weir_core::port::{Answer, Batch, Delivery, Fault, Outcome};
use weir_hub::parcels::Parcel;
use weir_mqtt_codec::{Delivery as Sending, PacketId, Qos};

/// One message of an open parcel.
#[derive(Debug, Clone, Copy)]
struct Place {
    parcel: u64,
    at: usize,
}

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
    identity: Identity,
    /// The oldest first; only the last has messages that are not sent.
    parcels: VecDeque<Open>,
    /// Number of the first parcel.
    first: u64,
    window: Window<Place>,
    /// Messages of QoS 0 and where in the stream of bytes they end.
    unwritten: VecDeque<(u64, Place)>,
}

impl Outbound {
    /// For a client of this identity; its first packet id follows from `start`.
    pub(crate) fn new(identity: Identity, start: u64) -> Self {
        Self {
            identity,
            parcels: VecDeque::new(),
            first: 0,
            window: Window::starting_at(start),
            unwritten: VecDeque::new(),
        }
    }

    /// True when a further parcel could be begun.
    pub(crate) fn wants_parcel(&self) -> bool {
        self.window.has_room() && self.parcels.back().is_none_or(|last| last.rest.len() == 0)
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
        while self.window.has_room() && out.has_room() {
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
            let sending = match last.qos {
                Qos::AtMostOnce => Sending::AtMostOnce,
                Qos::AtLeastOnce | Qos::ExactlyOnce => {
                    let id = self.window.send(place);
                    Sending::AtLeastOnce { id, dup: delivery.attempt > 1 }
                }
            };
            let put =
                put_input(&self.identity, &last.input, &delivery.message, sending, out.buffer());
            match (put, sending.packet_id()) {
                (Ok(()), None) => self.unwritten.push_back((out.enqueued(), place)),
                (Ok(()), Some(_)) => {}
                (Err(cause), id) => {
                    id.map(|id| self.window.acknowledge(id));
                    self.settle(
                        place,
                        Some(Outcome::Reject { reason: cause.to_string(), code: None }),
                    );
                }
            }
        }
        self.close_finished();
    }

    /// The client has acknowledged a delivery.
    pub(crate) fn acknowledge(&mut self, id: PacketId) {
        if let Some(place) = self.window.acknowledge(id) {
            self.settle(place, None);
            self.close_finished();
        }
    }

    /// So many bytes of the stream are with the socket.
    pub(crate) fn written(&mut self, bytes: u64) {
        while let Some((end, place)) = self.unwritten.front().copied()
            && end <= bytes
        {
            self.unwritten.pop_front();
            self.settle(place, None);
        }
        self.close_finished();
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
        let sent: Vec<Place> =
            self.window.drain().chain(self.unwritten.drain(..).map(|(_, place)| place)).collect();
        for place in sent {
            self.settle(place, Some(Outcome::Abandon { sent: true }));
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
