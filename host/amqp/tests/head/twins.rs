//! Twins and direct methods: pairs of links.

use crate::client::{Any, Client, says, soon, text};
use crate::hub::TestHub;
use crate::{leaf, module};
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp_types::messaging::{
    ApplicationProperties, Body, Data, Message, MessageAnnotations, MessageId, Properties,
};
use fe2o3_amqp_types::primitives::{SimpleValue, Symbol, Value};
use serde_json::json;
use std::time::Duration;
use weir_core::method::{MethodAnswer, MethodCall};
use weir_hub::MethodError;

const TWIN: &str = "/devices/E/modules/M/twin";
const METHODS: &str = "/devices/E/modules/M/methods/devicebound";

struct Pair {
    sender: Sender,
    receiver: Receiver,
}

impl Pair {
    async fn attach(client: &mut Client, address: &str, correlation: &str) -> Self {
        let names = [format!("{correlation}-out"), format!("{correlation}-in")];
        let sender = client.sender_as(&names[0], address, Some(correlation)).await.unwrap();
        let mut receiver = client.receiver_as(&names[1], address, Some(correlation)).await.unwrap();
        receiver.set_credit(100).await.unwrap();
        Self { sender, receiver }
    }

    async fn next(&mut self) -> Any {
        let got = soon(self.receiver.recv::<Body<Value>>()).await.unwrap();
        self.receiver.accept(&got).await.unwrap();
        got.into_message()
    }

    /// A twin request and the status of its answer.
    async fn ask(&mut self, operation: &str, body: &str) -> (i32, String) {
        let id = MessageId::String(format!("id-{operation}"));
        self.sender.send(request(Some(id.clone()), operation, body)).await.unwrap();
        let answer = self.next().await;
        assert_eq!(answer.properties.as_ref().unwrap().correlation_id, Some(id));
        let status = answer.message_annotations.as_ref().unwrap();
        let (_, status) = status.0.iter().next().unwrap();
        let Value::Int(status) = status else { panic!("{status:?}") };
        (*status, text(&answer))
    }
}

fn request(id: Option<MessageId>, operation: &str, body: &str) -> Message<Data> {
    let annotations = MessageAnnotations::builder()
        .insert(Symbol::from("operation"), operation.to_owned())
        .build();
    let properties = Properties { correlation_id: id, ..Properties::default() };
    Message::builder()
        .message_annotations(annotations)
        .properties(properties)
        .data(body.as_bytes().to_vec())
        .build()
}

#[tokio::test]
async fn a_twin_is_read_patched_and_followed() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut twin = Pair::attach(&mut client, TWIN, "twin:1").await;
    let (status, body) = twin.ask("GET", " ").await;
    assert_eq!(status, 200);
    let read: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(read, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    assert_eq!(twin.ask("PATCH", r#"{"a":1}"#).await, (204, String::new()));
    let (status, body) = twin.ask("PATCH", "[]").await;
    assert_eq!(status, 400);
    let error: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(error["errorCode"].as_u64().unwrap() > 0 && error["message"].is_string());
    assert_eq!(twin.ask("PUT", " ").await, (200, String::new()));
    hub.desire(&module(), json!({"speed": 7, "gone": null})).await;
    let patch = twin.next().await;
    assert!(patch.properties.is_none_or(|properties| properties.correlation_id.is_none()));
    let patch: serde_json::Value = serde_json::from_str(&text(&Message {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: None,
        application_properties: None,
        body: patch.body,
        footer: None,
    }))
    .unwrap();
    assert_eq!(patch, json!({"speed": 7, "gone": null, "$version": 2}));
    assert_eq!(twin.ask("DELETE", " ").await, (200, String::new()));
    hub.desire(&module(), json!({"speed": 8})).await;
    let (status, body) = twin.ask("GET", " ").await;
    assert_eq!(status, 200, "and no patch before it");
    assert!(body.contains("\"speed\":8"));
}

#[tokio::test]
async fn a_request_without_a_correlation_id_is_rejected() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut twin = Pair::attach(&mut client, TWIN, "twin:1").await;
    let outcome = soon(twin.sender.send(request(None, "GET", ""))).await.unwrap();
    assert!(says(&outcome, "argument-error"), "{outcome:?}");
    let id = Some(MessageId::String("x".to_owned()));
    let outcome = soon(twin.sender.send(request(id, "BREW", ""))).await.unwrap();
    assert!(says(&outcome, "argument-error"), "{outcome:?}");
    assert_eq!(twin.ask("GET", "").await.0, 200);
}

#[tokio::test]
async fn partners_of_another_pair_end() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut first = Pair::attach(&mut client, TWIN, "twin:1").await;
    let mut second = client.sender_as("other", TWIN, Some("twin:2")).await.unwrap();
    let ended = soon(first.sender.on_detach()).await;
    assert!(says(&ended, "stolen"), "the same kind is replaced: {ended:?}");
    let ended = soon(first.receiver.recv::<Body<Value>>()).await.unwrap_err();
    assert!(says(&ended, "stolen"), "the partner has another id: {ended:?}");
    let outcome = soon(second.send(request(None, "GET", ""))).await.unwrap();
    assert!(says(&outcome, "argument-error"), "{outcome:?}");
}

fn call(name: &str, seconds: u64) -> MethodCall {
    let body =
        json!({"methodName": name, "payload": {"n": 7}, "responseTimeoutInSeconds": seconds});
    MethodCall::from_json(body.to_string().as_bytes()).unwrap()
}

fn answer(id: MessageId, status: i32, body: &str) -> Message<Data> {
    let properties = Properties { correlation_id: Some(id), ..Properties::default() };
    Message::builder()
        .properties(properties)
        .application_properties(
            ApplicationProperties::builder().insert("IoThub-status", status).build(),
        )
        .data(body.as_bytes().to_vec())
        .build()
}

#[tokio::test]
async fn a_method_is_called_and_answered() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &module()).await;
    let mut methods = Pair::attach(&mut client, METHODS, "methods:1").await;
    let target = module();
    let calling = hub.hub.invoke(&target, call("ping", 10));
    let serving = async {
        let request = methods.next().await;
        assert_eq!(text(&request), r#"{"n":7}"#);
        let name = request.application_properties.unwrap().0.get("IoThub-methodname").cloned();
        assert_eq!(name, Some(SimpleValue::String("ping".to_owned())));
        let id = request.properties.unwrap().correlation_id.unwrap();
        assert!(matches!(id, MessageId::Uuid(_)), "{id:?}");
        // One that nobody asked for is dropped.
        let stray = MessageId::String("0123456789abcdef".to_owned());
        assert!(soon(methods.sender.send(answer(stray, 200, "1"))).await.unwrap().is_accepted());
        assert!(soon(methods.sender.send(answer(id, 201, "true"))).await.unwrap().is_accepted());
    };
    let (called, ()) = tokio::join!(soon(calling), serving);
    assert_eq!(called.unwrap(), MethodAnswer { status: 201, payload: "true".into() });
}

#[tokio::test]
async fn a_client_without_the_link_cannot_be_called() {
    let hub = TestHub::start().await;
    let mut client = Client::enter(&hub, &module()).await;
    let methods = Pair::attach(&mut client, METHODS, "methods:1").await;
    drop(methods);
    let gone = async {
        loop {
            match hub.hub.invoke(&module(), call("ping", 5)).await {
                Err(MethodError::NotConnected(_)) => break,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    soon(gone).await;
    let other = hub.hub.invoke(&leaf(), call("ping", 5)).await;
    assert!(matches!(other, Err(MethodError::NotFound(_))), "{other:?}");
}
