//! What every kind of upstream promises, run against each of them.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it does not expect")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use support::broker::Broker;
use support::{
    PATIENCE, Running, Seen, accepted, assorted, batch, deliveries, dispatch, first_arrivals, run,
    unavailable,
};
use tempfile::TempDir;
use tokio::time::timeout;
use weir_core::port::Link;
use weir_mqtt_codec::Publish;
use weir_upstream::{Config, FileConfig, MqttConfig, PropertyForm};

/// The other side of an upstream, in the hands of a test.
trait Peer {
    fn config(&self) -> Config;
    fn go_down(&mut self);
    fn come_back(&mut self);
    /// Everything that arrived, in order.
    fn seen(&self) -> Vec<Seen>;
}

struct File {
    folder: TempDir,
}

impl File {
    fn place(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Peer for File {
    fn config(&self) -> Config {
        Config::File(FileConfig::new(self.place().join("out.ndjson")))
    }

    fn go_down(&mut self) {
        std::fs::rename(self.place(), self.folder.path().join("away")).unwrap();
    }

    fn come_back(&mut self) {
        std::fs::rename(self.folder.path().join("away"), self.place()).unwrap();
    }

    fn seen(&self) -> Vec<Seen> {
        let text = std::fs::read(self.place().join("out.ndjson")).unwrap();
        let text = text.strip_suffix(b"\n").unwrap();
        text.split(|byte| *byte == b'\n').map(Seen::from_line).collect()
    }
}

struct Mqtt {
    broker: Broker,
    properties: PropertyForm,
    clean_session: bool,
}

impl Peer for Mqtt {
    fn config(&self) -> Config {
        let mut config = MqttConfig::new(self.broker.address.to_string());
        config.properties = self.properties;
        config.clean_session = self.clean_session;
        Config::Mqtt(Box::new(config))
    }

    fn go_down(&mut self) {
        self.broker.stop();
    }

    fn come_back(&mut self) {
        self.broker.go_on();
    }

    fn seen(&self) -> Vec<Seen> {
        let publishes = self.broker.publishes();
        let read = |publish: &Publish| match self.properties {
            PropertyForm::Topic => Seen::from_bag(publish),
            PropertyForm::Envelope => Seen::from_line(&publish.payload),
            PropertyForm::None => unreachable!("nothing could be read back"),
        };
        publishes.iter().map(read).collect()
    }
}

fn file() -> File {
    let peer = File { folder: tempfile::tempdir().unwrap() };
    std::fs::create_dir(peer.place()).unwrap();
    peer
}

fn mqtt(properties: PropertyForm, clean_session: bool) -> Mqtt {
    Mqtt { broker: Broker::start(), properties, clean_session }
}

fn ids(peer: &impl Peer) -> Vec<u64> {
    peer.seen().iter().map(|seen| seen.id).collect()
}

async fn what_is_accepted_is_there_unchanged_and_in_order(peer: impl Peer) {
    let running = run(&peer.config());
    let messages = assorted();
    let answer = running.deliver(deliveries(messages.clone())).await.unwrap();
    assert!(accepted(&answer));
    assert_eq!(answer.outcomes.len(), messages.len());
    let expected: Vec<_> = messages.iter().map(Seen::expected).collect();
    assert_eq!(peer.seen(), expected);
    assert!(matches!(running.upstream.link(), Link::Up { .. }));
}

async fn two_batches_under_way_keep_their_order(peer: impl Peer) {
    let running = run(&peer.config());
    assert_eq!(dispatch(&running, 0..3000, 256).await, 0);
    assert_eq!(ids(&peer), (0..3000).collect::<Vec<_>>());
}

async fn the_same_batches_go_through_after_an_outage(mut peer: impl Peer) {
    let running = run(&peer.config());
    assert!(accepted(&running.insist(batch(0..10)).await));
    peer.go_down();
    let (first, second) = (running.deliver(batch(10..20)), running.deliver(batch(20..30)));
    let (first, second) = tokio::join!(first, second);
    unavailable(first);
    unavailable(second);
    assert!(matches!(running.upstream.link(), Link::Down { .. }));
    peer.come_back();
    assert!(accepted(&running.insist(batch(10..20)).await));
    assert!(accepted(&running.insist(batch(20..30)).await));
    assert_eq!(first_arrivals(ids(&peer)), (0..30).collect::<Vec<_>>());
    assert!(matches!(running.upstream.link(), Link::Up { .. }));
}

async fn an_upstream_that_starts_during_an_outage_says_so_and_recovers(mut peer: impl Peer) {
    peer.go_down();
    let running = run(&peer.config());
    unavailable(running.deliver(batch(0..10)).await);
    peer.come_back();
    running.insist(batch(0..10)).await;
    assert_eq!(ids(&peer), (0..10).collect::<Vec<_>>());
}

async fn dropped_deliveries_harm_nothing_that_follows(peer: impl Peer) {
    let running = run(&peer.config());
    for round in 0..40 {
        // Dropped before, during or after the sending, as it comes.
        let limit = Duration::from_micros(round * 100);
        let first = running.upstream.deliver(batch(0..256));
        let second = running.upstream.deliver(batch(256..512));
        timeout(limit, async { tokio::join!(first, second) }).await.ok();
    }
    running.insist(batch(0..256)).await;
    running.insist(batch(256..512)).await;
    running.insist(batch(512..600)).await;
    assert_eq!(first_arrivals(ids(&peer)), (0..600).collect::<Vec<_>>());
}

async fn a_task_that_is_stopped_and_started_again_goes_on(peer: impl Peer) {
    let Running { upstream, .. } = run(&peer.config());
    let waiting = upstream.deliver(batch(0..5));
    let again = async {
        tokio::select! {
            () = upstream.run() => unreachable!("run does not end"),
            answer = waiting => answer,
        }
    };
    // Whether the first task took it or not, there is an answer.
    let answer = timeout(PATIENCE, again).await.unwrap();
    if answer.is_err() {
        tokio::select! {
            () = upstream.run() => unreachable!("run does not end"),
            answer = upstream.deliver(batch(0..5)) => assert!(accepted(&answer.unwrap())),
        }
    }
    assert_eq!(first_arrivals(ids(&peer)), (0..5).collect::<Vec<_>>());
}

macro_rules! contract {
    ($kind:ident, $peer:expr) => {
        mod $kind {
            use super::*;

            contract!(@ $peer,
                what_is_accepted_is_there_unchanged_and_in_order
                two_batches_under_way_keep_their_order
                the_same_batches_go_through_after_an_outage
                an_upstream_that_starts_during_an_outage_says_so_and_recovers
                dropped_deliveries_harm_nothing_that_follows
                a_task_that_is_stopped_and_started_again_goes_on
            );
        }
    };
    (@ $peer:expr, $($promise:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                super::$promise($peer).await;
            }
        )*
    };
}

contract!(file_of_json_lines, file());
contract!(mqtt_with_property_bag, mqtt(PropertyForm::Topic, true));
contract!(mqtt_with_envelope, mqtt(PropertyForm::Envelope, true));
contract!(mqtt_with_a_kept_session, mqtt(PropertyForm::Topic, false));

#[test]
fn a_wrong_configuration_is_refused_with_the_key_and_the_reason() {
    fn mqtt(change: impl FnOnce(&mut MqttConfig)) -> Config {
        let mut config = MqttConfig::new("broker:1883");
        change(&mut config);
        Config::Mqtt(Box::new(config))
    }
    fn file(change: impl FnOnce(&mut FileConfig)) -> Config {
        let mut config = FileConfig::new("out.ndjson");
        change(&mut config);
        Config::File(config)
    }
    for (config, text) in [
        (file(|c| c.path = "..".into()), "upstream.path: \"..\" does not name a file"),
        (file(|c| c.path = "/tmp".into()), "upstream.path: this is a folder"),
        (file(|c| c.rotate_bytes = 1), "upstream.rotate_bytes: must be at least 4096"),
        (mqtt(|c| c.address = "mqtt://a".into()), "upstream.address: \"mqtt://a\" is not"),
        (mqtt(|c| c.topic = "a/{devise}".into()), "upstream.topic: {devise} is none of"),
        (mqtt(|c| c.window = 0), "upstream.window: must be 1 to 10000"),
        (mqtt(|c| c.keep_alive_secs = 0), "upstream.keep_alive_secs: must be 1 to 65535"),
        (mqtt(|c| c.tls = true), "upstream.ca_file: is needed"),
        (mqtt(|c| c.insecure = true), "upstream.tls: must be true"),
        (mqtt(|c| c.client_id = Some(String::new())), "upstream.client_id: must not be empty"),
        (mqtt(|c| c.password_file = Some("/none".into())), "upstream.user_name: is needed"),
        (
            mqtt(|c| {
                c.user_name = Some("u".into());
                c.password_file = Some("/none".into());
            }),
            "upstream.password_file: the file cannot be read",
        ),
        (
            mqtt(|c| {
                c.tls = true;
                c.ca_file = Some("/none".into());
            }),
            "upstream.ca_file: the file cannot be read",
        ),
        (
            mqtt(|c| {
                c.tls = true;
                c.ca_file = Some("/dev/null".into());
            }),
            "upstream.ca_file: the file is no PEM",
        ),
    ] {
        let clock = weir_core::clock::Clock::system();
        let error = weir_upstream::open(&config, &clock, "edge").err().expect("it is refused");
        assert!(error.to_string().starts_with(text), "{error}");
    }
    let clock = weir_core::clock::Clock::system();
    assert!(weir_upstream::open(&Config::default(), &clock, "edge").unwrap().is_none());
}
