//! Wills: published at every end but a goodbye and a lost right, or counted as dropped.

use crate::client::{Client, connect, id};
use crate::hub::TestHub;
use crate::{EVENTS, LEAF_EVENTS, leaf};
use bytes::Bytes;
use tokio::net::TcpStream;
use weir_mqtt_codec::{Connect, Packet, Qos, Refusal, Will};

fn will(topic: &str, qos: Qos) -> Option<Will> {
    let (topic, payload) = (topic.parse().unwrap(), Bytes::from_static(b"gone"));
    Some(Will { topic, payload, qos, retain: false })
}

#[tokio::test]
async fn a_will_is_published_unless_the_client_says_goodbye() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut connect = connect(&leaf(), &hub.token(&leaf()).await);
    connect.will = will(LEAF_EVENTS, Qos::AtLeastOnce);
    let mut client = Client::dial(hub.address).await;
    client.enter_as(connect.clone()).await;
    client.send(Packet::Disconnect).await;
    assert!(client.is_closed().await);
    assert!(hub.stored().await.is_empty());
    let mut client = Client::dial(hub.address).await;
    client.enter_as(connect.clone()).await;
    client.send(Packet::Pubrel(id(1))).await;
    // The end of the stream comes after the will's commit.
    assert!(client.is_closed().await);
    assert_eq!(hub.stored().await, ["gone"]);
    let mut client = Client::dial(hub.address).await;
    client.enter_as(connect).await;
    hub.disable(&leaf()).await;
    assert!(client.is_closed().await);
    assert_eq!(hub.stored().await, ["gone"], "who may no longer publish has no will");
}

#[tokio::test]
async fn a_will_that_could_not_be_published_is_refused_at_once() {
    let hub = TestHub::start().await;
    let token = hub.token(&leaf()).await;
    for (topic, qos) in [
        (EVENTS, Qos::AtLeastOnce),
        ("elsewhere", Qos::AtLeastOnce),
        ("$iothub/twin/GET/?$rid=1", Qos::AtMostOnce),
        (LEAF_EVENTS, Qos::ExactlyOnce),
    ] {
        let mut connect = connect(&leaf(), &token);
        connect.will = will(topic, qos);
        let mut client = Client::dial(hub.address).await;
        assert_eq!(client.refusal(connect).await, Refusal::NotAuthorized, "{topic}");
    }
}

async fn connect_with_will(hub: &TestHub, qos: Qos) -> Connect {
    let mut connect = connect(&leaf(), &hub.token(&leaf()).await);
    connect.will = will(LEAF_EVENTS, qos);
    connect
}

/// A leaf device with a will that all routes take.
async fn mortal(hub: &TestHub, qos: Qos) -> Client<TcpStream> {
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter_as(connect_with_will(hub, qos).await).await;
    client
}

#[tokio::test]
async fn who_is_taken_over_leaves_his_will() {
    let hub = TestHub::start().await;
    let mut client = mortal(&hub, Qos::AtLeastOnce).await;
    let mut newer = Client::dial(hub.address).await;
    newer.enter(&leaf(), &hub.token(&leaf()).await).await;
    assert!(client.is_closed().await);
    assert_eq!(hub.stored().await, ["gone"]);
    newer.send(Packet::Pingreq).await;
    assert_eq!(newer.next().await, Some(Packet::Pingresp));
}

#[tokio::test]
async fn who_falls_silent_leaves_his_will() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut connect = connect_with_will(&hub, Qos::AtLeastOnce).await;
    connect.keep_alive_secs = 1;
    let mut client = Client::dial(hub.address).await;
    client.enter_as(connect).await;
    assert!(client.is_closed().await);
    assert_eq!(hub.stored().await, ["gone"]);
}

#[tokio::test]
async fn a_hub_that_stops_publishes_the_wills_of_its_clients() {
    let hub = TestHub::start().await;
    let mut client = mortal(&hub, Qos::AtMostOnce).await;
    let (closed, hub) = tokio::join!(client.is_closed(), hub.restart());
    assert!(closed);
    assert_eq!(hub.stored().await, ["gone"]);
}

#[tokio::test]
async fn a_will_without_room_is_counted_as_dropped() {
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
        let hub = TestHub::start().await;
        let mut client = mortal(&hub, qos).await;
        hub.set_full(true);
        client.send(Packet::Pubrel(id(1))).await;
        assert!(client.is_closed().await);
        hub.set_full(false);
        assert!(hub.stored().await.is_empty());
        let metrics = hub.hub.metrics_text().unwrap();
        let dropped = r#"edgehub_messages_dropped_total{reason="queue_full"} 1"#;
        assert!(metrics.lines().any(|line| line == dropped), "{metrics}");
    }
}
