//! Store and forward to a real Mosquitto, through the whole hub: the broker is stopped, frozen or cut off,
//! and the hub is killed meanwhile. Everything arrives at least once, each sender's in order.
//!
//! Skipped by name where Mosquitto is not installed; with `WEIR_REQUIRE_MOSQUITTO=1` that is a failure.

use crate::mosquitto::{Mosquitto, Subscriber};
use crate::proxy::Proxy;
use crate::support::{Hub, now, wait_for};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

const PUMPS: [&str; 3] = ["pump-1", "pump-2", "pump-3"];
/// From the broker's return to the last message of the backlog.
const SOON: Duration = Duration::from_secs(15);

fn hub(broker: SocketAddr) -> Hub {
    let hub = Hub::start_with(&format!(
        "[upstream]\nkind = \"mqtt\"\naddress = \"{broker}\"\nack_timeout_secs = 1\n\
         connect_timeout_secs = 1"
    ));
    for pump in PUMPS {
        hub.identity(pump, None);
    }
    hub.route("up", "FROM /messages/* INTO $upstream");
    hub
}

/// Messages of three senders, each with its number.
struct Load {
    sent: u64,
}

impl Load {
    /// Every sender publishes so many; all are acknowledged when this returns.
    fn publish(&mut self, hub: &Hub, each: u64) {
        for pump in PUMPS {
            let mut client = hub.client(pump, None);
            for number in self.sent..self.sent + each {
                client.publish("", format!("{pump} {number}").as_bytes());
            }
            assert!(client.wait_acknowledged(each), "not everything was acknowledged");
        }
        self.sent += each;
    }

    /// Everything that was ever acknowledged arrives soon, each sender's in order of first arrival.
    fn arrives(&self, subscriber: &Subscriber) {
        let begun = now();
        let total = usize::try_from(self.sent).unwrap() * PUMPS.len();
        let arrived = subscriber.wait_for(total);
        assert!(begun.elapsed() < SOON, "the backlog took {:?}", begun.elapsed());
        let mut first: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for publish in &arrived {
            let text = std::str::from_utf8(&publish.payload).unwrap();
            let (pump, number) = text.split_once(' ').unwrap();
            let numbers = first.entry(pump.to_owned()).or_default();
            let number: u64 = number.parse().unwrap();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        for (pump, numbers) in first {
            assert!(numbers.is_sorted(), "{pump}: out of order");
            assert_eq!(numbers, (0..self.sent).collect::<Vec<_>>(), "{pump}");
        }
    }
}

fn link(hub: &Hub) -> String {
    hub.rest("GET", "/upstream", None).1["state"].as_str().unwrap().to_owned()
}

fn wait_until(hub: &Hub, state: &str) {
    wait_for(state, || (link(hub) == state).then_some(()));
}

#[test]
fn a_broker_that_is_stopped_gets_everything_when_it_is_back() {
    let Some(mut broker) = Mosquitto::start("") else { return };
    let subscriber = Subscriber::start(broker.address);
    let (mut hub, mut load) = (hub(broker.address), Load { sent: 0 });
    for _ in 0..3 {
        load.publish(&hub, 300);
        broker.stop();
        load.publish(&hub, 300);
        wait_until(&hub, "down");
        hub.kill_and_restart();
        load.publish(&hub, 300);
        broker.go_on();
        load.arrives(&subscriber);
        wait_until(&hub, "up");
    }
}

#[test]
fn a_broker_that_is_frozen_gets_everything_when_it_thaws() {
    let Some(broker) = Mosquitto::start("") else { return };
    let subscriber = Subscriber::start(broker.address);
    let (mut hub, mut load) = (hub(broker.address), Load { sent: 0 });
    for _ in 0..2 {
        load.publish(&hub, 300);
        broker.freeze();
        load.publish(&hub, 300);
        wait_until(&hub, "down");
        hub.kill_and_restart();
        load.publish(&hub, 300);
        broker.thaw();
        load.arrives(&subscriber);
        wait_until(&hub, "up");
    }
}

#[test]
fn a_connection_that_is_cut_again_and_again_loses_nothing() {
    let Some(broker) = Mosquitto::start("") else { return };
    let subscriber = Subscriber::start(broker.address);
    let proxy = Proxy::start(broker.address);
    let (mut hub, mut load) = (hub(proxy.address), Load { sent: 0 });
    proxy.cut_after(20_003);
    load.publish(&hub, 400);
    wait_for("two cuts", || (proxy.cuts.load(Ordering::SeqCst) >= 2).then_some(()));
    hub.kill_and_restart();
    load.publish(&hub, 400);
    wait_for("four cuts", || (proxy.cuts.load(Ordering::SeqCst) >= 4).then_some(()));
    hub.kill_and_restart();
    load.publish(&hub, 400);
    proxy.cut_after(0);
    load.arrives(&subscriber);
    wait_for("the queue is empty", || (hub.waiting("iothub") == 0).then_some(()));
}
