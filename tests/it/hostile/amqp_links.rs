//! What is well-formed and still not allowed: addresses, tokens, messages and their pieces.

use super::amqp::{
    ATTACH, Bytes, DETACH, DISPOSITION, FLOW, Openings, TRANSFER, attach, audience, begin, binary,
    bool, credit, data, described, frame, good_token, list, map, null, performative, put_token,
    said, string, symbol, telemetry, transfer, uint,
};
use super::mqtt::{OTHER, token, token_by};
use super::{Case, End, Said};
use crate::support::{EDGE, KEY};
use weir_core::limits;

/// A link, a session or the connection is ended, or the delivery is rejected.
fn refuses(bytes: &[u8]) -> bool {
    let rejected = b"\x00\x53\x25";
    let is_rejected = bytes.windows(3).any(|found| found == rejected);
    said(bytes).iter().any(|code| (DETACH..=0x18).contains(code))
        || said(bytes).contains(&DISPOSITION) && is_rejected
}

/// An answer of CBS that is not 200, or an end.
fn refuses_token(bytes: &[u8]) -> bool {
    let text = b"status-code";
    let Some(at) = bytes.windows(text.len()).position(|found| found == text) else {
        return refuses(bytes);
    };
    // An int in its short or long form.
    match &bytes[at + text.len()..] {
        [0x71, a, b, c, d, ..] => i32::from_be_bytes([*a, *b, *c, *d]) >= 400,
        [0x54, ..] => true,
        _ => false,
    }
}

pub(crate) fn cases(o: &Openings, device: &str) -> Vec<Case> {
    let either = || End::Either(Said::That(refuses));
    let mut cases = Vec::new();
    for (name, receives, address) in addresses(device) {
        let bytes = attach("x", 7, receives, &address);
        let (name, rule) = (format!("address: {name}"), "one's own addresses");
        cases.push(Case::new(name, rule, &o.proven, bytes, either()));
    }
    for (name, receives, address) in own(device) {
        let bytes = attach("x", 7, receives, &address);
        let name = format!("without a token: {name}");
        cases.push(Case::new(name, "CBS before links", &o.begun, bytes, either()));
    }
    for (name, message) in tokens(device) {
        let bytes = transfer(0, 0, &message);
        let end = End::Either(Said::That(refuses_token));
        cases.push(Case::new(format!("put-token: {name}"), "CBS", &o.cbs, bytes, end));
    }
    for (name, message) in messages() {
        let bytes = transfer(2, 1, &message);
        let (name, rule) = (format!("message: {name}"), "AMQP 3.2, 2.8");
        cases.push(Case::new(name, rule, &o.attached, bytes, either()));
    }
    // Taken as far as they are understood, and settled: nothing stays behind, and the link goes on.
    for (name, message) in lenient() {
        let (name, rule) = (format!("message: {name}"), "AMQP 3.2: settled, not left open");
        let settled = End::Answered(Said::That(|bytes| said(bytes).contains(&DISPOSITION)));
        let bytes = transfer(2, 1, &message);
        cases.push(Case::new(name, rule, &o.attached, bytes, settled));
    }
    for (name, bytes) in transfers() {
        let (name, rule) = (format!("transfer: {name}"), "AMQP 2.6.14, 2.7.5");
        cases.push(Case::new(name, rule, &o.attached, bytes, either()));
    }
    // What has no effect must have no price: the session goes on at once.
    let goes_on = || End::Answered(Said::That(|bytes| said(bytes).contains(&0x11)));
    for (name, bytes) in without_effect() {
        let bytes = [bytes, begin(1)].concat();
        let name = format!("without effect: {name}");
        cases.push(Case::new(name, "AMQP 2.7.6, CVE-2015-0203", &o.attached, bytes, goes_on()));
    }
    cases
}

