//! Kills of the whole hub under load: nothing that was acknowledged is lost, order holds.

use crate::support::{Client, EDGE, Hub, now};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Kills of one run; more are a matter of patience, not of code.
const KILLS: u32 = 20;

#[test]
fn twenty_kills_under_load_lose_nothing_that_was_acknowledged() {
    let mut hub = Hub::start();
    hub.identity(EDGE, Some("receiver"));
    for sender in ["pump-1", "pump-2"] {
        hub.identity(sender, None);
    }
    hub.route(
        "in",
        "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
         INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")",
    );
    // Numbers that were acknowledged; those behind the last PUBACK before a kill may be lost.
    let mut acknowledged: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut sent: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..KILLS {
        for sender in ["pump-1", "pump-2"] {
            let mut client = hub.client(sender, None);
            let begun = now();
            let mut published = 0;
            let first = sent.get(sender).copied().unwrap_or(0);
            // At most a hundred unacknowledged, as a real client.
            while begun.elapsed() < Duration::from_millis(60) {
                while published - client.acknowledged < 100 {
                    client.publish("", format!("{sender} {}", first + published).as_bytes());
                    published += 1;
                }
                client.wait_acknowledged(published.saturating_sub(50));
            }
            *sent.entry(sender).or_default() += published;
            acknowledged.entry(sender).or_default().extend(first..first + client.acknowledged);
        }
        hub.kill_and_restart();
    }
    let mut receiver = Client::connect(hub.mqtt, EDGE, Some("receiver"), false);
    receiver.subscribe_inputs();
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    while let Some(delivery) = receiver.next_delivery(Duration::from_secs(2)) {
        let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
        let (sender, number) = text.split_once(' ').unwrap();
        seen.entry(sender.to_owned()).or_default().push(number.parse().unwrap());
    }
    for (sender, promised) in acknowledged {
        let numbers = &seen[sender];
        assert!(promised.len() > 1_000, "{sender}: only {} acknowledged", promised.len());
        let there: BTreeSet<u64> = numbers.iter().copied().collect();
        let lost: Vec<u64> = promised.into_iter().filter(|n| !there.contains(n)).take(5).collect();
        assert!(lost.is_empty(), "{sender}: acknowledged and lost: {lost:?}");
        assert!(numbers.is_sorted(), "{sender}: out of order");
    }
}
