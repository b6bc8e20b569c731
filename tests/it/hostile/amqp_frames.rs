//! Headers, frames, the order of performatives, SASL: what is wrong before any value is looked at.

use super::amqp::{
    ATTACH, BEGIN, Bytes, CLOSE, DETACH, DISPOSITION, END, FLOW, HEADER, OPEN, Openings,
    SASL_HEADER, TRANSFER, attach, begin, binary, bool, described, frame, list, null, open,
    performative, raw_frame, said, string, symbol, transfer, ubyte, uint, ushort,
};
use super::{Case, End, How, Said};

/// The end of the connection, whatever was said before.
fn closed() -> End {
    End::Closed(Said::That(|_| true))
}

pub(crate) fn cases(o: &Openings) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, bytes) in headers() {
        let case = Case::new(format!("header: {name}"), "AMQP 2.2", &o.nothing, bytes, closed());
        cases.push(match name {
            "cut short" | "nothing" => case.sent(How::ThenEnd),
            _ => case,
        });
    }
    for (when, opening) in [("before open", &o.header), ("after open", &o.opened)] {
        for (name, bytes) in frames() {
            let name = format!("frame {when}: {name}");
            let case = Case::new(name.clone(), "AMQP 2.3", opening, bytes, closed());
            cases.push(if name.contains("cut short") { case.sent(How::ThenEnd) } else { case });
        }
    }
    for (name, bytes) in before_open() {
        let name = format!("before open: {name}");
        cases.push(Case::new(name, "AMQP 2.4.1", &o.header, bytes, closed()));
    }
    for (name, bytes) in before_begin() {
        let name = format!("without a session: {name}");
        cases.push(Case::new(name, "AMQP 2.5", &o.opened, bytes, closed()));
    }
    // The client is told, and may answer before the connection ends.
    let told = End::Either(Said::That(|bytes| said(bytes).contains(&CLOSE)));
    let answer = performative(0, BEGIN, &[ushort(7), uint(0), uint(1), uint(1)]);
    let name = "an answer to a begin that was never sent";
    cases.push(Case::new(name, "AMQP 2.5.1", &o.opened, answer, told));
    for (name, bytes) in in_session() {
        let name = format!("in a session: {name}");
        cases.push(Case::new(name, "AMQP 2.5, 2.6", &o.begun, bytes, closed()));
    }
    for (name, bytes) in sasl() {
        cases.push(Case::new(format!("SASL: {name}"), "AMQP 5.3", &o.sasl, bytes, closed()));
    }
    cases
}

