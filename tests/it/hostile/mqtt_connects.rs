//! CONNECT packets that are well-formed and must not be let in: each is told so [MQTT-3.2.2-5].

use super::mqtt::{
    OTHER, Who, connect, connected, field, good_connect, packet, token, token_by, unknown,
    user_name,
};
use super::{Case, End, Said};
use crate::support::{EDGE, KEY};

type Row = (String, Vec<u8>);

/// A CONNECT with a session to keep.
fn login(id: &str, user: &str, password: &str) -> Vec<u8> {
    connect(0xc0, 60, &[id.as_bytes(), user.as_bytes(), password.as_bytes()])
}

fn refused(code: u8) -> End {
    End::Closed(Said::Exactly(vec![0x20, 2, 0, code]))
}

pub(crate) fn cases(who: &Who) -> Vec<Case> {
    let first = unknown();
    let tables = [
        ("user name", "IoT Hub's form of user names", user_names(who)),
        ("client id", "the client id is that of the user name", client_ids(who)),
        ("token", "MQTT-3.1.4-2, a token that proves the identity", tokens(who)),
        ("identity", "MQTT-3.1.4-2, an identity that may connect", identities()),
        ("will", "a will obeys the rules of PUBLISH", wills(who)),
    ];
    let mut cases = Vec::new();
    for (about, rule, rows) in tables {
        for (name, bytes) in rows {
            let end = match name.as_str() {
                "empty, with a session to keep" => refused(2),
                name if name.ends_with("over 64 KiB") => End::Closed(Said::Nothing),
                _ => refused(5),
            };
            cases.push(Case::new(format!("{about}: {name}"), rule, &first, bytes, end));
        }
    }
    for (name, bytes) in versions(who) {
        cases.push(Case::new(
            format!("version: {name}"),
            "MQTT-3.1.2-2",
            &first,
            bytes,
            refused(1),
        ));
    }
    // While the right one is connected it stays: the wrong one is not let near its session.
    let known = connected(&who.device);
    let twice = [vec![0xc0, 0], login(&who.device, &user_name(&who.device), "")].concat();
    let pong = End::Closed(Said::Exactly(vec![0xd0, 0]));
    cases.push(Case::new("PINGREQ and a second CONNECT", "MQTT-3.1.0-2", &known, twice, pong));
    cases
}

fn user_names(who: &Who) -> Vec<Row> {
    let d = &who.device;
    let token = token(&format!("devices/{d}"));
    let long = "a".repeat(129);
    let mut rows = vec![("none".to_owned(), connect(0x00, 60, &[d.as_bytes()]))];
    for (name, text) in [
        ("empty", String::new()),
        ("one word", d.clone()),
        ("a host only", "localhost".to_owned()),
        ("a host and a slash", "localhost/".to_owned()),
        ("no parameters", format!("localhost/{d}")),
        ("no parameters after the slash", format!("localhost/{d}/")),
        ("an empty query", format!("localhost/{d}/?")),
        ("an empty api-version", format!("localhost/{d}/?api-version=")),
        ("no api-version", format!("localhost/{d}/?DeviceClientType=x")),
        ("four segments", format!("localhost/{d}/m/x/?api-version=1")),
        ("an empty device", "localhost//?api-version=1".to_owned()),
        ("an empty module", format!("localhost/{d}//?api-version=1")),
        ("a device of 129 bytes", format!("localhost/{long}/?api-version=1")),
        ("a module of 129 bytes", format!("localhost/{d}/{long}/?api-version=1")),
        ("a space in the id", "localhost/a b/?api-version=1".to_owned()),
        ("a plus sign in the id", "localhost/a+/?api-version=1".to_owned()),
        ("a hash in the id", "localhost/#/?api-version=1".to_owned()),
        ("letters that are not ASCII", "localhost/pümpe/?api-version=1".to_owned()),
        ("a line break in the id", format!("localhost/{d}\nclient refused/?api-version=1")),
        ("an escape sequence in the id", "localhost/\x1b[31m/?api-version=1".to_owned()),
        ("an encoded slash in the id", format!("localhost/{d}%2F/?api-version=1")),
        ("another device", user_name(OTHER)),
        ("the device's module", user_name(&format!("{d}/$edgeAgent"))),
        ("the api-version in the wrong place", format!("localhost/?api-version=1/{d}/")),
    ] {
        rows.push((name.to_owned(), login(d, &text, &token)));
    }
    let long = format!("localhost/{d}/?api-version=1&x={}", "x".repeat(65_450));
    rows.push(("over 64 KiB".to_owned(), login(d, &long, &token)));
    rows
}

