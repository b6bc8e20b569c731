//! CONNECT and what follows from it.

use crate::client::{Client, connect, id, publish};
use crate::hub::{IOTHUB, TestHub};
use crate::{EVENTS, LEAF_EVENTS, leaf, module};
use bytes::Bytes;
use std::time::Duration;
use weir_mqtt_codec::{Connack, Packet, Refusal, UnsupportedConnect};

#[tokio::test]
async fn devices_and_modules_enter_with_a_token() {
    let hub = TestHub::start().await;
    for identity in [module(), leaf()] {
        let mut client = Client::dial(hub.address).await;
        let token = hub.token(&identity).await;
        assert!(!client.enter(&identity, &token).await, "there is no session from before");
    }
}

#[tokio::test]
async fn who_proves_nothing_is_not_authorized() {
    let hub = TestHub::start().await;
    let token = hub.token(&module()).await;
    let good = connect(&module(), &token);
    let mut wrong_id = good.clone();
    wrong_id.client_id = "E/m".parse().unwrap();
    let mut no_id = good.clone();
    no_id.client_id = "".parse().unwrap();
    no_id.clean_session = true;
    let mut no_login = good.clone();
    no_login.login = None;
    let mut no_password = good.clone();
    no_password.login.as_mut().unwrap().password = None;
    let mut not_text = good.clone();
    not_text.login.as_mut().unwrap().password = Some(Bytes::from_static(&[0xff, 0xfe]));
    let mut no_version = good.clone();
    no_version.login.as_mut().unwrap().user_name = format!("{IOTHUB}/E/M/").parse().unwrap();
    let wrong_token = connect(&module(), "SharedAccessSignature sr=x&sig=eA%3D%3D&se=9999999999");
    for connect in [wrong_id, no_id, no_login, no_password, not_text, no_version, wrong_token] {
        let mut client = Client::dial(hub.address).await;
        let shown = format!("{connect:?}");
        assert_eq!(client.refusal(connect).await, Refusal::NotAuthorized, "{shown}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn an_empty_client_id_is_rejected_as_the_standard_says() {
    let hub = TestHub::start().await;
    let mut connect = connect(&module(), &hub.token(&module()).await);
    connect.client_id = "".parse().unwrap();
    let mut client = Client::dial(hub.address).await;
    // [MQTT-3.1.3-8]
    assert_eq!(client.refusal(connect).await, Refusal::IdentifierRejected);
}

#[tokio::test]
async fn other_versions_are_told_so() {
    let hub = TestHub::start().await;
    for (name, level) in [("MQTT", 5), ("MQIsdp", 3), ("MQTT", 0x84)] {
        let mut client = Client::dial(hub.address).await;
        let protocol_name = name.parse().unwrap();
        let packet = UnsupportedConnect { protocol_name, level };
        client.send(Packet::UnsupportedConnect(packet)).await;
        let refused = Packet::Connack(Connack::Refused(Refusal::ProtocolVersion));
        assert_eq!(client.rest().await, [refused]);
    }
}

#[tokio::test]
async fn a_hub_that_is_not_ready_says_so_to_good_and_bad_clients() {
    let hub = TestHub::start().await;
    let token = hub.token(&module()).await;
    hub.hub.set_ready(false);
    for password in [token.as_str(), "wrong"] {
        let mut client = Client::dial(hub.address).await;
        let refusal = client.refusal(connect(&module(), password)).await;
        assert_eq!(refusal, Refusal::ServerUnavailable);
    }
    hub.hub.set_ready(true);
    Client::dial(hub.address).await.enter(&module(), &token).await;
}

#[tokio::test]
async fn a_full_hub_is_unavailable_and_has_room_again() {
    let hub = TestHub::with_clients(1).await;
    let mut first = Client::dial(hub.address).await;
    first.enter(&module(), &hub.token(&module()).await).await;
    let token = hub.token(&leaf()).await;
    let mut second = Client::dial(hub.address).await;
    assert_eq!(second.refusal(connect(&leaf(), &token)).await, Refusal::ServerUnavailable);
    first.send(Packet::Disconnect).await;
    assert!(first.is_closed().await);
    let mut second = Client::dial(hub.address).await;
    second.enter(&leaf(), &token).await;
}

#[tokio::test]
async fn the_first_packet_must_be_connect_and_there_is_only_one() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    client.send(publish(EVENTS, "x", 1)).await;
    assert!(client.is_closed().await);
    let token = hub.token(&module()).await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &token).await;
    client.send(Packet::Connect(Box::new(connect(&module(), &token)))).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn the_newer_connection_of_an_identity_wins() {
    let hub = TestHub::start().await;
    let token = hub.token(&module()).await;
    let mut older = Client::dial(hub.address).await;
    older.enter(&module(), &token).await;
    let mut newer = Client::dial(hub.address).await;
    newer.enter(&module(), &token).await;
    assert!(older.is_closed().await);
    newer.publishes(EVENTS, "x", 1).await;
}

#[tokio::test]
async fn a_client_goes_when_its_token_ends() {
    let hub = TestHub::start().await;
    // The five minutes of grace are nearly over.
    let now = hub.hub.clock().now();
    let expires = weir_core::clock::Timestamp::from_secs(now.as_secs() - 298);
    let token = hub.token_until(&module(), expires).await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &token).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_client_goes_when_its_identity_is_disabled() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&module(), &hub.token(&module()).await).await;
    hub.disable(&module()).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn packets_sent_together_with_connect_are_served() {
    let hub = TestHub::start().await;
    let mut bytes = Vec::new();
    let connect = connect(&module(), &hub.token(&module()).await);
    for packet in [Packet::Connect(Box::new(connect)), publish(EVENTS, "x", 1), Packet::Pingreq] {
        packet.encode(&mut bytes).unwrap();
    }
    let mut client = Client::dial(hub.address).await;
    // Byte by byte: packets have nothing to do with segments.
    for byte in bytes {
        client.send_raw(&[byte]).await;
    }
    let connack = Packet::Connack(Connack::Accepted { session_present: false });
    assert_eq!(client.next().await, Some(connack));
    let mut answers = [client.next().await.unwrap(), client.next().await.unwrap()];
    answers.sort_by_key(Packet::kind_number);
    assert_eq!(answers, [Packet::Puback(id(1)), Packet::Pingresp]);
}

trait KindNumber {
    fn kind_number(&self) -> u8;
}

impl KindNumber for Packet {
    fn kind_number(&self) -> u8 {
        self.kind() as u8
    }
}

#[tokio::test]
async fn a_stop_answers_what_came_before_it_and_ends_the_stream_in_order() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::dial(hub.address).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    for number in 1..=500 {
        client.send(publish(LEAF_EVENTS, "x", number)).await;
    }
    assert_eq!(client.next().await, Some(Packet::Puback(id(1))));
    let before = tokio::time::Instant::now();
    let (rest, ()) = tokio::join!(client.rest(), hub.stop());
    assert!(before.elapsed() < Duration::from_secs(9));
    let expected = (2..2 + u16::try_from(rest.len()).unwrap()).map(|n| Packet::Puback(id(n)));
    assert_eq!(rest, expected.collect::<Vec<_>>());
}
