//! WebSockets (RFC 6455): openings that are none, frames that are wrong, and wrong packets inside good ones.

use super::mqtt::{good_connect, publish};
use super::{Case, End, Exchange, How, Said};
use std::sync::Arc;

const MASK: [u8; 4] = [1, 2, 3, 4];

fn opening(lines: &[&str]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("GET /$iothub/websocket HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n").into_bytes()
}

/// The socket is open, with this sub-protocol.
fn opened(protocol: &str) -> Exchange {
    let protocol = format!("sec-websocket-protocol: {protocol}");
    let lines = [UPGRADE, CONNECTION, KEY, VERSION, &protocol];
    Exchange {
        say: opening(&lines),
        answered: |bytes| bytes.starts_with(b"HTTP/1.1 101") && bytes.ends_with(b"\r\n\r\n"),
    }
}

const UPGRADE: &str = "upgrade: websocket";
const CONNECTION: &str = "connection: Upgrade";
const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
const VERSION: &str = "sec-websocket-version: 13";
const MQTT: &str = "sec-websocket-protocol: mqtt";

/// A masked frame with this first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let head = match u16::try_from(payload.len()).unwrap() {
        length @ 0..=125 => vec![first, 0x80 | length.to_be_bytes()[1]],
        length => [&[first, 0xfe][..], &length.to_be_bytes()].concat(),
    };
    [head, MASK.to_vec(), masked.collect()].concat()
}

/// A frame that declares so many bytes, and has four.
fn declares(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xff][..], &length.to_be_bytes(), &MASK, b"xxxx"].concat()
}

fn refused(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.1 4") && bytes.windows(4).any(|w| w == b"\r\n\r\n")
}

pub(crate) fn cases() -> Vec<Case> {
    let closed = || End::Closed(Said::That(|_| true));
    let none: Arc<[Exchange]> = Vec::new().into();
    let mut cases = Vec::new();
    for (name, lines) in openings() {
        let end = End::Either(Said::That(refused));
        let name = format!("opening: {name}");
        cases.push(Case::new(name, "RFC 6455 4.2.1", &none, opening(&lines), end));
    }
    for protocol in ["mqtt", "AMQPWSB10"] {
        let open: Arc<[Exchange]> = vec![opened(protocol)].into();
        for (name, bytes) in frames() {
            let case =
                Case::new(format!("{protocol}: {name}"), "RFC 6455 5", &open, bytes, closed());
            cases.push(if name.contains("cut") { case.sent(How::ThenEnd) } else { case });
        }
    }
    let accepted = |bytes: &[u8]| bytes.ends_with(&[0x82, 4, 0x20, 2, 0, 0]);
    for (number, (name, payload)) in [
        ("a packet of type 0", vec![0, 0]),
        ("256 MiB announced", vec![0x32, 0xff, 0xff, 0xff, 0x7f]),
        ("another's topic", publish("devices/other/messages/events/", b"{}")),
        ("a second CONNECT", good_connect("leaf", 60)),
        ("a wildcard in a topic", publish("devices/#", b"{}")),
    ]
    .into_iter()
    .enumerate()
    {
        // They are played side by side, and one identity has one connection.
        let connect = frame(0x82, &good_connect(&format!("ws-{number}"), 60));
        let connect = Exchange { say: connect, answered: accepted };
        let known: Arc<[Exchange]> = vec![opened("mqtt"), connect].into();
        let name = format!("MQTT inside: {name}");
        cases.push(Case::new(name, "MQTT-4.8.0-1", &known, frame(0x82, &payload), closed()));
    }
    cases
}

