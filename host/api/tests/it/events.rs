//! What happens in the hub, as it is told over `/api/v1/events`.

use crate::support::TestHub;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

/// A stream of events, read as text.
struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

impl Stream {
    async fn open(hub: &TestHub, path: &str, last: Option<&str>) -> Self {
        let mut request =
            Request::get(path).header("authorization", format!("Bearer {}", hub.admin));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = hub.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event: its name, and what it says.
    async fn next(&mut self) -> (String, Value) {
        let found = tokio::time::timeout(Duration::from_secs(10), self.find()).await;
        found.expect("an event comes").expect("the stream goes on")
    }

    async fn find(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
                };
                let found = field("event:").map(|event| {
                    let data = serde_json::from_str(field("data:").unwrap()).unwrap();
                    (event.to_owned(), data)
                });
                self.text = rest.to_owned();
                match found {
                    Some(found) => return Some(found),
                    None => continue,
                }
            }
            let bytes = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

#[tokio::test]
async fn a_change_is_told_with_its_author_and_who_comes_back_goes_on_behind_it() {
    let hub = TestHub::start().await;
    let mut stream = Stream::open(&hub, "/api/v1/events?topics=audit", None).await;
    assert_eq!(hub.put("/api/v1/devices/pump", json!({})).await.status, 201);
    let (topic, told) = stream.next().await;
    assert_eq!(topic, "audit");
    assert_eq!(told["what"], "put");
    assert_eq!(told["subject"], "/api/v1/devices/pump");
    assert_eq!(told["data"]["status"], 201);
    let token = hub.admin.split('_').nth(1).unwrap();
    assert_eq!(told["data"]["token"], token);
    drop(stream);

    assert_eq!(hub.delete("/api/v1/devices/pump").await.status, 204);
    assert_eq!(hub.delete("/api/v1/devices/pump").await.status, 404);
    let id = told["id"].as_str().unwrap();
    let mut stream = Stream::open(&hub, "/api/v1/events?topics=audit", Some(id)).await;
    let (_, told) = stream.next().await;
    assert_eq!((&told["what"], &told["data"]["status"]), (&"delete".into(), &204.into()));
    assert_eq!(stream.next().await.1["data"]["status"], 404);
}

#[tokio::test]
async fn after_a_restart_the_stream_says_that_events_are_missing() {
    let hub = TestHub::start().await.restart().await;
    let mut stream = Stream::open(&hub, "/api/v1/events?topics=audit", Some("1-1")).await;
    assert_eq!(stream.next().await.0, "lost");
    assert_eq!(hub.put("/api/v1/devices/pump", json!({})).await.status, 201);
    assert_eq!(stream.next().await.1["id"].as_str().unwrap().split('-').next(), Some("2"));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let hub = TestHub::start().await;
    let token = hub.token(&["events:read"]).await;
    let request = Request::get("/api/v1/events")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::empty())
        .unwrap();
    let response = hub.router.clone().oneshot(request).await.unwrap();
    let mut theirs = Stream { body: response.into_body().into_data_stream(), text: String::new() };
    let id = token.split('_').nth(1).unwrap();
    assert_eq!(hub.delete(&format!("/api/v1/tokens/{id}")).await.status, 204);
    let ended = tokio::time::timeout(Duration::from_secs(10), async {
        while theirs.find().await.is_some() {}
    });
    ended.await.expect("the stream ends with the next event");
}

#[tokio::test]
async fn what_is_no_topic_and_no_event_is_refused() {
    let hub = TestHub::start().await;
    for path in ["/api/v1/events?topics=weather", "/api/v1/events?after=yesterday"] {
        assert_eq!(hub.get(path).await.status, 400);
    }
    let answer = hub.call("GET", "/api/v1/events").header("last-event-id", "x").send().await;
    assert_eq!(answer.refusal(), (400, "invalid-request"));
}

#[tokio::test]
async fn only_the_topics_asked_for_come() {
    let hub = TestHub::start().await;
    let mut stream = Stream::open(&hub, "/api/v1/events?topics=client", None).await;
    hub.hub.tell(weir_hub::Topic::Link, "up", "upstream", json!({}));
    hub.hub.tell(weir_hub::Topic::Client, "connected", "pump", json!({"protocol": "mqtt"}));
    assert_eq!(stream.next().await.1["data"]["protocol"], "mqtt");
}
