//! HTTP/1.1 on port 443: what is no request, what hides a second one, and what may not be asked.

use super::mqtt::{OTHER, token};
use super::{Case, End, Exchange, How, Said, Target, besiege, good_client, records, websocket};
use crate::support::Hub;
use std::sync::Arc;

/// Tables that are played side by side.
const TABLES: usize = 16;
const DEVICE: &str = "leaf";

/// Any answer that says no and is not the hub's own fault.
fn refuses(bytes: &[u8]) -> bool {
    let Some(status) = bytes.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)) else {
        return false;
    };
    matches!(status[0], b'4' | b'5')
        && status != b"500"
        && bytes.windows(4).any(|w| w == b"\r\n\r\n")
}

fn nothing() -> Arc<[Exchange]> {
    Vec::new().into()
}

/// A request with these lines after its first, and this body as it is.
fn request(first: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    [format!("{first}\r\n{lines}\r\n").as_bytes(), body].concat()
}

fn cases() -> Vec<Case> {
    let either = || End::Either(Said::That(refuses));
    let answered = || End::Answered(Said::That(refuses));
    let none = nothing();
    let mut cases = Vec::new();
    for (name, bytes) in lines() {
        let name = format!("request: {name}");
        cases.push(Case::new(name, "RFC 9112 3, 5", &none, bytes, either()));
    }
    for (name, bytes) in bodies() {
        let name = format!("body: {name}");
        cases.push(Case::new(name, "RFC 9112 6, 7", &none, bytes, either()));
    }
    for (name, bytes) in cut() {
        let case = Case::new(format!("cut: {name}"), "RFC 9112 8", &none, bytes, either());
        cases.push(case.sent(How::ThenEnd));
    }
    for (name, first, authorization) in strangers() {
        let line = format!("authorization: {authorization}");
        let lines = ["host: localhost", "content-length: 2", &line];
        let name = format!("who: {name}");
        let bytes = request(&first, &lines, b"{}");
        cases.push(Case::new(name, "IoT Hub's authentication", &none, bytes, answered()));
    }
    for (name, first, headers, body) in asks() {
        let line = format!("authorization: {}", token(&format!("devices/{DEVICE}")));
        let length = format!("content-length: {}", body.len());
        let mut lines = vec!["host: localhost", &line, &length];
        lines.extend(headers.iter().map(String::as_str));
        let bytes = request(&first, &lines, &body);
        cases.push(Case::new(
            format!("asks: {name}"),
            "IoT Hub's requests",
            &none,
            bytes,
            answered(),
        ));
    }
    cases
}

