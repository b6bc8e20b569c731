//! Laws of the codec, over packets and bytes that nobody thought of.
#![expect(clippy::unwrap_used, reason = "this file is tests and their helpers")]

#[path = "../fuzz/src/check.rs"]
mod check;

use bytes::{Bytes, BytesMut};
use check::{End, check};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use weir_mqtt_codec::{
    Connack, Connect, Delivery, Granted, Limits, Login, Packet, PacketId, Publish, Qos, Refusal,
    Suback, Subscribe, Subscription, Text, TopicFilter, TopicName, Unsubscribe, UnsupportedConnect,
    Will, decode, filter, missing_bytes,
};

fn text() -> impl Strategy<Value = Text> {
    "[^\0]{0,30}".prop_map(|text| Text::try_from(text).unwrap())
}

/// Few letters, so that filters match now and then; `$`, empty levels and other alphabets too.
const TOPIC: &str = "[$/]?([ab$é]{0,2}/){0,4}[ab\u{1f426}]{0,2}";

fn topic_name() -> impl Strategy<Value = TopicName> {
    prop_oneof![TOPIC, "[^\0+#]{1,40}"]
        .prop_filter("a name has a character", |text| !text.is_empty())
        .prop_map(|text| TopicName::try_from(text).unwrap())
}

fn topic_filter() -> impl Strategy<Value = TopicFilter> {
    "(([ab$é]{0,2}|\\+)/){0,4}([ab]{1,2}|\\+|#)"
        .prop_map(|text| TopicFilter::try_from(text).unwrap())
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<PacketId>()
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![Just(Qos::AtMostOnce), Just(Qos::AtLeastOnce), Just(Qos::ExactlyOnce)]
}

fn connect() -> impl Strategy<Value = Packet> {
    let will = (topic_name(), payload(), qos(), any::<bool>())
        .prop_map(|(topic, payload, qos, retain)| Will { topic, payload, qos, retain });
    let login = (text(), option::of(payload()))
        .prop_map(|(user_name, password)| Login { user_name, password });
    (text(), any::<bool>(), any::<u16>(), option::of(will), option::of(login)).prop_map(
        |(client_id, clean_session, keep_alive_secs, will, login)| {
            let connect = Connect { client_id, clean_session, keep_alive_secs, will, login };
            Packet::Connect(Box::new(connect))
        },
    )
}

fn connack() -> impl Strategy<Value = Packet> {
    prop_oneof![
        any::<bool>().prop_map(|session_present| Connack::Accepted { session_present }),
        prop_oneof![
            Just(Refusal::ProtocolVersion),
            Just(Refusal::IdentifierRejected),
            Just(Refusal::ServerUnavailable),
            Just(Refusal::BadUserNameOrPassword),
            Just(Refusal::NotAuthorized),
        ]
        .prop_map(Connack::Refused),
    ]
    .prop_map(Packet::Connack)
}

fn unsupported_connect() -> impl Strategy<Value = Packet> {
    let version = prop_oneof![
        (Just("MQTT"), any::<u8>().prop_filter("spoken", |level| *level != 4)),
        (Just("MQIsdp"), any::<u8>()),
    ];
    version.prop_map(|(name, level)| {
        let protocol_name = name.parse().unwrap();
        Packet::UnsupportedConnect(UnsupportedConnect { protocol_name, level })
    })
}

fn publish() -> impl Strategy<Value = Packet> {
    let delivery = prop_oneof![
        Just(Delivery::AtMostOnce),
        (packet_id(), any::<bool>()).prop_map(|(id, dup)| Delivery::AtLeastOnce { id, dup }),
        (packet_id(), any::<bool>()).prop_map(|(id, dup)| Delivery::ExactlyOnce { id, dup }),
    ];
    (topic_name(), payload(), delivery, any::<bool>()).prop_map(
        |(topic, payload, delivery, retain)| {
            Packet::Publish(Publish { topic, payload, delivery, retain })
        },
    )
}

