//! Devices that speak HTTP.

use super::{Answer, Port, device};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_core::command::NewCommand;
use weir_core::message::Message;
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};

const EVENTS: &str = "POST /devices/leaf/messages/events?api-version=2021-04-12";
const BOUND: &str = "/devices/leaf/messages/devicebound";

/// A device, and a queue for all it sends.
async fn open() -> Port {
    let port = Port::open().await;
    port.register(&device("leaf")).await;
    let route = json!({"route": "FROM /messages/* INTO $upstream"});
    assert_eq!(port.hub.put("/api/v1/routes/r", route).await.status, 201);
    port
}

async fn ask(port: &Port, request: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let token = port.token(&device("leaf"));
    let headers = [headers, &[("Authorization", token.as_str())]].concat();
    port.ask(request, &headers, body).await
}

/// The messages in the queue, as the control plane shows them.
async fn queued(port: &Port) -> Vec<serde_json::Value> {
    let path = "/api/v1/queues/iothub/messages";
    let answer = port.hub.get(path).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_message_with_its_properties_is_stored_before_it_is_answered() {
    let port = open().await;
    let headers = [
        ("iothub-to", "/devices/leaf/messages/events"),
        ("IoTHub-MessageId", "m1"),
        ("iothub-contenttype", "application/json"),
        ("iothub-app-Colour", "blue"),
    ];
    let answer = ask(&port, EVENTS, &headers, br#"{"h":1}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "{answer:?}");
    let [message] = &queued(&port).await[..] else { panic!("one message was sent") };
    let text = message.to_string();
    for part in ["m1", "colour", "blue", "leaf"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_body_in_pieces_of_unknown_number_is_one_message() {
    let port = open().await;
    let token = port.token(&device("leaf"));
    let head = format!(
        "{EVENTS} HTTP/1.1\r\nHost: hub.example\r\nAuthorization: {token}\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let mut stream = port.connect().await;
    for piece in [head.as_str(), "4\r\n{\"h\"\r\n", "3\r\n:1}\r\n", "0\r\n\r\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert!(answer.starts_with(b"HTTP/1.1 204"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(queued(&port).await.len(), 1);
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_batch_is_as_many_messages_and_keeps_the_case_of_names() {
    let port = open().await;
    let batch = json!([
        {"body": STANDARD.encode("one"), "properties": {"iothub-app-Level": "high"}},
        {"body": STANDARD.encode("two")},
        {"body": "three", "base64Encoded": false},
    ]);
    let kind = [("Content-Type", "application/vnd.microsoft.iothub.json; charset=utf-8")];
    let answer = ask(&port, EVENTS, &kind, batch.to_string().as_bytes()).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let messages = queued(&port).await;
    assert_eq!(messages.len(), 3);
    assert!(messages[0].to_string().contains("Level"), "{messages:?}");
    for bad in ["", "{}", "[]", r#"[{"body": "no base64!"}]"#, r#"[{"properties": {}}]"#] {
        let refused = ask(&port, EVENTS, &kind, bad.as_bytes()).await;
        assert_eq!(refused.refusal(), (400, "ArgumentInvalid".into()), "{bad}");
    }
    assert_eq!(queued(&port).await.len(), 3);
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn what_is_too_large_or_not_proven_is_refused() {
    let port = open().await;
    let large = vec![b'x'; 256 * 1024 + 1];
    assert_eq!(ask(&port, EVENTS, &[], &large).await.refusal(), (413, "MessageTooLarge".into()));
    let with_properties = [("iothub-app-a", "b")];
    let refused = ask(&port, EVENTS, &with_properties, &large[1..]).await;
    assert_eq!(refused.refusal(), (413, "MessageTooLarge".into()));
    assert_eq!(port.ask(EVENTS, &[], b"x").await.refusal().0, 401);
    let another = "POST /devices/edge/messages/events";
    assert_eq!(ask(&port, another, &[], b"x").await.refusal().0, 401);
    assert_eq!(queued(&port).await.len(), 0);
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn uploading_files_is_refused_at_once() {
    let port = open().await;
    for path in ["/devices/leaf/files?api-version=2019-10-01", "/devices/leaf/files/notifications"]
    {
        let refused = ask(&port, &format!("POST {path}"), &[], b"{}").await;
        assert_eq!(refused.refusal(), (404, "NotFound".into()), "{path}");
    }
    port.hub.hub.tasks().stop().drain();
}

async fn send_command(port: &Port, body: &'static str) {
    let mut properties = PropertiesBuilder::default();
    properties.push(Key::Application("k"), Some("v")).unwrap();
    properties.push(Key::System(SystemProperty::MessageId), Some("c2d-1")).unwrap();
    let message = Message { body: body.into(), properties: properties.build(), output: None };
    let command = NewCommand { message, expires: None };
    let hub = &port.hub.hub;
    hub.commands().send(hub, &device("leaf"), command).await.unwrap();
}

/// The lock of the next command, which must be this one.
async fn receive(port: &Port, body: &str) -> String {
    let answer = ask(port, &format!("GET {BOUND}?api-version=2021-04-12"), &[], b"").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, body), "{answer:?}");
    assert_eq!(answer.header("iothub-app-k"), "v");
    assert_eq!(answer.header("iothub-messageid"), "c2d-1");
    answer.header("etag").trim_matches('"').to_owned()
}

#[tokio::test]
async fn commands_are_polled_under_a_lock_and_settled_by_it() {
    let port = open().await;
    let nothing = ask(&port, &format!("GET {BOUND}"), &[], b"").await;
    assert_eq!(nothing.status, 204);
    for body in ["first", "second"] {
        send_command(&port, body).await;
    }
    let settle = async |request: String| ask(&port, &request, &[], b"").await;
    let lock = receive(&port, "first").await;
    assert_eq!(settle(format!("POST {BOUND}/{lock}/abandon?api-version=1")).await.status, 204);
    let lock = receive(&port, "first").await;
    assert_eq!(settle(format!("DELETE {BOUND}/{lock}?api-version=1")).await.status, 204);
    let again = settle(format!("DELETE {BOUND}/{lock}")).await;
    assert_eq!(again.refusal(), (412, "DeviceMessageLockLost".into()));
    let lock = receive(&port, "second").await;
    assert_eq!(settle(format!("DELETE {BOUND}/{lock}?api-version=1&reject")).await.status, 204);
    assert_eq!(ask(&port, &format!("GET {BOUND}"), &[], b"").await.status, 204);
    let nonsense = settle(format!("DELETE {BOUND}/nonsense")).await;
    assert_eq!(nonsense.refusal(), (412, "DeviceMessageLockLost".into()));
    port.hub.hub.tasks().stop().drain();
}