fn openings() -> Vec<(&'static str, Vec<&'static str>)> {
    vec![
        ("no key", vec![UPGRADE, CONNECTION, VERSION, MQTT]),
        ("an empty key", vec![UPGRADE, CONNECTION, VERSION, MQTT, "sec-websocket-key:"]),
        (
            "a key of 15 bytes",
            vec![UPGRADE, CONNECTION, VERSION, MQTT, "sec-websocket-key: dGhlIHNhbXBsZSBub25j"],
        ),
        (
            "a key that is no base64",
            vec![UPGRADE, CONNECTION, VERSION, MQTT, "sec-websocket-key: !!!!"],
        ),
        ("no version", vec![UPGRADE, CONNECTION, KEY, MQTT]),
        ("version 8", vec![UPGRADE, CONNECTION, KEY, MQTT, "sec-websocket-version: 8"]),
        ("version 14", vec![UPGRADE, CONNECTION, KEY, MQTT, "sec-websocket-version: 14"]),
        ("no sub-protocol", vec![UPGRADE, CONNECTION, KEY, VERSION]),
        (
            "another sub-protocol",
            vec![UPGRADE, CONNECTION, KEY, VERSION, "sec-websocket-protocol: chat"],
        ),
        (
            "a sub-protocol in upper case",
            vec![UPGRADE, CONNECTION, KEY, VERSION, "sec-websocket-protocol: MQTT"],
        ),
        ("mqttv3.1", vec![UPGRADE, CONNECTION, KEY, VERSION, "sec-websocket-protocol: mqttv3.1"]),
        ("no connection header", vec![UPGRADE, KEY, VERSION, MQTT]),
        ("an upgrade to h2c", vec!["upgrade: h2c", CONNECTION, KEY, VERSION, MQTT]),
    ]
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let binary = |payload: &[u8]| frame(0x82, payload);
    let mut rows: Vec<(String, Vec<u8>)> = Vec::new();
    for (bit, name) in [(0x40, "first"), (0x20, "second"), (0x10, "third")] {
        rows.push((format!("the {name} reserved bit"), frame(0x82 | bit, b"xx")));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        rows.push((format!("the opcode {opcode}"), frame(0x80 | opcode, b"xx")));
    }
    let mut long_ping = vec![0x89, 0xfe, 0, 126];
    long_ping.extend(MASK);
    long_ping.extend([0; 126]);
    let more: Vec<(&str, Vec<u8>)> = vec![
        ("not masked", vec![0x82, 2, b'x', b'x']),
        ("a ping that is not masked", vec![0x89, 0]),
        ("a ping in two parts", frame(0x09, b"x")),
        ("a close in two parts", frame(0x08, b"")),
        ("a ping of 126 bytes", long_ping),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("a message in the middle of another", [frame(0x02, b"x"), binary(b"y")].concat()),
        ("text", frame(0x81, b"hello")),
        ("text that is not UTF-8", frame(0x81, b"\xff")),
        ("2^63 bytes", declares(0x82, 1 << 63)),
        ("2^64 - 1 bytes", declares(0x82, u64::MAX)),
        ("1 TiB", declares(0x82, 1 << 40)),
        ("16 MiB", declares(0x82, 16 << 20)),
        (
            "a length of two bytes that needs one",
            [&[0x82, 0xfe, 0, 5][..], &MASK, b"xxxxx"].concat(),
        ),
        (
            "a length of eight bytes that needs one",
            [&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 5][..], &MASK, b"xxxxx"].concat(),
        ),
        ("a close with one byte", frame(0x88, b"x")),
        ("a close with the code 999", frame(0x88, &999u16.to_be_bytes())),
        ("a close with the code 1005", frame(0x88, &1005u16.to_be_bytes())),
        ("a close whose reason is not UTF-8", frame(0x88, b"\x03\xe8\xff")),
        ("a close", frame(0x88, &1000u16.to_be_bytes())),
        ("data after a close", [frame(0x88, &1000u16.to_be_bytes()), binary(b"x")].concat()),
        ("noise inside a good frame", binary(&[0xa5; 90])),
        ("HTTP inside a good frame", binary(b"GET / HTTP/1.1\r\n\r\n")),
        ("HTTP after the opening", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec()),
        ("cut in its head", vec![0x82]),
        ("cut in its length", vec![0x82, 0xfe, 1]),
        ("cut in its mask", vec![0x82, 0x85, 1, 2]),
        ("cut in its payload", [&[0x82, 0x85][..], &MASK, b"xx"].concat()),
        ("cut in the middle of a message", frame(0x02, b"x")),
    ];
    rows.extend(more.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)));
    rows
}