fn subscription_packet() -> impl Strategy<Value = Packet> {
    let entry = (topic_filter(), qos()).prop_map(|(filter, qos)| Subscription { filter, qos });
    let granted = prop_oneof![qos().prop_map(Granted::Qos), Just(Granted::Failure)];
    prop_oneof![
        (packet_id(), vec(entry, 1..=8))
            .prop_map(|(id, subscriptions)| { Packet::Subscribe(Subscribe { id, subscriptions }) }),
        (packet_id(), vec(granted, 1..=8))
            .prop_map(|(id, results)| Packet::Suback(Suback { id, results })),
        (packet_id(), vec(topic_filter(), 1..=8))
            .prop_map(|(id, filters)| Packet::Unsubscribe(Unsubscribe { id, filters })),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        2 => connect(),
        1 => unsupported_connect(),
        1 => connack(),
        4 => publish(),
        3 => subscription_packet(),
        1 => packet_id().prop_map(Packet::Puback),
        1 => packet_id().prop_map(Packet::Pubrec),
        1 => packet_id().prop_map(Packet::Pubrel),
        1 => packet_id().prop_map(Packet::Pubcomp),
        1 => packet_id().prop_map(Packet::Unsuback),
        1 => prop_oneof![Just(Packet::Pingreq), Just(Packet::Pingresp), Just(Packet::Disconnect)],
    ]
}

fn encoded(packets: &[Packet]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packets.iter().for_each(|packet| packet.encode(&mut bytes).unwrap());
    bytes
}

/// What section 4.7 says, level by level, in the slowest way.
fn matches_by_definition(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches_by_definition(filter, topic),
        ([wanted, filter @ ..], [level, topic @ ..]) => {
            wanted == level && matches_by_definition(filter, topic)
        }
        ([], [_, ..]) | ([_, ..], []) => false,
    }
}

