//! The MQTT upstream against a broker that refuses, falls silent and cuts.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it does not expect")]

mod support;

use std::time::Duration;

use support::broker::Broker;
use support::{
    Seen, accepted, batch, deliveries, dispatch, first_arrivals, numbered, run, unavailable,
};
use weir_core::port::{Link, Outcome};
use weir_mqtt_codec::Refusal;
use weir_upstream::{Config, MqttConfig, PropertyForm};

fn config(broker: &Broker, change: impl FnOnce(&mut MqttConfig)) -> Config {
    let mut config = MqttConfig::new(broker.address.to_string());
    change(&mut config);
    Config::Mqtt(Box::new(config))
}

fn ids(broker: &Broker) -> Vec<u64> {
    broker.publishes().iter().map(|publish| Seen::from_bag(publish).id).collect()
}

#[tokio::test]
async fn a_refusal_is_told_in_the_words_of_the_standard_and_tried_again() {
    let broker = Broker::start();
    for (refusal, words) in [
        (Refusal::NotAuthorized, "not authorized"),
        (Refusal::BadUserNameOrPassword, "bad user name or password"),
        (Refusal::ServerUnavailable, "server unavailable"),
    ] {
        broker.behave(|behaviour| behaviour.refuse = Some(refusal));
        let running = run(&config(&broker, |_| {}));
        let reason = unavailable(running.deliver(batch(0..1)).await);
        assert!(reason.contains(words), "{reason}");
        assert!(
            matches!(running.upstream.link(), Link::Down { reason, .. } if reason.contains(words))
        );
        broker.behave(|behaviour| behaviour.refuse = None);
        assert!(accepted(&running.insist(batch(0..1)).await));
    }
}

#[tokio::test]
async fn the_connect_says_what_is_configured() {
    let broker = Broker::start();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "s3cret\n").unwrap();
    let running = run(&config(&broker, |config| {
        config.client_id = Some("gateway-7".to_owned());
        config.clean_session = false;
        config.keep_alive_secs = 33;
        config.user_name = Some("edge".to_owned());
        config.password_file = Some(secret.path().to_owned());
    }));
    running.insist(batch(0..1)).await;
    let connect = broker.records.lock().unwrap().connects[0].clone();
    assert_eq!(connect.client_id.as_str(), "gateway-7");
    assert!(!connect.clean_session && connect.keep_alive_secs == 33 && connect.will.is_none());
    let login = connect.login.unwrap();
    assert_eq!(login.user_name.as_str(), "edge");
    assert_eq!(login.password.unwrap(), "s3cret");
    assert!(!running.upstream.target().contains("s3cret"));
}

#[tokio::test]
async fn a_silent_broker_is_given_up_at_connect() {
    let broker = Broker::start();
    broker.behave(|behaviour| behaviour.is_silent = true);
    let running = run(&config(&broker, |config| config.connect_timeout_secs = 1));
    assert_eq!(unavailable(running.deliver(batch(0..1)).await), "no CONNACK within 1 s");
}

