//! MQTT 3.1.1: the tables of its files, at the listener without TLS and at the one with it.

use super::{Case, Exchange, Target, besiege, mqtt_connects, mqtt_corpus, mqtt_packets};
use super::{How, mqtt_sessions, records};
use crate::support::{Client, EDGE, Hub, KEY};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::identity::Key;
use weir_hub::authenticate::make_token;

/// Tables that are played side by side, each with identities of its own.
const TABLES: usize = 16;
/// The device in whose name the others must not speak.
pub(crate) const OTHER: &str = "other";

/// The clients of one table.
pub(crate) struct Who {
    pub(crate) device: String,
    pub(crate) module: String,
}

/// A packet with this first byte; the remaining length is put in.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    bytes.extend(remaining_length(body.len()));
    bytes.extend(body);
    bytes
}

pub(crate) fn remaining_length(mut rest: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(rest & 0x7f).unwrap();
        rest >>= 7;
        bytes.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            return bytes;
        }
    }
}

/// A field with its two-byte length.
pub(crate) fn field(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&length[..], content].concat()
}

/// A CONNECT of level 4 with these flags, this keep-alive and these fields.
pub(crate) fn connect(flags: u8, keep_alive: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04".to_vec();
    body.extend([flags, 0, keep_alive]);
    fields.iter().for_each(|content| body.extend(field(content)));
    packet(0x10, &body)
}

/// A PUBLISH of QoS 1 with packet id 1.
pub(crate) fn publish(topic: impl AsRef<[u8]>, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&field(topic)[..], &[0, 1], payload].concat())
}

/// A SUBSCRIBE at QoS 1 with packet id 1.
pub(crate) fn subscribe(filters: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![0, 1];
    for filter in filters {
        body.extend(field(filter));
        body.push(1);
    }
    packet(0x82, &body)
}

pub(crate) fn user_name(id: &str) -> String {
    format!("localhost/{id}/?api-version=2021-04-12")
}

/// A token for a path below the host, signed with the key of all identities here.
pub(crate) fn token(path: &str) -> String {
    token_by(KEY, &format!("localhost/{path}").replace('/', "%2F"), 4_000_000_000)
}

pub(crate) fn token_by(key: &str, resource: &str, expires: i64) -> String {
    let key: Key = key.parse().unwrap();
    make_token(&key, resource, Timestamp::from_secs(expires), None)
}

/// A CONNECT that is accepted, with a clean session.
pub(crate) fn good_connect(id: &str, keep_alive: u8) -> Vec<u8> {
    let path = match id.split_once('/') {
        None => format!("devices/{id}"),
        Some((device, module)) => format!("devices/{device}/modules/{module}"),
    };
    let (user, token) = (user_name(id), token(&path));
    connect(0xc2, keep_alive, &[id.as_bytes(), user.as_bytes(), token.as_bytes()])
}

/// Nothing comes before.
pub(crate) fn unknown() -> Arc<[Exchange]> {
    Vec::new().into()
}

/// The client has connected.
pub(crate) fn connected(id: &str) -> Arc<[Exchange]> {
    connected_for(id, 60)
}

/// The same with another keep-alive.
pub(crate) fn connected_for(id: &str, keep_alive: u8) -> Arc<[Exchange]> {
    let accepted = |bytes: &[u8]| bytes == [0x20, 2, 0, 0];
    vec![Exchange { say: good_connect(id, keep_alive), answered: accepted }].into()
}

/// The identities that the tables speak of.
fn populate(hub: &Hub) {
    for number in 0..TABLES {
        hub.identity(&format!("leaf-{number}"), None);
        hub.identity(EDGE, Some(&format!("mod-{number}")));
    }
    for device in [OTHER, "canary", "disabled", "slow-1", "slow-2"] {
        hub.identity(device, None);
    }
    let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}});
    hub.put("/devices/disabled", &json!({"authentication": keys, "status": "disabled"}));
    hub.put("/devices/keyless", &json!({"authentication": {"type": "none"}}));
    let thumbprint = "AB".repeat(20);
    hub.put(
        "/devices/certified",
        &json!({"authentication": {"type": "selfSigned", "x509Thumbprint":
            {"primaryThumbprint": thumbprint, "secondaryThumbprint": thumbprint}}}),
    );
}

/// All cases, dealt out to tables whose identities differ.
fn tables() -> Vec<Vec<Case>> {
    let of = |number: usize| {
        let who = Who { device: format!("leaf-{number}"), module: format!("mod-{number}") };
        let all = [
            mqtt_corpus::cases(&who),
            mqtt_packets::cases(&who),
            mqtt_connects::cases(&who),
            mqtt_sessions::cases(&who),
        ];
        let cases = all.into_iter().flatten().enumerate();
        cases.filter(|(at, _)| at % TABLES == number).map(|(_, case)| case).collect()
    };
    (0..TABLES).map(of).collect()
}

/// A device that sends telemetry, and comes anew from time to time.
fn good_client(hub: &Hub) -> impl FnMut() -> Result<(), String> + Send + use<> {
    let (address, mut client, mut beats) = (hub.mqtt, None, 0);
    move || {
        let client = match beats % 20 {
            0 => client.insert(Client::connect(address, "canary", None, false)),
            _ => client.as_mut().unwrap(),
        };
        beats += 1;
        client.publish("", b"{}");
        match client.acknowledged_within(Duration::from_secs(10)) {
            true => Ok(()),
            false => Err("no PUBACK".to_owned()),
        }
    }
}

#[test]
fn bad_packets_are_refused_and_harm_nobody() {
    let hub = Hub::start();
    populate(&hub);
    let tables = tables();
    assert!(tables.iter().map(Vec::len).sum::<usize>() >= 400);
    besiege(&hub, &Target::plain("MQTT", hub.mqtt), &tables, good_client(&hub));
    besiege(&hub, &Target::tls("MQTT over TLS", &hub, "mqtt"), &tables, good_client(&hub));
    let target = Target::plain("the TLS listener of MQTT", hub.listener("mqtt"));
    besiege(&hub, &target, &[records::cases()], good_client(&hub));
}

#[test]
fn slow_packets_are_cut_at_their_limits() {
    let hub = Hub::start();
    populate(&hub);
    let tables = mqtt_packets::slow_cases();
    assert!(tables.iter().flatten().all(|case| matches!(case.how, How::Dripping(_))));
    besiege(&hub, &Target::plain("slow MQTT", hub.mqtt), &tables, good_client(&hub));
}
