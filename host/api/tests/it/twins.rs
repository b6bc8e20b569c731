//! Twins: change, look back, go back.

use crate::support::{EDGE, TestHub};
use serde_json::json;

async fn pump(hub: &TestHub) -> &'static str {
    hub.put("/api/v1/devices/pump", json!({})).await;
    "/api/v1/twins/pump"
}

#[tokio::test]
async fn a_twin_is_patched_replaced_and_shown_with_its_metadata() {
    let hub = TestHub::start().await;
    let path = pump(&hub).await;
    let fresh = hub.get(path).await;
    assert_eq!((fresh.status, fresh.header("etag")), (200, "\"AAAAAAAAAAE=\""));
    assert_eq!((&fresh.json["version"], &fresh.json["status"]), (&json!(2), &json!("enabled")));
    let body = json!({"tags": {"site": "north"}, "properties": {"desired": {"a": {"b": 1}}}});
    let patched = hub.call("PATCH", path).json(&body).send().await;
    assert_eq!(patched.status, 200, "{patched:?}");
    let desired = &patched.json["properties"]["desired"];
    assert_eq!((&desired["a"], &desired["$version"]), (&json!({"b": 1}), &json!(2)));
    assert_eq!(desired["$metadata"]["a"]["b"]["$lastUpdatedVersion"], 2);
    assert_eq!(patched.json["tags"], json!({"site": "north"}));
    let whole = json!({"properties": {"desired": {"c": 1}}});
    let replaced = hub.put(path, whole).await;
    let desired = &replaced.json["properties"]["desired"];
    assert_eq!((&desired["a"], &desired["c"]), (&json!(null), &json!(1)));
    assert_eq!(replaced.json["tags"], json!({"site": "north"}), "what is not named stays");
    assert_eq!(hub.get(path).await.json, replaced.json);
    assert_eq!(replaced.header("etag"), format!("\"{}\"", replaced.json["etag"].as_str().unwrap()));
    // A twin can be sent back as it was read.
    assert_eq!(hub.put(path, replaced.json).await.status, 200);
}

