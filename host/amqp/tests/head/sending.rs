//! Telemetry.

use crate::client::{Client, data, says, soon};
use crate::hub::TestHub;
use crate::{LEAF_EVENTS, SENDER_EVENTS, leaf, sender};
use fe2o3_amqp::link::delivery::Sendable;
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Data, Message, MessageId, Outcome, Properties,
};
use fe2o3_amqp_types::primitives::{Timestamp, Uuid};
use std::time::Duration;
use weir_core::properties::SystemProperty;

#[tokio::test]
async fn accepted_means_on_disk() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    assert!(soon(link.send(data("21"))).await.unwrap().is_accepted());
    assert_eq!(hub.stored().await, ["21"]);
    hub.set_full(true);
    let waiting = link.send_batchable(data("22")).await.unwrap();
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(400), &mut waiting).await;
    assert!(early.is_err(), "nothing is said of what is not stored");
    hub.set_full(false);
    assert!(soon(waiting).await.unwrap().is_accepted());
    assert_eq!(hub.stored().await, ["21", "22"]);
}

#[tokio::test]
async fn what_finds_no_room_for_twenty_seconds_is_rejected_and_the_link_goes_on() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    hub.set_full(true);
    let refused = soon(link.send(data("22"))).await.unwrap();
    let Outcome::Rejected(rejected) = refused else { panic!("{refused:?}") };
    let error = rejected.error.unwrap();
    assert!(says(&error, "resource-limit-exceeded"), "{error:?}");
    hub.set_full(false);
    assert!(soon(link.send(data("23"))).await.unwrap().is_accepted());
    assert_eq!(hub.stored().await, ["23"]);
}

#[tokio::test]
async fn properties_ids_and_the_output_are_taken_over() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &sender()).await;
    let mut link = client.sender(SENDER_EVENTS).await.unwrap();
    let message = Message::builder()
        .properties(
            Properties::builder()
                .message_id(MessageId::Uuid(Uuid::from([0xab; 16])))
                .correlation_id(MessageId::String("c".to_owned()))
                .user_id(b"me".to_vec())
                .to("/devices/E/modules/sender/messages/events")
                .content_type("application/json")
                .content_encoding("utf-8")
                .absolute_expiry_time(Timestamp::from(4_102_444_800_000))
                .build(),
        )
        .application_properties(
            ApplicationProperties::builder()
                .insert("tag", "x")
                .insert("n", 7i32)
                .insert("yes", true)
                .insert("iothub-outputname", "out1")
                .insert("iothub-creation-time-utc", "2026-01-01T00:00:00Z")
                .insert("weir-origin-device", "forged")
                .build(),
        )
        .data(b"{}".to_vec())
        .build();
    assert!(soon(link.send(message)).await.unwrap().is_accepted());
    let stored = hub.stored_messages().await;
    let [message] = &stored[..] else { panic!("{stored:?}") };
    let properties = message.properties();
    let system = |property| properties.system(property).unwrap();
    assert_eq!(system(SystemProperty::MessageId), "abababab-abab-abab-abab-abababababab");
    assert_eq!(system(SystemProperty::CorrelationId), "c");
    assert_eq!(system(SystemProperty::UserId), "me");
    assert_eq!(system(SystemProperty::ContentType), "application/json");
    assert_eq!(system(SystemProperty::ContentEncoding), "utf-8");
    assert_eq!(system(SystemProperty::ExpiryTime), "2100-01-01T00:00:00Z");
    assert_eq!(system(SystemProperty::CreationTime), "2026-01-01T00:00:00Z");
    for (name, value) in [("tag", "x"), ("n", "7"), ("yes", "true")] {
        assert_eq!(properties.application(name), Some(Some(value)));
    }
    assert_eq!(properties.application("weir-origin-device"), None);
    assert_eq!(properties.application("iothub-outputname"), None);
    assert_eq!(message.output().unwrap().as_str(), "out1");
    assert_eq!(message.sender(), &sender());
}

