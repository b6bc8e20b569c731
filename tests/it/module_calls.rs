//! What an operator asks of a Wasm module: desired properties and direct methods.

use crate::support::{Client, EDGE, Hub, PATIENCE, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

const IN: &str = "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
                  INTO BrokeredEndpoint(\"/modules/guest/inputs/in\")";
const OUT: &str =
    "FROM /messages/modules/guest/* INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")";
const TWIN: &str = "/twins/edge/modules/guest";

/// A hub with `pump-1` → guest → `receiver`.
fn hub_with(guest: &str, spec: &Value) -> (Hub, Client) {
    let hub = Hub::start();
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    hub.module("guest", guest, spec);
    hub.route("in", IN);
    hub.route("out", OUT);
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    (hub, receiver)
}

fn desire(hub: &Hub, desired: &Value) {
    let body = json!({ "properties": { "desired": desired } });
    let (status, answer) = hub.rest("PATCH", TWIN, Some(&body));
    assert_eq!(status, 200, "{answer}");
}

/// Waits until the reported properties are these, `$metadata` and `$version` aside.
fn reports(hub: &Hub, wanted: &Value) {
    let mut found = Value::Null;
    let there = crate::support::wait_at_most(|| {
        let (_, twin) = hub.rest("GET", TWIN, None);
        found = twin["properties"]["reported"].clone();
        let own = found.as_object_mut()?;
        own.retain(|name, _| !name.starts_with('$'));
        (found == *wanted).then_some(())
    });
    assert!(there.is_some(), "{found} instead of {wanted}");
}

fn temperatures(hub: &Hub, values: &[i64]) {
    let mut pump = hub.client("pump-1", None);
    for value in values {
        pump.publish("", format!("{{\"temperature\": {value}}}").as_bytes());
    }
    assert!(pump.wait_acknowledged(values.len() as u64));
}

fn next(receiver: &mut Client) -> i64 {
    let delivery = receiver.next_delivery(PATIENCE).expect("a message passes");
    let body: Value = serde_json::from_slice(&delivery.payload).unwrap();
    body["temperature"].as_i64().unwrap()
}

fn threshold() -> Value {
    json!({"inputs": ["in"], "outputs": ["out"], "body": "none", "fields": ["/temperature"]})
}

#[test]
fn desired_properties_change_what_a_module_does_and_hold_over_swaps_and_restarts() {
    let (mut hub, mut receiver) = hub_with("threshold.wasm", &threshold());
    desire(&hub, &json!({ "limit": 50 }));
    reports(&hub, &json!({ "limit": 50.0 }));
    temperatures(&hub, &[30, 60]);
    assert_eq!(next(&mut receiver), 60);
    // What is refused does not hold, and the operator reads why.
    desire(&hub, &json!({ "limit": "high" }));
    let note = json!({ "refused": 3, "inForce": 2, "reason": "limit is not a number" });
    reports(&hub, &json!({ "limit": 50.0, "weir-desired": note }));
    temperatures(&hub, &[40, 70]);
    assert_eq!(next(&mut receiver), 70);
    let mut newer = threshold();
    newer["version"] = "2".into();
    hub.module("guest", "threshold.wasm", &newer);
    temperatures(&hub, &[45, 80]);
    assert_eq!(next(&mut receiver), 80);
    hub.kill_and_restart();
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    temperatures(&hub, &[49, 90]);
    // A delivery that the hub had not marked as acknowledged before the kill comes again.
    let mut found = next(&mut receiver);
    while found == 80 {
        found = next(&mut receiver);
    }
    assert_eq!(found, 90);
    desire(&hub, &json!({ "limit": 20 }));
    reports(&hub, &json!({ "limit": 20.0 }));
    temperatures(&hub, &[25]);
    assert_eq!(next(&mut receiver), 25);
    assert!(receiver.next_delivery(Duration::from_millis(300)).is_none());
}

#[test]
fn methods_of_a_module_are_called_like_those_of_any_client() {
    let spec = json!({"inputs": ["in"], "outputs": ["out"]});
    let (mut hub, mut receiver) = hub_with("counter.wasm", &spec);
    let call = |hub: &Hub, module: &str, method: &str| {
        let body = json!({"deviceId": EDGE, "moduleId": module, "methodName": method});
        hub.rest("POST", "/method-calls", Some(&body))
    };
    temperatures(&hub, &[1, 2, 3]);
    for _ in 0..3 {
        next(&mut receiver);
    }
    let stats = |count: u64| (200, json!({"status": 200, "payload": {"count": count}}));
    assert_eq!(call(&hub, "guest", "stats"), stats(3));
    assert_eq!(call(&hub, "guest", "reset"), (200, json!({"status": 200, "payload": {"was": 3}})));
    // What the method did was on disk before it was answered.
    hub.kill_and_restart();
    assert_eq!(call(&hub, "guest", "stats"), stats(0));
    let (status, unknown) = call(&hub, "guest", "explode");
    assert_eq!((status, unknown["status"].as_i64()), (200, Some(404)), "{unknown}");
    hub.module("plain", "filter.wasm", &threshold());
    let (status, problem) = call(&hub, "plain", "stats");
    assert_eq!((status, problem["code"].as_str()), (404, Some("not-connected")), "{problem}");
    hub.module("bad", "broken.wasm", &spec);
    for (method, code) in [("panic", (502, "method-failed")), ("loop", (504, "method-timeout"))] {
        let (status, problem) = call(&hub, "bad", method);
        assert_eq!((status, problem["code"].as_str().unwrap()), code, "{problem}");
    }
    wait_for("the module is back", || (call(&hub, "bad", "nothing").0 == 200).then_some(()));
}
