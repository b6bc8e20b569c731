//! Bytes that no client sends: the connection ends in time, and the others are served meanwhile.

use crate::client::{Client, data, soon};
use crate::hub::TestHub;
use crate::{LEAF_EVENTS, leaf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";
const SASL: &[u8] = b"AMQP\x03\x01\x00\x00";

fn sized(body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&size[..], body].concat()
}

/// A frame of the AMQP layer on this channel.
fn frame(channel: u8, body: &[u8]) -> Vec<u8> {
    sized(&[&[2, 0, 0, channel][..], body].concat())
}

/// A performative with these encoded fields.
fn performative(code: u8, fields: &[&[u8]]) -> Vec<u8> {
    let items = fields.concat();
    let size = u32::try_from(items.len() + 4).unwrap().to_be_bytes();
    let count = u32::try_from(fields.len()).unwrap().to_be_bytes();
    [&[0x00, 0x53, code, 0xd0][..], &size, &count, &items].concat()
}

fn open() -> Vec<u8> {
    frame(0, &performative(0x10, &[&[0xa1, 1, b'x']]))
}

fn begin(channel: u8) -> Vec<u8> {
    frame(channel, &performative(0x11, &[&[0x40], &[0x43], &[0x52, 100], &[0x52, 100]]))
}

/// Attaches a sender to `$cbs`.
fn attach(handle: u8) -> Vec<u8> {
    let name = [0xa1, 1, b'a' + handle];
    let target = performative(0x29, &[&[0xa1, 4, b'$', b'c', b'b', b's']]);
    let null = &[0x40][..];
    let fields =
        [&name[..], &[0x52, handle], &[0x42], null, null, null, &target, null, null, &[0x43]];
    frame(0, &performative(0x12, &fields))
}

fn transfer(rest: &[&[u8]], payload: &[u8]) -> Vec<u8> {
    let performative = performative(0x14, rest);
    frame(0, &[&performative[..], payload].concat())
}

fn attached() -> Vec<u8> {
    [HEADER, &open(), &begin(0), &attach(0)].concat()
}

fn opened() -> Vec<u8> {
    [HEADER, &open()].concat()
}

/// Beginnings that are in order, each followed by one thing that is not.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |what: String, bytes: Vec<u8>| all.push((what, bytes));
    let stages = [("header", HEADER.to_vec()), ("opened", opened()), ("attached", attached())];
    for (stage, before) in &stages {
        for size in [0u32, 1, 4, 7, 0x0100_0000, 0x7fff_ffff, 0xffff_ffff] {
            let bytes = [&before[..], &size.to_be_bytes(), &[2, 0, 0, 0]].concat();
            add(format!("{stage}: a frame of {size:#x}"), bytes);
        }
        for offset in [0u8, 1, 3, 255] {
            let bytes = [&before[..], &sized(&[offset, 0, 0, 0])].concat();
            add(format!("{stage}: data offset {offset}"), bytes);
        }
        for kind in [1u8, 2, 255] {
            add(format!("{stage}: type {kind}"), [&before[..], &sized(&[2, kind, 0, 0])].concat());
        }
        for body in values() {
            let bytes = [&before[..], &frame(0, &body)].concat();
            add(format!("{stage}: {body:x?}"), bytes);
        }
    }
    for code in [0x0fu8, 0x19, 0x40, 0x70, 0xff] {
        add(
            format!("performative {code:#x}"),
            [opened(), frame(0, &performative(code, &[]))].concat(),
        );
    }
    for code in [0x11u8, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17] {
        let early = [HEADER, &frame(0, &performative(code, &[&[0x43]]))].concat();
        add(format!("{code:#x} before open"), early);
        if code != 0x11 {
            let bytes = [opened(), frame(5, &performative(code, &[&[0x43], &[0x43]]))].concat();
            add(format!("{code:#x} without a session"), bytes);
        }
    }
    add("open twice".into(), [opened(), open()].concat());
    add("begin twice".into(), [opened(), begin(0), begin(0)].concat());
    add("a handle twice".into(), [attached(), attach(0)].concat());
    add("many sessions".into(), [opened(), (0..50).flat_map(begin).collect()].concat());
    let links = (1..50).flat_map(|handle| attach(handle % 100)).collect();
    add("many links".into(), [attached(), links].concat());
    let handle = [0x70u8, 0xff, 0xff, 0xff, 0xff];
    for code in [0x13u8, 0x14, 0x16] {
        let fields: &[&[u8]] = match code {
            0x13 => &[&[0x40], &[0x43], &[0x43], &[0x43], &handle],
            _ => &[&handle],
        };
        add(
            format!("{code:#x} of no link"),
            [attached(), frame(0, &performative(code, fields))].concat(),
        );
    }
    add(
        "attach without a handle".into(),
        [opened(), begin(0), frame(0, &performative(0x12, &[&[0xa1, 1, b'x']]))].concat(),
    );
    add(
        "bytes after a begin".into(),
        [opened(), frame(0, &[performative(0x11, &[]), vec![0x40]].concat())].concat(),
    );
    let tag = [&[0xa0u8, 33][..], &[0; 33]].concat();
    add(
        "a long delivery tag".into(),
        [attached(), transfer(&[&[0x43], &[0x43], &tag], b"")].concat(),
    );
    add("a text as handle".into(), [attached(), transfer(&[&[0xa1, 1, b'x']], b"")].concat());
    for bytes in [
        &b"AMQP\x03\x01\x00\x01"[..],
        b"AMQP\x01\x01\x00\x00",
        b"\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ] {
        add(format!("greeting {bytes:x?}"), bytes.to_vec());
    }
    for body in values() {
        add(
            format!("sasl: {body:x?}"),
            [SASL, &sized(&[&[2, 1, 0, 0][..], &body].concat())].concat(),
        );
    }
    add("sasl: an amqp frame".into(), [SASL, &frame(0, &[])].concat());
    add(
        "sasl: a large frame".into(),
        [SASL, &0x0010_0000u32.to_be_bytes()[..], &[2, 1, 0, 0]].concat(),
    );
    add(
        "sasl: outcome from a client".into(),
        [SASL, &sized(&[&[2, 1, 0, 0][..], &performative(0x44, &[&[0x50, 0]])].concat())].concat(),
    );
    all
}

