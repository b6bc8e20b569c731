//! Tokens of the API.

use crate::support::TestHub;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_token_is_shown_once_and_works_until_it_is_deleted() {
    let hub = TestHub::start().await;
    let body = json!({"name": "ci", "scopes": ["routes:read"]});
    let made = hub.post("/api/v1/tokens", body).await;
    assert_eq!(made.status, 201);
    let (text, id) = (made.json["token"].as_str().unwrap(), made.json["id"].as_str().unwrap());
    assert_eq!(made.header("location"), format!("/api/v1/tokens/{id}"));
    assert!(text.starts_with(&format!("weir_{id}_")));
    assert!(text.len() - id.len() - 6 >= 43, "256 bits");
    let as_ci = async |path: &str| hub.call("GET", path).token(text).send().await;
    assert_eq!(as_ci("/api/v1/routes").await.status, 200);
    let shown = hub.get(&format!("/api/v1/tokens/{id}")).await;
    assert!(!shown.text.contains(text) && shown.json["token"].is_null(), "{shown:?}");
    assert_eq!(shown.json["lastUsed"], "2026-05-04T10:00:00Z");
    let list = hub.get("/api/v1/tokens").await;
    assert_eq!(list.json["items"].as_array().unwrap().len(), 2);
    assert!(!list.text.contains(text));
    assert_eq!(hub.delete(&format!("/api/v1/tokens/{id}")).await.status, 204);
    assert_eq!(as_ci("/api/v1/routes").await.refusal(), (401, "unauthorized"));
    assert_eq!(hub.delete(&format!("/api/v1/tokens/{id}")).await.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn a_token_ends_when_its_time_is_over() {
    let hub = TestHub::start().await;
    let body = json!({"name": "short", "scopes": ["routes:read"], "expiresInSecs": 60});
    let made = hub.post("/api/v1/tokens", body).await;
    assert_eq!(made.json["expires"], "2026-05-04T10:01:00Z");
    let text = made.json["token"].as_str().unwrap();
    hub.clock.advance(Duration::from_secs(59));
    assert_eq!(hub.call("GET", "/api/v1/routes").token(text).send().await.status, 200);
    hub.clock.advance(Duration::from_secs(1));
    let late = hub.call("GET", "/api/v1/routes").token(text).send().await;
    assert_eq!(late.refusal(), (401, "unauthorized"));
    assert!(late.json["detail"].as_str().unwrap().contains("expired"));
}

#[tokio::test]
async fn nobody_makes_a_token_that_allows_more_than_his_own() {
    let hub = TestHub::start().await;
    let limited = hub.token(&["tokens:admin", "routes:write"]).await;
    let make = async |scopes: &[&str]| {
        let call = hub.call("POST", "/api/v1/tokens").token(&limited);
        call.json(&json!({"name": "x", "scopes": scopes})).send().await
    };
    assert_eq!(make(&["routes:read", "tokens:admin"]).await.status, 201);
    for scopes in
        [&["routes:admin"][..], &["devices:read"], &["*:read"], &["routes:read", "*:admin"]]
    {
        let answer = make(scopes).await;
        assert_eq!(answer.refusal(), (403, "forbidden"), "{scopes:?}");
        assert_eq!(answer.json["errors"][0]["pointer"], "/scopes");
    }
}

#[tokio::test]
async fn a_token_without_name_scope_or_future_is_refused() {
    let hub = TestHub::start().await;
    for body in [
        json!({"name": "", "scopes": ["routes:read"]}),
        json!({"name": "x".repeat(129), "scopes": ["routes:read"]}),
        json!({"name": "x", "scopes": []}),
        json!({"name": "x", "scopes": ["routes"]}),
        json!({"name": "x", "scopes": ["cheese:read"]}),
        json!({"name": "x", "scopes": ["routes:read"], "expiresInSecs": 0}),
        json!({"name": "x", "scopes": ["routes:read"], "admin": true}),
        json!({"scopes": ["routes:read"]}),
    ] {
        let answer = hub.post("/api/v1/tokens", body.clone()).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"), "{body}");
    }
}

#[tokio::test]
async fn tokens_survive_a_restart_and_their_secrets_are_not_on_disk() {
    let hub = TestHub::start().await;
    let token = hub.token(&["routes:read"]).await;
    let hub = hub.restart().await;
    assert_eq!(hub.call("GET", "/api/v1/routes").token(&token).send().await.status, 200);
    let again = hub.hub.tokens().ensure_admin(&hub.hub, true).await.unwrap();
    let again = again.expect("the text was lost, so there is a new one").to_string();
    assert_eq!(hub.get("/api/v1/routes").await.refusal(), (401, "unauthorized"), "the lost one");
    assert_eq!(hub.call("GET", "/api/v1/routes").token(&again).send().await.status, 200);
    let secret = token.splitn(3, '_').nth(2).unwrap();
    let secret = &secret[secret.len().saturating_sub(16)..];
    // The log's index goes when the last connection closes.
    let files: Vec<_> =
        hub.store_files().into_iter().filter_map(|file| std::fs::read(file).ok()).collect();
    assert!(!files.is_empty());
    let has_it =
        |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
    assert!(!files.iter().any(has_it));
}
