//! What holds for all resources: tags, pages, repeats, problems.

use crate::support::TestHub;
use serde_json::{Value, json};
use std::time::Duration;

const TO_CLOUD: &str = "FROM /messages/* INTO $upstream";

#[tokio::test]
async fn a_change_by_an_old_tag_is_refused_with_the_present_one() {
    let hub = TestHub::start().await;
    let route = json!({"route": TO_CLOUD});
    let made = hub.put("/api/v1/routes/r", route.clone()).await;
    let old = made.header("etag").to_owned();
    assert!(old.starts_with('"') && old.ends_with('"'), "{old}");
    let change = |tag: String| {
        let call = hub.call("PUT", "/api/v1/routes/r").json(&route);
        call.header("if-match", &tag)
    };
    let changed = change(old.clone()).send().await;
    assert_eq!(changed.status, 200);
    let new = changed.header("etag").to_owned();
    assert_ne!(new, old);
    let late = change(old.clone()).send().await;
    assert_eq!(late.refusal(), (412, "version-mismatch"));
    assert_eq!(late.header("etag"), new);
    assert_eq!(change(format!("W/{new}")).send().await.refusal(), (412, "version-mismatch"));
    assert_eq!(change("x".into()).send().await.refusal(), (400, "invalid-request"));
    let delete = hub.call("DELETE", "/api/v1/routes/r").header("if-match", &old).send().await;
    assert_eq!(delete.refusal(), (412, "version-mismatch"));
    let delete = hub.call("DELETE", "/api/v1/routes/r").header("if-match", &new).send().await;
    assert_eq!(delete.status, 204);
    assert_eq!(change("*".into()).send().await.refusal(), (412, "version-mismatch"));
}

#[tokio::test]
async fn creating_only_does_not_replace() {
    let hub = TestHub::start().await;
    hub.upload(crate::support::DROP).await;
    let digest = weir_hub::digest_of(crate::support::DROP).to_string();
    for (path, body) in [
        ("/api/v1/routes/r", json!({"route": TO_CLOUD})),
        ("/api/v1/devices/d", json!({})),
        ("/api/v1/devices/d/modules/m", json!({})),
        ("/api/v1/modules/w", json!({"type": "wasm", "component": digest})),
    ] {
        let create = async || {
            let call = hub.call("PUT", path).json(&body);
            call.header("if-none-match", "*").send().await
        };
        assert_eq!(create().await.status, 201, "{path}");
        let again = create().await;
        assert_eq!(again.refusal(), (412, "version-mismatch"), "{path}");
        assert_eq!(again.header("etag"), hub.get(path).await.header("etag"), "{path}");
    }
}

#[tokio::test]
async fn who_has_the_present_version_is_told_so() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/routes/r", json!({"route": TO_CLOUD})).await;
    for path in ["/api/v1/routes/r", "/api/v1/routes", "/openapi.json"] {
        let first = hub.get(path).await;
        let tag = first.header("etag").to_owned();
        assert!(!tag.is_empty(), "{path}");
        if path == "/openapi.json" {
            continue;
        }
        let again = hub.call("GET", path).header("if-none-match", &tag).send().await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), tag);
        let head = hub.call("HEAD", path).send().await;
        assert_eq!((head.status, head.header("etag"), head.text.as_str()), (200, tag.as_str(), ""));
    }
}

#[tokio::test]
async fn pages_of_every_list_give_each_item_once() {
    let hub = TestHub::start().await;
    for number in 0..7 {
        let route = json!({"route": format!("FROM /messages/* INTO BrokeredEndpoint(\"/modules/m/inputs/i{number}\")")});
        assert_eq!(hub.put(&format!("/api/v1/routes/r{number}"), route).await.status, 201);
        hub.put(&format!("/api/v1/devices/d{number}"), json!({})).await;
        hub.put(&format!("/api/v1/devices/d0/modules/m{number}"), json!({})).await;
        hub.token(&["routes:read"]).await;
        hub.install(&format!("w{number}"), format!("\0asm drop {number}").as_bytes()).await;
    }
    for (list, key) in [
        ("/api/v1/routes", "name"),
        ("/api/v1/devices", "deviceId"),
        ("/api/v1/devices/d0/modules", "moduleId"),
        ("/api/v1/tokens", "id"),
        ("/api/v1/queues", "name"),
        ("/api/v1/modules", "name"),
        ("/api/v1/artifacts", "digest"),
        ("/api/v1/service-policies", "name"),
    ] {
        let whole = hub.get(list).await;
        let all: Vec<Value> = keys(&whole.json, key);
        assert!(all.len() >= 2 && whole.json["next"].is_null(), "{list}: {whole:?}");
        let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
        loop {
            let page = hub.get(&format!("{list}{query}")).await;
            assert!(page.json["items"].as_array().unwrap().len() <= 2);
            seen.extend(keys(&page.json, key));
            let Some(next) = page.json["next"].as_str() else { break };
            assert!(page.header("link").contains(next), "{list}");
            query = format!("?limit=2&cursor={next}");
        }
        assert_eq!(seen, all, "{list}");
        for bad in [
            "?limit=0",
            "?limit=1001",
            "?limit=-1",
            "?limit=x",
            "?cursor=%21",
            "?page=2",
            "?limit=1&limit=2",
        ] {
            let answer = hub.get(&format!("{list}{bad}")).await;
            assert_eq!(answer.refusal(), (400, "invalid-request"), "{list}{bad}");
        }
    }
}