fn addresses(device: &str) -> Vec<(String, bool, String)> {
    let mut rows = Vec::new();
    for path in ["messages/events", "messages/devicebound", "methods/devicebound", "twin"] {
        let is_commands = path == "messages/devicebound";
        rows.push((format!("another's {path}"), is_commands, format!("/devices/{OTHER}/{path}")));
        rows.push((
            format!("a module's {path}"),
            is_commands,
            format!("/devices/{EDGE}/modules/m/{path}"),
        ));
    }
    for (name, address) in [
        ("nothing", String::new()),
        ("a slash", "/".to_owned()),
        ("a word", "queue".to_owned()),
        ("all devices", "/devices".to_owned()),
        ("the device alone", format!("/devices/{device}")),
        ("an unknown path of the device", format!("/devices/{device}/nowhere")),
        ("telemetry with a tail", format!("/devices/{device}/messages/events/x")),
        ("telemetry encoded twice", format!("/devices/{device}%2Fmessages/events")),
        ("a path with dots", format!("/devices/{OTHER}/../{device}/messages/events")),
        ("a wildcard", "/devices/*/messages/events".to_owned()),
        ("a name that begins the same", format!("/devices/{device}0/messages/events")),
        ("an address of 30 KB", "a".repeat(30_000)),
        ("a NUL", format!("/devices/{device}\0/messages/events")),
        ("the commands of all, for services", "/messages/devicebound".to_owned()),
        ("$management", "$management".to_owned()),
        ("another host", format!("amqps://elsewhere/devices/{OTHER}/messages/events")),
    ] {
        rows.push((format!("{name}, to send"), false, address.clone()));
        rows.push((format!("{name}, to receive"), true, address));
    }
    rows
}

fn own(device: &str) -> Vec<(&'static str, bool, String)> {
    vec![
        ("telemetry", false, telemetry(device)),
        ("commands", true, format!("/devices/{device}/messages/devicebound")),
        ("methods", true, format!("/devices/{device}/methods/devicebound")),
        ("twin", true, format!("/devices/{device}/twin")),
    ]
}

fn tokens(device: &str) -> Vec<(&'static str, Bytes)> {
    let own = audience(device);
    let kind = || string("servicebus.windows.net:sastoken");
    let value = |text: String| described(0x77, string(text));
    let good = || token(&format!("devices/{device}"));
    let with = |name: Bytes, body: Bytes| {
        let properties = [("operation", string("put-token")), ("type", kind()), ("name", name)];
        put_token(string("1"), &properties, body)
    };
    let token_of = |text: String| with(string(&own), value(text));
    let signed = |resource: &str, expires| token_by(KEY, resource, expires);
    vec![
        ("no properties", put_token(string("1"), &[], value(good()))),
        (
            "no operation",
            put_token(string("1"), &[("type", kind()), ("name", string(&own))], value(good())),
        ),
        (
            "another operation",
            put_token(
                string("1"),
                &[("operation", string("delete-token")), ("type", kind()), ("name", string(&own))],
                value(good()),
            ),
        ),
        (
            "no name",
            put_token(
                string("1"),
                &[("operation", string("put-token")), ("type", kind())],
                value(good()),
            ),
        ),
        ("a name that is a number", with(uint(1), value(good()))),
        ("a body that is bytes", with(string(&own), data(good().as_bytes()))),
        ("a body that is a number", with(string(&own), described(0x77, uint(1)))),
        ("a body that is a list", with(string(&own), described(0x77, list(&[string(good())])))),
        (
            "no body",
            put_token(
                string("1"),
                &[("operation", string("put-token")), ("type", kind()), ("name", string(&own))],
                vec![],
            ),
        ),
        ("an empty body", token_of(String::new())),
        ("a word", token_of("password".to_owned())),
        ("the key itself", token_of(KEY.to_owned())),
        ("over for years", token_of(signed(&own, 1_500_000_000))),
        (
            "signed with another key",
            token_of(token_by("b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3Q=", &own, 4_000_000_000)),
        ),
        ("for another device", token_of(token(&format!("devices/{OTHER}x")))),
        (
            "for another hub",
            token_of(signed(&own.replace("localhost", "elsewhere"), 4_000_000_000)),
        ),
        ("of nobody", token_of(token("devices/nobody"))),
        ("of 20 KB", token_of("a".repeat(20_000))),
        ("cut short", token_of(good()[..60].to_owned())),
        (
            "properties that are a list",
            [described(0x73, list(&[string("1")])), described(0x74, list(&[])), value(good())]
                .concat(),
        ),
        ("noise", vec![0x5a; 300]),
    ]
}

