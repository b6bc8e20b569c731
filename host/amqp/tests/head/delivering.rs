//! A module's inputs.

use crate::client::{Any, Client, data, says, soon, text};
use crate::hub::TestHub;
use crate::{INPUTS, LEAF_EVENTS, leaf, module};
use fe2o3_amqp::link::Receiver;
use fe2o3_amqp::link::delivery::Delivery;
use fe2o3_amqp_types::messaging::{Body, Modified};
use fe2o3_amqp_types::primitives::{Symbol, Value};
use std::time::Duration;

type Got = Delivery<Body<Value>>;

/// A hub with messages in the input of `M`.
async fn hub_with(messages: &[&str]) -> TestHub {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    for message in messages {
        assert!(soon(link.send(data(message))).await.unwrap().is_accepted());
    }
    hub
}

async fn next(link: &mut Receiver) -> Got {
    link.set_credit(1).await.unwrap();
    soon(link.recv()).await.unwrap()
}

fn annotation(message: &Any, name: &str) -> Value {
    let annotations = message.message_annotations.as_ref().unwrap();
    annotations
        .0
        .get(&Symbol::from(name) as &dyn fe2o3_amqp_types::messaging::annotations::AnnotationKey)
        .unwrap()
        .clone()
}

#[tokio::test]
async fn a_delivery_says_input_sender_sequence_and_lock() {
    let hub = hub_with(&["21"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    let got = next(&mut link).await;
    let tag = got.delivery_tag().to_vec();
    let message = got.message();
    assert_eq!(text(message), "21");
    assert_eq!(annotation(message, "x-opt-input-name"), Value::String("in1".to_owned()));
    let device = annotation(message, "iothub-connection-device-id");
    assert_eq!(device, Value::String("leaf".to_owned()));
    assert!(matches!(annotation(message, "x-opt-sequence-number"), Value::Ulong(_)));
    assert!(matches!(annotation(message, "iothub-enqueuedtime"), Value::Timestamp(_)));
    assert_eq!(annotation(message, "iothub-deliverycount"), Value::Int(0));
    let Value::Uuid(lock) = annotation(message, "x-opt-lock-token") else { panic!() };
    assert_eq!(lock.into_inner().to_vec(), tag);
}

#[tokio::test]
async fn accepted_is_done_and_survives_a_new_link() {
    let hub = hub_with(&["a", "b"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    let got = next(&mut link).await;
    assert_eq!(text(got.message()), "a");
    link.accept(&got).await.unwrap();
    soon(link.close()).await.unwrap();
    let mut link = client.receiver(INPUTS).await.unwrap();
    assert_eq!(text(next(&mut link).await.message()), "b");
}

#[tokio::test]
async fn released_and_modified_come_again_in_order() {
    let hub = hub_with(&["a", "b"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    let got = next(&mut link).await;
    link.release(&got).await.unwrap();
    let again = next(&mut link).await;
    let again = if text(again.message()) == "b" {
        link.accept(&again).await.unwrap();
        next(&mut link).await
    } else {
        again
    };
    assert_eq!(text(again.message()), "a");
    assert!(matches!(annotation(again.message(), "iothub-deliverycount"), Value::Int(1..)));
    let modified = Modified {
        delivery_failed: Some(true),
        undeliverable_here: None,
        message_annotations: None,
    };
    link.modify(&again, modified).await.unwrap();
    loop {
        let got = next(&mut link).await;
        let done = text(got.message()) == "a";
        link.accept(&got).await.unwrap();
        if done {
            break;
        }
    }
}

#[tokio::test]
async fn rejected_is_a_dead_letter() {
    let hub = hub_with(&["a", "b"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    let got = next(&mut link).await;
    link.reject(&got, None).await.unwrap();
    let got = next(&mut link).await;
    assert_eq!(text(got.message()), "b");
    // They were handed out together, and are settled together.
    link.accept(&got).await.unwrap();
    assert_eq!(hub.dead_letters().await, 1);
}

#[tokio::test]
async fn what_a_client_leaves_unsettled_comes_again() {
    let hub = hub_with(&["a"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    next(&mut link).await;
    drop((client, link));
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    assert_eq!(text(next(&mut link).await.message()), "a");
}

#[tokio::test]
async fn nothing_is_sent_without_credit_and_no_more_than_the_window() {
    let bodies: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let hub = hub_with(&bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut link = client.receiver(INPUTS).await.unwrap();
    let early = tokio::time::timeout(Duration::from_millis(300), link.recv::<Body<Value>>()).await;
    assert!(early.is_err());
    link.set_credit(1000).await.unwrap();
    let mut got: Vec<Got> = Vec::new();
    while let Ok(one) = tokio::time::timeout(Duration::from_millis(500), link.recv()).await {
        got.push(one.unwrap());
    }
    assert_eq!(got.len(), weir_core::limits::CLIENT_WINDOW);
    let mut seen: Vec<String> = got.iter().map(|one| text(one.message())).collect();
    link.accept_all(&got).await.unwrap();
    while seen.len() < 300 {
        let one: Got = soon(link.recv()).await.unwrap();
        seen.push(text(one.message()));
        link.accept(&one).await.unwrap();
    }
    assert_eq!(seen, bodies);
}

#[tokio::test]
async fn a_second_link_takes_the_place_of_the_first() {
    let hub = hub_with(&["a"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut first = client.receiver(INPUTS).await.unwrap();
    let mut second = client.receiver(INPUTS).await.unwrap();
    let ended = soon(first.recv::<Body<Value>>()).await.unwrap_err();
    assert!(says(&ended, "stolen"), "{ended:?}");
    assert_eq!(text(next(&mut second).await.message()), "a");
}

#[tokio::test]
async fn one_name_may_be_used_in_both_directions() {
    let hub = hub_with(&["a"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut sender = client.sender_as("same", INPUTS, None).await.unwrap();
    let mut receiver = client.receiver_as("same", INPUTS, None).await.unwrap();
    assert_eq!(text(next(&mut receiver).await.message()), "a");
    assert!(soon(sender.send(data("b"))).await.unwrap().is_accepted());
}

#[tokio::test]
async fn a_receiver_that_settles_second_is_answered() {
    use fe2o3_amqp_types::definitions::ReceiverSettleMode;
    use fe2o3_amqp_types::messaging::Source;
    let hub = hub_with(&["a", "b"]).await;
    let mut client = Client::enter(&hub, &module()).await;
    let receiver = Receiver::builder()
        .name("second")
        .source(Source::builder().address(INPUTS).build())
        .receiver_settle_mode(ReceiverSettleMode::Second)
        .credit_mode(fe2o3_amqp::link::CreditMode::Manual);
    let mut link = soon(receiver.attach(&mut client.session)).await.unwrap();
    for expected in ["a", "b"] {
        let got = next(&mut link).await;
        assert_eq!(text(got.message()), expected);
        link.accept(&got).await.unwrap();
    }
    soon(link.close()).await.unwrap();
    let empty = async {
        while !hub.stored().await.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(empty).await;
}
