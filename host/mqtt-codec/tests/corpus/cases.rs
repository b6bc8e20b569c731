//! Good and incomplete packets, and the small language they are written in.

use weir_mqtt_codec::{Error, PacketKind};

/// One file of the corpus.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) expected: Expected,
}

/// How a stream ends.
pub(crate) enum Expected {
    /// With these packets, and nothing after them.
    Good(Vec<PacketKind>),
    /// With so many bytes missing.
    Part(usize),
    /// With this error.
    Bad(Error),
}

/// A packet with this first byte; the remaining length is put in.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut rest = body.len();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap();
        rest >>= 7;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

/// A field with its two-byte length.
pub(crate) fn field(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut bytes = u16::try_from(content.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes
}

/// A CONNECT of level 4 with keep-alive 60 and these fields behind it.
pub(crate) fn connect(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.extend_from_slice(&[flags, 0, 60]);
    fields.iter().for_each(|content| body.extend(field(content)));
    packet(0x10, &body)
}

/// A PUBLISH; `after_topic` is the id (if any) and the payload.
pub(crate) fn publish(flags: u8, topic: impl AsRef<[u8]>, after_topic: &[u8]) -> Vec<u8> {
    packet(0x30 | flags, &[&field(topic), after_topic].concat())
}

/// A SUBSCRIBE with id 10.
pub(crate) fn subscribe(filters: &[(&[u8], u8)]) -> Vec<u8> {
    let mut body = vec![0, 10];
    for (filter, qos) in filters {
        body.extend(field(filter));
        body.push(*qos);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE with id 11.
pub(crate) fn unsubscribe(filters: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0, 11];
    filters.iter().for_each(|filter| body.extend(field(filter)));
    packet(0xa2, &body)
}

fn one(kind: PacketKind, cases: Vec<(&'static str, Vec<u8>)>) -> Vec<Case> {
    let case = |(name, bytes)| Case { name, bytes, expected: Expected::Good(vec![kind]) };
    cases.into_iter().map(case).collect()
}

/// Packets that are taken.
pub(crate) fn good() -> Vec<Case> {
    [good_connects(), good_publishes(), good_subscriptions(), good_small(), good_streams()]
        .into_iter()
        .flatten()
        .collect()
}

fn good_connects() -> Vec<Case> {
    let python_sdk: &[&[u8]] = &[
        b"weir-edge/sender",
        b"hub.weir.test/weir-edge/sender/?api-version=2019-10-01&DeviceClientType=py",
        b"SharedAccessSignature sr=hub.weir.test%2Fdevices%2Fweir-edge&sig=x%3D&se=1795206674",
    ];
    let node_sdk_x509: &[&[u8]] =
        &[b"leaf-1", b"hub.weir.test/leaf-1/?api-version=2021-04-12&DeviceClientType=node"];
    one(
        PacketKind::Connect,
        vec![
            ("connect-python-sdk", connect(0xc0, python_sdk)),
            ("connect-node-sdk-x509", connect(0x80, node_sdk_x509)),
            ("connect-least", connect(0x00, &[b"a"])),
            ("connect-no-client-id-clean", connect(0x02, &[b""])),
            ("connect-no-client-id-kept", connect(0x00, &[b""])),
            ("connect-will-qos0", connect(0x06, &[b"a", b"w/t", b"gone"])),
            ("connect-will-qos1", connect(0x0e, &[b"a", b"w/t", b"gone"])),
            ("connect-will-qos2", connect(0x16, &[b"a", b"w/t", b"gone"])),
            ("connect-will-retain", connect(0x26, &[b"a", b"w/t", b"gone"])),
            ("connect-will-empty-payload", connect(0x06, &[b"a", b"w/t", b""])),
            ("connect-will-binary-payload", connect(0x06, &[b"a", b"w/t", b"\x00\xff\xfe"])),
            ("connect-all-fields", connect(0xf6, &[b"a", b"w/t", b"gone", b"u", b"p"])),
            ("connect-user-only", connect(0x82, &[b"a", b"user"])),
            ("connect-empty-user", connect(0x82, &[b"a", b""])),
            ("connect-empty-password", connect(0xc2, &[b"a", b"u", b""])),
            ("connect-binary-password", connect(0xc2, &[b"a", b"u", b"\x00\xff\x80"])),
            ("connect-utf8-client-id", connect(0x02, &["möwe-\u{1f426}".as_bytes()])),
            ("connect-line-break-in-client-id", connect(0x02, &[b"a\nb"])),
            ("connect-odd-mqtt-31", packet(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a")),
            ("connect-odd-mqtt-5", packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a")),
            ("connect-odd-bridge", packet(0x10, b"\x00\x04MQTT\x84\x02\x00\x3c\x00\x01a")),
            ("connect-odd-level-0", packet(0x10, b"\x00\x04MQTT\x00")),
            ("connect-odd-old-name-level-4", packet(0x10, b"\x00\x06MQIsdp\x04\x02\x00\x3c")),
        ],
    )
}

fn good_publishes() -> Vec<Case> {
    let azure = "devices/weir-edge/modules/sender/messages/events/\
                 %24.on=out1&%24.ct=application%2Fjson&%24.ce=utf-8&colour=blue";
    let two_byte_length = publish(0x00, "t", &[b'x'; 200]);
    let three_byte_length_padded = [&b"\x30\x84\x80\x00\x00\x01t"[..], b"1"].concat();
    one(
        PacketKind::Publish,
        vec![
            ("publish-azure-telemetry", publish(0x02, azure, b"\x00\x01{\"temp\": 21}")),
            ("publish-twin-get", publish(0x02, "$iothub/twin/GET/?$rid=1", b"\x00\x03 ")),
            ("publish-method-answer", publish(0, "$iothub/methods/res/200/?$rid=1", b"{}")),
            ("publish-qos0", publish(0x00, "a/b", b"21")),
            ("publish-qos0-retain", publish(0x01, "a/b", b"21")),
            ("publish-qos0-no-payload", publish(0x00, "a/b", b"")),
            ("publish-qos1", publish(0x02, "a/b", b"\x00\x0121")),
            ("publish-qos1-retain", publish(0x03, "a/b", b"\x00\x0121")),
            ("publish-qos1-dup", publish(0x0a, "a/b", b"\x00\x0121")),
            ("publish-qos1-dup-retain", publish(0x0b, "a/b", b"\x00\x0121")),
            ("publish-qos1-no-payload", publish(0x02, "a/b", b"\xff\xff")),
            ("publish-qos2", publish(0x04, "a/b", b"\x12\x3421")),
            ("publish-qos2-dup-retain", publish(0x0d, "a/b", b"\x12\x3421")),
            ("publish-binary-payload", publish(0x00, "a", b"\x00\xff\xc3\x28")),
            ("publish-topic-starts-not-ascii", publish(0x00, "é/x", b"1")),
            ("publish-topic-slash", publish(0x00, "/", b"1")),
            ("publish-topic-empty-levels", publish(0x00, "//a//", b"1")),
            ("publish-topic-space", publish(0x00, " ", b"1")),
            ("publish-topic-four-byte-character", publish(0x00, "\u{10ffff}", b"1")),
            ("publish-topic-byte-order-mark", publish(0x00, "\u{feff}a", b"1")),
            ("publish-topic-control-character", publish(0x00, "a\u{1}b", b"1")),
            ("publish-topic-escaped-plus", publish(0x00, "a/%2B/b", b"1")),
            ("publish-two-byte-length", two_byte_length),
            ("publish-odd-length-padded", three_byte_length_padded),
            ("publish-at-packet-limit", publish(0x00, "t", &[b'x'; 4096 - 6])),
        ],
    )
}

fn good_subscriptions() -> Vec<Case> {
    let eight: Vec<(&[u8], u8)> = vec![(b"a/b", 1); 8];
    let subscribes = vec![
        ("subscribe-methods", subscribe(&[(b"$iothub/methods/POST/#", 0)])),
        ("subscribe-inputs", subscribe(&[(b"devices/weir-edge/modules/receiver/inputs/#", 1)])),
        ("subscribe-qos2", subscribe(&[(b"a", 2)])),
        ("subscribe-hash", subscribe(&[(b"#", 0)])),
        ("subscribe-plus", subscribe(&[(b"+", 0)])),
        ("subscribe-plus-levels", subscribe(&[(b"+/a/+/b/+", 1)])),
        ("subscribe-slash", subscribe(&[(b"/", 1)])),
        ("subscribe-plus-hash", subscribe(&[(b"/+/#", 1)])),
        ("subscribe-several", subscribe(&[(b"a/b", 0), (b"c/#", 1), (b"+", 2)])),
        ("subscribe-same-twice", subscribe(&[(b"a", 0), (b"a", 1)])),
        ("subscribe-shared", subscribe(&[(b"$share/group/a/#", 1)])),
        ("subscribe-utf8", subscribe(&[("é/+/ü".as_bytes(), 1)])),
        ("subscribe-at-filter-limit", subscribe(&eight)),
    ];
    let subacks = vec![
        ("suback-each-code", packet(0x90, b"\x00\x0a\x00\x01\x02\x80")),
        ("suback-failure", packet(0x90, b"\x00\x0a\x80")),
        ("suback-at-filter-limit", packet(0x90, b"\x00\x0a\x01\x01\x01\x01\x01\x01\x01\x01")),
    ];
    let unsubscribes = vec![
        ("unsubscribe", unsubscribe(&[b"a/b"])),
        ("unsubscribe-several", unsubscribe(&[b"a/b", b"#", b"+/c"])),
        ("unsubscribe-at-filter-limit", unsubscribe(&[&b"a"[..]; 8])),
    ];
    let mut cases = one(PacketKind::Subscribe, subscribes);
    cases.extend(one(PacketKind::Suback, subacks));
    cases.extend(one(PacketKind::Unsubscribe, unsubscribes));
    cases
}

fn good_small() -> Vec<Case> {
    let connacks = vec![
        ("connack-accepted", vec![0x20, 2, 0, 0]),
        ("connack-session-present", vec![0x20, 2, 1, 0]),
        ("connack-refused-1", vec![0x20, 2, 0, 1]),
        ("connack-refused-2", vec![0x20, 2, 0, 2]),
        ("connack-refused-3", vec![0x20, 2, 0, 3]),
        ("connack-refused-4", vec![0x20, 2, 0, 4]),
        ("connack-refused-5", vec![0x20, 2, 0, 5]),
    ];
    let mut cases = one(PacketKind::Connack, connacks);
    for (kind, name, bytes) in [
        (PacketKind::Puback, "puback", vec![0x40, 2, 0, 1]),
        (PacketKind::Puback, "puback-highest-id", vec![0x40, 2, 0xff, 0xff]),
        (PacketKind::Puback, "puback-odd-length-padded", vec![0x40, 0x82, 0, 1, 0]),
        (PacketKind::Pubrec, "pubrec", vec![0x50, 2, 0, 1]),
        (PacketKind::Pubrel, "pubrel", vec![0x62, 2, 0, 1]),
        (PacketKind::Pubcomp, "pubcomp", vec![0x70, 2, 0, 1]),
        (PacketKind::Unsuback, "unsuback", vec![0xb0, 2, 0, 11]),
        (PacketKind::Pingreq, "pingreq", vec![0xc0, 0]),
        (PacketKind::Pingreq, "pingreq-odd-length-padded", vec![0xc0, 0x80, 0x80, 0x80, 0]),
        (PacketKind::Pingresp, "pingresp", vec![0xd0, 0]),
        (PacketKind::Disconnect, "disconnect", vec![0xe0, 0]),
    ] {
        cases.extend(one(kind, vec![(name, bytes)]));
    }
    cases
}

fn good_streams() -> Vec<Case> {
    use PacketKind::{Connect, Disconnect, Pingreq, Puback, Publish, Subscribe};
    let session = [
        connect(0x00, &[b"a"]),
        subscribe(&[(b"a/#", 1)]),
        publish(0x02, "a/b", b"\x00\x0121"),
        publish(0x02, "a/b", b"\x00\x0222"),
        packet(0xc0, b""),
        packet(0xe0, b""),
    ];
    let pubacks = [packet(0x40, &[0, 1]), packet(0x40, &[0, 2]), packet(0x40, &[0, 3])];
    let stream = |name, kinds: &[PacketKind], bytes| {
        let expected = Expected::Good(kinds.to_vec());
        Case { name, bytes, expected }
    };
    let session_kinds = [Connect, Subscribe, Publish, Publish, Pingreq, Disconnect];
    vec![
        stream("stream-session", &session_kinds, session.concat()),
        stream("stream-pubacks", &[Puback, Puback, Puback], pubacks.concat()),
        stream("stream-empty", &[], Vec::new()),
    ]
}

/// Packets that may become good ones when more bytes come.
pub(crate) fn part() -> Vec<Case> {
    let connect = connect(0xc2, &[b"client", b"user", b"password"]);
    let publish = publish(0x02, "a/b", b"\x00\x01payload");
    let after_one = [&[0xc0, 0], &publish[..5]].concat();
    [
        ("connect-one-byte", connect[..1].to_vec(), 1),
        ("connect-header-only", connect[..2].to_vec(), connect.len() - 2),
        ("connect-in-protocol-name", connect[..6].to_vec(), connect.len() - 6),
        ("connect-before-client-id", connect[..12].to_vec(), connect.len() - 12),
        ("connect-in-password", connect[..connect.len() - 3].to_vec(), 3),
        ("publish-one-byte", publish[..1].to_vec(), 1),
        ("publish-header-only", publish[..2].to_vec(), publish.len() - 2),
        ("publish-in-topic-length", publish[..3].to_vec(), publish.len() - 3),
        ("publish-in-topic", publish[..5].to_vec(), publish.len() - 5),
        ("publish-before-id", publish[..7].to_vec(), publish.len() - 7),
        ("publish-in-id", publish[..8].to_vec(), publish.len() - 8),
        ("publish-before-payload", publish[..9].to_vec(), publish.len() - 9),
        ("publish-last-byte-missing", publish[..publish.len() - 1].to_vec(), 1),
        ("publish-length-one-byte", vec![0x30, 0xff], 1),
        ("publish-length-two-bytes", vec![0x30, 0xff, 0xff], 1),
        ("publish-length-three-bytes", vec![0x30, 0xff, 0xff, 0xff], 1),
        ("publish-at-packet-limit", vec![0x30, 0xfd, 0x1f], 4093),
        ("publish-bad-topic-not-yet-seen", b"\x30\x05\x00\x01".to_vec(), 3),
        ("publish-wildcard-before-the-end", b"\x30\x05\x00\x01#".to_vec(), 2),
        ("puback-without-id", vec![0x40, 2], 2),
        ("puback-half-id", vec![0x40, 2, 0], 1),
        ("connack-half", vec![0x20, 2, 1], 1),
        ("subscribe-header-only", vec![0x82, 6], 6),
        ("subscribe-before-qos", b"\x82\x06\x00\x0a\x00\x01a".to_vec(), 1),
        ("unsubscribe-in-filter", b"\xa2\x06\x00\x0b\x00\x02a".to_vec(), 1),
        ("pingreq-one-byte", vec![0xc0], 1),
        ("disconnect-one-byte", vec![0xe0], 1),
        ("pingreq-length-unfinished", vec![0xc0, 0x80], 1),
        ("stream-publish-after-pingreq", after_one, publish.len() - 5),
    ]
    .into_iter()
    .map(|(name, bytes, missing)| Case { name, bytes, expected: Expected::Part(missing) })
    .collect()
}