fn lines() -> Vec<(String, Vec<u8>)> {
    let host = &["host: localhost"][..];
    let first = |line: &str| request(line, host, b"");
    let header = |line: &str| request("GET /devices/x HTTP/1.1", &["host: localhost", line], b"");
    let mut rows: Vec<(&str, Vec<u8>)> = vec![
        ("no version", first("GET /")),
        ("no target", first("GET HTTP/1.1")),
        ("two spaces", first("GET  / HTTP/1.1")),
        ("three words more", first("GET / a b HTTP/1.1")),
        ("another protocol", first("GET / FTP/1.1")),
        ("HTTP/0.9", b"GET /\r\n".to_vec()),
        ("HTTP/3.0", first("GET / HTTP/3.0")),
        ("a version in lower case", first("GET / http/1.1")),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
        ("a method with a colon", first("G:T / HTTP/1.1")),
        ("a method of 40 KB", first(&format!("{} / HTTP/1.1", "G".repeat(40_000)))),
        ("a target of 40 KB", first(&format!("GET /{} HTTP/1.1", "a".repeat(40_000)))),
        ("a target with a NUL", first("GET /\0 HTTP/1.1")),
        ("a target without a slash", first("GET devices HTTP/1.1")),
        ("CONNECT", first("CONNECT localhost:443 HTTP/1.1")),
        ("TRACE", first("TRACE / HTTP/1.1")),
        ("an encoded NUL", first("GET /devices/%00 HTTP/1.1")),
        ("an encoded path that is not UTF-8", first("GET /devices/%ff HTTP/1.1")),
        ("a path with dots", first("GET /devices/../../etc/passwd HTTP/1.1")),
        ("the control plane", first("GET /api/v1/devices HTTP/1.1")),
        ("no colon in a header", header("nonsense")),
        ("a space before a colon (smuggling)", header("content-length : 5")),
        ("an empty name", header(": x")),
        ("a folded line", header("a: b\r\n c")),
        ("a NUL in a value", header("a: b\0c")),
        ("a NUL in a name", header("a\0: b")),
        ("a line feed alone and a header", header("a: b\rc: d")),
        ("a header of 40 KB", header(&format!("a: {}", "x".repeat(40_000)))),
        ("a name of 40 KB", header(&format!("{}: a", "x".repeat(40_000)))),
        ("noise", (0..=255u8).map(|n| n.wrapping_mul(91) | 0x80).collect()),
        ("MQTT inside TLS", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04leaf".to_vec()),
        ("AMQP inside TLS", b"AMQP\x00\x01\x00\x00\0\0\0\0\0\0\0\0\r\n\r\n".to_vec()),
    ];
    let many: Vec<String> = (0..101).map(|n| format!("a{n}: b")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    rows.push(("101 headers", request("GET / HTTP/1.1", &many, b"")));
    rows.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let path = format!("POST /devices/{DEVICE}/messages/events?api-version=2021-04-12 HTTP/1.1");
    let of = |lines: &[&str], body: &[u8]| {
        request(&path, &[&["host: localhost"][..], lines].concat(), body)
    };
    let chunked = |body: &[u8]| of(&["transfer-encoding: chunked"], body);
    vec![
        ("two lengths (smuggling)", of(&["content-length: 5", "content-length: 6"], b"{}{}{}")),
        ("a list of lengths", of(&["content-length: 5, 6"], b"{}{}{}")),
        ("a negative length", of(&["content-length: -1"], b"")),
        ("a length with a sign", of(&["content-length: +2"], b"{}")),
        ("a length in hexadecimal", of(&["content-length: 0x2"], b"{}")),
        ("a length of 2^64", of(&["content-length: 18446744073709551616"], b"")),
        ("a length of 1 TiB", of(&["content-length: 1099511627776"], b"")),
        ("a length that is no number", of(&["content-length: two"], b"{}")),
        (
            "a length and chunks (smuggling)",
            of(&["content-length: 4", "transfer-encoding: chunked"], b"0\r\n\r\n"),
        ),
        ("an unknown encoding", of(&["transfer-encoding: gzip"], b"")),
        (
            "chunked and something behind it (smuggling)",
            of(&["transfer-encoding: chunked, identity"], b"0\r\n\r\n"),
        ),
        ("xchunked (smuggling)", of(&["transfer-encoding: xchunked"], b"0\r\n\r\n")),
        ("a chunk of no size", chunked(b"\r\n")),
        ("a chunk of a size that is no number", chunked(b"zz\r\n")),
        ("a chunk of 2^64 bytes", chunked(b"ffffffffffffffffff\r\n")),
        ("a negative chunk", chunked(b"-1\r\n")),
        (
            "a chunk with an extension of 40 KB",
            chunked(format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(40_000)).as_bytes()),
        ),
        ("a chunk without its end", chunked(b"2\r\n{}0\r\n\r\n")),
        ("chunks of 2 MiB and more", {
            let chunk = [&b"10000\r\n"[..], &vec![b'x'; 0x10000], b"\r\n"].concat();
            chunked(&chunk.repeat(40))
        }),
    ]
}

fn cut() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("after a letter", b"G".to_vec()),
        ("in the first line", b"GET /dev".to_vec()),
        ("in the head", b"GET / HTTP/1.1\r\nhost: loc".to_vec()),
        (
            "in the body",
            request(
                "POST /devices/leaf/messages/events HTTP/1.1",
                &["host: x", "content-length: 99"],
                b"{",
            ),
        ),
        (
            "in a chunk",
            request(
                "POST /devices/leaf/messages/events HTTP/1.1",
                &["host: x", "transfer-encoding: chunked"],
                b"9\r\nab",
            ),
        ),
    ]
}

/// Requests that nobody may make with these words.
fn strangers() -> Vec<(String, String, String)> {
    let good = token(&format!("devices/{DEVICE}"));
    let own = format!("POST /devices/{DEVICE}/messages/events?api-version=2021-04-12 HTTP/1.1");
    let mut rows = Vec::new();
    for (name, words) in [
        ("nothing", String::new()),
        ("a word", "password".to_owned()),
        ("Basic", "Basic YTpi".to_owned()),
        ("Bearer", "Bearer abc".to_owned()),
        ("another's token", token(&format!("devices/{OTHER}"))),
        ("nobody's token", token("devices/nobody")),
        ("a token of a policy that is none", format!("{good}&skn=nobody")),
        ("a token that was changed", good.replacen("se=4", "se=5", 1)),
        ("a token of 20 KB", format!("SharedAccessSignature sr={}", "a".repeat(20_000))),
    ] {
        rows.push((format!("{name}, telemetry"), own.clone(), words.clone()));
        rows.push((format!("{name}, a twin"), format!("GET /twins/{DEVICE} HTTP/1.1"), words));
    }
    for path in [
        format!("POST /devices/{OTHER}/messages/events"),
        format!("GET /devices/{OTHER}/messages/devicebound"),
        format!("GET /devices/{OTHER}"),
        format!("GET /twins/{OTHER}"),
        format!("PATCH /twins/{DEVICE}"),
        format!("PUT /devices/{DEVICE}"),
        format!("DELETE /devices/{OTHER}"),
        format!("POST /twins/{OTHER}/methods"),
        "POST /devices/query".to_owned(),
        "GET /statistics/devices".to_owned(),
        format!("POST /devices/{DEVICE}/applyConfigurationContent"),
    ] {
        let line = format!("{path}?api-version=2021-04-12 HTTP/1.1");
        rows.push((format!("a device's token, {path}"), line, good.clone()));
    }
    rows
}

