//! Cloud-to-device messages.

use crate::client::{Client, id, publish, subscribe, unsubscribe};
use crate::hub::TestHub;
use crate::{COMMANDS, LEAF_EVENTS, METHODS, leaf, module};
use std::time::Duration;
use tokio::net::TcpStream;
use weir_core::command::NewCommand;
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_mqtt_codec::{Delivery, Packet, Publish, Qos};

const MODULE_COMMANDS: &str = "devices/E/modules/M/messages/devicebound/#";

impl TestHub {
    async fn command(&self, target: &Identity, message: Message) {
        self.token(target).await;
        let command = NewCommand { message, expires: None };
        self.hub.commands().send(&self.hub, target, command).await.unwrap();
    }

    /// Sends numbers as bodies, `from` to `to`.
    async fn commands(&self, from: u16, to: u16) {
        for number in from..=to {
            let body = number.to_string().into();
            self.command(&leaf(), Message { body, ..Message::default() }).await;
        }
    }

    async fn waiting(&self, target: &Identity) -> usize {
        self.hub.commands().list(&self.hub, target).await.unwrap().len()
    }

    /// Waits until no command is left.
    async fn all_taken(&self) {
        let empty = async {
            while self.waiting(&leaf()).await > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), empty).await.expect("all are settled");
    }
}

async fn expect(client: &mut Client<TcpStream>, number: u16, dup: bool) -> Publish {
    let delivery = client.delivery().await;
    assert_eq!(delivery.payload, number.to_string());
    assert_eq!(delivery.delivery.dup(), dup);
    delivery
}

#[tokio::test]
async fn a_command_has_the_topic_and_the_properties_that_sdks_read() {
    let hub = TestHub::start().await;
    let mut properties = PropertiesBuilder::default();
    for (key, value) in [
        (Key::Application("colour"), "a/b c"),
        (Key::System(SystemProperty::MessageId), "m-1"),
        (Key::System(SystemProperty::CorrelationId), "c-1"),
        (Key::System(SystemProperty::Ack), "full"),
    ] {
        properties.push(key, Some(value)).unwrap();
    }
    let properties = properties.build();
    hub.command(&leaf(), Message { body: "{}".into(), properties, output: None }).await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    let delivery = client.delivery().await;
    let bag = delivery.topic.as_str().strip_prefix("devices/leaf/messages/devicebound/").unwrap();
    let mut pairs: Vec<&str> = bag.split('&').collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs,
        [
            "%24.cid=c-1",
            "%24.mid=m-1",
            "%24.to=%2Fdevices%2Fleaf%2Fmessages%2Fdevicebound",
            "colour=a%2Fb%20c",
            "iothub-ack=full",
        ]
    );
    assert_eq!(delivery.payload, "{}");
    assert!(matches!(delivery.delivery, Delivery::AtLeastOnce { dup: false, .. }));
    client.acknowledge(&delivery).await;
    hub.all_taken().await;
}

#[tokio::test]
async fn a_module_has_commands_of_its_own() {
    let hub = TestHub::start().await;
    hub.command(&module(), Message { body: "x".into(), ..Message::default() }).await;
    let mut client = hub.client(&module()).await;
    client.subscribe(MODULE_COMMANDS, Qos::AtLeastOnce).await;
    let delivery = client.delivery().await;
    let expected = "devices/E/modules/M/messages/devicebound/";
    assert!(delivery.topic.as_str().starts_with(expected), "{:?}", delivery.topic);
    client.acknowledge(&delivery).await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_in_order_with_dup() {
    let hub = TestHub::start().await;
    hub.commands(1, 5).await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    for number in 1..=5 {
        let delivery = expect(&mut client, number, false).await;
        if number <= 2 {
            client.acknowledge(&delivery).await;
        }
    }
    drop(client);
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    for number in 3..=5 {
        let delivery = expect(&mut client, number, true).await;
        client.acknowledge(&delivery).await;
    }
    hub.all_taken().await;
}

#[tokio::test]
async fn qos_0_takes_a_command_when_it_is_written() {
    let hub = TestHub::start().await;
    hub.commands(1, 3).await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtMostOnce).await;
    for number in 1..=3 {
        let delivery = expect(&mut client, number, false).await;
        assert_eq!(delivery.delivery, Delivery::AtMostOnce);
    }
    hub.all_taken().await;
}

