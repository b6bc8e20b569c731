//! Cloud-to-device messages, from both ends.

use crate::client::{Any, Client, says, soon, text};
use crate::hub::{IOTHUB, TestHub};
use crate::leaf;
use fe2o3_amqp::link::Receiver;
use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp_types::messaging::{ApplicationProperties, Body, Message, Outcome, Properties};
use fe2o3_amqp_types::primitives::Value;
use std::time::Duration;
use weir_core::command::NewCommand;
use weir_core::message::Message as HubMessage;
use weir_hub::authenticate::make_token;

const DEVICEBOUND: &str = "/devices/leaf/messages/devicebound";

async fn send(hub: &TestHub, body: &'static str) {
    hub.token(&leaf()).await;
    let message = HubMessage { body: body.into(), ..HubMessage::default() };
    let command = NewCommand { message, expires: None };
    hub.hub.commands().send(&hub.hub, &leaf(), command).await.unwrap();
}

async fn next(link: &mut Receiver) -> Delivery<Body<Value>> {
    link.set_credit(1).await.unwrap();
    soon(link.recv()).await.unwrap()
}

fn body(delivery: &Delivery<Body<Value>>) -> String {
    let message: &Any = delivery.message();
    text(message)
}

#[tokio::test]
async fn commands_are_completed_given_back_and_rejected() {
    let hub = TestHub::start().await;
    for one in ["a", "b", "c"] {
        send(&hub, one).await;
    }
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.receiver(DEVICEBOUND).await.unwrap();
    let first = next(&mut link).await;
    assert_eq!(body(&first), "a");
    assert_eq!(first.delivery_tag().len(), 16);
    link.release(&first).await.unwrap();
    let again = next(&mut link).await;
    let again = match body(&again).as_str() {
        "a" => again,
        // The release may have come after the credit.
        _ => {
            link.release(&again).await.unwrap();
            next(&mut link).await
        }
    };
    assert_eq!(body(&again), "a");
    link.accept(&again).await.unwrap();
    let second = next(&mut link).await;
    assert_eq!(body(&second), "b");
    link.reject(&second, None).await.unwrap();
    let third = next(&mut link).await;
    assert_eq!(body(&third), "c");
    link.accept(&third).await.unwrap();
    let empty = async {
        while hub.hub.commands().count(&leaf()) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(empty).await;
    assert_eq!(hub.dead_letters().await, 1);
}

#[tokio::test]
async fn a_command_that_was_not_settled_comes_to_the_next_link() {
    let hub = TestHub::start().await;
    send(&hub, "a").await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.receiver(DEVICEBOUND).await.unwrap();
    assert_eq!(body(&next(&mut link).await), "a");
    let mut second = client.receiver(DEVICEBOUND).await.unwrap();
    assert_eq!(body(&next(&mut second).await), "a");
}

async fn service_client(hub: &TestHub, policy: &str) -> Client {
    let key = hub.hub.service_key(policy).await.unwrap();
    let expires = hub.hub.clock().now().after(Duration::from_secs(3600));
    let token = make_token(&key, IOTHUB, expires, Some(policy));
    let mut client = Client::dial(hub.address).await;
    assert_eq!(client.put_token(IOTHUB, &token).await, 200);
    client
}

fn to(address: &str, body: &str) -> Message<fe2o3_amqp_types::messaging::Data> {
    Message::builder()
        .properties(Properties::builder().message_id("m-1".to_owned()).to(address).build())
        .application_properties(ApplicationProperties::builder().insert("k", "v").build())
        .data(body.as_bytes().to_vec())
        .build()
}

#[tokio::test]
async fn a_service_client_sends_commands() {
    let hub = TestHub::start().await;
    hub.token(&leaf()).await;
    let mut service = service_client(&hub, "service").await;
    let mut link = service.sender("/messages/devicebound").await.unwrap();
    assert!(soon(link.send(to(DEVICEBOUND, "do"))).await.unwrap().is_accepted());
    for (address, condition) in [
        ("/devices/nobody/messages/devicebound", "not-found"),
        ("/devices/leaf/messages/events", "argument-error"),
        ("", "argument-error"),
    ] {
        let outcome = soon(link.send(to(address, "x"))).await.unwrap();
        assert!(
            matches!(outcome, Outcome::Rejected(_)) && says(&outcome, condition),
            "{outcome:?}"
        );
    }
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.receiver(DEVICEBOUND).await.unwrap();
    let got = next(&mut link).await;
    assert_eq!(body(&got), "do");
}

#[tokio::test]
async fn devices_and_policies_without_the_right_do_not_send_commands() {
    let hub = TestHub::start().await;
    let mut device = Client::enter(&hub, &leaf()).await;
    let mut reader = service_client(&hub, "registryRead").await;
    for client in [&mut device, &mut reader] {
        let refused = client.sender("/messages/devicebound").await.unwrap_err();
        assert!(says(&refused, "unauthorized-access"), "{refused:?}");
    }
    let refused = reader.sender("/devices/leaf/messages/events").await.unwrap_err();
    assert!(says(&refused, "unauthorized-access"), "{refused:?}");
}