fn messages() -> Vec<(&'static str, Bytes)> {
    vec![
        ("noise", vec![0x5a; 100]),
        ("an unknown section", [described(0x7f, null()), data(b"{}")].concat()),
        ("a body cut short", vec![0x00, 0x53, 0x75, 0xb0, 0, 0, 1, 0, 1]),
        ("a body of 4 GiB", vec![0x00, 0x53, 0x75, 0xb0, 255, 255, 255, 255, 1]),
        ("a body that is text in a data section", described(0x75, string("x"))),
        ("properties that are no map", [described(0x74, list(&[])), data(b"{}")].concat()),
        (
            "a property's name that is a number",
            [described(0x74, map(&[uint(1), uint(2)])), data(b"{}")].concat(),
        ),
        (
            "a property's name that is not UTF-8",
            [described(0x74, map(&[string(b"\xff"), uint(2)])), data(b"{}")].concat(),
        ),
        (
            "properties with half a pair",
            [described(0x74, vec![0xc1, 3, 1, 0x50, 1]), data(b"{}")].concat(),
        ),
        ("1,001 properties", {
            let pairs: Vec<Bytes> = (0..=limits::MAX_PROPERTIES)
                .flat_map(|n| [string(format!("p{n}")), string("1")])
                .collect();
            [described(0x74, map(&pairs)), data(b"{}")].concat()
        }),
        ("an output with a slash", properties_named("iothub-outputname", string("a/b"))),
        ("annotations that are a list", [described(0x72, list(&[])), data(b"{}")].concat()),
    ]
}

/// Values of types that the standard does not name for their place.
fn lenient() -> Vec<(&'static str, Bytes)> {
    let properties =
        |value: Bytes| [described(0x74, map(&[string("k"), value])), data(b"{}")].concat();
    let annotated = |key: Bytes| [described(0x72, map(&[key, uint(1)])), data(b"{}")].concat();
    vec![
        ("a property that is a list", properties(list(&[null()]))),
        ("a property that is a map", properties(map(&[]))),
        ("a header that is a map", [described(0x70, map(&[])), data(b"{}")].concat()),
        ("annotations keyed by text", annotated(string("x"))),
        (
            "a message id that is a list",
            [described(0x73, list(&[list(&[])])), data(b"{}")].concat(),
        ),
        (
            "a content type that is a number",
            [
                described(0x73, list(&[null(), null(), null(), null(), null(), null(), uint(1)])),
                data(b"{}"),
            ]
            .concat(),
        ),
    ]
}

fn properties_named(name: &str, value: Bytes) -> Bytes {
    [described(0x74, map(&[string(name), value])), data(b"{}")].concat()
}

/// A piece of a delivery.
fn piece(fields: &[Bytes], payload: &[u8]) -> Bytes {
    frame(0, &[&described(TRANSFER, list(fields))[..], payload].concat())
}