fn levels(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_again_however_it_is_split(packets in vec(packet(), 1..5)) {
        // `check` decodes the stream whole, in bytes and in threes, and compares.
        let (decoded, end) = check(&encoded(&packets));
        prop_assert_eq!(end, End::Clean);
        prop_assert_eq!(decoded, packets);
    }

    #[test]
    fn packet_cut_anywhere_is_incomplete_and_what_is_missing_is_known(
        packet in packet(),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = encoded(&[packet]);
        let cut = 1 + cut.index(bytes.len() - 1);
        let (decoded, end) = check(&bytes[..cut]);
        prop_assert!(decoded.is_empty());
        let End::Part(missing) = end else { panic!("{end:?}") };
        // Exact, once the first byte without its high bit has ended the remaining length.
        let header_is_whole = bytes[1..cut].iter().any(|byte| byte & 0x80 == 0);
        prop_assert_eq!(missing, if header_is_whole { bytes.len() - cut } else { 1 });
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_without_panic(bytes in vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }

    #[test]
    fn damaged_packets_are_decoded_or_refused_without_panic(
        packets in vec(packet(), 1..3),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&packets);
        for (place, byte) in damage {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check(&bytes);
    }

    #[test]
    fn packet_is_taken_at_the_limit_and_refused_one_byte_below(packet in publish()) {
        let bytes = encoded(&[packet]);
        let limits = |max_packet_bytes| Limits { max_packet_bytes, max_filters: 8 };
        prop_assert!(decode(&mut BytesMut::from(&bytes[..]), &limits(bytes.len())).is_ok());
        let header_bytes = 2 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
        // The fixed header alone is enough to refuse it.
        prop_assert!(missing_bytes(&bytes[..header_bytes], &limits(bytes.len() - 1)).is_err());
    }

    #[test]
    fn filter_matches_as_the_standard_defines(filter in topic_filter(), topic in topic_name()) {
        let begins_with_wildcard = filter.as_str().starts_with(['+', '#']);
        let expected = !(begins_with_wildcard && topic.as_str().starts_with('$'))
            && matches_by_definition(&levels(filter.as_str()), &levels(topic.as_str()));
        prop_assert_eq!(filter::matches(&filter, &topic), expected);
    }

    #[test]
    fn topic_matches_itself_and_nothing_else_without_wildcards(
        one in TOPIC.prop_filter("empty", |text| !text.is_empty()),
        other in TOPIC.prop_filter("empty", |text| !text.is_empty()),
    ) {
        prop_assert!(filter::matches(&one, &one));
        prop_assert_eq!(filter::matches(&one, &other), one == other);
    }

    #[test]
    fn levels_may_be_replaced_by_wildcards(
        topic in topic_name(),
        place in any::<prop::sample::Index>(),
    ) {
        let mut filter = levels(topic.as_str());
        let place = place.index(filter.len());
        let hidden = place == 0 && topic.as_str().starts_with('$');
        filter[place] = "+";
        prop_assert_eq!(filter::matches(filter.join("/"), &topic), !hidden);
        filter.truncate(place);
        filter.push("#");
        prop_assert_eq!(filter::matches(filter.join("/"), &topic), !hidden);
    }

    #[test]
    fn wildcards_are_taken_alone_in_their_level_only(filter in "[ab/+#]{1,8}") {
        let levels = levels(&filter);
        let last = levels.len() - 1;
        let correct = levels.iter().enumerate().all(|(place, level)| match *level {
            "+" => true,
            "#" => place == last,
            text => !text.contains(['+', '#']),
        });
        prop_assert_eq!(filter.parse::<TopicFilter>().is_ok(), correct);
    }
}

#[test]
fn topic_and_payload_lie_in_the_read_buffer() {
    let mut buffer = BytesMut::from(&b"\x32\x0b\x00\x03a/b\x00\x01data"[..]);
    let addresses = buffer.as_ptr_range();
    let packet = decode(&mut buffer, &check::LIMITS).unwrap();
    let Some(Packet::Publish(publish)) = packet else { panic!("{packet:?}") };
    assert_eq!(publish.topic.as_bytes(), b"a/b");
    assert_eq!(publish.payload, "data");
    assert_eq!(publish.delivery.packet_id(), PacketId::new(1));
    assert!(addresses.contains(&publish.topic.as_bytes().as_ptr()));
    assert!(addresses.contains(&publish.payload.as_ptr()));
}

#[test]
fn filters_do_not_keep_the_read_buffer() {
    let mut buffer = BytesMut::from(&b"\x82\x06\x00\x0a\x00\x01a\x01"[..]);
    let addresses = buffer.as_ptr_range();
    let packet = decode(&mut buffer, &check::LIMITS).unwrap();
    let Some(Packet::Subscribe(subscribe)) = packet else { panic!("{packet:?}") };
    assert!(!addresses.contains(&subscribe.subscriptions[0].filter.as_bytes().as_ptr()));
}

#[test]
fn connect_of_the_python_sdk_is_read_field_by_field() {
    let mut buffer = BytesMut::new();
    buffer.extend_from_slice(b"\x10\x1b\x00\x04MQTT\x04\xc0\x00\x3c");
    buffer.extend_from_slice(b"\x00\x03E/M\x00\x04H/E/\x00\x04sr=x");
    let packet = decode(&mut buffer, &check::LIMITS).unwrap();
    let Some(Packet::Connect(connect)) = packet else { panic!("{packet:?}") };
    assert_eq!(connect.client_id, "E/M");
    assert!(!connect.clean_session);
    assert_eq!(connect.keep_alive_secs, 60);
    assert_eq!(connect.will, None);
    let login = connect.login.unwrap();
    assert_eq!(login.user_name, "H/E/");
    assert_eq!(login.password.unwrap(), "sr=x");
}

#[test]
fn will_is_read_field_by_field() {
    let mut buffer = BytesMut::new();
    buffer.extend_from_slice(b"\x10\x16\x00\x04MQTT\x04\x2e\x00\x00");
    buffer.extend_from_slice(b"\x00\x01a\x00\x03w/t\x00\x02\x00\xff");
    let packet = decode(&mut buffer, &check::LIMITS).unwrap();
    let Some(Packet::Connect(connect)) = packet else { panic!("{packet:?}") };
    assert!(connect.clean_session);
    assert_eq!(connect.login, None);
    let will = connect.will.unwrap();
    assert_eq!(will.topic.as_str(), "w/t");
    assert_eq!(will.payload, &b"\x00\xff"[..]);
    assert_eq!((will.qos, will.retain), (Qos::AtLeastOnce, true));
}

#[test]
fn version_5_is_recognised_without_reading_what_it_alone_understands() {
    let mut buffer =
        BytesMut::from(&b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x3c\x02\x21\x00\xff\xff"[..]);
    let packet = decode(&mut buffer, &check::LIMITS).unwrap();
    let Some(Packet::UnsupportedConnect(connect)) = packet else { panic!("{packet:?}") };
    assert_eq!((connect.protocol_name.as_str(), connect.level), ("MQTT", 5));
}

#[test]
fn nothing_is_missing_from_a_packet_with_more_behind_it() {
    let bytes = b"\xc0\x00\x40\x02";
    assert_eq!(missing_bytes(bytes, &check::LIMITS), Ok(0));
    assert_eq!(missing_bytes(&[], &check::LIMITS), Ok(2));
}
