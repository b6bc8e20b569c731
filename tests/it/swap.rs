//! Exchanging a module's version while messages flow.

use crate::support::{EDGE, Hub, PATIENCE, now, wait_for};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const SWAPS: usize = 200;
const KILLS: usize = 10;

fn provision(hub: &Hub) {
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    hub.route(
        "in",
        "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
         INTO BrokeredEndpoint(\"/modules/filter/inputs/in\")",
    );
    hub.route(
        "out",
        "FROM /messages/modules/filter/outputs/out INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
    );
}

#[test]
fn two_hundred_swaps_under_load_lose_nothing_and_double_nothing() {
    let hub = Hub::start();
    let spec =
        json!({"inputs": ["in"], "outputs": ["out"], "body": "none", "fields": ["/temperature"]});
    hub.module("filter", "filter.wasm", &spec);
    provision(&hub);
    let versions = [hub.artifact("filter.wasm"), hub.artifact("demo_v1.wasm")];
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let stop = Arc::new(AtomicBool::new(false));
    let mut pump = hub.client("pump-1", None);
    let loading = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut sent: u64 = 0;
            while !stop.load(Ordering::SeqCst) {
                while sent - pump.acknowledged < 100 {
                    pump.publish("", format!("{{\"temperature\": 99, \"n\": {sent}}}").as_bytes());
                    sent += 1;
                }
                assert!(pump.wait_acknowledged(sent - 50), "the hub ended the connection");
            }
            assert!(pump.wait_acknowledged(sent), "not everything was acknowledged");
            sent
        }
    });
    let receiving = std::thread::spawn(move || {
        let mut numbers = Vec::new();
        while let Some(delivery) = receiver.next_delivery(Duration::from_secs(3)) {
            let body: serde_json::Value = serde_json::from_slice(&delivery.payload).unwrap();
            numbers.push(body["n"].as_u64().unwrap());
        }
        numbers
    });
    for swap in 0..SWAPS {
        let component = &versions[(swap + 1) % 2];
        let (status, answer) =
            hub.rest("POST", "/modules/filter/swaps", Some(&json!({ "component": component })));
        assert_eq!(status, 200, "swap {swap}: {answer}");
    }
    stop.store(true, Ordering::SeqCst);
    let sent = loading.join().unwrap();
    let numbers = receiving.join().unwrap();
    assert!(sent > 1_000, "only {sent} messages flowed");
    let expected: Vec<u64> = (0..sent).collect();
    assert_eq!(numbers.len() as u64, sent, "lost or doubled");
    assert_eq!(numbers, expected);
}

#[test]
fn kills_amid_swaps_leave_one_version_and_lose_and_double_nothing() {
    let mut hub = Hub::start();
    let spec =
        json!({"inputs": ["in"], "outputs": ["out"], "body": "none", "fields": ["/temperature"]});
    hub.module("filter", "filter.wasm", &spec);
    provision(&hub);
    let versions = [hub.artifact("filter.wasm"), hub.artifact("demo_v1.wasm")];
    let (mut sent, mut acknowledged, mut swaps) = (0_u64, Vec::new(), 0);
    for _ in 0..KILLS {
        let api = hub.api();
        let components = versions.clone();
        let swapping = std::thread::spawn(move || {
            let mut done = 0;
            for component in components.iter().cycle().skip(1) {
                let body = json!({ "component": component });
                match api.call("POST", "/api/v1/modules/filter/swaps", Some(&body)) {
                    Some((200, _)) => done += 1,
                    Some((status, answer)) => panic!("{status}: {answer}"),
                    None => return done,
                }
            }
            done
        });
        let mut pump = hub.client("pump-1", None);
        let (begun, first) = (now(), sent);
        while begun.elapsed() < Duration::from_millis(150) {
            while sent - first - pump.acknowledged < 100 {
                pump.publish("", format!("{{\"temperature\": 99, \"n\": {sent}}}").as_bytes());
                sent += 1;
            }
            pump.wait_acknowledged((sent - first).saturating_sub(50));
        }
        acknowledged.extend(first..first + pump.acknowledged);
        hub.kill_and_restart();
        swaps += swapping.join().unwrap();
        let (status, module) = hub.rest("GET", "/modules/filter", None);
        assert_eq!(status, 200, "{module}");
        assert!(versions.iter().any(|known| module["spec"]["component"] == **known), "{module}");
    }
    assert!(swaps > KILLS, "only {swaps} swaps");
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut numbers = Vec::new();
    while let Some(delivery) = receiver.next_delivery(Duration::from_secs(3)) {
        let body: serde_json::Value = serde_json::from_slice(&delivery.payload).unwrap();
        numbers.push(body["n"].as_u64().unwrap());
    }
    assert!(numbers.is_sorted_by(|before, after| before < after), "doubled or out of order");
    let lost: Vec<&u64> =
        acknowledged.iter().filter(|number| numbers.binary_search(number).is_err()).collect();
    let waiting = hub.rest("GET", "/queues", None).1;
    let letters = hub.rest("GET", "/dead-letters", None).1;
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged are lost: {:?}; {} came, the last is {:?}; {letters}; {waiting}",
        lost.len(),
        acknowledged.len(),
        &lost[..lost.len().min(20)],
        numbers.len(),
        numbers.last()
    );
}

#[test]
fn a_version_that_traps_goes_back_by_itself_and_nothing_is_lost() {
    let hub = Hub::start();
    let spec =
        json!({"inputs": ["in"], "outputs": ["out"], "body": "none", "fields": ["/temperature"]});
    hub.module("filter", "demo_v1.wasm", &spec);
    provision(&hub);
    let broken = hub.artifact("demo_v3.wasm");
    let (status, answer) =
        hub.rest("POST", "/modules/filter/swaps", Some(&json!({ "component": broken })));
    assert_eq!(status, 200, "{answer}");
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut pump = hub.client("pump-1", None);
    for number in 0..10 {
        pump.publish("", format!("{{\"temperature\": 99, \"n\": {number}}}").as_bytes());
    }
    for number in 0..10 {
        let delivery = receiver.next_delivery(PATIENCE).expect("every message arrives");
        let body: serde_json::Value = serde_json::from_slice(&delivery.payload).unwrap();
        assert_eq!(body["n"], number);
    }
    let module = wait_for("the return is shown", || {
        let (_, module) = hub.rest("GET", "/modules/filter", None);
        (!module["lastReturn"].is_null()).then_some(module)
    });
    assert_eq!(module["counters"]["dead"], 0, "{module}");
}

#[test]
fn a_component_that_does_not_start_leaves_the_old_version_at_work() {
    let hub = Hub::start();
    let spec =
        json!({"inputs": ["in"], "outputs": ["out"], "body": "none", "fields": ["/temperature"]});
    hub.module("filter", "demo_v1.wasm", &spec);
    let begun = now();
    let refusing = json!({"type": "wasm", "component": hub.artifact("broken.wasm"), "inputs": ["in"],
        "outputs": ["out"], "settings": {"fault": "trap", "when": "init"}});
    let (status, problem) = hub.rest("PUT", "/modules/filter", Some(&refusing));
    assert_eq!((status, problem["code"].as_str()), (409, Some("swap-failed")), "{problem}");
    assert!(begun.elapsed() < PATIENCE);
    let (_, module) = hub.rest("GET", "/modules/filter", None);
    assert_eq!(module["version"], 1, "{module}");
    assert_eq!(module["state"], "running", "{module}");
}
