//! SUBSCRIBE, UNSUBSCRIBE and what is left of them after a disconnect or a restart.

use crate::client::{Client, connect, id, publish, subscribe, unsubscribe};
use crate::hub::TestHub;
use crate::{INPUTS, LEAF_EVENTS, SENDER_EVENTS, leaf, module, sender};
use std::time::Duration;
use weir_mqtt_codec::{Granted, Packet, Qos, Suback};

const ONE: Granted = Granted::Qos(Qos::AtLeastOnce);

#[tokio::test]
async fn each_filter_has_its_answer() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &hub.token(&module()).await).await;
    let filters = [
        (INPUTS, Qos::AtLeastOnce),
        ("$iothub/twin/res/#", Qos::AtMostOnce),
        ("$iothub/methods/POST/#", Qos::ExactlyOnce),
        ("devices/E/modules/sender/inputs/#", Qos::AtLeastOnce),
        ("#", Qos::AtLeastOnce),
        ("of/no/use", Qos::AtLeastOnce),
    ];
    client.send(subscribe(3, &filters)).await;
    let results =
        vec![ONE, Granted::Qos(Qos::AtMostOnce), ONE, Granted::Failure, Granted::Failure, ONE];
    assert_eq!(client.next().await, Some(Packet::Suback(Suback { id: id(3), results })));
    client.send(Packet::Pingreq).await;
    assert_eq!(client.next().await, Some(Packet::Pingresp), "the connection stays");
}

#[tokio::test]
async fn subscriptions_outlive_disconnect_and_restart() {
    let hub = TestHub::start().await;
    hub.route().await;
    let (token, other) = (hub.token(&module()).await, hub.token(&sender()).await);
    let mut client = Client::dial(hub.address).await;
    assert!(!client.enter(&module(), &token).await);
    assert_eq!(client.subscribe(INPUTS, Qos::AtLeastOnce).await, ONE);
    drop(client);
    let hub = hub.restart().await;
    let mut publisher = Client::dial(hub.address).await;
    publisher.enter(&sender(), &other).await;
    publisher.publishes(SENDER_EVENTS, "after the restart", 1).await;
    let mut client = Client::dial(hub.address).await;
    assert!(client.enter(&module(), &token).await);
    let delivery = client.delivery().await;
    assert_eq!(delivery.payload, "after the restart");
    client.acknowledge(&delivery).await;
}

#[tokio::test]
async fn a_clean_session_forgets_and_leaves_nothing() {
    let hub = TestHub::start().await;
    let token = hub.token(&module()).await;
    let mut clean = connect(&module(), &token);
    clean.clean_session = true;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &token).await;
    client.subscribe(INPUTS, Qos::AtLeastOnce).await;
    let mut client = Client::dial(hub.address).await;
    assert!(!client.enter_as(clean).await);
    client.subscribe(INPUTS, Qos::AtLeastOnce).await;
    let mut client = Client::dial(hub.address).await;
    assert!(!client.enter(&module(), &token).await, "a clean session has left nothing");
}

#[tokio::test]
async fn unsubscribing_ends_deliveries_for_good() {
    let hub = TestHub::start().await;
    hub.route().await;
    let token = hub.token(&module()).await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &token).await;
    client.subscribe(INPUTS, Qos::AtLeastOnce).await;
    client.send(unsubscribe(4, INPUTS)).await;
    assert_eq!(client.next().await, Some(Packet::Unsuback(id(4))));
    let mut publisher = Client::dial(hub.address).await;
    publisher.enter(&leaf(), &hub.token(&leaf()).await).await;
    publisher.publishes(LEAF_EVENTS, "x", 1).await;
    assert_eq!(client.within(Duration::from_millis(300)).await, None);
    let mut client = Client::dial(hub.address).await;
    assert!(!client.enter(&module(), &token).await);
    // The message has waited all the time.
    client.subscribe(INPUTS, Qos::AtLeastOnce).await;
    assert_eq!(client.delivery().await.payload, "x");
}

#[tokio::test]
async fn the_fifty_first_filter_is_refused_also_in_a_later_connection() {
    let hub = TestHub::start().await;
    let token = hub.token(&module()).await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &token).await;
    for number in 0..50 {
        let granted = client.subscribe(&format!("x/{number}"), Qos::AtMostOnce).await;
        assert_eq!(granted, Granted::Qos(Qos::AtMostOnce));
    }
    let mut client = Client::dial(hub.address).await;
    assert!(client.enter(&module(), &token).await);
    assert_eq!(client.subscribe("y", Qos::AtMostOnce).await, Granted::Failure);
    client.send(publish("devices/E/modules/M/messages/events/", "x", 1)).await;
    assert_eq!(client.next().await, Some(Packet::Puback(id(1))));
}
