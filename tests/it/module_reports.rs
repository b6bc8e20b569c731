//! Reports of a Wasm module and kills of the whole hub: what a batch reports and what it sends are one
//! commit.

use crate::support::{EDGE, Hub, now};
use serde_json::{Value, json};
use std::time::Duration;
use weir_mqtt_codec::Publish;

const KILLS: usize = 10;

/// What a delivery says: the number of a message, or the count of a report.
enum Said {
    Number(u64),
    Count(u64),
}

fn said(delivery: &Publish) -> Said {
    let topic = delivery.topic.as_str();
    if topic.contains("/inputs/twins") {
        let body: Value = serde_json::from_slice(&delivery.payload).unwrap();
        return Said::Count(body["count"].as_u64().unwrap());
    }
    let (_, bag) = topic.rsplit_once('/').unwrap();
    let number = bag.split('&').find_map(|pair| pair.strip_prefix("number=")).unwrap();
    Said::Number(number.parse().unwrap())
}

#[test]
fn kills_amid_reports_leave_reports_and_messages_that_agree() {
    let mut hub = Hub::start();
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    let spec = json!({"inputs": ["in"], "outputs": ["out"], "settings": {"report": true}});
    hub.module("counter", "counter.wasm", &spec);
    for (name, route) in [
        (
            "in",
            "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
             INTO BrokeredEndpoint(\"/modules/counter/inputs/in\")",
        ),
        (
            "out",
            "FROM /messages/modules/counter/* INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
        ),
        (
            "twins",
            "FROM /twinChangeNotifications INTO BrokeredEndpoint(\"/modules/receiver/inputs/twins\")",
        ),
    ] {
        hub.route(name, route);
    }
    let mut acknowledged = 0;
    for _ in 0..KILLS {
        let mut pump = hub.client("pump-1", None);
        let (begun, mut sent) = (now(), 0);
        while begun.elapsed() < Duration::from_millis(150) {
            while sent - pump.acknowledged < 100 {
                pump.publish("", b"{}");
                sent += 1;
            }
            pump.wait_acknowledged(sent.saturating_sub(50));
        }
        acknowledged += pump.acknowledged;
        hub.kill_and_restart();
    }
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let (mut numbers, mut counts) = (Vec::new(), Vec::new());
    while let Some(delivery) = receiver.next_delivery(Duration::from_secs(3)) {
        match said(&delivery) {
            Said::Number(number) => numbers.push(number),
            Said::Count(count) => counts.push(count),
        }
    }
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert!(numbers == expected, "lost, doubled or out of order");
    assert!(
        acknowledged > 500 && numbers.len() as u64 >= acknowledged,
        "{acknowledged} acknowledged"
    );
    assert!(counts.is_sorted_by(|before, after| before < after), "a report was made twice");
    assert!(counts.len() > KILLS, "only {} reports", counts.len());
    assert_eq!(counts.last(), numbers.last(), "the last report is of the last message");
}
