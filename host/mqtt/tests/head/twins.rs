//! Twins: requests, their answers, and patches of the desired properties.

use crate::client::{Client, id, publish, unsubscribe};
use crate::hub::TestHub;
use crate::{DESIRED, EVENTS, leaf, module, sender};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use weir_core::id::Identity;
use weir_core::twin::{Mode, TwinChange};
use weir_mqtt_codec::{Delivery, Packet, Publish, Qos};

const REPORTED: &str = "$iothub/twin/PATCH/properties/reported/";

impl TestHub {
    /// What an operator does; gives the new version.
    async fn set_desired(&self, of: &Identity, desired: Value) -> u64 {
        self.token(of).await;
        let body = json!({ "properties": { "desired": desired } }).to_string();
        let change = TwinChange::parse(Mode::Merge, body.as_bytes()).unwrap();
        let changed = self.hub.twins().change(&self.hub, of, change, None, "operator").await;
        changed.unwrap().desired.version
    }

    async fn reported(&self, of: &Identity) -> Value {
        let twin = self.hub.twins().get(&self.hub, of).await.unwrap();
        Value::Object(twin.reported.value.clone())
    }
}

fn get(rid: &str, number: u16) -> Packet {
    publish(&format!("$iothub/twin/GET/?$rid={rid}"), " ", number)
}

fn report(rid: &str, patch: &Value, number: u16) -> Packet {
    publish(&format!("{REPORTED}?$rid={rid}"), patch.to_string(), number)
}

fn parsed(publish: &Publish) -> Value {
    serde_json::from_slice(&publish.payload).unwrap()
}

/// The next answer: what stands behind `res/` in its topic, and its body.
async fn answer<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> (String, Publish) {
    let answer = client.delivery().await;
    assert_eq!(answer.delivery, Delivery::AtMostOnce);
    let topic = answer.topic.as_str().strip_prefix("$iothub/twin/res/").unwrap().to_owned();
    (topic, answer)
}

async fn patch<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Client<S>) -> (u64, Publish) {
    let patch = client.delivery().await;
    let version = patch.topic.as_str();
    let version = version.strip_prefix("$iothub/twin/PATCH/properties/desired/?$version=").unwrap();
    (version.parse().unwrap(), patch)
}

#[tokio::test]
async fn get_is_answered_at_either_qos_whether_or_not_the_client_has_subscribed() {
    let hub = TestHub::start().await;
    hub.set_desired(&module(), json!({ "interval": 5 })).await;
    let mut client = hub.client(&module()).await;
    let expected = json!({
        "desired": { "interval": 5, "$version": 2 },
        "reported": { "$version": 1 },
    });
    client.send(get("6f-1", 0)).await;
    let (topic, body) = answer(&mut client).await;
    assert_eq!((topic.as_str(), parsed(&body)), ("200/?$rid=6f-1", expected.clone()));
    client.send(get("6f-2", 7)).await;
    assert_eq!(client.next().await, Some(Packet::Puback(id(7))));
    let (topic, body) = answer(&mut client).await;
    assert_eq!((topic.as_str(), parsed(&body)), ("200/?$rid=6f-2", expected));
}

#[tokio::test]
async fn a_patch_is_on_disk_when_it_is_answered_with_the_new_version_and_no_body() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    client.send(report("1", &json!({ "a": { "b": 1 }, "c": 2 }), 0)).await;
    let (topic, body) = answer(&mut client).await;
    assert_eq!((topic.as_str(), body.payload.len()), ("204/?$rid=1&$version=2", 0));
    client.send(report("2", &json!({ "a": { "b": null, "d": 3 } }), 7)).await;
    assert_eq!(client.next().await, Some(Packet::Puback(id(7))));
    let (topic, body) = answer(&mut client).await;
    assert_eq!((topic.as_str(), body.payload.len()), ("204/?$rid=2&$version=3", 0));
    let hub = hub.restart().await;
    assert_eq!(hub.reported(&leaf()).await, json!({ "a": { "d": 3 }, "c": 2 }));
}

#[tokio::test]
async fn a_patch_without_request_id_is_applied_and_not_answered() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    client.publishes(REPORTED, r#"{"a":1}"#, 7).await;
    assert_eq!(hub.reported(&leaf()).await, json!({ "a": 1 }));
    assert_eq!(client.within(Duration::from_millis(200)).await, None);
}