type Asked = (&'static str, String, Vec<String>, Vec<u8>);

/// Requests of a device that it may make, wrong in their content.
fn asks() -> Vec<Asked> {
    let events = format!("POST /devices/{DEVICE}/messages/events?api-version=2021-04-12 HTTP/1.1");
    let batch = || vec!["content-type: application/vnd.microsoft.iothub.json".to_owned()];
    let of =
        |name, headers: Vec<String>, body: &[u8]| (name, events.clone(), headers, body.to_vec());
    let bound = |rest: &str| format!("/devices/{DEVICE}/messages/devicebound{rest} HTTP/1.1");
    vec![
        of("a message over 256 KiB", vec![], &vec![b'x'; 256 * 1024 + 1]),
        of("a message over 1 MiB", vec![], &vec![b'x'; (1 << 20) + 1]),
        of("a batch that is no JSON", batch(), b"no"),
        of("a batch that is an object", batch(), b"{}"),
        of("a batch of numbers", batch(), b"[1,2]"),
        of("a batch whose body is a number", batch(), b"[{\"body\":1}]"),
        of("a batch whose body is no base64", batch(), b"[{\"body\":\"!!\"}]"),
        of(
            "a batch whose properties are a list",
            batch(),
            b"[{\"body\":\"e30=\",\"properties\":[]}]",
        ),
        of("a batch that is cut", batch(), b"[{\"body\":\"e30="),
        of("a batch of 100,000 arrays", batch(), "[".repeat(100_000).as_bytes()),
        of("a batch that is not UTF-8", batch(), b"[{\"body\":\"\xff\"}]"),
        ("another method", events.replace("POST", "PUT"), vec![], b"{}".to_vec()),
        ("a lock that is none", format!("DELETE {}", bound("/nonsense")), vec![], vec![]),
        (
            "a lock of nobody",
            format!("DELETE {}", bound("/00000000-0000-0000-0000-000000000001")),
            vec![],
            vec![],
        ),
        (
            "to abandon a lock of nobody",
            format!("POST {}", bound("/00000000-0000-0000-0000-000000000001/abandon")),
            vec![],
            vec![],
        ),
        ("files", format!("POST /devices/{DEVICE}/files HTTP/1.1"), vec![], b"{}".to_vec()),
        ("nothing there", format!("GET /devices/{DEVICE}/nowhere HTTP/1.1"), vec![], vec![]),
    ]
}

/// A device that sends telemetry.
fn telemetry() -> Exchange {
    let line = format!("authorization: {}", token("devices/canary"));
    let first = "POST /devices/canary/messages/events?api-version=2021-04-12 HTTP/1.1";
    let say = request(first, &["host: localhost", &line, "content-length: 2"], b"{}");
    Exchange {
        say,
        answered: |bytes| bytes.starts_with(b"HTTP/1.1 204") && bytes.ends_with(b"\r\n\r\n"),
    }
}

fn dealt(cases: Vec<Case>) -> Vec<Vec<Case>> {
    let mut tables: Vec<Vec<Case>> = (0..TABLES).map(|_| Vec::new()).collect();
    for (at, case) in cases.into_iter().enumerate() {
        tables[at % TABLES].push(case);
    }
    tables
}

#[test]
fn bad_requests_and_websockets_are_refused_and_harm_nobody() {
    let hub = Hub::start();
    for device in [DEVICE, OTHER, "canary", "ws-0", "ws-1", "ws-2", "ws-3", "ws-4"] {
        hub.identity(device, None);
    }
    let target = Target::tls("HTTPS", &hub, "https");
    let good = || good_client(&target, nothing, |_| telemetry());
    besiege(&hub, &target, &dealt(cases()), good());
    let frames = Target { name: "WebSockets", ..target.clone() };
    besiege(&hub, &frames, &dealt(websocket::cases()), good());
    let records = Target::plain("the TLS listener of HTTPS", hub.listener("https"));
    besiege(&hub, &records, &[records::cases()], good());
}
