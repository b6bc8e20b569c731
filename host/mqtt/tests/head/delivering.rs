//! Deliveries to a module's inputs.

use crate::client::publish;
use crate::hub::TestHub;
use crate::{INPUTS, LEAF_EVENTS, SENDER_EVENTS, leaf, module, sender};
use std::time::Duration;
use weir_core::id::Identity;
use weir_mqtt_codec::{Delivery, Packet, Publish, Qos};

/// Publishes numbers as bodies, `from` to `to`.
async fn fill(hub: &TestHub, from: u16, to: u16) {
    let mut publisher = hub.client(&leaf()).await;
    for number in from..=to {
        publisher.publishes(LEAF_EVENTS, number.to_string(), number).await;
    }
}

fn number(delivery: &Publish) -> u16 {
    std::str::from_utf8(&delivery.payload).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_delivery_says_input_properties_and_sender() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut receiver = hub.client(&module()).await;
    receiver.subscribe(INPUTS, Qos::AtLeastOnce).await;
    let mut publisher = hub.client(&sender()).await;
    let forged = "%24.cdid=forged&%24.cmid=forged&%24.ct=application%2Fjson&colour=a%20b";
    publisher.publishes(&format!("{SENDER_EVENTS}&{forged}"), "{}", 1).await;
    let delivery = receiver.delivery().await;
    assert_eq!(
        delivery.topic.as_str(),
        "devices/E/modules/M/inputs/in1/colour=a%20b&%24.ct=application%2Fjson&%24.cdid=E&%24.cmid=sender"
    );
    assert!(!delivery.retain);
    assert!(matches!(delivery.delivery, Delivery::AtLeastOnce { dup: false, .. }));
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_in_order_with_dup() {
    let hub = TestHub::start().await;
    hub.route().await;
    fill(&hub, 1, 10).await;
    let mut receiver = hub.client(&module()).await;
    receiver.subscribe(INPUTS, Qos::AtLeastOnce).await;
    for expected in 1..=10 {
        let delivery = receiver.delivery().await;
        assert_eq!((number(&delivery), delivery.delivery.dup()), (expected, false));
        if expected <= 4 {
            receiver.acknowledge(&delivery).await;
        }
    }
    // The acknowledgements are taken before the end of the stream is seen.
    receiver.send(Packet::Disconnect).await;
    assert!(receiver.is_closed().await);
    fill(&hub, 11, 12).await;
    let mut receiver = hub.client(&module()).await;
    for expected in 5..=12 {
        let delivery = receiver.delivery().await;
        assert_eq!((number(&delivery), delivery.delivery.dup()), (expected, expected <= 10));
        receiver.acknowledge(&delivery).await;
    }
    receiver.send(Packet::Disconnect).await;
    assert!(receiver.is_closed().await);
    let mut receiver = hub.client(&module()).await;
    assert_eq!(receiver.within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_further_subscription_brings_nothing_a_second_time() {
    let hub = TestHub::start().await;
    hub.route().await;
    fill(&hub, 1, 5).await;
    let mut receiver = hub.client(&module()).await;
    receiver.subscribe("devices/E/modules/M/inputs/in1/#", Qos::AtLeastOnce).await;
    let mut waiting = Vec::new();
    for expected in 1..=5 {
        waiting.push(receiver.delivery().await);
        assert_eq!(number(&waiting[expected - 1]), u16::try_from(expected).unwrap());
    }
    receiver.subscribe("devices/E/modules/M/inputs/in2/#", Qos::AtLeastOnce).await;
    // Longer than a consumer that leaves has for its last word.
    assert_eq!(receiver.within(Duration::from_millis(1_500)).await, None);
    for delivery in &waiting {
        receiver.acknowledge(delivery).await;
    }
    fill(&hub, 6, 6).await;
    assert_eq!(number(&receiver.delivery().await), 6);
}

#[tokio::test]
async fn a_hundred_are_under_way_at_most() {
    let hub = TestHub::start().await;
    hub.route().await;
    fill(&hub, 1, 250).await;
    let mut receiver = hub.client(&module()).await;
    receiver.subscribe(INPUTS, Qos::AtLeastOnce).await;
    let mut waiting = Vec::new();
    for expected in 1..=100 {
        let delivery = receiver.delivery().await;
        assert_eq!(number(&delivery), expected);
        waiting.push(delivery);
    }
    assert_eq!(receiver.within(Duration::from_millis(300)).await, None);
    for expected in 101..=250 {
        let oldest = waiting.remove(0);
        receiver.acknowledge(&oldest).await;
        let delivery = receiver.delivery().await;
        assert_eq!(number(&delivery), expected);
        waiting.push(delivery);
    }
}

#[tokio::test]
async fn qos_0_is_delivered_once_and_done() {
    let hub = TestHub::start().await;
    hub.route().await;
    fill(&hub, 1, 5).await;
    let mut receiver = hub.client(&module()).await;
    receiver.subscribe(INPUTS, Qos::AtMostOnce).await;
    for expected in 1..=5 {
        let delivery = receiver.delivery().await;
        assert_eq!((number(&delivery), delivery.delivery), (expected, Delivery::AtMostOnce));
    }
    receiver.send(Packet::Disconnect).await;
    assert!(receiver.is_closed().await);
    let mut receiver = hub.client(&module()).await;
    assert_eq!(receiver.within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_take_over_takes_the_deliveries_over() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut older = hub.client(&module()).await;
    older.subscribe(INPUTS, Qos::AtLeastOnce).await;
    fill(&hub, 1, 3).await;
    for expected in 1..=3 {
        assert_eq!(number(&older.delivery().await), expected);
    }
    let mut newer = hub.client(&module()).await;
    assert!(older.is_closed().await);
    for expected in 1..=3 {
        let delivery = newer.delivery().await;
        assert_eq!((number(&delivery), delivery.delivery.dup()), (expected, true));
    }
}

#[tokio::test]
async fn what_comes_again_has_its_packet_id_and_a_late_acknowledgement_is_meant_for_it() {
    let hub = TestHub::start().await;
    hub.route().await;
    fill(&hub, 1, 20).await;
    let mut older = hub.client(&module()).await;
    older.subscribe(INPUTS, Qos::AtLeastOnce).await;
    let mut before = Vec::new();
    for _ in 1..=20 {
        before.push(older.delivery().await);
    }
    let mut newer = hub.client(&module()).await;
    assert!(older.is_closed().await);
    let mut after = Vec::new();
    for _ in 1..=20 {
        after.push(newer.delivery().await);
    }
    let ids = |all: &[Publish]| all.iter().map(|one| one.delivery.packet_id()).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
    // What comes now has other ids.
    fill(&hub, 21, 22).await;
    let further = [newer.delivery().await, newer.delivery().await];
    assert!(ids(&further).iter().all(|id| !ids(&before).contains(id)));
    // A client acknowledges what it had got on the last connection.
    for delivery in &before[..15] {
        newer.acknowledge(delivery).await;
    }
    newer.send(Packet::Disconnect).await;
    newer.rest().await;
    let mut again = hub.client(&module()).await;
    for expected in 16..=22 {
        assert_eq!(number(&again.delivery().await), expected);
    }
}

#[tokio::test]
async fn a_module_of_another_device_does_not_get_what_is_not_its_own() {
    let hub = TestHub::start().await;
    hub.route().await;
    let namesake = Identity::module("leaf".parse().unwrap(), "M".parse().unwrap());
    hub.token(&leaf()).await;
    let mut client = hub.client(&namesake).await;
    client.subscribe("devices/leaf/modules/M/inputs/#", Qos::AtLeastOnce).await;
    fill(&hub, 1, 1).await;
    assert_eq!(client.within(Duration::from_millis(300)).await, None);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_else() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut deaf = hub.client(&module()).await;
    deaf.subscribe(INPUTS, Qos::AtMostOnce).await;
    let mut publisher = hub.client(&leaf()).await;
    // Far more than sockets hold.
    let body = vec![b'x'; 200_000];
    for number in 1..=100 {
        publisher.send(publish(LEAF_EVENTS, body.clone(), number)).await;
        assert!(matches!(publisher.next().await, Some(Packet::Puback(_))));
    }
    // It has missed nothing.
    for _ in 1..=100 {
        assert_eq!(deaf.delivery().await.payload.len(), body.len());
    }
}