/// Bodies of frames that are no values.
fn values() -> Vec<Vec<u8>> {
    let mut nested = vec![0x45];
    for _ in 0..200 {
        let size = u32::try_from(nested.len() + 4).unwrap().to_be_bytes();
        nested = [&[0xd0][..], &size, &[0, 0, 0, 1], &nested].concat();
    }
    vec![
        vec![0xff],
        vec![0x00],
        vec![0x00; 300],
        vec![0x00, 0x53],
        vec![0x00, 0x53, 0x10],
        vec![0x00, 0x53, 0x10, 0xd0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1],
        vec![0x00, 0x53, 0x10, 0xd0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
        vec![0x00, 0x53, 0x10, 0xc0, 1, 255],
        vec![0x00, 0x53, 0x10, 0xc0, 5, 1, 0xa1, 200, b'x'],
        vec![0x00, 0x53, 0x10, 0xc0, 4, 1, 0xa1, 1, 0xff],
        vec![0x00, 0x53, 0x10, 0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
        vec![0x00, 0x53, 0x10, 0xe0, 2, 200, 0x45],
        vec![0x00, 0xa3, 4, b'a', b'm', b'q', b'p', 0x45],
        vec![0x40],
        vec![0x45],
        vec![0x53, 0x10, 0x45],
        [&[0x00, 0x53, 0x10][..], &nested].concat(),
        [&[0x00, 0x53, 0x10, 0xd1, 0xff][..], &[0xff; 600]].concat(),
    ]
}

/// True when the hub has ended the connection in time.
async fn ends(address: std::net::SocketAddr, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.ok();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_input_ends_its_connection_and_harms_nobody_else() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut good = Client::enter(&hub, &leaf()).await;
    let mut link = good.sender(LEAF_EVENTS).await.unwrap();
    let corpus = corpus();
    assert!(corpus.len() >= 150, "{}", corpus.len());
    let mut worst = Duration::ZERO;
    for (what, bytes) in &corpus {
        let sent = Instant::now();
        let (ended, served) = tokio::join!(ends(hub.address, bytes), soon(link.send(data("x"))));
        worst = worst.max(sent.elapsed());
        assert!(ended, "still open: {what}");
        assert!(served.unwrap().is_accepted());
    }
    assert!(worst < Duration::from_secs(2), "{worst:?}");
}

#[tokio::test]
async fn one_disposition_for_all_deliveries_there_could_be_costs_nothing() {
    let hub = TestHub::start().await;
    let mut stream = TcpStream::connect(hub.address).await.unwrap();
    let all = [&[0x41u8][..], &[0x43], &[0x70, 0xff, 0xff, 0xff, 0xff], &[0x41]];
    let bytes = [attached(), frame(0, &performative(0x15, &all))].concat();
    stream.write_all(&bytes).await.unwrap();
    let close = frame(0, &performative(0x18, &[]));
    stream.write_all(&close).await.unwrap();
    let sent = Instant::now();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.ok();
    assert!(sent.elapsed() < Duration::from_secs(4), "{:?}", sent.elapsed());
}

#[tokio::test]
async fn who_sends_nothing_or_half_of_something_is_gone_after_a_while() {
    let hub = TestHub::start().await;
    let opened = opened();
    let attached = attached();
    let silent: [&[u8]; 7] = [b"", b"AMQP", HEADER, SASL, &opened[..20], &opened, &attached];
    let limit = weir_core::limits::AMQP_PROOF_LIMIT + Duration::from_secs(10);
    let address = hub.address;
    let all = silent.map(|bytes| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let ended = timeout(limit, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "{bytes:x?}");
    });
    futures::future::join_all(all).await;
}
