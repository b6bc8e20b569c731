//! AMQP 1.0 (ISO 19464): a small encoder that can be wrong in every place, what a client says before a case,
//! and the test that plays the tables of the other files.

use super::mqtt::{OTHER, token};
use super::{Case, Exchange, Target, amqp_frames, amqp_links, amqp_values, besiege, good_client};
use crate::support::Hub;
use std::sync::Arc;

/// Tables that are played side by side, each with a device of its own.
const TABLES: usize = 16;

pub(crate) const OPEN: u8 = 0x10;
pub(crate) const BEGIN: u8 = 0x11;
pub(crate) const ATTACH: u8 = 0x12;
pub(crate) const FLOW: u8 = 0x13;
pub(crate) const TRANSFER: u8 = 0x14;
pub(crate) const DISPOSITION: u8 = 0x15;
pub(crate) const DETACH: u8 = 0x16;
pub(crate) const END: u8 = 0x17;
pub(crate) const CLOSE: u8 = 0x18;

pub(crate) type Bytes = Vec<u8>;

pub(crate) fn null() -> Bytes {
    vec![0x40]
}

pub(crate) fn bool(value: bool) -> Bytes {
    vec![if value { 0x41 } else { 0x42 }]
}

pub(crate) fn ubyte(value: u8) -> Bytes {
    vec![0x50, value]
}

pub(crate) fn ushort(value: u16) -> Bytes {
    [&[0x60][..], &value.to_be_bytes()].concat()
}

pub(crate) fn uint(value: u32) -> Bytes {
    [&[0x70][..], &value.to_be_bytes()].concat()
}

fn wide(constructor: u8, content: &[u8]) -> Bytes {
    let size = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[constructor][..], &size, content].concat()
}

pub(crate) fn string(text: impl AsRef<[u8]>) -> Bytes {
    wide(0xb1, text.as_ref())
}

pub(crate) fn symbol(text: impl AsRef<[u8]>) -> Bytes {
    wide(0xb3, text.as_ref())
}

pub(crate) fn binary(bytes: impl AsRef<[u8]>) -> Bytes {
    wide(0xb0, bytes.as_ref())
}

fn compound(constructor: u8, items: &[Bytes]) -> Bytes {
    let count = u32::try_from(items.len()).unwrap().to_be_bytes();
    wide(constructor, &[&count[..], &items.concat()].concat())
}

pub(crate) fn list(items: &[Bytes]) -> Bytes {
    compound(0xd0, items)
}

pub(crate) fn map(items: &[Bytes]) -> Bytes {
    compound(0xd1, items)
}

pub(crate) fn described(code: u8, value: Bytes) -> Bytes {
    [vec![0x00, 0x53, code], value].concat()
}

/// A frame of the AMQP layer on this channel.
pub(crate) fn frame(channel: u16, body: &[u8]) -> Bytes {
    raw_frame(u32::try_from(body.len()).unwrap() + 8, 2, 0, channel, body)
}

pub(crate) fn raw_frame(size: u32, offset: u8, kind: u8, channel: u16, body: &[u8]) -> Bytes {
    [&size.to_be_bytes()[..], &[offset, kind], &channel.to_be_bytes(), body].concat()
}

/// A frame with a performative.
pub(crate) fn performative(channel: u16, code: u8, fields: &[Bytes]) -> Bytes {
    frame(channel, &described(code, list(fields)))
}

pub(crate) const HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";
pub(crate) const SASL_HEADER: &[u8] = b"AMQP\x03\x01\x00\x00";

pub(crate) fn open() -> Bytes {
    performative(0, OPEN, &[string("hostile"), string("localhost")])
}

pub(crate) fn begin(channel: u16) -> Bytes {
    performative(channel, BEGIN, &[null(), uint(0), uint(2_048), uint(2_048)])
}

/// An attach; `receives` is the client's role.
pub(crate) fn attach(name: &str, handle: u32, receives: bool, address: &str) -> Bytes {
    let terminus = |code, address: &str| described(code, list(&[string(address)]));
    let (source, target) = match receives {
        true => (terminus(0x28, address), terminus(0x29, "here")),
        false => (terminus(0x28, "here"), terminus(0x29, address)),
    };
    let mut fields =
        vec![string(name), uint(handle), bool(receives), null(), null(), source, target];
    if !receives {
        fields.extend([null(), null(), uint(0)]);
    }
    performative(0, ATTACH, &fields)
}

/// Credit for a link on which the client receives.
pub(crate) fn credit(handle: u32) -> Bytes {
    let session = [uint(0), uint(2_048), uint(0), uint(2_048)];
    performative(0, FLOW, &[&session[..], &[uint(handle), uint(0), uint(100)]].concat())
}

/// A whole message, unsettled.
pub(crate) fn transfer(handle: u32, id: u32, message: &[u8]) -> Bytes {
    let fields =
        [uint(handle), uint(id), binary(id.to_be_bytes()), uint(0), bool(false), bool(false)];
    let body = [&described(TRANSFER, list(&fields))[..], message].concat();
    frame(0, &body)
}

/// A section with bytes.
pub(crate) fn data(bytes: &[u8]) -> Bytes {
    described(0x75, binary(bytes))
}