fn keys(page: &Value, key: &str) -> Vec<Value> {
    page["items"].as_array().unwrap().iter().map(|item| item[key].clone()).collect()
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_answer_and_does_nothing() {
    let hub = TestHub::start().await;
    let body = json!({"name": "ci", "scopes": ["routes:read"]});
    let make = |key: &str, body: &Value| {
        hub.call("POST", "/api/v1/tokens").header("idempotency-key", key).json(body)
    };
    let first = make("one", &body).send().await;
    let again = make("one", &body).send().await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(again.json["id"], first.json["id"]);
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert!(again.json["token"].is_null(), "a secret is shown once");
    let other = make("one", &json!({"name": "x", "scopes": ["routes:read"]})).send().await;
    assert_eq!(other.refusal(), (422, "idempotency-mismatch"));
    let second = make("two", &body).send().await;
    assert_ne!(second.json["id"], first.json["id"]);
    let limited = hub.token(&["tokens:admin", "routes:read"]).await;
    let elsewhere = make("one", &body).token(&limited).send().await;
    assert_eq!(elsewhere.header("idempotency-replayed"), "", "a key belongs to a token");
    let hub = hub.restart().await;
    let make = || hub.call("POST", "/api/v1/tokens").header("idempotency-key", "one").json(&body);
    assert_eq!(make().send().await.json["id"], first.json["id"], "also after a restart");
    hub.clock.advance(Duration::from_secs(24 * 3600));
    assert_ne!(make().send().await.json["id"], first.json["id"], "for a day");
    for key in ["", &"k".repeat(256)] {
        let call = hub.call("POST", "/api/v1/tokens").header("idempotency-key", key).json(&body);
        assert_eq!(call.send().await.refusal(), (400, "invalid-request"));
    }
}

#[tokio::test]
async fn a_refusal_is_kept_for_its_key_too() {
    let hub = TestHub::start().await;
    let bad = json!({"name": "", "scopes": ["routes:read"]});
    let call = || hub.call("POST", "/api/v1/tokens").header("idempotency-key", "k").json(&bad);
    assert_eq!(call().send().await.refusal(), (400, "invalid-request"));
    let again = call().send().await;
    assert_eq!(again.refusal(), (400, "invalid-request"));
    assert_eq!(again.header("idempotency-replayed"), "true");
}

#[tokio::test]
async fn a_problem_names_its_page_place_and_trace() {
    let hub = TestHub::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let call =
        hub.call("PUT", "/api/v1/routes/r").json(&json!({"route": "FROM /messages/* INOT x"}));
    let answer =
        call.header("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")).send().await;
    assert_eq!(answer.refusal(), (422, "route-syntax"));
    assert_eq!(answer.json["type"], "/docs/errors/route-syntax");
    assert_eq!(answer.json["instance"], "/api/v1/routes/r");
    assert_eq!(answer.json["trace_id"], trace);
    assert_eq!(answer.json["column"], 18);
    assert_eq!(answer.json["errors"][0]["pointer"], "/route");
    assert_eq!(answer.json["errors"][0]["column"], 18);
    assert_eq!(answer.header("x-request-id"), trace);
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let hub = TestHub::start().await;
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/routes",
        "/api/v1/routes/",
        "/api/v1//routes",
        "/favicon.ico",
    ] {
        assert_eq!(hub.get(path).await.refusal(), (404, "not-found"), "{path}");
    }
    for (method, path, allowed) in [
        ("POST", "/api/v1/routes/r", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/api/v1/system", "GET, HEAD"),
        ("GET", "/api/v1/route-tests", "POST"),
        ("OPTIONS", "/api/v1/tokens", "GET, HEAD, POST"),
        ("BREW", "/api/v1/tokens", "GET, HEAD, POST"),
        ("POST", "/docs/", "GET, HEAD"),
    ] {
        let answer = hub.call(method, path).send().await;
        assert_eq!(answer.refusal(), (405, "method-not-allowed"), "{method} {path}");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn bodies_are_json_and_not_too_large() {
    let hub = TestHub::start().await;
    let put = |kind: &str, body: &[u8]| {
        hub.call("PUT", "/api/v1/routes/r").header("content-type", kind).body(body)
    };
    let good = json!({"route": TO_CLOUD}).to_string();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "application/merge-patch+json", ""]
    {
        let answer = put(kind, good.as_bytes()).send().await;
        assert_eq!(answer.refusal(), (415, "unsupported-media-type"), "{kind}");
    }
    let large = json!({"route": "x".repeat(1024 * 1024)}).to_string();
    let answer = put("application/json", large.as_bytes()).send().await;
    assert_eq!(answer.refusal(), (413, "too-large"));
    let twice = put("application/json", br#"{"route":"a","route":"b"}"#).send().await;
    assert_eq!(twice.refusal(), (400, "duplicate-key"));
    assert_eq!(twice.json["errors"][0]["pointer"], "/route");
    let unknown = put("application/json", br#"{"route":"a","rout":"b"}"#).send().await;
    assert_eq!(unknown.refusal(), (400, "invalid-request"));
    assert!(unknown.json["detail"].as_str().unwrap().contains("rout"), "{unknown:?}");
    assert_eq!(put("application/json", good.as_bytes()).send().await.status, 201);
}

#[tokio::test]
async fn the_figures_have_the_names_that_dashboards_know() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/routes/r", json!({"route": TO_CLOUD})).await;
    hub.put("/api/v1/devices/pump", json!({})).await;
    hub.send("pump", &["a", "b"]).await;
    let answer = hub.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("application/openmetrics-text"));
    for line in [
        "edgehub_queue_length{endpoint=\"iothub\"} 2",
        "edgehub_messages_received_total{id=\"pump\"} 2",
        "weir_store_writable 1",
        "# EOF",
    ] {
        assert!(answer.text.contains(line), "{line} in\n{}", answer.text);
    }
}

#[tokio::test]
async fn the_hub_says_what_it_is() {
    let hub = TestHub::start().await;
    hub.clock.advance(Duration::from_secs(90));
    let answer = hub.get("/api/v1/system").await;
    assert_eq!(answer.json["edgeDevice"], "edge");
    assert_eq!(answer.json["uptimeSecs"], 90);
    assert_eq!(answer.json["listeners"][0]["address"], "127.0.0.1:8420");
    assert!(!answer.text.contains("/tmp"), "no paths: {}", answer.text);
}

#[tokio::test]
async fn a_bad_value_is_named_in_words_that_are_not_rusts() {
    let hub = TestHub::start().await;
    for (path, parameter, detail) in [
        ("/api/v1/devices?limit=-1", "limit", "query: limit: this is no whole number, 0 or more"),
        ("/api/v1/devices?limit=", "limit", "query: limit: this is no whole number, 0 or more"),
        (
            "/api/v1/devices?limit=99999999999999999999",
            "limit",
            "query: limit: the number is too large",
        ),
        ("/api/v1/devices?limit=1&limit=2", "limit", "query: limit is given twice"),
    ] {
        let answer = hub.get(path).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"), "{path}");
        assert_eq!(answer.json["detail"], detail);
        assert_eq!(answer.json["errors"][0]["parameter"], parameter, "{answer:?}");
    }
    for (value, detail) in [
        (json!(-1), "invalid value: integer `-1`, expected a whole number, 0 or more"),
        (json!(1.5), "invalid type: floating point `1.5`, expected a whole number, 0 or more"),
    ] {
        let answer =
            hub.put("/api/v1/routes/r", json!({"route": TO_CLOUD, "priority": value})).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"));
        assert_eq!(answer.json["detail"], detail);
        assert_eq!(answer.json["errors"][0]["pointer"], "/priority");
    }
    let patch = hub.call("PATCH", "/api/v1/upstream").header("content-type", "text/plain");
    let answer = patch.body(b"{}").send().await;
    assert!(answer.json["detail"].as_str().unwrap().ends_with("or application/merge-patch+json"));
}