fn transfers() -> Vec<(&'static str, Bytes)> {
    let tag = || binary([1]);
    let first = |more| vec![uint(2), uint(1), tag(), uint(0), bool(false), bool(more)];
    let large = |bytes: usize| {
        let head =
            [&[0x00, 0x53, 0x75, 0xb0][..], &u32::try_from(bytes).unwrap().to_be_bytes()].concat();
        let pieces = bytes.div_ceil(30_000);
        let mut all = piece(&first(true), &head);
        for number in 1..=pieces {
            let length = 30_000.min(bytes - (number - 1) * 30_000);
            let fields = [uint(2), null(), null(), null(), null(), bool(number < pieces)];
            all.extend(piece(&fields, &vec![b'x'; length]));
        }
        all
    };
    vec![
        ("a tag of 33 bytes", piece(&[uint(2), uint(1), binary([1; 33]), uint(0)], &data(b"{}"))),
        ("no delivery id", piece(&[uint(2), null(), tag(), uint(0)], &data(b"{}"))),
        ("an id that is text", piece(&[uint(2), string("1"), tag()], &data(b"{}"))),
        (
            "another delivery in the middle of one",
            [
                piece(&first(true), b"\x00\x53\x75"),
                piece(
                    &[uint(2), uint(2), binary([2]), uint(0), bool(false), bool(false)],
                    &data(b"{}"),
                ),
            ]
            .concat(),
        ),
        ("on a link that receives", piece(&[uint(1), uint(1), tag(), uint(0)], &data(b"{}"))),
        ("a message over 256 KiB", large(limits::MAX_MESSAGE_BYTES + 1)),
        ("a message over 1 MiB that does not end", large(3 << 20)),
        (
            "a batch that is none",
            piece(&[uint(2), uint(1), tag(), uint(0x8001_3700)], &described(0x77, string("x"))),
        ),
        (
            "an unknown message format",
            piece(&[uint(2), uint(1), tag(), uint(0xdead_beef)], &data(b"{}")),
        ),
        (
            "a frame on a channel without a session",
            frame(9, &described(TRANSFER, list(&[uint(2)]))),
        ),
        (
            "after the link was detached",
            [performative(0, DETACH, &[uint(2), bool(true)]), transfer(2, 1, &data(b"{}"))]
                .concat(),
        ),
        ("a second attach of the link's name", attach("telemetry", 3, false, "/nowhere")),
        (
            "an attach of 2,000 links",
            (10..2_010).flat_map(|n| attach(&format!("n{n}"), n, false, "/nowhere")).collect(),
        ),
        (
            "a put-token on the telemetry link",
            piece(&[uint(2), uint(1), tag(), uint(0)], &good_token(OTHER)[..40]),
        ),
        ("an attach whose filter nests 20 deep", {
            let filter = (0..20).fold(null(), |inner, _| map(&[symbol("f"), inner]));
            let source = described(
                0x28,
                list(&[string("x"), null(), null(), null(), null(), null(), null(), filter]),
            );
            performative(0, ATTACH, &[string("f"), uint(9), bool(true), null(), null(), source])
        }),
    ]
}

fn without_effect() -> Vec<(&'static str, Bytes)> {
    let accepted = || described(0x24, list(&[]));
    let session = [uint(0), uint(2_048), uint(0), uint(2_048)];
    vec![
        (
            "a disposition for all ids",
            performative(
                0,
                DISPOSITION,
                &[bool(true), uint(0), uint(u32::MAX), bool(true), accepted()],
            ),
        ),
        (
            "a disposition from back to front",
            performative(0, DISPOSITION, &[bool(true), uint(9), uint(2), bool(true), accepted()]),
        ),
        (
            "a disposition for what was never sent",
            performative(0, DISPOSITION, &[bool(true), uint(77), null(), bool(true), accepted()]),
        ),
        (
            "a hundred dispositions for all ids",
            performative(0, DISPOSITION, &[bool(true), uint(0), uint(u32::MAX)]).repeat(100),
        ),
        (
            "settled transfers beyond the credit, which the hub renews",
            (1..3_000)
                .flat_map(|n| {
                    piece(&[uint(2), uint(n), binary(n.to_be_bytes()), uint(0), bool(true)], b"")
                })
                .collect(),
        ),
        ("an empty frame", frame(0, b"")),
        ("a thousand empty frames", frame(0, b"").repeat(1_000)),
        (
            "a credit of 4 G",
            performative(0, FLOW, &[&session[..], &[uint(1), uint(0), uint(u32::MAX)]].concat()),
        ),
        ("a thousand flows", credit(1).repeat(1_000)),
        (
            "a drain of nothing",
            performative(
                0,
                FLOW,
                &[&session[..], &[uint(1), uint(0), uint(5), null(), bool(true)]].concat(),
            ),
        ),
    ]
}