#[tokio::test]
async fn a_restored_subscription_waits_for_the_application_and_a_new_one_does_not() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    drop(client);
    let hub = hub.restart().await;
    hub.commands(1, 1).await;
    // The SDK would acknowledge and drop what comes before the application has set its handler. That
    // it sets another one meanwhile is no sign of it.
    let mut client = hub.client(&leaf()).await;
    let connected = tokio::time::Instant::now();
    client.subscribe(METHODS, Qos::AtLeastOnce).await;
    expect(&mut client, 1, false).await;
    assert!(connected.elapsed() >= Duration::from_millis(900), "{:?}", connected.elapsed());
    let mut client = hub.client(&leaf()).await;
    let connected = tokio::time::Instant::now();
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    let delivery = expect(&mut client, 1, true).await;
    assert!(connected.elapsed() < Duration::from_millis(900), "{:?}", connected.elapsed());
    client.acknowledge(&delivery).await;
    hub.all_taken().await;
}

#[tokio::test]
async fn unsubscribing_keeps_what_was_acknowledged_before_and_gives_back_the_rest() {
    let hub = TestHub::start().await;
    hub.commands(1, 3).await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    let first = expect(&mut client, 1, false).await;
    expect(&mut client, 2, false).await;
    expect(&mut client, 3, false).await;
    let mut bytes = Vec::new();
    Packet::Puback(first.delivery.packet_id().unwrap()).encode(&mut bytes).unwrap();
    unsubscribe(4, COMMANDS).encode(&mut bytes).unwrap();
    client.send_raw(&bytes).await;
    assert_eq!(client.next().await, Some(Packet::Unsuback(id(4))));
    assert_eq!(hub.waiting(&leaf()).await, 2);
    assert_eq!(client.within(Duration::from_millis(300)).await, None);
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    expect(&mut client, 2, true).await;
    expect(&mut client, 3, true).await;
}

#[tokio::test]
async fn what_was_acknowledged_before_goodbye_is_taken() {
    let hub = TestHub::start().await;
    hub.commands(1, 2).await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    let mut bytes = Vec::new();
    for number in 1..=2 {
        let delivery = expect(&mut client, number, false).await;
        Packet::Puback(delivery.delivery.packet_id().unwrap()).encode(&mut bytes).unwrap();
    }
    Packet::Disconnect.encode(&mut bytes).unwrap();
    client.send_raw(&bytes).await;
    assert!(client.is_closed().await);
    hub.all_taken().await;
}

#[tokio::test]
async fn commands_and_messages_go_both_ways_at_once() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    let mut taken = 0;
    for number in 1..=50 {
        hub.commands(number, number).await;
        client.send(publish(LEAF_EVENTS, number.to_string(), number)).await;
        let (mut acked, mut came) = (false, false);
        while !(acked && came) {
            match client.next().await {
                Some(Packet::Puback(puback)) => {
                    assert_eq!(puback, id(number));
                    acked = true;
                }
                Some(Packet::Publish(command)) => {
                    client.acknowledge(&command).await;
                    came = true;
                    taken += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(taken, 50);
    hub.all_taken().await;
    assert_eq!(hub.stored().await.len(), 50);
}

#[tokio::test]
async fn a_command_that_fits_no_topic_is_a_dead_letter_and_stops_nothing() {
    let hub = TestHub::start().await;
    let mut properties = PropertiesBuilder::default();
    // Every character is three times as long in a topic.
    properties.push(Key::Application("k"), Some(&"/".repeat(30_000))).unwrap();
    let properties = properties.build();
    hub.command(&leaf(), Message { body: "x".into(), properties, output: None }).await;
    hub.commands(2, 2).await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    let delivery = expect(&mut client, 2, false).await;
    client.acknowledge(&delivery).await;
    hub.all_taken().await;
}

#[tokio::test]
async fn commands_from_disk_reach_a_client_that_sends_without_a_pause() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(COMMANDS, Qos::AtLeastOnce).await;
    drop(client);
    hub.commands(1, 20).await;
    let hub = hub.restart().await;
    let (mut reader, mut writer) = hub.client(&leaf()).await.split();
    let write = async {
        writer.send(subscribe(9, &[(COMMANDS, Qos::AtLeastOnce)])).await;
        for number in 1..=30_000 {
            writer.send(publish(LEAF_EVENTS, "x", number)).await;
        }
    };
    let read = async {
        let (mut acked, mut last) = (0, None);
        while acked < 30_000 {
            match reader.next().await {
                Some(Packet::Puback(_)) => acked += 1,
                Some(Packet::Publish(command)) if command.payload == "20" => last = Some(acked),
                Some(Packet::Publish(_) | Packet::Suback(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        last
    };
    let ((), last) = tokio::join!(write, read);
    assert!(last.is_some_and(|at| at < 30_000), "{last:?}");
}
