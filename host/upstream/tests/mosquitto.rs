//! The MQTT upstream against a real Mosquitto that is stopped, frozen and cut, and over TLS.
//!
//! Skipped by name where Mosquitto is not installed; with `WEIR_REQUIRE_MOSQUITTO=1` that is a failure.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it does not expect")]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use support::mosquitto::{Certificates, Mosquitto, Subscriber};
use support::proxy::Proxy;
use support::{
    Seen, accepted, assorted, batch, deliveries, dispatch, first_arrivals, run, unavailable,
};
use weir_core::port::Link;
use weir_mqtt_codec::Publish;
use weir_upstream::{Config, MqttConfig};

const WINDOW: usize = 100;

fn config(address: SocketAddr, change: impl FnOnce(&mut MqttConfig)) -> Config {
    let mut config = MqttConfig::new(address.to_string());
    config.ack_timeout_secs = 1;
    config.connect_timeout_secs = 1;
    change(&mut config);
    Config::Mqtt(Box::new(config))
}

/// All arrived; of every sender in order; no more duplicates than could be unacknowledged.
fn check(arrived: &[Publish], total: u64, disruptions: usize) {
    let seen: Vec<Seen> = arrived.iter().map(Seen::from_bag).collect();
    let mut senders: HashMap<&str, Vec<u64>> = HashMap::new();
    for id in first_arrivals(seen.iter().map(|seen| seen.id)) {
        let device = &seen.iter().find(|seen| seen.id == id).unwrap().device;
        senders.entry(device).or_default().push(id);
    }
    assert_eq!(senders.len(), 3);
    for (sender, ids) in &senders {
        assert!(ids.is_sorted(), "messages of {sender} out of order");
    }
    assert_eq!(senders.values().map(Vec::len).sum::<usize>() as u64, total);
    let duplicates = seen.len() - usize::try_from(total).unwrap();
    assert!(duplicates <= disruptions * WINDOW, "{duplicates} duplicates");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_every_shape_arrive_unchanged() {
    let Some(broker) = Mosquitto::start("") else { return };
    let subscriber = Subscriber::start(broker.address);
    let running = run(&config(broker.address, |_| {}));
    let messages = assorted();
    assert!(accepted(&running.deliver(deliveries(messages.clone())).await.unwrap()));
    let arrived: Vec<_> = subscriber.wait_for(5).iter().map(Seen::from_bag).collect();
    // Two of them have the same body; the last one has come when all have.
    assert_eq!(arrived, messages.iter().map(Seen::expected).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_stopped_and_started_again_gets_every_message() {
    for clean_session in [true, false] {
        let Some(mut broker) = Mosquitto::start("") else { return };
        let subscriber = Arc::new(Subscriber::start(broker.address));
        let running = run(&config(broker.address, |config| config.clean_session = clean_session));
        let stop_and_go = async {
            for arrivals in [500, 6_000] {
                let subscriber = subscriber.clone();
                let wait = move || subscriber.wait_for(arrivals).len();
                tokio::task::spawn_blocking(wait).await.unwrap();
                broker.stop();
                broker.go_on();
            }
        };
        let (failures, ()) = tokio::join!(dispatch(&running, 0..20_000, 256), stop_and_go);
        check(&subscriber.wait_for(20_000), 20_000, failures + 2);
        assert!(matches!(running.upstream.link(), Link::Up { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_noticed_and_gets_every_message_when_it_thaws() {
    let Some(broker) = Mosquitto::start("") else { return };
    let subscriber = Subscriber::start(broker.address);
    let running = run(&config(broker.address, |_| {}));
    assert_eq!(dispatch(&running, 0..1_000, 256).await, 0);
    broker.freeze();
    let (first, second) =
        tokio::join!(running.deliver(batch(1_000..1_256)), running.deliver(batch(1_256..1_512)));
    assert_eq!(unavailable(first), "no PUBACK within 1 s");
    unavailable(second);
    // A new connection is taken by the kernel, but nobody answers.
    running.upstream.link();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
    while !matches!(running.upstream.link(), Link::Down { reason, .. } if reason.contains("CONNACK"))
    {
        ticks.tick().await;
    }
    broker.thaw();
    dispatch(&running, 1_000..3_000, 256).await;
    check(&subscriber.wait_for(3_000), 3_000, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_cut_again_and_again_loses_nothing() {
    for clean_session in [true, false] {
        let Some(broker) = Mosquitto::start("") else { return };
        let subscriber = Subscriber::start(broker.address);
        let proxy = Proxy::start(broker.address);
        let running = run(&config(proxy.address, |config| config.clean_session = clean_session));
        proxy.cut_after(20_003);
        let first = dispatch(&running, 0..1_500, 256).await;
        proxy.cut_after(0);
        let rest = dispatch(&running, 1_500..4_000, 256).await;
        assert!(first > 0);
        assert_eq!(rest, 0);
        let cuts = proxy.cuts.load(Ordering::SeqCst);
        assert!(cuts > 1, "{cuts} cuts");
        check(&subscriber.wait_for(4_000), 4_000, cuts);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_only_the_right_broker_and_the_right_client_are_taken() {
    let certificates = Certificates::new();
    let folder = certificates.folder().display();
    let settings = format!(
        "cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n\
         require_certificate true"
    );
    let Some(broker) = Mosquitto::start(&settings) else { return };
    let tls = |change: fn(&mut MqttConfig, &Certificates)| {
        config(broker.address, |config| {
            config.tls = true;
            config.ca_file = Some(certificates.path("ca.pem"));
            config.cert_file = Some(certificates.path("client.pem"));
            config.key_file = Some(certificates.path("client.key"));
            config.server_name = Some("broker.test".to_owned());
            change(config, &certificates);
        })
    };
    let running = run(&tls(|_, _| {}));
    assert_eq!(dispatch(&running, 0..5_000, 256).await, 0);
    assert_eq!(running.upstream.target(), format!("mqtts://{}", broker.address));

    let other = Certificates::new();
    std::fs::copy(other.path("ca.pem"), certificates.path("other-ca.pem")).unwrap();
    for (config, reason) in [
        (
            tls(|config, files| config.ca_file = Some(files.path("other-ca.pem"))),
            "invalid peer certificate",
        ),
        (tls(|config, _| config.server_name = None), "not valid for name"),
        (tls(|config, _| (config.cert_file, config.key_file) = (None, None)), "ertificate"),
    ] {
        let running = run(&config);
        let told = unavailable(running.deliver(batch(0..1)).await);
        assert!(told.contains(reason), "{told}");
    }

    let running = run(&tls(|config, _| (config.insecure, config.ca_file) = (true, None)));
    assert!(accepted(&running.insist(batch(0..1)).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_and_a_right_one_is_taken_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wrong").unwrap();
    // What `mosquitto_passwd` writes for the user edge with the password right.
    let users = folder.path().join("users");
    std::fs::write(&users, "edge:right\n").unwrap();
    let made = std::process::Command::new("mosquitto_passwd").arg("-U").arg(&users).status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: mosquitto_passwd is not installed");
        return;
    }
    let settings = format!("allow_anonymous false\npassword_file {}", users.display());
    let Some(broker) = Mosquitto::start(&settings) else { return };
    let running = run(&config(broker.address, |config| {
        config.user_name = Some("edge".to_owned());
        config.password_file = Some(secret.clone());
    }));
    let reason = unavailable(running.deliver(batch(0..1)).await);
    assert!(reason.contains("not authorized"), "{reason}");
    std::fs::write(&secret, "right\n").unwrap();
    assert!(accepted(&running.insist(batch(0..1)).await));
}
