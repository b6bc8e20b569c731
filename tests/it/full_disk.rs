//! A full disk under the whole hub. Needs a small file system of its own (32 to 256 MiB): its path comes
//! in the variable `WEIR_TEST_SMALL_FS_HUB`; without it the test says that it was skipped.

use crate::support::{Client, EDGE, Hub, PATIENCE, now};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Space that is left when the load begins.
const LEFT: u64 = 4_000_000;
/// Unacknowledged messages of the client, as of a real one.
const WINDOW: u64 = 100;

#[expect(clippy::disallowed_methods, reason = "the test is told where its file system is")]
fn small_fs() -> Option<PathBuf> {
    std::env::var("WEIR_TEST_SMALL_FS_HUB").ok().map(PathBuf::from)
}

/// Takes all space but `LEFT`.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("ballast");
    let mut file = File::create(&path).unwrap();
    let chunk = vec![1; 64 * 1024];
    while rustix::fs::statvfs(dir).map(|s| s.f_bavail * s.f_frsize).unwrap() > LEFT {
        file.write_all(&chunk).unwrap();
    }
    path
}

/// A device that numbers its messages.
struct Pump {
    client: Client,
    sent: u64,
    /// Number of the first message of this connection.
    first: u64,
    /// Numbers that were acknowledged on earlier connections.
    promised: Vec<u64>,
}

impl Pump {
    /// After a kill: what was not acknowledged then may be lost.
    fn reconnect(&mut self, hub: &Hub) {
        self.promised.extend(self.first..self.first + self.client.acknowledged);
        (self.client, self.first) = (hub.client("pump-1", None), self.sent);
    }

    fn publish(&mut self) {
        let body = format!("{} {}", self.sent, "x".repeat(1_000));
        self.client.publish("", body.as_bytes());
        self.sent += 1;
    }

    /// Publishes until the hub has left the window unacknowledged for half a second.
    fn load_until_silent(&mut self) {
        loop {
            while self.sent - self.first - self.client.acknowledged < WINDOW {
                self.publish();
            }
            if !self.client.acknowledged_within(Duration::from_millis(500)) {
                return;
            }
        }
    }
}

#[test]
fn a_full_disk_stops_acknowledging_is_told_and_is_over_when_there_is_room() {
    let Some(base) = small_fs() else {
        println!("skipped: a_full_disk_stops_acknowledging (WEIR_TEST_SMALL_FS_HUB is not set)");
        return;
    };
    let folder = tempfile::tempdir_in(&base).unwrap();
    let mut hub = Hub::start_on(folder.path().join("data"));
    hub.identity("pump-1", None);
    hub.identity(EDGE, Some("receiver"));
    hub.route("in", "FROM /messages/* INTO BrokeredEndpoint(\"/modules/receiver/inputs/in\")");
    let mut pump =
        Pump { client: hub.client("pump-1", None), sent: 0, first: 0, promised: Vec::new() };
    for killed in [false, true] {
        let ballast = fill(folder.path());
        pump.load_until_silent();
        full_disk_is_told(&hub);
        if killed {
            // A power cut at such a time is no reason not to start.
            hub.kill_and_restart();
            pump.reconnect(&hub);
            pump.load_until_silent();
            full_disk_is_told(&hub);
        }
        let before = pump.client.acknowledged;
        // Messages keep coming, and none of them is acknowledged.
        let begun = now();
        while begun.elapsed() < Duration::from_secs(2) {
            pump.publish();
            assert!(!pump.client.acknowledged_within(Duration::from_millis(50)), "a PUBACK");
        }
        assert_eq!(hub.health().0, 503);
        std::fs::remove_file(ballast).unwrap();
        let freed = now();
        assert!(pump.client.wait_acknowledged(before + 1), "the hub ended the connection");
        assert!(freed.elapsed() < Duration::from_secs(5), "{:?}", freed.elapsed());
        assert!(
            pump.client.wait_acknowledged(pump.sent - pump.first),
            "the hub ended the connection"
        );
        let (status, health) = hub.health();
        assert_eq!((status, &health["storeWritable"]), (200, &json!(true)), "{health}");
        hub.identity("pump-2", None);
    }
    hub.kill_and_restart();
    pump.reconnect(&hub);
    everything_is_there(&hub, &pump.promised);
}

fn full_disk_is_told(hub: &Hub) {
    let (status, health) = hub.health();
    assert_eq!((status, &health["storeWritable"]), (503, &json!(false)), "{health}");
    assert_eq!(health["storeReason"], "the disk is full", "{health}");
    let keys: Value = json!({"authentication": {"type": "sas"}});
    let (status, problem) = hub.rest("PUT", "/devices/new", Some(&keys));
    assert_eq!((status, problem["code"].as_str()), (507, Some("store-unavailable")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the disk is full"), "{problem}");
    for path in ["/queues", "/devices", "/routes", "/modules", "/system"] {
        let (status, answer) = hub.rest("GET", path, None);
        assert_eq!(status, 200, "{path}: {answer}");
    }
}

fn everything_is_there(hub: &Hub, promised: &[u64]) {
    let mut receiver = hub.client(EDGE, Some("receiver"));
    receiver.subscribe_inputs();
    let mut seen: Vec<u64> = Vec::new();
    while seen.last() < promised.last() {
        let delivery = receiver.next_delivery(PATIENCE).expect("every acknowledged message");
        let text = String::from_utf8(delivery.payload.to_vec()).unwrap();
        seen.push(text.split_once(' ').unwrap().0.parse().unwrap());
    }
    assert!(seen.is_sorted(), "out of order");
    let there: BTreeSet<u64> = seen.into_iter().collect();
    let lost: Vec<u64> = promised.iter().copied().filter(|n| !there.contains(n)).take(5).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}
