//! The main job: device → durable queue → Wasm filter → module or upstream.

use crate::support::{EDGE, Hub, PATIENCE, wait_for};
use serde_json::json;
use std::time::Duration;

const TO_FILTER: &str = "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
                         INTO BrokeredEndpoint(\"/modules/filter/inputs/in\")";

fn filter_spec() -> serde_json::Value {
    json!({"inputs": ["in"], "outputs": ["out"], "body": "none", "fields": ["/temperature"],
           "settings": {"threshold": 25}})
}

#[test]
fn a_filter_keeps_what_it_should_and_the_receiver_sees_the_first_sender() {
    let hub = Hub::start();
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    hub.module("filter", "filter.wasm", &filter_spec());
    hub.route("in", TO_FILTER);
    hub.route(
        "out",
        "FROM /messages/modules/filter/outputs/out INTO BrokeredEndpoint(\"/modules/receiver/inputs/hot\")",
    );
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut pump = hub.client("pump-1", None);
    for temperature in [10, 30, 20, 40] {
        pump.publish("unit=C", format!("{{\"temperature\": {temperature}}}").as_bytes());
    }
    assert!(pump.wait_acknowledged(4));
    let first = receiver.next_delivery(PATIENCE).expect("the first hot reading");
    let second = receiver.next_delivery(PATIENCE).expect("the second hot reading");
    assert_eq!(&first.payload[..], br#"{"temperature": 30}"#);
    assert_eq!(&second.payload[..], br#"{"temperature": 40}"#);
    let topic = first.topic.as_str();
    assert!(topic.starts_with("devices/edge/modules/receiver/inputs/hot/"), "{topic}");
    for part in ["unit=C", "%24.cdid=edge", "%24.cmid=filter", "weir-origin-device=pump-1"] {
        assert!(topic.contains(part), "{part} is missing in {topic}");
    }
    assert!(receiver.next_delivery(Duration::from_millis(300)).is_none());
    assert_eq!(hub.stop(), Some(0));
}

#[test]
fn an_explanation_names_the_routes_and_the_value_that_decided() {
    let hub = Hub::start();
    hub.identity("pump-1", None);
    hub.route("hot", "FROM /messages/* WHERE as_number(temperature) > 25 INTO $upstream");
    let mut pump = hub.client("pump-1", None);
    pump.publish("temperature=20&%24.mid=reading-1", b"{}");
    assert!(pump.wait_acknowledged(1));
    let last = hub.weir(&["explain", "last"]);
    assert_eq!(last["routes"][0]["matched"], "false", "{last}");
    assert!(last["routes"][0]["text"].as_str().unwrap().contains("20"), "{last}");
    assert_eq!(hub.weir(&["explain", "reading-1"])["id"], last["id"]);
}

#[test]
fn what_waits_for_the_upstream_survives_a_kill_and_reaches_the_file() {
    let mut hub = Hub::start();
    hub.identity("pump-1", None);
    hub.route("up", "FROM /messages/* INTO $upstream");
    let mut pump = hub.client("pump-1", None);
    for number in 0..500 {
        pump.publish("", format!("{{\"n\": {number}}}").as_bytes());
    }
    assert!(pump.wait_acknowledged(500));
    assert_eq!(hub.waiting("iothub"), 500);
    hub.kill_and_restart();
    assert_eq!(hub.waiting("iothub"), 500);
}

#[test]
fn a_poison_message_is_set_aside_and_the_others_go_through() {
    let hub = Hub::start();
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    let spec = json!({"inputs": ["in"], "outputs": ["out"], "properties": ["*"],
        "settings": {"fault": "trap", "when": "marked"}, "errors": {"retry": {"max-attempts": 2}}});
    hub.module("filter", "broken.wasm", &spec);
    hub.route("in", TO_FILTER);
    hub.route(
        "out",
        "FROM /messages/modules/filter/outputs/out INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
    );
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut pump = hub.client("pump-1", None);
    for number in 0..64 {
        let bag = if number == 37 { "poison=true" } else { "" };
        pump.publish(bag, number.to_string().as_bytes());
    }
    assert!(pump.wait_acknowledged(64));
    let mut got = Vec::new();
    while let Some(delivery) = receiver.next_delivery(Duration::from_secs(2)) {
        got.push(String::from_utf8(delivery.payload.to_vec()).unwrap());
    }
    let expected: Vec<String> = (0..64).filter(|n| *n != 37).map(|n| n.to_string()).collect();
    assert_eq!(got, expected);
    let letters = wait_for("a dead letter", || {
        let (_, letters) = hub.rest("GET", "/dead-letters", None);
        letters["items"].as_array().filter(|letters| letters.len() == 1).cloned()
    });
    assert!(letters[0]["reason"].as_str().unwrap().contains("trap"), "{letters:?}");
}