#[tokio::test]
async fn a_message_over_256_kib_is_rejected_alone_and_one_below_arrives_in_parts() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    let large = "x".repeat(256 * 1024 + 1);
    let Outcome::Rejected(rejected) = soon(link.send(data(&large))).await.unwrap() else {
        panic!()
    };
    assert!(says(&rejected, "message-size-exceeded"));
    let fits = "y".repeat(250 * 1024);
    assert!(soon(link.send(data(&fits))).await.unwrap().is_accepted());
    assert_eq!(hub.stored().await, [fits.as_str()]);
}

#[tokio::test]
async fn a_message_over_the_links_limit_ends_the_link() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    assert_eq!(link.max_message_size(), Some(1024 * 1024));
    // The library of this test keeps to the limit itself.
    let larger = link.send(data(&"x".repeat(1024 * 1024))).await;
    assert!(larger.is_err());
}

#[tokio::test]
async fn azures_batch_format_is_unpacked_all_or_nothing() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    let one = |text: &str| {
        let length = u8::try_from(text.len()).unwrap();
        [&[0x00, 0x53, 0x75, 0xa0, length], text.as_bytes()].concat()
    };
    let batch = |parts: Vec<Vec<u8>>| {
        let body: Vec<Data> = parts.into_iter().map(|part| Data(part.into())).collect();
        let message =
            Message::builder().body(fe2o3_amqp_types::messaging::Batch::new(body)).build();
        Sendable::builder().message(message).message_format(0x8001_3700u32).build()
    };
    let good = batch(vec![one("a"), one("b"), one("c")]);
    assert!(soon(link.send(good)).await.unwrap().is_accepted());
    assert_eq!(hub.stored().await, ["a", "b", "c"]);
    let bad = batch(vec![one("d"), vec![0xff]]);
    let outcome = soon(link.send(bad)).await.unwrap();
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    assert_eq!(hub.stored().await, ["a", "b", "c"]);
}

#[tokio::test]
async fn messages_are_stored_in_order_and_many_at_once() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    let mut answers = Vec::new();
    for number in 0..1000 {
        answers.push(soon(link.send_batchable(data(&number.to_string()))).await.unwrap());
    }
    for answer in answers {
        assert!(soon(answer).await.unwrap().is_accepted());
    }
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(hub.stored().await, expected);
}

#[tokio::test]
async fn a_settled_message_is_stored_without_an_answer() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    let settled = Sendable::builder().message(data("at most once")).settled(true).build();
    assert!(soon(link.send(settled)).await.unwrap().is_accepted());
    assert!(soon(link.send(data("after"))).await.unwrap().is_accepted());
    assert_eq!(hub.stored().await, ["at most once", "after"]);
}

#[tokio::test]
async fn a_body_of_text_is_taken_and_one_of_a_list_is_not() {
    use fe2o3_amqp_types::messaging::AmqpValue;
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    let value = Message::builder().body(AmqpValue("text".to_owned())).build();
    assert!(soon(link.send(value)).await.unwrap().is_accepted());
    let list = Message::builder().body(AmqpValue(vec![1i32, 2])).build();
    let outcome = soon(link.send(list)).await.unwrap();
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
    assert_eq!(hub.stored().await, ["text"]);
}

#[tokio::test]
async fn a_hub_that_stops_answers_what_it_has_stored_and_says_why_it_goes() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = Client::enter(&hub, &leaf()).await;
    let mut link = client.sender(LEAF_EVENTS).await.unwrap();
    assert!(soon(link.send(data("x"))).await.unwrap().is_accepted());
    let (stopped, ended) = tokio::join!(hub.stop(), soon(link.on_detach()));
    assert!(says(&ended, "forced"), "{ended:?}");
    let () = stopped;
    let ended = soon(client.connection.on_close()).await;
    assert!(says(&ended, "forced"), "{ended:?}");
}
