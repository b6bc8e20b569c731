//! Packets that are refused, each with its error: one at least for every rule.

use weir_mqtt_codec::{Error, PacketKind};

use crate::cases::{Case, Expected, connect, packet, publish, subscribe, unsubscribe};

type Row = (&'static str, Vec<u8>, Error);

/// Packets that are refused.
pub(crate) fn bad() -> Vec<Case> {
    [headers(), lengths(), connects(), connect_fields(), publishes(), subscriptions(), small()]
        .into_iter()
        .flatten()
        .map(|(name, bytes, error)| Case { name, bytes, expected: Expected::Bad(error) })
        .collect()
}

fn headers() -> Vec<Row> {
    let flags = |kind, flags| Error::HeaderFlags { kind, flags };
    vec![
        ("type-0", vec![0x00, 0], Error::ReservedPacketType(0)),
        ("type-0-first-byte-alone", vec![0x0f], Error::ReservedPacketType(0)),
        ("type-15", vec![0xf0, 0], Error::ReservedPacketType(15)),
        ("flags-connect", vec![0x11], flags(PacketKind::Connect, 1)),
        ("flags-connack", vec![0x22, 2, 0, 0], flags(PacketKind::Connack, 2)),
        ("flags-puback", vec![0x42, 2, 0, 1], flags(PacketKind::Puback, 2)),
        ("flags-pubrec", vec![0x51, 2, 0, 1], flags(PacketKind::Pubrec, 1)),
        ("flags-pubrel-zero", vec![0x60, 2, 0, 1], flags(PacketKind::Pubrel, 0)),
        ("flags-pubrel-three", vec![0x63, 2, 0, 1], flags(PacketKind::Pubrel, 3)),
        ("flags-pubcomp", vec![0x78, 2, 0, 1], flags(PacketKind::Pubcomp, 8)),
        ("flags-subscribe-zero", vec![0x80], flags(PacketKind::Subscribe, 0)),
        ("flags-subscribe-ten", vec![0x8a], flags(PacketKind::Subscribe, 10)),
        ("flags-suback", vec![0x94], flags(PacketKind::Suback, 4)),
        ("flags-unsubscribe-zero", vec![0xa0], flags(PacketKind::Unsubscribe, 0)),
        ("flags-unsuback", vec![0xb2], flags(PacketKind::Unsuback, 2)),
        ("flags-pingreq", vec![0xc1, 0], flags(PacketKind::Pingreq, 1)),
        ("flags-pingresp", vec![0xd8, 0], flags(PacketKind::Pingresp, 8)),
        ("flags-disconnect", vec![0xe2, 0], flags(PacketKind::Disconnect, 2)),
        ("publish-qos3", vec![0x36], Error::PublishQos3),
        ("publish-qos3-dup", vec![0x3f], Error::PublishQos3),
        ("publish-qos0-dup", vec![0x38], Error::DupWithQos0),
        ("publish-qos0-dup-retain", vec![0x39], Error::DupWithQos0),
        ("tls-hello-on-plain-port", b"\x16\x03\x01".to_vec(), flags(PacketKind::Connect, 6)),
        ("http-get", b"GET / HTTP/1.1\r\n".to_vec(), flags(PacketKind::Puback, 7)),
        ("stream-bad-after-good", vec![0xc0, 0, 0xf0], Error::ReservedPacketType(15)),
    ]
}

fn lengths() -> Vec<Row> {
    let endless = Error::RemainingLengthTooLong;
    let too_large = |bytes| Error::PacketTooLarge { bytes, limit: 4096 };
    let wrong = |kind, expected, found| Error::BodyLength { kind, expected, found };
    vec![
        ("length-five-bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], endless.clone()),
        ("length-four-bytes-unfinished", vec![0x30, 0xff, 0xff, 0xff, 0x80], endless.clone()),
        ("length-padded-to-five", vec![0xc0, 0x80, 0x80, 0x80, 0x80, 0], endless),
        // CVE-2023-0809: a large packet is announced before CONNECT.
        ("length-bomb", vec![0x10, 0xff, 0xff, 0xff, 0x7f], too_large(268_435_460)),
        ("publish-length-bomb", vec![0x32, 0xff, 0xff, 0xff, 0x7f], too_large(268_435_460)),
        ("length-over-limit-by-one", vec![0x30, 0xfe, 0x1f], too_large(4097)),
        ("length-connack-three", vec![0x20, 3], wrong(PacketKind::Connack, 2, 3)),
        ("length-puback-zero", vec![0x40, 0], wrong(PacketKind::Puback, 2, 0)),
        ("length-puback-three", vec![0x40, 3], wrong(PacketKind::Puback, 2, 3)),
        ("length-pubrec-one", vec![0x50, 1], wrong(PacketKind::Pubrec, 2, 1)),
        ("length-pubrel-four", vec![0x62, 4], wrong(PacketKind::Pubrel, 2, 4)),
        ("length-pubcomp-three", vec![0x70, 3], wrong(PacketKind::Pubcomp, 2, 3)),
        ("length-unsuback-one", vec![0xb0, 1], wrong(PacketKind::Unsuback, 2, 1)),
        ("length-pingreq-one", vec![0xc0, 1], wrong(PacketKind::Pingreq, 0, 1)),
        (
            "length-pingreq-bomb",
            vec![0xc0, 0xff, 0xff, 0xff, 0x7f],
            wrong(PacketKind::Pingreq, 0, 268_435_455),
        ),
        ("length-pingresp-two", vec![0xd0, 2], wrong(PacketKind::Pingresp, 0, 2)),
        ("length-disconnect-two", vec![0xe0, 2], wrong(PacketKind::Disconnect, 0, 2)),
    ]
}

fn connects() -> Vec<Row> {
    let flags = |flags| connect(flags, &[b"a"]);
    let name = |name: &[u8]| packet(0x10, &[name, b"\x04\x02\x00\x3c\x00\x01a"].concat());
    vec![
        ("connect-name-lower-case", name(b"\x00\x04mqtt"), Error::ProtocolName),
        ("connect-name-other", name(b"\x00\x04HTTP"), Error::ProtocolName),
        ("connect-name-longer", name(b"\x00\x05MQTTT"), Error::ProtocolName),
        ("connect-name-shorter", name(b"\x00\x03MQT"), Error::ProtocolName),
        ("connect-name-empty", name(b"\x00\x00"), Error::ProtocolName),
        ("connect-name-not-utf8", name(b"\x00\x04MQ\xffT"), Error::NotUtf8 { at: 6 }),
        ("connect-name-null", name(b"\x00\x04MQT\x00"), Error::NullCharacter { at: 7 }),
        ("connect-reserved-flag", flags(0x03), Error::ConnectReservedFlag),
        ("connect-will-qos1-no-will", flags(0x0a), Error::WillQosWithoutWill),
        ("connect-will-qos3-no-will", flags(0x1a), Error::WillQosWithoutWill),
        ("connect-will-retain-no-will", flags(0x22), Error::WillRetainWithoutWill),
        ("connect-will-qos3", connect(0x1e, &[b"a", b"t", b"p"]), Error::WillQos3),
        ("connect-password-no-user", connect(0x42, &[b"a", b"p"]), Error::PasswordWithoutUserName),
        ("connect-empty-body", packet(0x10, b""), Error::Truncated { at: 2 }),
        ("connect-one-byte-body", packet(0x10, b"\x00"), Error::Truncated { at: 2 }),
        ("connect-name-cut", packet(0x10, b"\x00\x04MQ"), Error::Truncated { at: 2 }),
        ("connect-no-level", packet(0x10, b"\x00\x04MQTT"), Error::Truncated { at: 8 }),
        ("connect-no-flags", packet(0x10, b"\x00\x04MQTT\x04"), Error::Truncated { at: 9 }),
        (
            "connect-half-keep-alive",
            packet(0x10, b"\x00\x04MQTT\x04\x02\x00"),
            Error::Truncated { at: 10 },
        ),
        ("connect-no-client-id", connect(0x02, &[]), Error::Truncated { at: 12 }),
        ("connect-31-no-level", packet(0x10, b"\x00\x06MQIsdp"), Error::Truncated { at: 10 }),
    ]
}

fn connect_fields() -> Vec<Row> {
    let cut = |at| Error::Truncated { at };
    let trailing = [connect(0x02, &[b"a"]), b"zz".to_vec()].concat();
    let trailing = packet(0x10, &trailing[2..]);
    let short_under_long = packet(0x10, b"\x00\x04MQTT\x04\x02\x00\x3c\xff\xffa");
    vec![
        ("connect-client-id-not-utf8", connect(2, &[b"a\xc3"]), Error::NotUtf8 { at: 15 }),
        ("connect-client-id-null", connect(2, &[b"a\x00"]), Error::NullCharacter { at: 15 }),
        ("connect-client-id-surrogate", connect(2, &[b"\xed\xa0\x80"]), Error::NotUtf8 { at: 14 }),
        ("connect-client-id-overlong", connect(2, &[b"\xc0\xaf"]), Error::NotUtf8 { at: 14 }),
        // CVE-2026-25627: a short body under a long length.
        ("connect-client-id-longer-than-packet", short_under_long, cut(12)),
        ("connect-trailing", trailing, Error::TrailingBytes { at: 15 }),
        ("connect-user-not-announced", connect(2, &[b"a", b"u"]), Error::TrailingBytes { at: 15 }),
        ("connect-no-will-topic", connect(0x06, &[b"a"]), cut(15)),
        ("connect-no-will-payload", connect(0x06, &[b"a", b"t"]), cut(18)),
        ("connect-will-topic-empty", connect(0x06, &[b"a", b"", b"p"]), Error::TopicEmpty),
        (
            "connect-will-topic-wildcard",
            connect(0x06, &[b"a", b"t/#", b"p"]),
            Error::TopicWildcard { at: 19 },
        ),
        (
            "connect-will-topic-not-utf8",
            connect(0x06, &[b"a", b"t\xff", b"p"]),
            Error::NotUtf8 { at: 18 },
        ),
        ("connect-no-user", connect(0x82, &[b"a"]), cut(15)),
        ("connect-user-not-utf8", connect(0x82, &[b"a", b"\xfe"]), Error::NotUtf8 { at: 17 }),
        ("connect-user-null", connect(0x82, &[b"a", b"\0"]), Error::NullCharacter { at: 17 }),
        ("connect-no-password", connect(0xc2, &[b"a", b"u"]), cut(18)),
        (
            "connect-after-password",
            connect(0xc2, &[b"a", b"u", b"p", b""]),
            Error::TrailingBytes { at: 21 },
        ),
    ]
}

fn publishes() -> Vec<Row> {
    let kind = PacketKind::Publish;
    let wildcard = |at| Error::TopicWildcard { at };
    vec![
        ("publish-id-zero", publish(0x02, "a", b"\x00\x00x"), Error::ZeroPacketId { kind }),
        ("publish-id-zero-qos2", publish(0x04, "a", b"\x00\x00"), Error::ZeroPacketId { kind }),
        ("publish-no-id", publish(0x02, "a", b""), Error::Truncated { at: 5 }),
        ("publish-half-id", publish(0x02, "a", b"\x00"), Error::Truncated { at: 5 }),
        // CVE-2021-34432: an empty topic.
        ("publish-topic-empty", publish(0x00, "", b"x"), Error::TopicEmpty),
        ("publish-topic-empty-qos1", publish(0x02, "", b"\x00\x01x"), Error::TopicEmpty),
        ("publish-empty-body", packet(0x30, b""), Error::Truncated { at: 2 }),
        ("publish-half-topic-length", packet(0x30, b"\x00"), Error::Truncated { at: 2 }),
        ("publish-topic-cut", packet(0x30, b"\x00\x05ab"), Error::Truncated { at: 2 }),
        ("publish-topic-longest-cut", packet(0x32, b"\xff\xffab"), Error::Truncated { at: 2 }),
        ("publish-topic-plus", publish(0x00, "a/+/b", b""), wildcard(6)),
        ("publish-topic-plus-in-level", publish(0x00, "a+", b""), wildcard(5)),
        ("publish-topic-hash", publish(0x00, "a/#", b""), wildcard(6)),
        ("publish-topic-hash-alone", publish(0x00, "#", b""), wildcard(4)),
        ("publish-topic-null", publish(0x00, "a\0", b""), Error::NullCharacter { at: 5 }),
        ("publish-topic-not-utf8", publish(0x00, b"a\xff", b""), Error::NotUtf8 { at: 5 }),
        ("publish-topic-lone-continuation", publish(0, b"\x80", b""), Error::NotUtf8 { at: 4 }),
        ("publish-topic-character-cut", publish(0, b"\xe2\x82", b""), Error::NotUtf8 { at: 4 }),
        ("publish-topic-surrogate", publish(0, b"\xed\xbf\xbf", b""), Error::NotUtf8 { at: 4 }),
        (
            "publish-topic-over-10ffff",
            publish(0, b"\xf4\x90\x80\x80", b""),
            Error::NotUtf8 { at: 4 },
        ),
        ("publish-topic-overlong-slash", publish(0, b"\xc0\xaf", b""), Error::NotUtf8 { at: 4 }),
    ]
}

fn subscriptions() -> Vec<Row> {
    let zero = |kind| Error::ZeroPacketId { kind };
    let hash = |at| Error::FilterHash { at };
    let too_many = |kind| Error::TooManyFilters { kind, limit: 8 };
    let qos = |at, value| Error::SubscriptionQos { at, value };
    let one = |filter: &[u8]| subscribe(&[(filter, 1)]);
    vec![
        ("subscribe-empty", subscribe(&[]), Error::SubscribeEmpty),
        ("subscribe-id-zero", packet(0x82, b"\0\0\0\x01a\x01"), zero(PacketKind::Subscribe)),
        ("subscribe-no-id", packet(0x82, b""), Error::Truncated { at: 2 }),
        ("subscribe-half-id", packet(0x82, b"\x00"), Error::Truncated { at: 2 }),
        ("subscribe-no-qos", packet(0x82, b"\0\x0a\0\x01a"), Error::Truncated { at: 7 }),
        ("subscribe-filter-cut", packet(0x82, b"\0\x0a\0\x09a\x01"), Error::Truncated { at: 4 }),
        (
            "subscribe-one-byte-more",
            packet(0x82, b"\0\x0a\0\x01a\x01z"),
            Error::Truncated { at: 8 },
        ),
        ("subscribe-qos3", subscribe(&[(b"a", 3)]), qos(7, 3)),
        ("subscribe-qos-reserved-bit", subscribe(&[(b"a", 0x81)]), qos(7, 0x81)),
        ("subscribe-mqtt-5-option", subscribe(&[(b"a", 0x05)]), qos(7, 5)),
        ("subscribe-filter-empty", one(b""), Error::FilterEmpty),
        ("subscribe-hash-not-last", one(b"a/#/b"), hash(8)),
        ("subscribe-hash-then-slash", one(b"#/"), hash(6)),
        ("subscribe-hash-in-level", one(b"a#"), hash(7)),
        ("subscribe-two-hashes", one(b"##"), hash(6)),
        ("subscribe-plus-in-level", one(b"a/b+"), Error::FilterPlus { at: 9 }),
        ("subscribe-plus-before-text", one(b"+a/b"), Error::FilterPlus { at: 6 }),
        ("subscribe-two-plus", one(b"++"), Error::FilterPlus { at: 6 }),
        ("subscribe-filter-null", one(b"a\0"), Error::NullCharacter { at: 7 }),
        ("subscribe-filter-not-utf8", one(b"\xff/a"), Error::NotUtf8 { at: 6 }),
        ("subscribe-second-filter-bad", subscribe(&[(b"a", 1), (b"#b", 1)]), hash(10)),
        ("subscribe-too-many", subscribe(&[(&b"a"[..], 1); 9]), too_many(PacketKind::Subscribe)),
        ("suback-empty", packet(0x90, b"\0\x0a"), Error::SubackEmpty),
        ("suback-id-zero", packet(0x90, b"\0\0\x01"), zero(PacketKind::Suback)),
        ("suback-code-3", packet(0x90, b"\0\x0a\x03"), Error::SubackCode { at: 4, value: 3 }),
        (
            "suback-code-81",
            packet(0x90, b"\0\x0a\x01\x81"),
            Error::SubackCode { at: 5, value: 0x81 },
        ),
        (
            "suback-nine",
            packet(0x90, &[0, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
            too_many(PacketKind::Suback),
        ),
        ("unsubscribe-empty", unsubscribe(&[]), Error::UnsubscribeEmpty),
        ("unsubscribe-id-zero", packet(0xa2, b"\0\0\0\x01a"), zero(PacketKind::Unsubscribe)),
        ("unsubscribe-filter-empty", unsubscribe(&[b""]), Error::FilterEmpty),
        ("unsubscribe-filter-cut", packet(0xa2, b"\0\x0b\0\x05a"), Error::Truncated { at: 4 }),
        ("unsubscribe-half-length", packet(0xa2, b"\0\x0b\0\x01a\0"), Error::Truncated { at: 7 }),
        ("unsubscribe-hash-not-last", unsubscribe(&[b"a/#/b"]), hash(8)),
        ("unsubscribe-plus-in-level", unsubscribe(&[b"a+"]), Error::FilterPlus { at: 7 }),
        ("unsubscribe-too-many", unsubscribe(&[&b"a"[..]; 9]), too_many(PacketKind::Unsubscribe)),
    ]
}

fn small() -> Vec<Row> {
    let zero = |kind| Error::ZeroPacketId { kind };
    vec![
        ("puback-id-zero", vec![0x40, 2, 0, 0], zero(PacketKind::Puback)),
        ("pubrec-id-zero", vec![0x50, 2, 0, 0], zero(PacketKind::Pubrec)),
        ("pubrel-id-zero", vec![0x62, 2, 0, 0], zero(PacketKind::Pubrel)),
        ("pubcomp-id-zero", vec![0x70, 2, 0, 0], zero(PacketKind::Pubcomp)),
        ("unsuback-id-zero", vec![0xb0, 2, 0, 0], zero(PacketKind::Unsuback)),
        ("connack-flags", vec![0x20, 2, 2, 0], Error::ConnackFlags { flags: 2 }),
        ("connack-flags-all", vec![0x20, 2, 0xff, 0], Error::ConnackFlags { flags: 0xff }),
        ("connack-code-6", vec![0x20, 2, 0, 6], Error::ConnackCode { code: 6 }),
        ("connack-code-255", vec![0x20, 2, 0, 255], Error::ConnackCode { code: 255 }),
        ("connack-session-with-refusal", vec![0x20, 2, 1, 5], Error::SessionPresentWithRefusal),
    ]
}
