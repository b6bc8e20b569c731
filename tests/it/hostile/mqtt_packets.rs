//! Families of packets that are wrong in their form: texts, lengths, sizes and pace.

use super::mqtt::{
    OTHER, Who, connect, connected, connected_for, field, good_connect, packet, publish,
    remaining_length, subscribe, unknown,
};
use super::{Case, End, How, Said};
use std::time::Duration;
use weir_core::limits;

/// Texts that are no UTF-8, or that MQTT forbids.
const BAD_TEXTS: &[(&str, &[u8], &str)] = &[
    ("a low surrogate", b"a\xed\xb0\x80", "MQTT-1.5.3-1"),
    ("a high surrogate", b"\xed\xa0\x80b", "MQTT-1.5.3-1"),
    ("a NUL", b"a\0b", "MQTT-1.5.3-2"),
    ("an overlong slash", b"a\xc0\xafb", "MQTT-1.5.3-1"),
    ("an overlong NUL", b"\xe0\x80\x80", "MQTT-1.5.3-1"),
    ("a lone continuation", b"a\x80", "MQTT-1.5.3-1"),
    ("a character cut short", b"a\xe2\x82", "MQTT-1.5.3-1"),
    ("a character beyond U+10FFFF", b"\xf4\x90\x80\x80", "MQTT-1.5.3-1"),
    ("a byte that is never UTF-8", b"a\xfe", "MQTT-1.5.3-1"),
    ("UTF-16", b"\xff\xfea\0", "MQTT-1.5.3-1"),
];

/// A CONNECT, and the same with one text put in.
fn texts(who: &Who, text: &[u8]) -> Vec<(&'static str, bool, Vec<u8>)> {
    let filter = [&[0, 1][..], &field(text), &[1]].concat();
    let filters = [&[0, 1][..], &field("a/b"), &[1], &field(text), &[1]].concat();
    let own = format!("devices/{}/messages/events/", who.device);
    let own = [own.as_bytes(), text].concat();
    vec![
        ("client id", false, connect(0x02, 60, &[text])),
        ("user name", false, connect(0x82, 60, &[b"a", text])),
        ("will topic", false, connect(0x06, 60, &[b"a", text, b"p"])),
        ("topic", true, publish(text, b"{}")),
        ("property bag", true, publish(own, b"{}")),
        ("filter", true, packet(0x82, &filter)),
        ("second filter", true, packet(0x82, &filters)),
        ("filter to leave", true, packet(0xa2, &filter[..filter.len() - 1])),
    ]
}

pub(crate) fn cases(who: &Who) -> Vec<Case> {
    let (first, known) = (unknown(), connected(&who.device));
    let closed = || End::Closed(Said::Nothing);
    let mut cases = Vec::new();
    for (what, text, rule) in BAD_TEXTS {
        for (place, is_after, bytes) in texts(who, text) {
            let opening = if is_after { &known } else { &first };
            cases.push(Case::new(format!("{what} in a {place}"), rule, opening, bytes, closed()));
        }
    }
    for (name, bytes) in sizes(who) {
        cases.push(Case::new(name, "MQTT 2.2.3", &known, bytes, closed()));
    }
    for (kind, name) in (0..16).zip(KINDS) {
        // Of every kind of packet: 256 MiB announced, and nothing more.
        let mut bomb = vec![kind << 4 | if [6, 8, 10].contains(&kind) { 2 } else { 0 }];
        bomb.extend(remaining_length(268_435_455));
        for (opening, when) in [(&first, "before"), (&known, "after")] {
            let name = format!("256 MiB of {name} announced {when} CONNECT");
            let rule = "MQTT 2.2.3, CVE-2023-0809";
            cases.push(Case::new(name, rule, opening, bomb.clone(), closed()));
        }
    }
    let silent = connected_for(&who.device, 1);
    cases.push(Case::new(
        "silence past the keep-alive",
        "MQTT-3.1.2-24",
        &silent,
        vec![],
        closed(),
    ));
    let again = good_connect(OTHER, 60);
    cases.push(Case::new("a second CONNECT, of another", "MQTT-3.1.0-2", &known, again, closed()));
    let again = good_connect(&who.device, 60);
    cases.push(Case::new("a second CONNECT, the same", "MQTT-3.1.0-2", &known, again, closed()));
    let late = [vec![0xe0, 0], publish("devices/x/messages/events/", b"{}")].concat();
    cases.push(Case::new("a PUBLISH after DISCONNECT", "MQTT-3.14.4-2", &known, late, closed()));
    let five = [&[0xe0, 1, 0x04][..], &[0xe0, 2, 0x9d, 0][..], &[0xf0, 2, 0x18, 0][..]];
    for (name, bytes) in
        ["DISCONNECT with a reason", "DISCONNECT with properties", "AUTH"].iter().zip(five)
    {
        let name = format!("{name} of MQTT 5");
        cases.push(Case::new(name, "MQTT 2.2.1, 3.14", &known, bytes.to_vec(), closed()));
    }
    cases
}

