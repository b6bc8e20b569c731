//! What a client sends after its CONNECT: packets in, work and answers out. No I/O, no waiting.
//!
//! The connection decodes all packets of a read and gives them to [`Inbound::take`] one by one; then
//! it hands the publications to the hub as one batch. Invariants:
//!
//! 1. Every PUBLISH of QoS 1 that is not refused is acknowledged once, in order of arrival.
//! 2. A packet that breaks a rule ends the connection; what came before it is still handed over.

use crate::acks::Acks;
use crate::error::Error;
use crate::outbound::Outbound;
use crate::translate::{Asked, Translator};
use bytes::{BufMut, BytesMut};
use weir_core::id::Identity;
use weir_core::topic::twin_response_topic;
use weir_hub::Publication;
use weir_mqtt_codec::{
    Delivery, Packet, Publish, Subscribe, TopicName, Unsubscribe, put_publish_header,
};

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
}

impl Inbound {
    /// For a client of this identity.
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            translator: Translator::new(identity),
            acks: Acks::default(),
            batch: Vec::new(),
            changes: Vec::new(),
        }
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
        match self.translator.read(publish)? {
            Asked::Telemetry(message) => {
                self.acks.wait(id);
                self.batch.push(Publication { message, reliable });
                return Ok(());
            }
            Asked::Twin { rid: Some(rid) } => refuse_twin(rid, out)?,
            // A patch that wants no answer, and the answer to a call that was never made.
            Asked::Twin { rid: None } | Asked::MethodResponse => {}
        }
        if let Some(id) = id {
            self.acks.ready(id);
            self.acks.settle(0, out);
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

    /// So many more of the messages handed over are on disk: acknowledges them.
    pub(crate) fn settled(&mut self, messages: usize, out: &mut BytesMut) {
        self.acks.settle(messages, out);
    }
}

/// Node looks at the body only, Python at the status only: both must say that it failed.
const NO_TWINS: &[u8] = br#"{"errorCode":501000,"message":"twins are not supported yet"}"#;

fn refuse_twin(rid: &str, out: &mut BytesMut) -> Result<(), Error> {
    let topic = TopicName::try_from(twin_response_topic(501, rid, None))?;
    put_publish_header(&topic, Delivery::AtMostOnce, false, NO_TWINS.len(), out)?;
    out.put_slice(NO_TWINS);
    Ok(())
}

#[cfg(test)]
mod tests;
