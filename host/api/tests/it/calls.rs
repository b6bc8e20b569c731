//! Method calls, commands, keys and presence over the API.

use crate::support::TestHub;
use bytes::Bytes;
use serde_json::json;
use weir_core::command::Settlement;
use weir_core::id::Identity;
use weir_core::method::MethodAnswer;
use weir_hub::Session;
use weir_hub::authenticate::{Credentials, Proven, make_token};

fn pump() -> Identity {
    Identity::device("pump-1".parse().unwrap())
}

async fn hub_with_pump() -> (TestHub, Session) {
    let hub = TestHub::start().await;
    hub.put("/api/v1/devices/pump-1", json!({})).await;
    let session = hub.hub.connect(Proven::trusted(pump()), "mqtt", "192.0.2.7:1").unwrap();
    (hub, session)
}

#[tokio::test]
async fn a_call_gives_the_clients_answer_as_it_wrote_it() {
    let (hub, session) = hub_with_pump().await;
    let mut requests = session.take_methods();
    let answering = async {
        let request = requests.next().await;
        assert_eq!((request.name.as_str(), &*request.payload), ("poke", &br#"{"b":1,"a":2}"#[..]));
        let payload = Bytes::from_static(br#"{"z":1.10,"a":18446744073709551616}"#);
        assert!(session.answer_method(request.id, MethodAnswer { status: 418, payload }));
    };
    let body = r#"{"deviceId":"pump-1","methodName":"poke","payload":{"b":1,"a":2}}"#;
    let calling = hub
        .call("POST", "/api/v1/method-calls")
        .header("content-type", "application/json")
        .body(body.as_bytes())
        .send();
    let (answer, ()) = tokio::join!(calling, answering);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.text, r#"{"status":418,"payload":{"z":1.10,"a":18446744073709551616}}"#);
}

#[tokio::test]
async fn a_call_without_an_answer_says_why() {
    let (hub, _session) = hub_with_pump().await;
    for (body, expected) in [
        (json!({"deviceId": "nobody", "methodName": "m"}), (404, "not-found")),
        (json!({"deviceId": "pump-1", "methodName": "m"}), (404, "not-connected")),
        (json!({"deviceId": "pump-1", "methodName": ""}), (400, "invalid-request")),
        (json!({"deviceId": "pump-1"}), (400, "invalid-request")),
        (
            json!({"deviceId": "pump-1", "methodName": "m", "responseTimeoutInSeconds": 4}),
            (400, "invalid-request"),
        ),
        (
            json!({"deviceId": "pump-1", "methodName": "m", "connectTimeoutInSeconds": 301}),
            (400, "invalid-request"),
        ),
        (json!({"deviceId": "pump-1", "methodName": "m", "other": 1}), (400, "invalid-request")),
    ] {
        let answer = hub.call("POST", "/api/v1/method-calls").json(&body).send().await;
        assert_eq!(answer.refusal(), expected, "{body}");
    }
    let reader = hub.token(&["methods:read", "devices:admin"]).await;
    let body = json!({"deviceId": "pump-1", "methodName": "m"});
    let call = hub.call("POST", "/api/v1/method-calls").json(&body).token(&reader);
    assert_eq!(call.send().await.refusal(), (403, "forbidden"));
}

#[tokio::test]
async fn a_command_is_sent_listed_taken_and_purged() {
    let (hub, session) = hub_with_pump().await;
    let path = "/api/v1/devices/pump-1/commands";
    let body = json!({
        "body": {"valve": "close"}, "contentType": "application/json", "messageId": "c-1",
        "ack": "full", "expiresInSecs": 60, "properties": {"urgent": "yes"}
    });
    let sent = hub.call("POST", path).json(&body).send().await;
    assert_eq!((sent.status, &sent.json["messageId"]), (201, &json!("c-1")), "{sent:?}");
    let second = hub.call("POST", path).json(&json!({"bodyBase64": "/w=="})).send().await;
    assert_eq!(second.status, 201);
    let list = hub.get(path).await;
    let items = list.json["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{list:?}");
    assert_eq!((&items[0]["state"], &items[0]["deliveries"]), (&json!("waiting"), &json!(0)));
    assert_eq!(items[0]["message"]["content"]["body"], r#"{"valve":"close"}"#);
    let blind = hub.token(&["commands:read"]).await;
    let shown = hub.call("GET", path).token(&blind).send().await;
    assert!(!shown.text.contains("valve"), "{shown:?}");
    let mut commands = session.take_commands();
    let next = commands.next().await;
    assert_eq!(next.message.properties().application("urgent"), Some(Some("yes")));
    commands.settle(next.lock, Settlement::Complete).await.unwrap();
    let gone = hub.delete(path).await;
    assert_eq!((gone.status, &gone.json["removed"]), (200, &json!(1)));
    for (body, expected) in [
        (json!({"body": 1, "bodyBase64": ""}), (400, "invalid-request")),
        (json!({"bodyBase64": "?"}), (400, "invalid-request")),
        (json!({"ack": "maybe"}), (400, "invalid-request")),
        (json!({"expiresInSecs": 0}), (422, "command-expiry")),
        (json!({"expiresInSecs": u64::MAX}), (422, "command-expiry")),
        (json!({"body": "x".repeat(65_536)}), (413, "too-large")),
    ] {
        let refused = hub.call("POST", path).json(&body).send().await;
        assert_eq!(refused.refusal(), expected);
    }
    let unknown = hub.call("POST", "/api/v1/devices/nobody/commands").json(&json!({}));
    assert_eq!(unknown.send().await.refusal(), (404, "not-found"));
    for _ in 0..50 {
        assert_eq!(hub.call("POST", path).json(&json!({})).send().await.status, 201);
    }
    let full = hub.call("POST", path).json(&json!({})).send().await;
    assert_eq!(full.refusal(), (507, "queue-full"));
}

#[tokio::test]
async fn a_key_is_exchanged_and_only_who_came_with_it_leaves() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/devices/pump-1", json!({})).await;
    let path = "/api/v1/devices/pump-1/keys";
    let before = hub.get(path).await;
    let connect = |key: &str| {
        let resource = weir_core::sas::resource_of("hub.example", &pump());
        let expires = hub.hub.clock().now().after(std::time::Duration::from_secs(600));
        let token = make_token(&key.parse().unwrap(), &resource, expires, None);
        let proven = hub.hub.authenticate(&pump(), Credentials::of(Some(&token), &[])).unwrap();
        hub.hub.connect(proven, "mqtt", "here").unwrap()
    };
    let session = connect(before.json["secondaryKey"].as_str().unwrap());
    let rotate = |which: &str| hub.call("POST", path).json(&json!({ "rotate": which }));
    let after = rotate("primary").send().await;
    assert_eq!(after.status, 200, "{after:?}");
    assert_ne!(after.json["primaryKey"], before.json["primaryKey"]);
    assert_eq!(after.json["secondaryKey"], before.json["secondaryKey"]);
    let moment = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, session.left()).await.is_err(), "it stays");
    let stale = rotate("both").header("if-match", "\"1\"").send().await;
    assert_eq!(stale.refusal(), (412, "version-mismatch"));
    assert_eq!(rotate("secondary").send().await.status, 200);
    assert!(tokio::time::timeout(moment, session.left()).await.is_ok(), "it leaves");
    let writer = hub.token(&["devices:write"]).await;
    assert_eq!(rotate("both").token(&writer).send().await.refusal(), (403, "forbidden"));
    let none = json!({"authentication": {"type": "certificateAuthority"}});
    hub.put("/api/v1/devices/pump-1", none).await;
    assert_eq!(hub.get(path).await.refusal(), (409, "conflict"));
}

#[tokio::test]
async fn who_left_is_listed_with_the_time() {
    let (hub, session) = hub_with_pump().await;
    let shown = hub.get("/api/v1/devices/pump-1").await;
    assert_eq!(shown.json["presence"]["connected"], true, "{shown:?}");
    drop(session);
    assert_eq!(hub.get("/api/v1/clients").await.json["items"], json!([]));
    for state in ["disconnected", "all"] {
        let list = hub.get(&format!("/api/v1/clients?state={state}")).await;
        let item = &list.json["items"][0];
        assert_eq!((&item["deviceId"], &item["connected"]), (&json!("pump-1"), &json!(false)));
        assert!(item["left"].is_string() && item["peer"].is_null(), "{list:?}");
    }
    assert_eq!(hub.get("/api/v1/clients?state=x").await.refusal(), (400, "invalid-request"));
}
