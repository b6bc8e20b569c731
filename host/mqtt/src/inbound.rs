//! What a client sends after its CONNECT: packets in, work and answers out. No I/O, no waiting.
//!
//! The connection decodes all packets of a read and gives them to [`Inbound::take`] one by one; then
//! it hands the publications to the hub as one batch, and requests and answers to those who wait for
//! them. Invariants:
//!
//! 1. Every PUBLISH of QoS 1 that is not refused is acknowledged once, in order of arrival.
//! 2. A packet that breaks a rule ends the connection; what came before it is still handed over.

use crate::acks::{Acks, Until};
use crate::error::Error;
use crate::outbound::Outbound;
use crate::translate::{Asked, Translator};
use crate::twin::{TwinRequest, TwinWish};
use bytes::BytesMut;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::method::{MethodAnswer, MethodId};
use weir_hub::Publication;
use weir_mqtt_codec::{Delivery, Packet, Publish, Subscribe, Unsubscribe};

/// Acknowledgements that may be owed before the client is not read any more: twice the messages that
/// may wait for their commit, because a patch of the twin that is slow holds back those of later ones.
const OWED: usize = 2 * limits::INTAKE_MESSAGES;

/// A change of the client's subscriptions, to be answered when it is on disk.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    Subscribe(Subscribe),
    Unsubscribe(Unsubscribe),
}

/// The receiving side of one session.
#[derive(Debug)]
pub(crate) struct Inbound {
    translator: Translator,
    acks: Acks,
    batch: Vec<Publication>,
    changes: Vec<Change>,
    requests: Vec<TwinRequest>,
    answers: Vec<(MethodId, MethodAnswer)>,
}

impl Inbound {
    /// For a client of this identity.
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            translator: Translator::new(identity),
            acks: Acks::default(),
            batch: Vec::new(),
            changes: Vec::new(),
            requests: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// True while the client may send more.
    pub(crate) fn has_room(&self) -> bool {
        self.acks.len() < OWED
    }

    /// Takes one packet; what can be answered at once is written to `out`.
    ///
    /// # Errors
    /// The connection is to end; [`Error::Disconnected`] is the good end.
    pub(crate) fn take(
        &mut self,
        packet: Packet,
        outbound: &mut Outbound,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        match packet {
            Packet::Publish(publish) => return self.publish(&publish, out),
            // One that nothing waits for is ignored: the delivery was given up meanwhile.
            Packet::Puback(id) => outbound.acknowledge(id),
            Packet::Subscribe(subscribe) => self.changes.push(Change::Subscribe(subscribe)),
            Packet::Unsubscribe(unsubscribe) => self.changes.push(Change::Unsubscribe(unsubscribe)),
            Packet::Pingreq => {
                Packet::Pingresp.encode(out)?;
            }
            Packet::Disconnect => return Err(Error::Disconnected),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) | Packet::UnsupportedConnect(_) => {
                return Err(Error::Unexpected { kind: packet.kind(), when: "twice" });
            }
            Packet::Pubrec(_) | Packet::Pubrel(_) | Packet::Pubcomp(_) => return Err(Error::Qos2),
            Packet::Connack(_) | Packet::Suback(_) | Packet::Unsuback(_) | Packet::Pingresp => {
                return Err(Error::Unexpected { kind: packet.kind(), when: "at all" });
            }
        }
        Ok(())
    }

    fn publish(&mut self, publish: &Publish, out: &mut BytesMut) -> Result<(), Error> {
        let (id, reliable) = match publish.delivery {
            Delivery::AtMostOnce => (None, false),
            Delivery::AtLeastOnce { id, .. } => (Some(id), true),
            Delivery::ExactlyOnce { .. } => return Err(Error::Qos2),
        };
        let until = match self.translator.read(publish)? {
            Asked::Telemetry(message) => {
                self.acks.owe(id, Until::Stored);
                self.batch.push(Publication { message, reliable });
                return Ok(());
            }
            Asked::TwinGet { rid } => {
                let rid = Some(rid.to_owned());
                self.requests.push(TwinRequest { rid, wish: TwinWish::Get });
                Until::Now
            }
            Asked::TwinPatch { rid } => {
                let wish = TwinWish::Report(publish.payload.clone());
                self.requests.push(TwinRequest { rid: rid.map(str::to_owned), wish });
                Until::Reported
            }
            Asked::MethodResponse { status, rid } => {
                // An id that was never given out names no call that anybody waits for.
                if let Ok(id) = rid.parse() {
                    let payload = publish.payload.clone();
                    self.answers.push((id, MethodAnswer { status, payload }));
                }
                Until::Now
            }
        };
        if until == Until::Reported || id.is_some() {
            self.acks.owe(id, until);
            self.acks.write(out);
        }
        Ok(())
    }

    /// The messages taken since the last call, in order of arrival.
    pub(crate) fn take_batch(&mut self) -> Vec<Publication> {
        // The next read will likely bring as many.
        let next = Vec::with_capacity(self.batch.len());
        std::mem::replace(&mut self.batch, next)
    }

    /// The changes of subscriptions asked for since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// The requests about the twin that came since the last call.
    pub(crate) fn take_requests(&mut self) -> Vec<TwinRequest> {
        std::mem::take(&mut self.requests)
    }

    /// The answers to direct methods that came since the last call.
    pub(crate) fn take_answers(&mut self) -> Vec<(MethodId, MethodAnswer)> {
        std::mem::take(&mut self.answers)
    }

    /// So many more of the messages handed over are on disk: acknowledges them.
    pub(crate) fn settled(&mut self, messages: usize, out: &mut BytesMut) {
        self.acks.stored(messages);
        self.acks.write(out);
    }

    /// The oldest patch of the twin is done: acknowledges it.
    pub(crate) fn reported(&mut self, out: &mut BytesMut) {
        self.acks.reported();
        self.acks.write(out);
    }
}

#[cfg(test)]
mod tests;