fn client_ids(who: &Who) -> Vec<Row> {
    let d = &who.device;
    let (user, token) = (user_name(d), token(&format!("devices/{d}")));
    let clean = |id: &str| connect(0xc2, 60, &[id.as_bytes(), user.as_bytes(), token.as_bytes()]);
    let mut rows = vec![
        ("empty, with a session to keep".to_owned(), login("", &user, &token)),
        ("empty, with a clean session".to_owned(), clean("")),
    ];
    for (name, id) in [
        ("another device", OTHER.to_owned()),
        ("longer", format!("{d}x")),
        ("shorter", d[..d.len() - 1].to_owned()),
        ("upper case", d.to_uppercase()),
        ("with a slash", format!("{d}/")),
        ("with a module", format!("{d}/m")),
        ("with a space", format!("{d} ")),
        ("with a byte order mark", format!("\u{feff}{d}")),
        ("with a letter that only looks the same", d.replace('l', "ӏ")),
        ("of 60,000 bytes", "a".repeat(60_000)),
    ] {
        rows.push((name.to_owned(), clean(&id)));
    }
    rows
}

fn tokens(who: &Who) -> Vec<Row> {
    let d = &who.device;
    let own = format!("localhost%2Fdevices%2F{d}");
    let good = token(&format!("devices/{d}"));
    let edit = |from: &str, to: &str| good.replacen(from, to, 1);
    let signature = good.split("sig=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let later = |resource: &str| token_by(KEY, resource, 4_000_000_000);
    let other_key = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3Q=";
    let user = user_name(d);
    let mut rows = vec![
        ("none".to_owned(), connect(0x80, 60, &[d.as_bytes(), user.as_bytes()])),
        (
            "not UTF-8".to_owned(),
            connect(0xc0, 60, &[d.as_bytes(), user.as_bytes(), b"SharedAccessSignature \xff"]),
        ),
    ];
    for (name, token) in [
        ("empty", String::new()),
        ("a word", "password".to_owned()),
        ("the key itself", KEY.to_owned()),
        ("another scheme", edit("SharedAccessSignature", "Bearer")),
        ("the scheme alone", "SharedAccessSignature".to_owned()),
        ("no scheme", edit("SharedAccessSignature ", "")),
        ("fields in two groups", edit("&sig", " sig")),
        ("no sr", edit("sr=", "rs=")),
        ("no sig", edit("sig=", "gis=")),
        ("no se", edit("se=", "es=")),
        ("an empty sr", edit(&format!("sr={own}"), "sr=")),
        ("an empty sig", edit(&signature, "")),
        ("sr twice", format!("{good}&sr={own}")),
        ("se twice", format!("{good}&se=4100000000")),
        ("a sig that is not base64", edit(&signature, "!!!!")),
        ("a sig of 31 bytes", edit(&signature, &"A".repeat(42))),
        ("a sig of 33 bytes", edit(&signature, &"A".repeat(44))),
        ("a sig of 48 KB", edit(&signature, &"A".repeat(48_000))),
        ("a sig of zeros", edit(&signature, &format!("{}%3D", "A".repeat(43)))),
        ("signed with another key", token_by(other_key, &own, 4_000_000_000)),
        ("changed after it was signed", edit("se=4", "se=5")),
        ("for another device", later("localhost%2Fdevices%2Fother")),
        ("for a device whose name begins the same", later(&own[..own.len() - 1])),
        ("for all devices", later("localhost%2Fdevices")),
        ("for the hub", later("localhost")),
        ("for another hub", later(&own.replace("localhost", "elsewhere"))),
        ("for a module of the device", later(&format!("{own}%2Fmodules%2Fm"))),
        ("for a path below the device", later(&format!("{own}%2Fmessages"))),
        ("for a path with an empty segment", later(&own.replace("%2Fdevices", "%2F%2Fdevices"))),
        ("encoded twice", later(&own.replace('%', "%25"))),
        ("with NUL in its resource", later(&format!("{own}%00"))),
        ("with a resource that is not UTF-8", later(&format!("{own}%ff"))),
        ("over for a day", token_by(KEY, &own, 1_500_000_000)),
        ("of 1970", token_by(KEY, &own, 1)),
        ("with a negative end", token_by(KEY, &own, -1)),
        ("with an end that is a fraction", edit("se=4000000000", "se=4000000000.5")),
        ("with an end of 40 digits", edit("se=4000000000", &format!("se={}", "9".repeat(40)))),
        ("with an end in hexadecimal", edit("se=4000000000", "se=0xffffffff")),
        ("of 60,000 ampersands", format!("SharedAccessSignature {}", "&".repeat(60_000))),
        ("over 64 KiB", format!("SharedAccessSignature {}", "a".repeat(65_500))),
    ] {
        rows.push((name.to_owned(), login(d, &user, &token)));
    }
    rows
}

fn identities() -> Vec<Row> {
    let good = |id: &str| good_connect(id, 60);
    let of_device =
        |id: &str, device: &str| login(id, &user_name(id), &token(&format!("devices/{device}")));
    let row = |name: &str, bytes| (name.to_owned(), bytes);
    vec![
        row("a device that nobody knows", good("nobody")),
        row("a module that nobody knows", good(&format!("{EDGE}/nobody"))),
        row("a module of a device that nobody knows", good("nobody/module")),
        row("a device that is disabled", good("disabled")),
        row("a device without credentials", good("keyless")),
        row("a device with a certificate, by token", good("certified")),
        row("the hub's own name", good("localhost")),
        row("a module by the token of another device", of_device(&format!("{EDGE}/mod-0"), OTHER)),
        row("the edge device by a leaf's token", of_device(EDGE, OTHER)),
    ]
}

fn wills(who: &Who) -> Vec<Row> {
    let d = &who.device;
    let (user, token) = (user_name(d), token(&format!("devices/{d}")));
    let will = |flags: u8, topic: &str, body: &[u8]| {
        let fields = [d.as_bytes(), topic.as_bytes(), body, user.as_bytes(), token.as_bytes()];
        connect(0xc6 | flags, 60, &fields)
    };
    let own = format!("devices/{d}/messages/events/");
    let mut rows = vec![("at QoS 2".to_owned(), will(0x10, &own, b"{}"))];
    for (name, topic) in [
        ("to a topic that is none", "a/b".to_owned()),
        ("to another device's topic", format!("devices/{OTHER}/messages/events/")),
        ("to a module's topic", format!("devices/{d}/modules/m/messages/events/")),
        ("to a twin", "$iothub/twin/GET/?$rid=1".to_owned()),
        ("to a reported patch", "$iothub/twin/PATCH/properties/reported/?$rid=1".to_owned()),
        ("to a method's answer", "$iothub/methods/res/200/?$rid=1".to_owned()),
        ("to $SYS", "$SYS/broker/uptime".to_owned()),
        ("with a bag that is not UTF-8", format!("{own}a=%ff")),
        ("with a slash in its bag", format!("{own}a/b=1")),
    ] {
        rows.push((name.to_owned(), will(0x08, &topic, b"{}")));
    }
    rows.push(("over 64 KiB".to_owned(), will(0x08, &own, &[b'x'; 65_400])));
    rows
}

/// Versions that are not spoken.
fn versions(who: &Who) -> Vec<Row> {
    let of = |name: &str, level: u8, rest: &[u8]| {
        let fields = [&field(&who.device)[..], &field(user_name(&who.device))].concat();
        packet(0x10, &[&field(name)[..], &[level, 0x82, 0, 60], rest, &fields].concat())
    };
    let mut rows: Vec<Row> = [0u8, 1, 2, 3, 6, 127, 0x83, 0x84, 255]
        .map(|level| (format!("level {level}"), of("MQTT", level, b"")))
        .into();
    rows.push(("MQTT 3.1".to_owned(), of("MQIsdp", 3, b"")));
    rows.push(("MQTT 5".to_owned(), of("MQTT", 5, b"\x00")));
    // Alias maximum, receive maximum: the properties of an ordinary client of MQTT 5.
    rows.push((
        "MQTT 5 with a topic alias maximum".to_owned(),
        of("MQTT", 5, b"\x06\x22\x00\x0a\x21\x00\x14"),
    ));
    // CVE-2021-41039: a flood of user properties.
    let flood = [&[0xe8, 0x07][..], &b"\x26\x00\x01a\x00\x00".repeat(166)].concat();
    rows.push(("MQTT 5 with 166 user properties".to_owned(), of("MQTT", 5, &flood)));
    rows
}