const KINDS: [&str; 16] = [
    "type 0",
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "type 15",
];

/// What is too much for the hub, of a client that it knows.
fn sizes(who: &Who) -> Vec<(String, Vec<u8>)> {
    let topic = format!("devices/{}/messages/events/", who.device);
    let mut header = vec![0x32];
    header.extend(remaining_length(limits::MAX_MQTT_PACKET_BYTES));
    let filters = vec![&b"a/b"[..]; limits::MAX_FILTERS_PER_CLIENT + 1];
    let properties: Vec<String> = (0..=limits::MAX_PROPERTIES).map(|n| format!("p{n}=1")).collect();
    let properties = format!("{topic}{}", properties.join("&"));
    vec![
        (
            "a body over 256 KiB".to_owned(),
            publish(&topic, &vec![b' '; limits::MAX_MESSAGE_BYTES + 1]),
        ),
        (
            "a body of 256 KiB with a property".to_owned(),
            publish(format!("{topic}a=1"), &vec![b' '; limits::MAX_MESSAGE_BYTES]),
        ),
        ("the header of a packet over the limit".to_owned(), header),
        ("51 filters in one SUBSCRIBE".to_owned(), subscribe(&filters)),
        ("1,001 properties (CVE-2021-41039)".to_owned(), publish(properties, b"{}")),
        ("a topic of 65,535 bytes".to_owned(), publish(vec![b'a'; 65_535], b"{}")),
        ("a topic of 32,767 levels".to_owned(), publish("a/".repeat(32_767), b"{}")),
        (
            "a property bag of 60 KB without a pair that ends".to_owned(),
            publish(format!("{topic}{}", "%".repeat(60_000)) + "%ff", b"{}"),
        ),
    ]
}

/// Packets that take for ever: cut at the limits, which are longer than those of other cases.
pub(crate) fn slow_cases() -> Vec<Vec<Case>> {
    let pause = Duration::from_millis(400);
    let closed = || End::Closed(Said::Nothing);
    let connect = good_connect(OTHER, 60);
    let publish = publish("devices/slow-1/messages/events/", &[b'x'; 90]);
    let subscribe = subscribe(&["devices/slow-2/messages/devicebound/".repeat(3).as_bytes()]);
    let rules = ["CVE-2020-13849: CONNECT in 10 s", "SlowITe: a packet in 20 s"];
    let margin = Duration::from_secs(5);
    let first = limits::CONNECT_LIMIT + margin;
    let later = limits::PACKET_LIMIT + margin;
    let slow = |name: &str, rule, opening: &_, bytes: Vec<u8>, within| {
        let case = Case::new(name, rule, opening, bytes, closed());
        vec![case.sent(How::Dripping(pause)).within(within)]
    };
    let (known, other) = (connected("slow-1"), connected("slow-2"));
    vec![
        slow("a CONNECT byte by byte", rules[0], &unknown(), connect, first),
        slow("nothing at all", rules[0], &unknown(), vec![], first),
        slow("half a CONNECT and silence", rules[0], &unknown(), vec![0x10], first),
        slow("a PUBLISH byte by byte", rules[1], &known, publish, later),
        slow("a SUBSCRIBE byte by byte", rules[1], &other, subscribe, later),
    ]
}
