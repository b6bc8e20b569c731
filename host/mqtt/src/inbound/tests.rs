use super::*;
use crate::sending::Sender;
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
        Self {
            inbound,
            outbound: Outbound::new(Sender::new(identity, 0, None)),
            out: BytesMut::new(),
        }
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
fn twin_requests_are_handed_on_in_order_at_either_qos() {
    let mut client = Client::new();
    for (qos, topic) in [
        (0, "$iothub/twin/GET/?$rid=r-1"),
        (0, "$iothub/twin/PATCH/properties/reported/?$rid=r-2"),
        (7, "$iothub/twin/GET/?$rid=r-3"),
        (8, "$iothub/twin/PATCH/properties/reported/?$rid=r-4&$version=3"),
        (9, "$iothub/twin/PATCH/properties/reported/"),
    ] {
        client.sends(publish(topic, qos)).unwrap();
    }
    let (get, report) = (TwinWish::Get, TwinWish::Report(Bytes::from_static(b"{}")));
    let of = |rid: &str, wish: &TwinWish| TwinRequest {
        rid: (!rid.is_empty()).then(|| rid.to_owned()),
        wish: wish.clone(),
    };
    let expected =
        [of("r-1", &get), of("r-2", &report), of("r-3", &get), of("r-4", &report), of("", &report)];
    assert_eq!(client.inbound.take_requests(), expected);
    assert_eq!(client.inbound.take_requests(), []);
}

#[test]
fn a_patch_is_acknowledged_when_it_is_done_and_a_get_at_once() {
    let mut client = Client::new();
    client.sends(publish("$iothub/twin/GET/?$rid=1", 1)).unwrap();
    assert_eq!(client.gets(), [Packet::Puback(id(1))]);
    // The first at QoS 0: it counts, although it is not acknowledged.
    client.sends(publish("$iothub/twin/PATCH/properties/reported/?$rid=2", 0)).unwrap();
    client.sends(publish("$iothub/twin/PATCH/properties/reported/?$rid=3", 3)).unwrap();
    client.inbound.reported(&mut client.out);
    assert_eq!(client.gets(), []);
    client.inbound.reported(&mut client.out);
    assert_eq!(client.gets(), [Packet::Puback(id(3))]);
}

#[test]
fn an_answer_to_a_method_is_handed_on_if_it_can_be_one() {
    let mut client = Client::new();
    for (qos, topic) in [
        (0, "$iothub/methods/res/200/?$rid=0123456789abcdef"),
        (7, "$iothub/methods/res/-3/?$rid=0123456789abcdef"),
        (8, "$iothub/methods/res/?$rid=0123456789abcdef"),
        (9, "$iothub/methods/res/200/?$rid=1"),
    ] {
        client.sends(publish(topic, qos)).unwrap();
    }
    assert_eq!(client.gets(), [7, 8, 9].map(|number| Packet::Puback(id(number))));
    let answers = client.inbound.take_answers();
    let statuses: Vec<i32> = answers.iter().map(|(_, answer)| answer.status).collect();
    assert_eq!(statuses, [200, -3, 400_000]);
    assert!(answers.iter().all(|(id, _)| id.to_string() == "0123456789abcdef"));
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
            // Patches are done in the moment, messages later.
            if client.inbound.take_requests().iter().any(|asked| asked.wish != TwinWish::Get) {
                client.inbound.reported(&mut client.out);
            }
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

proptest! {
    /// Damaged streams: each packet is taken or ends the connection, and answers stay in proportion.
    #[test]
    fn whatever_a_client_sends_nothing_panics(
        topics in prop::collection::vec(prop::sample::select(vec![
            EVENTS,
            "devices/E/modules/M/messages/events/%24.on=o&a=b%20c&%24.mid=1",
            "$iothub/twin/GET/?$rid=1",
            "$iothub/twin/PATCH/properties/reported/?$rid=1",
            "$iothub/methods/res/200/?$rid=1",
        ]), 1..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
    ) {
        let mut bytes = BytesMut::new();
        for (topic, number) in topics.iter().zip(1..) {
            publish(topic, number % 3 * number).encode(&mut bytes).unwrap();
            Packet::Puback(id(number)).encode(&mut bytes).unwrap();
        }
        for (place, bit) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
        }
        let sent = bytes.len();
        let mut client = Client::new();
        let limits = Limits { max_packet_bytes: 1 << 16, max_filters: 50 };
        while let Ok(Some(packet)) = decode(&mut bytes, &limits) {
            if client.sends(packet).is_err() {
                break;
            }
        }
        let waiting = client.inbound.take_batch().len();
        client.inbound.settled(waiting, &mut client.out);
        prop_assert!(client.out.len() <= 4 * sent);
    }
}
