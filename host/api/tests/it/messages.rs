//! Queues, dead letters, explanations, the upstream.

use crate::support::TestHub;
use serde_json::{Value, json};

async fn with_queue() -> TestHub {
    let hub = TestHub::start().await;
    hub.put("/api/v1/routes/to-cloud", json!({"route": "FROM /messages/* INTO $upstream"})).await;
    hub.put("/api/v1/devices/pump", json!({})).await;
    hub
}

#[tokio::test]
async fn a_queue_shows_its_messages_and_their_inside_only_to_those_who_may_read_it() {
    let hub = with_queue().await;
    hub.send("pump", &["one", "two", &"x".repeat(5_000)]).await;
    let queue = hub.get("/api/v1/queues/iothub").await;
    assert_eq!(queue.json["messages"], 3);
    assert_eq!(queue.json["whenFull"], "drop-oldest");
    assert_eq!(hub.get("/api/v1/queues/$upstream").await.json["name"], "iothub");
    let page = hub.get("/api/v1/queues/iothub/messages").await;
    let items = page.json["items"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert_eq!(items[0]["route"], "to-cloud");
    assert_eq!(items[0]["state"], "waiting");
    assert_eq!(items[0]["message"]["sender"], "pump");
    assert_eq!(items[0]["message"]["content"]["body"], "one");
    let long = &items[2]["message"]["content"];
    assert_eq!(
        (long["truncated"].clone(), long["body"].as_str().unwrap().len()),
        (json!(true), 4096)
    );
    let reader = hub.token(&["queues:read"]).await;
    let outside = hub.call("GET", "/api/v1/queues/iothub/messages").token(&reader).send().await;
    assert_eq!(outside.json["items"][0]["message"]["bodyBytes"], 3);
    assert!(!outside.text.contains("\"one\""), "{outside:?}");
    let first = hub.get("/api/v1/queues/iothub/messages?limit=2").await;
    let next = first.json["next"].as_str().unwrap();
    let second = hub.get(&format!("/api/v1/queues/iothub/messages?limit=2&cursor={next}")).await;
    assert_eq!(second.json["items"][0]["message"]["bodyBytes"], 5_000);
    let many = hub.get("/api/v1/queues/iothub/messages?limit=101").await;
    assert_eq!(many.refusal(), (400, "invalid-request"));
    assert_eq!(hub.get("/api/v1/queues/nothing").await.refusal(), (404, "not-found"));
    let purged = hub.call("POST", "/api/v1/queues/iothub/purges").send().await;
    assert_eq!((purged.status, &purged.json["removed"]), (200, &json!(3)));
    assert_eq!(hub.get("/api/v1/queues/iothub").await.json["messages"], 0);
}

#[tokio::test]
async fn a_name_with_slashes_is_written_with_percent_signs() {
    let hub = with_queue().await;
    hub.install("filter", crate::support::DROP).await;
    let path = "/api/v1/queues/edge%2Ffilter%2Fin";
    hub.until(path, |queue| queue["name"] == "edge/filter/in").await;
}

async fn with_dead_letters() -> TestHub {
    let hub = TestHub::start().await;
    hub.install("filter", b"\0asm reject").await;
    let route = "FROM /messages/* INTO BrokeredEndpoint(\"/modules/filter/inputs/in\")";
    hub.put("/api/v1/routes/to-filter", json!({"route": route})).await;
    hub.put("/api/v1/devices/pump", json!({})).await;
    hub.send("pump", &["a", "b", "c"]).await;
    let three = |list: &Value| list["items"].as_array().unwrap().len() == 3;
    hub.until("/api/v1/dead-letters", three).await;
    hub
}

#[tokio::test]
async fn dead_letters_are_shown_deleted_and_replayed() {
    let hub = with_dead_letters().await;
    let list = hub.get("/api/v1/dead-letters?queue=edge%2Ffilter%2Fin").await;
    let first = &list.json["items"][0];
    assert_eq!(first["reason"], "not wanted");
    assert_eq!(first["code"], "unwanted");
    assert_eq!(first["queue"], "edge/filter/in");
    assert_eq!(first["message"]["content"]["body"], "a");
    assert!(first["moduleDigest"].as_str().unwrap().starts_with("sha256:"));
    let id = first["id"].as_u64().unwrap();
    let path = format!("/api/v1/dead-letters/{id}");
    assert_eq!(hub.get(&path).await.json["id"], id);
    let reader = hub.token(&["queues:read"]).await;
    let outside = hub.call("GET", &path).token(&reader).send().await;
    assert!(outside.json["message"]["content"].is_null(), "{outside:?}");

    // The next version takes what the old one rejected.
    let drop = hub.upload(crate::support::DROP).await;
    hub.post("/api/v1/modules/filter/swaps", json!({"component": drop})).await;
    let replayed = hub.call("POST", &format!("{path}/replays")).send().await;
    assert_eq!(replayed.status, 200, "{replayed:?}");
    assert_eq!(replayed.json["replayed"][0]["deadLetter"], id);
    let message = replayed.json["replayed"][0]["message"].as_str().unwrap();
    assert_eq!(hub.get(&path).await.refusal(), (404, "not-found"));
    let gone = hub.call("POST", &format!("{path}/replays")).send().await;
    assert_eq!(gone.refusal(), (404, "not-found"));
    hub.until("/api/v1/modules/filter", |module| module["counters"]["dropped"] == 1).await;
    assert_eq!(message.len(), 16);

    let rest = hub.post("/api/v1/replays", json!({"limit": 1})).await;
    assert_eq!(
        (&rest.json["more"], rest.json["replayed"].as_array().unwrap().len()),
        (&json!(true), 1)
    );
    let rest = hub.post("/api/v1/replays", json!({"queue": "edge/filter/in"})).await;
    assert_eq!(
        (&rest.json["more"], rest.json["replayed"].as_array().unwrap().len()),
        (&json!(false), 1)
    );
    let none = hub.post("/api/v1/replays", json!({})).await;
    assert_eq!(none.json["replayed"], json!([]));
    hub.until("/api/v1/modules/filter", |module| module["counters"]["dropped"] == 3).await;
    assert_eq!(hub.get("/api/v1/dead-letters").await.json["items"], json!([]));
}

#[tokio::test]
async fn replaying_by_ids_is_all_or_none() {
    let hub = with_dead_letters().await;
    let list = hub.get("/api/v1/dead-letters").await;
    let ids: Vec<u64> = list.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_u64().unwrap())
        .collect();
    let unknown = hub.post("/api/v1/replays", json!({"ids": [ids[0], 999]})).await;
    assert_eq!(unknown.refusal(), (404, "not-found"));
    assert_eq!(hub.get(&format!("/api/v1/dead-letters/{}", ids[0])).await.status, 200);
    let both = hub.post("/api/v1/replays", json!({"ids": ids, "queue": "iothub"})).await;
    assert_eq!(both.refusal(), (400, "invalid-request"));
    let path = format!("/api/v1/dead-letters/{}", ids[0]);
    assert_eq!(hub.delete(&path).await.status, 204);
    assert_eq!(hub.delete(&path).await.refusal(), (404, "not-found"));
    assert_eq!(hub.get("/api/v1/dead-letters/abc").await.refusal(), (422, "invalid-name"));
}