/// A put-token request.
pub(crate) fn put_token(id: Bytes, properties: &[(&str, Bytes)], body: Bytes) -> Bytes {
    let head = described(0x73, list(&[id, null(), string("$cbs"), null(), string("cbs")]));
    let properties: Vec<Bytes> =
        properties.iter().flat_map(|(name, value)| [string(name), value.clone()]).collect();
    [head, described(0x74, map(&properties)), body].concat()
}

pub(crate) fn audience(device: &str) -> String {
    format!("localhost%2Fdevices%2F{device}")
}

pub(crate) fn good_token(device: &str) -> Bytes {
    let properties = [
        ("operation", string("put-token")),
        ("type", string("servicebus.windows.net:sastoken")),
        ("name", string(audience(device))),
    ];
    let token = token(&format!("devices/{device}"));
    put_token(string("1"), &properties, described(0x77, string(token)))
}

pub(crate) fn telemetry(device: &str) -> String {
    format!("/devices/{device}/messages/events")
}

/// The codes of the performatives in what the hub has said, headers left out.
pub(crate) fn said(mut bytes: &[u8]) -> Vec<u8> {
    let mut codes = Vec::new();
    loop {
        if let Some(rest) = bytes.strip_prefix(b"AMQP") {
            bytes = rest.get(4..).unwrap_or_default();
            continue;
        }
        let Some(size) = bytes.first_chunk() else { return codes };
        let size = u32::from_be_bytes(*size) as usize;
        let Some((frame, rest)) = bytes.split_at_checked(size.max(8)) else { return codes };
        if let [0x00, 0x53, code, ..] = frame[8..] {
            codes.push(code);
        }
        bytes = rest;
    }
}

fn has(bytes: &[u8], code: u8, times: usize) -> bool {
    said(bytes).iter().filter(|found| **found == code).count() >= times
}

/// What came before a case, from nothing to a link for telemetry.
pub(crate) struct Openings {
    pub(crate) nothing: Arc<[Exchange]>,
    pub(crate) header: Arc<[Exchange]>,
    pub(crate) opened: Arc<[Exchange]>,
    pub(crate) begun: Arc<[Exchange]>,
    /// The links of CBS: 0 to the hub, 1 from it.
    pub(crate) cbs: Arc<[Exchange]>,
    pub(crate) proven: Arc<[Exchange]>,
    /// Link 2.
    pub(crate) attached: Arc<[Exchange]>,
    pub(crate) sasl: Arc<[Exchange]>,
}

pub(crate) fn openings(device: &str) -> Openings {
    let step = |say: Vec<Bytes>, answered| Exchange { say: say.concat(), answered };
    let header = || step(vec![HEADER.into()], |bytes| bytes.starts_with(HEADER));
    let opened = || step(vec![open()], |bytes| has(bytes, OPEN, 1));
    let begun = || step(vec![begin(0)], |bytes| has(bytes, BEGIN, 1));
    let cbs = || {
        let say = vec![attach("to", 0, false, "$cbs"), attach("from", 1, true, "$cbs"), credit(1)];
        step(say, |bytes| has(bytes, ATTACH, 2) && has(bytes, FLOW, 1))
    };
    let proven =
        || step(vec![transfer(0, 0, &good_token(device))], |bytes| has(bytes, TRANSFER, 1));
    let attached = || {
        let say = vec![attach("telemetry", 2, false, &telemetry(device))];
        step(say, |bytes| has(bytes, ATTACH, 3) && has(bytes, FLOW, 2))
    };
    let sasl = step(vec![SASL_HEADER.into()], |bytes| has(bytes, 0x40, 1));
    Openings {
        nothing: Vec::new().into(),
        header: vec![header()].into(),
        opened: vec![header(), opened()].into(),
        begun: vec![header(), opened(), begun()].into(),
        cbs: vec![header(), opened(), begun(), cbs()].into(),
        proven: vec![header(), opened(), begun(), cbs(), proven()].into(),
        attached: vec![header(), opened(), begun(), cbs(), proven(), attached()].into(),
        sasl: vec![sasl].into(),
    }
}

fn tables() -> Vec<Vec<Case>> {
    let of = |number: usize| {
        let device = format!("leaf-{number}");
        let openings = openings(&device);
        let all = [
            amqp_frames::cases(&openings),
            amqp_values::cases(&openings),
            amqp_links::cases(&openings, &device),
        ];
        let cases = all.into_iter().flatten().enumerate();
        cases.filter(|(at, _)| at % TABLES == number).map(|(_, case)| case).collect()
    };
    (0..TABLES).map(of).collect()
}

fn populate(hub: &Hub) {
    for number in 0..TABLES {
        hub.identity(&format!("leaf-{number}"), None);
    }
    hub.identity(OTHER, None);
    hub.identity("canary", None);
}

#[test]
fn bad_frames_are_refused_and_harm_nobody() {
    let hub = Hub::start();
    populate(&hub);
    let target = Target::tls("AMQP", &hub, "amqp");
    let opening = || openings("canary").attached;
    let beat = |number| Exchange {
        say: transfer(2, 1 + (number - 1) % 20, &data(b"{}")),
        answered: |bytes| has(bytes, DISPOSITION, 1),
    };
    let tables = tables();
    assert!(tables.iter().map(Vec::len).sum::<usize>() >= 150);
    besiege(&hub, &target, &tables, good_client(&target, opening, beat));
    let records = Target::plain("the TLS listener of AMQP", hub.listener("amqp"));
    let table = [super::records::cases()];
    besiege(&hub, &records, &table, good_client(&target, opening, beat));
}
