//! The guests that keep something: windows that are held, state that is counted. What they say must be
//! the same with kills of the whole hub in between as without.

use crate::support::{Client, EDGE, Hub, PATIENCE, wait_at_most, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

const INPUT: &str = "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
                     INTO BrokeredEndpoint(\"/modules/guest/inputs/in\")";
const OUTPUT: &str = "FROM /messages/modules/guest/outputs/out \
                      INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")";

/// A hub with `pump-1` → guest → `receiver`.
fn hub_with(guest: &str, spec: &Value) -> Hub {
    let hub = Hub::start();
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    let mut spec = spec.clone();
    (spec["inputs"], spec["outputs"]) = (json!(["in"]), json!(["out"]));
    hub.module("guest", guest, &spec);
    hub.route("in", INPUT);
    hub.route("out", OUTPUT);
    hub
}

fn aggregate(settings: &Value) -> Hub {
    let spec = json!({"body": "none", "fields": ["/n"], "settings": settings});
    hub_with("aggregate.wasm", &spec)
}

/// Publishes the numbers and waits until each is acknowledged.
fn publish(hub: &Hub, numbers: std::ops::Range<u64>) {
    let mut pump = hub.client("pump-1", None);
    let count = numbers.end - numbers.start;
    for n in numbers {
        pump.publish("", format!("{{\"n\": {n}}}").as_bytes());
    }
    assert!(pump.wait_acknowledged(count), "not everything was acknowledged");
}

/// A window: its number, how many messages, the least and the greatest number in it.
fn window(delivery: &weir_mqtt_codec::Publish) -> (u64, u64, u64, u64) {
    let topic = delivery.topic.as_str();
    let (_, bag) = topic.rsplit_once('/').unwrap();
    let number = bag.split('&').find_map(|pair| pair.strip_prefix("window=")).unwrap();
    let body: Value = serde_json::from_slice(&delivery.payload).unwrap();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
    let whole = |name: &str| body[name].as_f64().unwrap() as u64;
    (number.parse().unwrap(), whole("messages"), whole("minimum"), whole("maximum"))
}

/// Windows that arrive until `count` are there, and what comes behind them by mistake.
fn windows(receiver: &mut Client, count: usize) -> Vec<(u64, u64, u64, u64)> {
    let mut got = Vec::new();
    while let Some(delivery) =
        receiver.next_delivery(if got.len() < count { PATIENCE } else { Duration::from_secs(1) })
    {
        got.push(window(&delivery));
    }
    got
}

/// Says where two lists part, not all that is in them.
fn same(got: &[(u64, u64, u64, u64)], expected: &[(u64, u64, u64, u64)]) {
    let parted = got.iter().zip(expected).find(|(got, expected)| got != expected);
    assert_eq!(parted, None, "got and expected window");
    assert_eq!(got.len(), expected.len(), "lost or doubled");
}

#[test]
fn windows_that_were_open_at_a_kill_close_with_every_message_once() {
    let mut hub = aggregate(&json!({"count": 10}));
    // Each kill meets a window that is held, and most of them messages that wait for the guest.
    let mut sent = 0;
    for upto in [7, 1_013, 2_001, 2_002, 4_999, 5_000] {
        publish(&hub, sent..upto);
        sent = upto;
        hub.kill_and_restart();
        // What is held stays in the queue until its window's result is on disk.
        let open = upto % 10;
        let mut held = 0;
        let closed = wait_at_most(|| {
            held = hub.waiting("edge/guest/in");
            (held == open).then_some(())
        });
        let (_, module) = hub.rest("GET", "/modules/guest", None);
        assert!(closed.is_some(), "after {upto}: {held} and not {open} are held: {module}");
    }
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let expected: Vec<_> = (1..=500).map(|k| (k, 10, 10 * (k - 1), 10 * k - 1)).collect();
    same(&windows(&mut receiver, expected.len()), &expected);
    assert_eq!(hub.waiting("edge/guest/in"), 0);
}

#[test]
fn state_after_kills_is_what_the_emitted_messages_say() {
    let mut hub = aggregate(&json!({"count": 1}));
    let mut sent = 0;
    for upto in [1, 800, 801, 2_000, 3_000] {
        publish(&hub, sent..upto);
        sent = upto;
        hub.kill_and_restart();
    }
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    // The count in the state goes with each emission: it neither repeats nor skips a number.
    let expected: Vec<_> = (0..3_000).map(|n| (n + 1, 1, n, n)).collect();
    same(&windows(&mut receiver, expected.len()), &expected);
    let (_, keys) = hub.rest("GET", "/modules/guest/state", None);
    assert_eq!(keys["items"][0]["key"], "windows", "{keys}");
    assert_eq!(keys["items"].as_array().map(Vec::len), Some(1), "{keys}");
}

#[test]
fn a_window_is_closed_by_a_message_that_comes_after_its_time() {
    let hub = aggregate(&json!({"count": 1_000, "window-ms": 200}));
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut sent = 0;
    let first = wait_for("a window", || {
        publish(&hub, sent..sent + 1);
        sent += 1;
        receiver.next_delivery(Duration::from_millis(20)).map(|delivery| window(&delivery))
    });
    let (number, messages, least, greatest) = first;
    assert_eq!((number, least, greatest), (1, 0, messages - 1));
    assert!(messages < sent, "the message that closes a window is not in it");
}

#[test]
fn an_enriched_message_keeps_its_own_and_gets_what_was_asked_for() {
    let spec = json!({"body": "none", "system": ["connectionDeviceId"],
        "settings": {"set": {"site": "plant 4", "unit": "K"}, "sender-as": "sensor"}});
    let hub = hub_with("enrich.wasm", &spec);
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut pump = hub.client("pump-1", None);
    pump.publish("unit=C&line=7&%24.mid=reading-1", b"raw \xff bytes");
    let delivery = receiver.next_delivery(PATIENCE).expect("the enriched message");
    assert_eq!(&delivery.payload[..], b"raw \xff bytes");
    let (_, bag) = delivery.topic.as_str().rsplit_once('/').unwrap();
    let pairs: Vec<&str> = bag.split('&').collect();
    for pair in ["site=plant%204", "unit=K", "line=7", "sensor=pump-1", "%24.mid=reading-1"] {
        assert!(pairs.contains(&pair), "{pair} is missing in {bag}");
    }
    assert!(!pairs.contains(&"unit=C"), "{bag}");
}