#[tokio::test]
async fn every_message_is_explained_by_number_by_its_own_id_and_as_the_last() {
    let hub = with_queue().await;
    let none = hub.get("/api/v1/messages/last/explanation").await;
    assert_eq!(none.refusal(), (404, "message-not-kept"));
    hub.send("pump", &["one"]).await;
    let last = hub.get("/api/v1/messages/last/explanation").await;
    assert_eq!(last.status, 200, "{last:?}");
    assert_eq!(last.json["sender"], "pump");
    assert_eq!(last.json["routes"][0]["matched"], "true");
    assert_eq!(last.json["places"][0]["queue"], "iothub");
    let id = last.json["id"].as_str().unwrap();
    let path = format!("/api/v1/messages/{id}/explanation");
    assert_eq!(hub.get(&path).await.json, last.json);
    let hub = hub.restart().await;
    let again = hub.get(&path).await;
    assert_eq!(
        again.json["summary"], last.json["summary"],
        "stored messages are explained for ever"
    );
    for unknown in ["00000000000000ff", "my-own-id", "%F0%9F%A6%80", &"a".repeat(500)] {
        let answer = hub.get(&format!("/api/v1/messages/{unknown}/explanation")).await;
        assert_eq!(answer.refusal(), (404, "message-not-kept"), "{unknown}");
    }
}

#[tokio::test]
async fn the_link_to_the_upstream_can_be_cut() {
    let hub = with_queue().await;
    let shown = hub.get("/api/v1/upstream").await;
    assert_eq!((&shown.json["kind"], &shown.json["waiting"]), (&json!("none"), &json!(0)));
    let patch = |body: Value| hub.call("PATCH", "/api/v1/upstream").json(&body);
    assert_eq!(patch(json!({"paused": true})).send().await.status, 200);
    for body in [json!({}), json!({"paused": "yes"}), json!({"paused": true, "kind": "file"})] {
        assert_eq!(patch(body).send().await.refusal(), (400, "invalid-request"));
    }
}