#[tokio::test]
async fn a_broker_that_falls_silent_under_way_is_given_up_and_its_batches_come_again() {
    let broker = Broker::start();
    let running = run(&config(&broker, |config| config.ack_timeout_secs = 1));
    running.insist(batch(0..10)).await;
    broker.behave(|behaviour| behaviour.holds_pubacks = true);
    assert_eq!(unavailable(running.deliver(batch(10..20)).await), "no PUBACK within 1 s");
    broker.behave(|behaviour| behaviour.holds_pubacks = false);
    running.insist(batch(10..20)).await;
    assert_eq!(first_arrivals(ids(&broker)), (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_idle_link_is_kept_alive_and_its_end_is_noticed_without_a_message() {
    let broker = Broker::start();
    let running = run(&config(&broker, |config| {
        config.keep_alive_secs = 1;
        config.ack_timeout_secs = 1;
        config.connect_timeout_secs = 1;
    }));
    broker.wait_until(|records| records.pings >= 2).await;
    assert_eq!(broker.connects(), 1);
    assert!(matches!(running.upstream.link(), Link::Up { .. }));
    broker.behave(|behaviour| behaviour.is_silent = true);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let noticed = async {
        while !matches!(running.upstream.link(), Link::Down { .. }) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(support::PATIENCE, noticed).await.unwrap();
}

#[tokio::test]
async fn a_link_that_ended_comes_back_by_itself() {
    let mut broker = Broker::start();
    let _running = run(&config(&broker, |_| {}));
    broker.wait_until(|records| records.connects.len() == 1).await;
    broker.stop();
    broker.go_on();
    broker.wait_until(|records| records.connects.len() == 2).await;
}

#[tokio::test]
async fn connections_are_not_tried_more_than_once_in_a_second() {
    let broker = Broker::start();
    broker.behave(|behaviour| behaviour.refuse = Some(Refusal::ServerUnavailable));
    let running = run(&config(&broker, |_| {}));
    unavailable(running.deliver(batch(0..1)).await);
    let started = tokio::time::Instant::now();
    for _ in 0..50 {
        unavailable(running.deliver(batch(0..1)).await);
    }
    let allowed = 2 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(broker.connects() <= allowed, "{} connections", broker.connects());
}

#[tokio::test]
async fn a_cut_in_the_middle_of_packets_loses_nothing_and_keeps_the_order() {
    for limit in [70, 1_000, 33_333] {
        let broker = Broker::start();
        broker.behave(|behaviour| behaviour.cut_after_bytes = Some(limit));
        let running = run(&config(&broker, |_| {}));
        assert!(dispatch(&running, 0..1000, 256).await > 0, "{limit}");
        assert_eq!(first_arrivals(ids(&broker)), (0..1000).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_was_acknowledged_before_a_cut_is_not_sent_again() {
    for clean_session in [true, false] {
        let broker = Broker::start();
        broker.behave(|behaviour| behaviour.cut_after_publishes = Some(130));
        let running = run(&config(&broker, |config| config.clean_session = clean_session));
        assert!(dispatch(&running, 0..600, 256).await > 0);
        let ids = ids(&broker);
        assert_eq!(first_arrivals(ids.clone()), (0..600).collect::<Vec<_>>());
        // The broker has acknowledged all that it has taken.
        assert_eq!(ids.len(), 600);
        assert_eq!(broker.connects(), 2);
    }
}

#[tokio::test]
async fn on_a_kept_session_packets_without_puback_come_again_with_dup_and_only_they() {
    let mut broker = Broker::start();
    let running = run(&config(&broker, |config| {
        config.clean_session = false;
        config.window = 10;
    }));
    running.insist(batch(0..5)).await;
    broker.behave(|behaviour| behaviour.holds_pubacks = true);
    let waiting = running.deliver(batch(5..25));
    let cut = async {
        broker.wait_until(|records| records.publishes.len() == 15).await;
        broker.stop();
        broker.behave(|behaviour| behaviour.holds_pubacks = false);
        broker.go_on();
    };
    let (result, ()) = tokio::join!(waiting, cut);
    unavailable(result);
    running.insist(batch(5..25)).await;
    let again: Vec<_> = broker.publishes().split_off(15);
    let dup: Vec<bool> = again.iter().map(|publish| publish.delivery.dup()).collect();
    assert_eq!(dup, [vec![true; 10], vec![false; 10]].concat());
    let first = broker.publishes()[5..15].to_vec();
    for (again, first) in again.iter().zip(&first) {
        assert_eq!(again.delivery.packet_id(), first.delivery.packet_id());
        assert_eq!(again.payload, first.payload);
    }
    assert_eq!(first_arrivals(ids(&broker)), (0..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_over_the_packet_limit_is_rejected_and_does_not_stop_the_others() {
    let broker = Broker::start();
    let running = run(&config(&broker, |config| {
        config.max_packet_bytes = 1_000;
        config.properties = PropertyForm::None;
    }));
    let messages = vec![numbered(0, "0"), numbered(1, vec![b'x'; 1_000]), numbered(2, "2")];
    let answer = running.insist(deliveries(messages)).await;
    assert!(matches!(
        &answer.outcomes[..],
        [Outcome::Accepted, Outcome::Reject { code: Some(code), .. }, Outcome::Accepted]
            if code == "too-large"
    ));
    let bodies: Vec<_> = broker.publishes().into_iter().map(|publish| publish.payload).collect();
    assert_eq!(bodies, ["0", "2"]);
}

#[tokio::test]
async fn a_window_larger_than_a_batch_and_a_window_of_one_both_deliver() {
    for window in [1, 5_000] {
        let broker = Broker::start();
        let running = run(&config(&broker, |config| config.window = window));
        assert_eq!(dispatch(&running, 0..2_000, 256).await, 0);
        assert_eq!(ids(&broker), (0..2_000).collect::<Vec<_>>());
    }
}
