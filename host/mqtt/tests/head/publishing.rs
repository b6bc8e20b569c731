//! What clients publish.

use crate::client::{Client, id, publish};
use crate::hub::TestHub;
use crate::{EVENTS, LEAF_EVENTS, leaf, module};
use std::time::Duration;
use weir_mqtt_codec::{Delivery, Packet, Publish};

#[tokio::test]
async fn puback_means_that_the_message_is_stored() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    for number in 1..=20 {
        client.publishes(LEAF_EVENTS, number.to_string(), number).await;
        assert_eq!(hub.stored().await.len(), usize::from(number));
    }
}

#[tokio::test]
async fn pubacks_come_in_the_order_of_the_messages() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    let mut bytes = Vec::new();
    let bodies: Vec<String> = (1..=3000).map(|number: u16| number.to_string()).collect();
    for (number, body) in (1..=3000).zip(&bodies) {
        publish(LEAF_EVENTS, body.clone(), number).encode(&mut bytes).unwrap();
    }
    client.send_raw(&bytes).await;
    for number in 1..=3000 {
        assert_eq!(client.next().await, Some(Packet::Puback(id(number))));
    }
    assert_eq!(hub.stored().await, bodies);
}

#[tokio::test]
async fn qos_0_is_stored_and_not_acknowledged() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    client.send(publish(LEAF_EVENTS, "zero", 0)).await;
    client.publishes(LEAF_EVENTS, "one", 1).await;
    assert_eq!(hub.stored().await, ["zero", "one"]);
}

#[tokio::test]
async fn qos_0_is_dropped_and_counted_when_the_queue_is_full_and_qos_1_is_not() {
    let hub = TestHub::start().await;
    hub.route().await;
    hub.set_full(true);
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    let mut bytes = Vec::new();
    for (number, body) in [(0, "zero"), (1, "one"), (0, "zero"), (2, "two"), (0, "zero")] {
        publish(LEAF_EVENTS, body, number).encode(&mut bytes).unwrap();
    }
    client.send_raw(&bytes).await;
    assert_eq!(client.within(Duration::from_millis(300)).await, None);
    hub.set_full(false);
    for number in 1..=2 {
        assert_eq!(client.next().await, Some(Packet::Puback(id(number))));
    }
    client.publishes(LEAF_EVENTS, "three", 3).await;
    assert_eq!(hub.stored().await, ["one", "two", "three"]);
    let metrics = hub.hub.metrics_text().unwrap();
    let dropped = metrics.lines().find(|line| line.contains("reason=\"queue_full\""));
    assert!(dropped.is_some_and(|line| line.ends_with(" 3")), "{dropped:?}");
}

#[tokio::test]
async fn a_message_that_no_route_takes_is_acknowledged() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    client.publishes(LEAF_EVENTS, "x", 1).await;
}

#[tokio::test]
async fn what_was_published_before_goodbye_is_stored() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    let mut bytes = Vec::new();
    publish(LEAF_EVENTS, "last", 0).encode(&mut bytes).unwrap();
    Packet::Disconnect.encode(&mut bytes).unwrap();
    client.send_raw(&bytes).await;
    assert!(client.is_closed().await);
    assert_eq!(hub.stored().await, ["last"]);
}

#[tokio::test]
async fn a_publish_that_is_refused_closes_without_puback_and_keeps_what_came_before() {
    let hub = TestHub::start().await;
    hub.route().await;
    let token = hub.token(&module()).await;
    for topic in [
        LEAF_EVENTS,
        "devices/E/messages/events/",
        "devices/E/modules/N/messages/events/",
        "devices/E/modules/M/inputs/in1/",
        "devices/E/modules/M/messages/events/a=%ff",
        "$iothub/twin/GET/",
        "plain/topic",
        "é/x",
    ] {
        let before = hub.stored().await.len();
        let mut client = Client::dial(hub.address).await;
        client.enter(&module(), &token).await;
        let mut bytes = Vec::new();
        publish(EVENTS, "good", 1).encode(&mut bytes).unwrap();
        publish(topic, "bad", 2).encode(&mut bytes).unwrap();
        publish(EVENTS, "too late", 3).encode(&mut bytes).unwrap();
        client.send_raw(&bytes).await;
        assert_eq!(client.rest().await, [Packet::Puback(id(1))], "{topic}");
        assert_eq!(hub.stored().await.len(), before + 1, "{topic}");
    }
}

#[tokio::test]
async fn qos_2_closes_the_connection() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    let delivery = Delivery::ExactlyOnce { id: id(1), dup: false };
    let (topic, payload) = (LEAF_EVENTS.parse().unwrap(), "x".into());
    client.send(Packet::Publish(Publish { topic, payload, delivery, retain: false })).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_message_of_256_kib_is_taken_and_a_larger_one_closes() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    client.publishes(LEAF_EVENTS, vec![b'x'; 262_144], 1).await;
    client.send(publish(LEAF_EVENTS, vec![b'x'; 262_145], 2)).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_flood_of_large_messages_is_stored_in_order() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    // Three times what the hub lets wait for a commit.
    let (mut reader, mut writer) = client.split();
    let write = async {
        for number in 1..=300 {
            writer.send(publish(LEAF_EVENTS, vec![b'x'; 262_144], number)).await;
        }
    };
    let read = async {
        for number in 1..=300 {
            assert_eq!(reader.next().await, Some(Packet::Puback(id(number))));
        }
    };
    tokio::join!(write, read);
}

#[tokio::test]
async fn a_full_queue_withholds_puback_and_goes_on_when_there_is_room() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    client.publishes(LEAF_EVENTS, "before", 1).await;
    hub.set_full(true);
    for number in 2..=50 {
        client.send(publish(LEAF_EVENTS, "while", number)).await;
    }
    assert_eq!(client.within(Duration::from_millis(700)).await, None);
    hub.set_full(false);
    for number in 2..=50 {
        assert_eq!(client.next().await, Some(Packet::Puback(id(number))));
    }
    assert_eq!(hub.stored().await.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_is_kept_however_often_the_queue_is_full() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    let (mut reader, mut writer) = client.split();
    let bodies: Vec<String> = (1..=20_000).map(|number: u16| number.to_string()).collect();
    let write = async {
        // No faster than the hub, so that messages come while it finds the queue full.
        for (number, body) in (1..=20_000).zip(&bodies) {
            writer.send(publish(LEAF_EVENTS, body.clone(), number)).await;
            tokio::task::yield_now().await;
        }
    };
    let disturb = async {
        for full in [true, false].into_iter().cycle().take(20) {
            hub.set_full(full);
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    };
    let read = async {
        for number in 1..=20_000 {
            assert_eq!(reader.next().await, Some(Packet::Puback(id(number))));
        }
    };
    tokio::join!(write, disturb, read);
    assert_eq!(hub.stored().await, bodies);
}

/// Twenty seconds of the real clock: the store's own threads do not stand still for a test.
#[tokio::test]
async fn a_queue_that_stays_full_closes_the_connection_after_twenty_seconds() {
    let hub = TestHub::start().await;
    hub.route().await;
    hub.set_full(true);
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    let before = tokio::time::Instant::now();
    client.send(publish(LEAF_EVENTS, "x", 1)).await;
    assert!(client.is_closed().await);
    let waited = before.elapsed();
    assert!(waited >= Duration::from_secs(19), "{waited:?}");
    assert!(waited < Duration::from_secs(23), "{waited:?}");
    assert!(hub.stored().await.is_empty());
}