fn headers() -> Vec<(&'static str, Bytes)> {
    vec![
        ("nothing", vec![]),
        ("cut short", b"AMQP\x00\x01".to_vec()),
        ("lower case", b"amqp\x00\x01\x00\x00".to_vec()),
        ("AMQP 0-9-1", b"AMQP\x00\x00\x09\x01".to_vec()),
        ("AMQP 0-8", b"AMQP\x01\x01\x08\x00".to_vec()),
        ("version 1.1", b"AMQP\x00\x01\x01\x00".to_vec()),
        ("version 1.0.1", b"AMQP\x00\x01\x00\x01".to_vec()),
        ("version 2", b"AMQP\x00\x02\x00\x00".to_vec()),
        ("version 255.255.255", b"AMQP\x00\xff\xff\xff".to_vec()),
        ("TLS inside TLS", b"AMQP\x02\x01\x00\x00".to_vec()),
        ("protocol 1", b"AMQP\x01\x01\x00\x00".to_vec()),
        ("protocol 4", b"AMQP\x04\x01\x00\x00".to_vec()),
        ("protocol 255", b"AMQP\xff\x01\x00\x00".to_vec()),
        ("SASL of version 2", b"AMQP\x03\x02\x00\x00".to_vec()),
        ("zeros", vec![0; 64]),
        ("MQTT", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04leaf".to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("twice", [HEADER, HEADER].concat()),
        ("AMQP, then SASL", [HEADER, SASL_HEADER].concat()),
        ("SASL twice", [SASL_HEADER, SASL_HEADER].concat()),
        ("SASL, then AMQP without SASL", [SASL_HEADER, HEADER].concat()),
    ]
}

fn frames() -> Vec<(String, Bytes)> {
    let body = &described(OPEN, list(&[string("x")]));
    let length = u32::try_from(body.len()).unwrap();
    let mut rows: Vec<(String, Bytes)> = [0, 1, 4, 7, 9, 40_000, 1 << 20, 1 << 31, u32::MAX]
        .map(|size: u32| (format!("of {size} bytes"), raw_frame(size, 2, 0, 0, body)))
        .into();
    for offset in [0, 1, 3, 20, 255] {
        let name = format!("with the data offset {offset}");
        rows.push((name, raw_frame(length + 8, offset, 0, 0, body)));
    }
    for kind in [1, 2, 127, 255] {
        rows.push((format!("of type {kind}"), raw_frame(length + 8, 2, kind, 0, body)));
    }
    rows.push(("cut short in its size".to_owned(), vec![0, 0]));
    rows.push(("cut short in its body".to_owned(), raw_frame(length + 8, 2, 0, 0, &body[..4])));
    rows.push((
        "with something behind the performative".to_owned(),
        frame(0, &[&body[..], b"\x40"].concat()),
    ));
    rows
}

fn before_open() -> Vec<(String, Bytes)> {
    let mut rows = Vec::new();
    for (code, name) in [
        (BEGIN, "begin"),
        (ATTACH, "attach"),
        (FLOW, "flow"),
        (TRANSFER, "transfer"),
        (DISPOSITION, "disposition"),
        (DETACH, "detach"),
        (END, "end"),
        (CLOSE, "close"),
    ] {
        rows.push((name.to_owned(), performative(0, code, &[])));
    }
    for (name, fields) in [
        ("an open without fields", vec![]),
        ("an open without a container id", vec![null(), string("localhost")]),
        ("an open whose container id is a number", vec![uint(1)]),
        ("an open whose container id is a symbol list", vec![list(&[symbol("x")])]),
        ("an open whose frame size is text", vec![string("x"), null(), string("big")]),
        (
            "an open whose frame size is negative",
            vec![string("x"), null(), vec![0x71, 255, 0, 0, 0]],
        ),
        ("an open with channels as text", vec![string("x"), null(), null(), string("many")]),
        ("an open with channels as a wide number", vec![string("x"), null(), null(), uint(70_000)]),
        (
            "an open with an idle time-out of 1 ms",
            vec![string("x"), null(), null(), null(), uint(1)],
        ),
        (
            "an open whose time-out is text",
            vec![string("x"), null(), null(), null(), string("never")],
        ),
        (
            "an open with locales that are numbers",
            vec![string("x"), null(), null(), null(), null(), uint(1)],
        ),
    ] {
        rows.push((name.to_owned(), performative(0, OPEN, &fields)));
    }
    rows.push(("open twice".to_owned(), [open(), open()].concat()));
    rows.push((
        "open, close, begin".to_owned(),
        [open(), performative(0, CLOSE, &[]), begin(0)].concat(),
    ));
    rows
}

fn before_begin() -> Vec<(&'static str, Bytes)> {
    vec![
        ("attach", attach("x", 0, false, "$cbs")),
        ("flow", performative(0, FLOW, &[null(), uint(1), uint(0), uint(1)])),
        ("transfer", transfer(0, 0, b"")),
        ("disposition", performative(0, DISPOSITION, &[bool(true), uint(0)])),
        ("detach", performative(0, DETACH, &[uint(0)])),
        ("end", performative(0, END, &[])),
        ("a begin on channel 65,535", begin(65_535)),
        ("a begin without fields", performative(0, BEGIN, &[])),
        ("a begin without windows", performative(0, BEGIN, &[null(), uint(0)])),
        (
            "a begin whose window is text",
            performative(0, BEGIN, &[null(), uint(0), string("x"), uint(1)]),
        ),
        (
            "a begin whose channel is text",
            performative(0, BEGIN, &[string("0"), uint(0), uint(1), uint(1)]),
        ),
        ("a begin twice on a channel", [begin(0), begin(0)].concat()),
        ("more sessions than a stranger may have", (0..16).flat_map(begin).collect()),
        (
            "an end and then a transfer",
            [begin(0), performative(0, END, &[]), transfer(0, 0, b"")].concat(),
        ),
        ("a frame of SASL", raw_frame(14, 2, 1, 0, &[0x00, 0x53, 0x41, 0xc0, 0x01, 0x00])),
    ]
}

fn in_session() -> Vec<(&'static str, Bytes)> {
    let nowhere = |code, rest: &[Bytes]| performative(0, code, rest);
    vec![
        ("an attach without fields", nowhere(ATTACH, &[])),
        ("an attach without a name", nowhere(ATTACH, &[null(), uint(0), bool(false)])),
        ("an attach without a handle", nowhere(ATTACH, &[string("x"), null(), bool(false)])),
        ("an attach without a role", nowhere(ATTACH, &[string("x"), uint(0)])),
        (
            "an attach whose handle is text",
            nowhere(ATTACH, &[string("x"), string("0"), bool(false)]),
        ),
        (
            "an attach whose handle is negative",
            nowhere(ATTACH, &[string("x"), vec![0x54, 0xff], bool(false)]),
        ),
        ("an attach whose handle is too large", attach("x", u32::MAX, false, "$cbs")),
        (
            "an attach whose handle is in use",
            [attach("x", 0, false, "$cbs"), attach("y", 0, true, "$cbs")].concat(),
        ),
        (
            "an attach on another channel",
            performative(3, ATTACH, &[string("x"), uint(0), bool(false)]),
        ),
        (
            "more links than a stranger may have",
            (0..20).flat_map(|n| attach(&format!("l{n}"), n, false, "$cbs")).collect(),
        ),
        (
            "a flow for a link that is not there",
            nowhere(FLOW, &[uint(0), uint(1), uint(0), uint(1), uint(9), uint(0), uint(1)]),
        ),
        (
            "a flow whose handle is text",
            nowhere(FLOW, &[uint(0), uint(1), uint(0), uint(1), string("0")]),
        ),
        ("a transfer for a link that is not there", transfer(9, 0, b"")),
        ("a transfer without a handle", nowhere(TRANSFER, &[])),
        ("a transfer whose handle is text", nowhere(TRANSFER, &[string("0")])),
        ("a detach of a link that is not there", nowhere(DETACH, &[uint(9)])),
        ("a detach without a handle", nowhere(DETACH, &[])),
        (
            "a detach twice",
            [
                attach("x", 0, false, "$cbs"),
                nowhere(DETACH, &[uint(0), bool(true)]),
                nowhere(DETACH, &[uint(0), bool(true)]),
            ]
            .concat(),
        ),
        ("a disposition without a role", nowhere(DISPOSITION, &[])),
        ("a disposition without a first id", nowhere(DISPOSITION, &[bool(true)])),
        ("a disposition on another channel", performative(5, DISPOSITION, &[bool(true), uint(0)])),
        ("an end on another channel", performative(5, END, &[])),
        ("a second open", open()),
        ("a second begin", begin(0)),
    ]
}

/// A frame of the SASL layer.
fn sasl_frame(code: u8, fields: &[Bytes]) -> Bytes {
    let body = described(code, list(fields));
    raw_frame(u32::try_from(body.len()).unwrap() + 8, 2, 1, 0, &body)
}

fn sasl() -> Vec<(&'static str, Bytes)> {
    let init = |mechanism: &str, response: &[u8]| {
        sasl_frame(0x41, &[symbol(mechanism), binary(response), string("localhost")])
    };
    vec![
        ("no mechanism", sasl_frame(0x41, &[])),
        ("an unknown mechanism", init("GSSAPI", b"")),
        ("a mechanism in lower case", init("anonymous", b"")),
        ("a mechanism of 60 KB", init(&"A".repeat(60_000), b"")),
        ("a mechanism that is text", sasl_frame(0x41, &[string("PLAIN"), binary(b"\0a\0b")])),
        ("a mechanism that is a number", sasl_frame(0x41, &[uint(1)])),
        ("EXTERNAL without a certificate", init("EXTERNAL", b"")),
        ("PLAIN without a response", sasl_frame(0x41, &[symbol("PLAIN")])),
        ("PLAIN without separators", init("PLAIN", b"user")),
        ("PLAIN with one separator", init("PLAIN", b"\0user")),
        ("PLAIN with five separators", init("PLAIN", b"\0a\0b\0c\0d")),
        ("PLAIN that is not UTF-8", init("PLAIN", b"\0\xff\0\xfe")),
        (
            "PLAIN of somebody unknown",
            init("PLAIN", b"\0nobody@sas.localhost\0SharedAccessSignature sr=a&sig=b&se=1"),
        ),
        ("PLAIN of 14 KB", init("PLAIN", &[b'a'; 14_000])),
        ("a response before init", sasl_frame(0x43, &[binary(b"x")])),
        ("an outcome from the client", sasl_frame(0x44, &[ubyte(0)])),
        ("mechanisms from the client", sasl_frame(0x40, &[symbol("PLAIN")])),
        ("a challenge from the client", sasl_frame(0x42, &[binary(b"x")])),
        ("a performative of AMQP", open()),
        ("a performative of AMQP in a frame of SASL", sasl_frame(OPEN, &[string("x")])),
        ("an unknown code", sasl_frame(0x4f, &[])),
        ("init twice", [init("ANONYMOUS", b""), init("ANONYMOUS", b"")].concat()),
        ("no header of AMQP after the outcome", [init("ANONYMOUS", b""), open()].concat()),
        ("SASL once more after the outcome", [&init("ANONYMOUS", b"")[..], SASL_HEADER].concat()),
        ("a frame of 4 GiB", raw_frame(u32::MAX, 2, 1, 0, b"")),
        ("a frame of 4 bytes", raw_frame(4, 2, 1, 0, b"")),
        ("an empty frame", raw_frame(8, 2, 1, 0, b"")),
    ]
}