#[tokio::test]
async fn a_refused_patch_is_answered_for_python_by_its_status_and_for_node_by_its_body() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    for (number, body) in [r#"{"a":1"#, "[]", r#"{"$x":1}"#, r#"{"a":[null]}"#].iter().enumerate() {
        let number = u16::try_from(number).unwrap();
        client.send(publish(&format!("{REPORTED}?$rid={number}"), *body, number)).await;
        if number > 0 {
            assert_eq!(client.next().await, Some(Packet::Puback(id(number))), "{body}");
        }
        let (topic, answer) = answer(&mut client).await;
        assert_eq!(topic, format!("400/?$rid={number}"), "{body}");
        let answer = parsed(&answer);
        assert_eq!(answer["errorCode"], 400_004, "{body}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
    }
    let large = json!({ "a": "x".repeat(4000) });
    for number in 0..9 {
        client.send(report(&number.to_string(), &json!({ format!("k{number}"): large }), 0)).await;
        let (topic, _) = answer(&mut client).await;
        let status = if number < 8 { "204" } else { "400" };
        assert!(topic.starts_with(status), "{number}: {topic}");
    }
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_order_and_see_each_other() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    let mut bytes = Vec::new();
    for number in 1..=100 {
        report(&format!("p{number}"), &json!({ "n": number }), number).encode(&mut bytes).unwrap();
        get(&format!("g{number}"), 0).encode(&mut bytes).unwrap();
    }
    client.send_raw(&bytes).await;
    let mut answers = 0;
    let mut acked = 0;
    while answers < 200 || acked < 100 {
        match client.next().await {
            Some(Packet::Puback(puback)) => {
                acked += 1;
                assert_eq!(puback, id(acked));
                assert_eq!(usize::from(acked), answers / 2 + 1, "no sooner than it is done");
            }
            Some(Packet::Publish(answer)) => {
                let number = answers / 2 + 1;
                let topic = answer.topic.as_str();
                if answers % 2 == 0 {
                    let version = number + 1;
                    let expected =
                        format!("$iothub/twin/res/204/?$rid=p{number}&$version={version}");
                    assert_eq!(topic, expected);
                } else {
                    assert_eq!(topic, format!("$iothub/twin/res/200/?$rid=g{number}"));
                    assert_eq!(parsed(&answer)["reported"]["n"], number);
                }
                answers += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_flood_of_requests_that_nobody_reads_is_bounded_and_answered_later() {
    let hub = TestHub::start().await;
    hub.set_desired(&leaf(), json!({ "big": "x".repeat(4000) })).await;
    let client = hub.client(&leaf()).await;
    let (mut reader, mut writer) = client.split();
    // Some 20 MB of answers: far more than sockets and buffers take.
    let write = async {
        for number in 0..5_000 {
            writer.send(get(&number.to_string(), 0)).await;
        }
    };
    let read = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        for number in 0..5_000 {
            let (topic, _) = answer(&mut reader).await;
            assert_eq!(topic, format!("200/?$rid={number}"));
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn telemetry_around_a_patch_is_acknowledged_in_order() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = hub.client(&module()).await;
    let mut bytes = Vec::new();
    for number in (1..=30).step_by(3) {
        publish(EVENTS, "x", number).encode(&mut bytes).unwrap();
        report("r", &json!({ "n": number }), number + 1).encode(&mut bytes).unwrap();
        get("g", number + 2).encode(&mut bytes).unwrap();
    }
    client.send_raw(&bytes).await;
    let mut acked = Vec::new();
    while acked.len() < 30 {
        if let Some(Packet::Puback(puback)) = client.next().await {
            acked.push(puback.get());
        }
    }
    assert_eq!(acked, (1..=30).collect::<Vec<_>>());
    assert_eq!(hub.stored().await.len(), 10);
}

#[tokio::test]
async fn what_was_patched_before_goodbye_is_stored() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    let mut bytes = Vec::new();
    report("1", &json!({ "last": true }), 0).encode(&mut bytes).unwrap();
    Packet::Disconnect.encode(&mut bytes).unwrap();
    client.send_raw(&bytes).await;
    client.rest().await;
    assert_eq!(hub.reported(&leaf()).await, json!({ "last": true }));
}

#[tokio::test]
async fn twins_are_apart() {
    let hub = TestHub::start().await;
    let (mut one, mut other) = (hub.client(&module()).await, hub.client(&sender()).await);
    one.send(report("1", &json!({ "mine": 1 }), 0)).await;
    answer(&mut one).await;
    other.send(get("2", 0)).await;
    let (_, twin) = answer(&mut other).await;
    assert_eq!(parsed(&twin)["reported"], json!({ "$version": 1 }));
}

#[tokio::test]
async fn subscribers_get_desired_patches_with_their_qos_and_others_none() {
    let hub = TestHub::start().await;
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let mut client = hub.client(&leaf()).await;
        client.subscribe(DESIRED, qos).await;
        for number in 0..3 {
            let version = hub
                .set_desired(&leaf(), json!({ "n": number, "gone": null, "qos": qos as u8 }))
                .await;
            let (given, patch) = patch(&mut client).await;
            assert_eq!(given, version);
            let expected =
                json!({ "n": number, "gone": null, "qos": qos as u8, "$version": version });
            assert_eq!(parsed(&patch), expected);
            assert_eq!(patch.delivery.packet_id().is_some(), qos == Qos::AtLeastOnce);
            if qos == Qos::AtLeastOnce {
                client.acknowledge(&patch).await;
            }
        }
        client.send(unsubscribe(4, DESIRED)).await;
        assert_eq!(client.next().await, Some(Packet::Unsuback(id(4))));
        hub.set_desired(&leaf(), json!({ "n": qos as u8 + 10 })).await;
        assert_eq!(client.within(Duration::from_millis(200)).await, None);
        // What it missed comes with the next subscription; it is taken here.
        client.subscribe(DESIRED, Qos::AtMostOnce).await;
        patch(&mut client).await;
        client.send(get("1", 0)).await;
        answer(&mut client).await;
    }
}

#[tokio::test]
async fn who_was_away_gets_one_patch_with_what_changed_also_over_a_restart() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(DESIRED, Qos::AtLeastOnce).await;
    hub.set_desired(&module(), json!({ "a": 1, "b": 1, "c": 1 })).await;
    let (_, given) = patch(&mut client).await;
    client.acknowledge(&given).await;
    // The hub has read the acknowledgement when it answers this.
    client.send(Packet::Pingreq).await;
    client.next().await;
    drop(client);
    hub.set_desired(&module(), json!({ "b": 2 })).await;
    let version = hub.set_desired(&module(), json!({ "c": null })).await;
    let hub = hub.restart().await;
    // No SUBSCRIBE: the SDK says it once.
    let mut client = hub.client(&module()).await;
    let (given, caught_up) = patch(&mut client).await;
    assert_eq!(given, version);
    assert_eq!(parsed(&caught_up), json!({ "b": 2, "c": null, "$version": version }));
    client.acknowledge(&caught_up).await;
    assert_eq!(client.within(Duration::from_millis(200)).await, None);
}

#[tokio::test]
async fn a_patch_that_was_not_acknowledged_comes_again() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(DESIRED, Qos::AtLeastOnce).await;
    hub.set_desired(&module(), json!({ "a": 1 })).await;
    let (version, _) = patch(&mut client).await;
    drop(client);
    let mut client = hub.client(&module()).await;
    let (again, body) = patch(&mut client).await;
    assert_eq!((again, parsed(&body)), (version, json!({ "a": 1, "$version": version })));
}

#[tokio::test]
async fn a_twin_far_behind_catches_up_while_the_client_sends_without_a_pause() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(DESIRED, Qos::AtLeastOnce).await;
    client.send(get("1", 0)).await;
    answer(&mut client).await;
    drop(client);
    for number in 0..20 {
        hub.set_desired(&module(), json!({ format!("k{number}"): number })).await;
    }
    let hub = hub.restart().await;
    let (mut reader, mut writer) = hub.client(&module()).await.split();
    let write = async {
        for number in 1..=20_000 {
            writer.send(publish(EVENTS, "x", number)).await;
        }
    };
    let read = async {
        let mut acked = 0;
        let mut caught_up_at = None;
        while acked < 20_000 || caught_up_at.is_none() {
            match reader.next().await {
                Some(Packet::Puback(_)) => acked += 1,
                Some(Packet::Publish(publish)) => {
                    assert_eq!(parsed(&publish)["k19"], 19);
                    caught_up_at = Some(acked);
                }
                other => panic!("{other:?}"),
            }
        }
        caught_up_at
    };
    let ((), caught_up_at) = tokio::join!(write, read);
    assert!(caught_up_at.is_some_and(|at| at < 15_000), "{caught_up_at:?}");
}
