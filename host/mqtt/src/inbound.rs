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
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use weir_mqtt_codec::{Connack, Limits, PacketId, Qos, Refusal, decode};

    struct Client {
        inbound: Inbound,
        outbound: Outbound,
        out: BytesMut,
    }

    impl Client {
        fn new() -> Self {
            let identity = Identity::module("E".parse().unwrap(), "M".parse().unwrap());
            let inbound = Inbound::new(identity.clone());
            Self { inbound, outbound: Outbound::new(identity), out: BytesMut::new() }
        }

        fn sends(&mut self, packet: Packet) -> Result<(), Error> {
            self.inbound.take(packet, &mut self.outbound, &mut self.out)
        }

        fn gets(&mut self) -> Vec<Packet> {
            let limits = Limits { max_packet_bytes: 1 << 20, max_filters: 50 };
            std::iter::from_fn(|| decode(&mut self.out, &limits).unwrap()).collect()
        }
    }

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn publish(topic: &str, qos: u16) -> Packet {
        let delivery = match qos {
            0 => Delivery::AtMostOnce,
            number => Delivery::AtLeastOnce { id: id(number), dup: false },
        };
        let payload = Bytes::from_static(b"{}");
        Packet::Publish(Publish { topic: topic.parse().unwrap(), payload, delivery, retain: false })
    }

    const EVENTS: &str = "devices/E/modules/M/messages/events/";

    #[test]
    fn telemetry_is_acknowledged_when_it_is_on_disk() {
        let mut client = Client::new();
        client.sends(publish(EVENTS, 1)).unwrap();
        client.sends(publish(EVENTS, 0)).unwrap();
        let batch = client.inbound.take_batch();
        assert_eq!(batch.iter().map(|one| one.reliable).collect::<Vec<_>>(), [true, false]);
        assert_eq!(client.gets(), []);
        client.inbound.settled(2, &mut client.out);
        assert_eq!(client.gets(), [Packet::Puback(id(1))]);
    }

    #[test]
    fn a_twin_request_is_answered_at_either_qos() {
        for (qos, topic) in [
            (0, "$iothub/twin/GET/?$rid=r-1"),
            (7, "$iothub/twin/GET/?$rid=r-1"),
            (0, "$iothub/twin/PATCH/properties/reported/?$rid=r-1"),
            (7, "$iothub/twin/PATCH/properties/reported/?$rid=r-1&$version=3"),
        ] {
            let mut client = Client::new();
            client.sends(publish(topic, qos)).unwrap();
            let mut answers = client.gets();
            let Packet::Publish(answer) = answers.remove(0) else { panic!("{topic}") };
            assert_eq!(answer.topic.as_str(), "$iothub/twin/res/501/?$rid=r-1");
            assert_eq!(answer.delivery, Delivery::AtMostOnce);
            assert!(answer.payload.starts_with(b"{\"errorCode\":501000,"), "{topic}");
            let puback = (qos > 0).then_some(Packet::Puback(id(7)));
            assert_eq!(answers, puback.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_wants_no_answer_is_acknowledged_all_the_same() {
        for topic in ["$iothub/twin/PATCH/properties/reported/", "$iothub/methods/res/200/?$rid=1"]
        {
            let mut client = Client::new();
            client.sends(publish(topic, 7)).unwrap();
            assert_eq!(client.gets(), [Packet::Puback(id(7))], "{topic}");
            client.sends(publish(topic, 0)).unwrap();
            assert_eq!(client.gets(), [], "{topic}");
        }
    }

    #[test]
    fn a_request_is_acknowledged_after_the_messages_ahead_of_it() {
        let mut client = Client::new();
        client.sends(publish(EVENTS, 1)).unwrap();
        client.sends(publish("$iothub/methods/res/200/?$rid=1", 2)).unwrap();
        assert_eq!(client.gets(), []);
        client.inbound.settled(1, &mut client.out);
        assert_eq!(client.gets(), [Packet::Puback(id(1)), Packet::Puback(id(2))]);
    }

    #[test]
    fn a_get_without_request_id_and_a_topic_of_another_end_the_connection() {
        for topic in [
            "$iothub/twin/GET/",
            "devices/E/modules/N/messages/events/",
            "devices/E/messages/events/",
            "sensors/1",
            "é/x",
        ] {
            let mut client = Client::new();
            client.sends(publish(topic, 7)).unwrap_err();
            assert_eq!(client.gets(), [], "{topic}");
            assert_eq!(client.inbound.take_batch().len(), 0, "{topic}");
        }
    }

    #[test]
    fn packets_that_no_client_may_send_end_the_connection() {
        let qos2 = Publish {
            topic: EVENTS.parse().unwrap(),
            payload: Bytes::new(),
            delivery: Delivery::ExactlyOnce { id: id(1), dup: false },
            retain: false,
        };
        for packet in [
            Packet::Publish(qos2),
            Packet::Pubrec(id(1)),
            Packet::Pubrel(id(1)),
            Packet::Pubcomp(id(1)),
            Packet::Connack(Connack::Refused(Refusal::ServerUnavailable)),
            Packet::Unsuback(id(1)),
            Packet::Pingresp,
        ] {
            let mut client = Client::new();
            assert!(client.sends(packet.clone()).unwrap_err().is_fault(), "{packet:?}");
            assert_eq!(client.gets(), []);
        }
    }

    #[test]
    fn ping_is_answered_and_an_unknown_puback_ignored() {
        let mut client = Client::new();
        client.sends(Packet::Puback(id(3))).unwrap();
        client.sends(Packet::Pingreq).unwrap();
        assert_eq!(client.gets(), [Packet::Pingresp]);
        assert!(matches!(client.sends(Packet::Disconnect), Err(Error::Disconnected)));
    }

    proptest! {
        #[test]
        fn every_qos_1_publish_is_acknowledged_once_in_order(topics in prop::collection::vec((0usize..4, any::<bool>()), 1..60), cut in 1usize..9) {
            let all = [EVENTS, "$iothub/twin/GET/?$rid=1", "$iothub/twin/PATCH/properties/reported/", "$iothub/methods/res/1/?$rid=1"];
            let mut client = Client::new();
            let mut expected = Vec::new();
            for (at, (topic, is_qos_1)) in topics.iter().enumerate() {
                let number = if *is_qos_1 { u16::try_from(at).unwrap() + 1 } else { 0 };
                client.sends(publish(all[*topic], number)).unwrap();
                expected.extend(is_qos_1.then_some(number));
            }
            let mut waiting = client.inbound.take_batch().len();
            while waiting > 0 {
                let now = cut.min(waiting);
                client.inbound.settled(now, &mut client.out);
                waiting -= now;
            }
            let acked: Vec<u16> = client.gets().into_iter().filter_map(|packet| match packet { Packet::Puback(id) => Some(id.get()), _ => None }).collect();
            prop_assert_eq!(acked, expected);
        }
    }

    #[test]
    fn changes_of_subscriptions_keep_their_order() {
        let mut client = Client::new();
        let filter: weir_mqtt_codec::TopicFilter = "a".parse().unwrap();
        let subscription =
            weir_mqtt_codec::Subscription { filter: filter.clone(), qos: Qos::AtMostOnce };
        let subscribe = Subscribe { id: id(1), subscriptions: vec![subscription] };
        let unsubscribe = Unsubscribe { id: id(2), filters: vec![filter] };
        client.sends(Packet::Unsubscribe(unsubscribe.clone())).unwrap();
        client.sends(Packet::Subscribe(subscribe.clone())).unwrap();
        let changes = client.inbound.take_changes();
        assert_eq!(changes, [Change::Unsubscribe(unsubscribe), Change::Subscribe(subscribe)]);
        assert_eq!(client.gets(), [], "the answers wait for the disk");
    }
}