#[tokio::test]
async fn twins_of_modules_and_of_the_hubs_own_are_below_their_device() {
    let hub = TestHub::start().await;
    pump(&hub).await;
    hub.put("/api/v1/devices/pump/modules/reader", json!({})).await;
    let path = "/api/v1/twins/pump/modules/reader";
    let body = json!({"properties": {"desired": {"a": 1}}});
    let patched = hub.call("PATCH", path).json(&body).send().await;
    assert_eq!((patched.status, &patched.json["moduleId"]), (200, &json!("reader")));
    let device = hub.get("/api/v1/twins/pump").await;
    assert_eq!(device.json["properties"]["desired"]["$version"], 1);
    let system = format!("/api/v1/twins/{EDGE}/modules/$edgeHub");
    assert_eq!(hub.get(&system).await.status, 200);
    assert_eq!(hub.get("/api/v1/twins/pump/modules/$edgeHub").await.refusal(), (404, "not-found"));
    assert_eq!(hub.get("/api/v1/twins/nobody").await.refusal(), (404, "not-found"));
    for sub in ["history", "diff?from=1&to=2"] {
        assert_eq!(hub.get(&format!("{path}/{sub}")).await.status, 200, "{sub}");
    }
    let back = hub.post(&format!("{path}/revert"), json!({"version": 1})).await;
    assert_eq!((back.status, &back.json["properties"]["desired"]["a"]), (200, &json!(null)));
    assert_eq!(hub.delete("/api/v1/devices/pump/modules/reader").await.status, 204);
    assert_eq!(hub.get(path).await.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn a_stale_etag_changes_nothing_and_the_present_one_is_told() {
    let hub = TestHub::start().await;
    let path = pump(&hub).await;
    let body = json!({"properties": {"desired": {"a": 1}}});
    let call = |tag: &str| hub.call("PATCH", path).header("if-match", tag).json(&body);
    let first = call("\"AAAAAAAAAAE=\"").send().await;
    assert_eq!(first.status, 200);
    let stale = call("\"AAAAAAAAAAE=\"").send().await;
    assert_eq!(stale.refusal(), (412, "version-mismatch"));
    assert_eq!(stale.header("etag"), first.header("etag"));
    for (tag, status) in
        [("*", 200), ("W/\"AAAAAAAAAAM=\"", 412), ("\"made up\"", 412), ("AAA", 400)]
    {
        assert_eq!(call(tag).send().await.status, status, "{tag}");
    }
    let revert =
        hub.call("POST", "/api/v1/twins/pump/revert").header("if-match", "\"AAAAAAAAAAE=\"");
    let revert = revert.json(&json!({"version": 1})).send().await;
    assert_eq!(revert.refusal(), (412, "version-mismatch"));
}

#[tokio::test]
async fn what_is_refused_is_named_where_it_is() {
    let hub = TestHub::start().await;
    let path = pump(&hub).await;
    let refused = async |text: &str| {
        let call = hub.call("PATCH", path).header("content-type", "application/json");
        let answer = call.body(text.as_bytes()).send().await;
        let (status, code) = answer.refusal();
        let pointer = answer.json["errors"][0]["pointer"].as_str().unwrap_or("-").to_owned();
        (status, code.to_owned(), pointer)
    };
    let big = format!(r#"{{"tags":{{"a":["{0}","{0}","{0}"]}}}}"#, "x".repeat(4000));
    for (text, status, code, pointer) in [
        (
            r#"{"properties":{"desired":{"a":{"b.c":1}}}}"#,
            422,
            "twin-refused",
            "/properties/desired/a/b.c",
        ),
        (r#"{"tags":{"a":[{"b":null}]}}"#, 422, "twin-refused", "/tags/a/0/b"),
        (&big, 422, "twin-refused", "/tags"),
        (r#"{"tags":{"a":1,"a":2}}"#, 400, "duplicate-key", "/tags/a"),
        (r#"{"tags":[]}"#, 400, "invalid-request", "/tags"),
        ("{}", 400, "invalid-request", ""),
        (r#"{"tags":"#, 400, "invalid-request", "/tags"),
    ] {
        let expected = (status, code.to_owned(), pointer.to_owned());
        assert_eq!(refused(text).await, expected, "{}", &text[..text.len().min(60)]);
    }
    let call =
        hub.call("PATCH", path).header("content-type", "text/plain").body(b"{}").send().await;
    assert_eq!(call.refusal(), (415, "unsupported-media-type"));
    assert_eq!(hub.get(path).await.header("etag"), "\"AAAAAAAAAAE=\"", "nothing was changed");
    // Too large only together with what is there.
    let part = |key: &str| json!({"tags": {key: vec!["x".repeat(2500); 2]}});
    assert_eq!(hub.call("PATCH", path).json(&part("a")).send().await.status, 200);
    let answer = hub.call("PATCH", path).json(&part("b")).send().await;
    assert_eq!(answer.json["errors"][0]["pointer"], "/tags", "{answer:?}");
}

#[tokio::test]
async fn the_history_is_paged_compared_and_gone_back_to() {
    let hub = TestHub::start().await;
    let path = pump(&hub).await;
    for n in 0..5 {
        let body = json!({"properties": {"desired": {"n": n, format!("k{n}"): true}}});
        hub.call("PATCH", path).json(&body).send().await;
    }
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = hub.get(&format!("{path}/history?limit=2{next}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        seen.extend(page.json["items"].as_array().unwrap().clone());
        let Some(cursor) = page.json["next"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    let versions: Vec<_> = seen.iter().map(|item| item["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, [2, 3, 4, 5, 6]);
    assert_eq!(seen[1]["patch"], json!({"n": 1, "k1": true}));
    assert!(seen[0]["by"].as_str().unwrap().starts_with("token:"));
    assert!(seen[0]["at"].as_str().unwrap().ends_with('Z'));
    let diff = hub.get(&format!("{path}/diff?from=3")).await;
    let patch = json!({"n": 4, "k2": true, "k3": true, "k4": true});
    assert_eq!(diff.json, json!({"section": "desired", "from": 3, "to": 6, "patch": patch}));
    assert_eq!(hub.get(&format!("{path}/diff?from=9")).await.refusal(), (404, "not-found"));
    assert_eq!(hub.get(&format!("{path}/diff?section=x&from=1")).await.status, 400);
    let body = json!({"section": "desired", "version": 3});
    let back = hub.post(&format!("{path}/revert"), body).await;
    let desired = &back.json["properties"]["desired"];
    assert_eq!(
        (&desired["n"], &desired["k4"], &desired["$version"]),
        (&json!(1), &json!(null), &json!(7))
    );
    let body = json!({"section": "reported", "version": 1});
    let reported = hub.post(&format!("{path}/revert"), body).await;
    assert_eq!(reported.refusal(), (400, "invalid-request"));
}

#[tokio::test]
async fn a_token_needs_the_scope_of_twins() {
    let hub = TestHub::start().await;
    let path = pump(&hub).await;
    let reader = hub.token(&["twins:read"]).await;
    assert_eq!(hub.call("GET", path).token(&reader).send().await.status, 200);
    let body = json!({"tags": {"a": 1}});
    let refused = hub.call("PATCH", path).token(&reader).json(&body).send().await;
    assert_eq!(refused.refusal(), (403, "forbidden"));
    let other = hub.token(&["devices:admin"]).await;
    assert_eq!(hub.call("GET", path).token(&other).send().await.refusal(), (403, "forbidden"));
}

#[tokio::test]
async fn what_is_no_configuration_of_the_hub_is_refused_in_its_twin() {
    let hub = TestHub::start().await;
    let path = format!("/api/v1/twins/{EDGE}/modules/$edgeHub");
    let routes = json!({"bad": "FROM nowhere"});
    let desired = json!({"schemaVersion": "1.1", "routes": routes,
        "storeAndForwardConfiguration": {"timeToLiveSecs": 60}});
    let refused = hub.put(&path, json!({"properties": {"desired": desired}})).await;
    assert_eq!(refused.refusal(), (422, "twin-refused"), "{refused:?}");
    let pointer = refused.json["errors"][0]["pointer"].as_str().unwrap();
    assert!(pointer.ends_with("/routes/bad"), "{pointer}");
    assert_eq!(hub.get(&path).await.json["properties"]["desired"]["$version"], 1);
}
