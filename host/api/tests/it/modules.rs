//! Artifacts, modules, swaps and the operations that they become.

use crate::support::{DROP, TestHub};
use serde_json::json;

const REJECT: &[u8] = b"\0asm reject";
const BROKEN: &[u8] = b"\0asm broken";
const SLOW: &[u8] = b"\0asm slow";

#[tokio::test]
async fn an_artifact_is_what_its_digest_says_or_is_not_kept() {
    let hub = TestHub::start().await;
    let digest = weir_hub::digest_of(DROP);
    let path = format!("/api/v1/artifacts/{digest}");
    let put = |path: &str, kind: &str, bytes: &[u8]| {
        hub.call("PUT", path).header("content-type", kind).body(bytes)
    };
    let wrong = put(&path, "application/wasm", b"other").send().await;
    assert_eq!(wrong.refusal(), (422, "digest-mismatch"));
    let kind = put(&path, "application/json", DROP).send().await;
    assert_eq!(kind.refusal(), (415, "unsupported-media-type"));
    assert_eq!(hub.get(&path).await.refusal(), (404, "not-found"));
    let made = put(&path, "application/wasm", DROP).send().await;
    assert_eq!((made.status, &made.json["digest"]), (201, &json!(digest.to_string())));
    let bare = format!("/api/v1/artifacts/{}", digest.hex());
    assert_eq!(put(&bare, "application/octet-stream", DROP).send().await.status, 200);
    assert_eq!(hub.get(&bare).await.json["exports"], json!(["weir:module/processor@0.1.0"]));
    let text = b"no component";
    let path = format!("/api/v1/artifacts/{}", weir_hub::digest_of(text));
    let refused = put(&path, "application/wasm", text).send().await;
    assert_eq!(refused.refusal(), (422, "component-refused"));
    let large = vec![0; 16 * 1024 * 1024 + 1];
    let path = format!("/api/v1/artifacts/{}", weir_hub::digest_of(&large));
    let refused = put(&path, "application/wasm", &large).send().await;
    assert_eq!(refused.refusal(), (413, "too-large"));
    let name = put("/api/v1/artifacts/sha256:12", "application/wasm", DROP).send().await;
    assert_eq!(name.refusal(), (422, "invalid-name"));
    assert_eq!(hub.delete(&bare).await.status, 204);
    assert_eq!(hub.delete(&bare).await.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn a_module_is_installed_shown_and_deleted() {
    let hub = TestHub::start().await;
    let made = hub.install("filter", DROP).await;
    assert_eq!((made.status, &made.json["version"]), (201, &json!(1)), "{made:?}");
    let shown = hub.get("/api/v1/modules/filter").await;
    assert_eq!(shown.json["spec"]["inputs"], json!(["in"]));
    assert_eq!(shown.json["counters"]["messages"], 0);
    assert_eq!(hub.install("filter", DROP).await.status, 200, "unchanged");
    let versions = hub.get("/api/v1/modules/filter/versions").await;
    assert_eq!(versions.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(versions.json["items"][0]["fortune"], "installed");
    assert_eq!(hub.get("/api/v1/modules/filter/state").await.json["items"], json!([]));
    let used = hub.delete(&format!("/api/v1/artifacts/{}", weir_hub::digest_of(DROP))).await;
    assert_eq!(used.refusal(), (409, "conflict"));
    let identity = hub.put("/api/v1/devices/edge/modules/filter", json!({})).await;
    assert_eq!(identity.refusal(), (409, "conflict"), "a Wasm module has no credentials");
    let hub = hub.restart().await;
    assert_eq!(hub.get("/api/v1/modules/filter").await.status, 200);
    assert_eq!(hub.delete("/api/v1/modules/filter").await.status, 204);
    for path in ["", "/versions", "/state"] {
        let gone = hub.get(&format!("/api/v1/modules/filter{path}")).await;
        assert_eq!(gone.refusal(), (404, "not-found"), "{path}");
    }
}

#[tokio::test]
async fn a_specification_is_refused_with_everything_that_is_wrong() {
    let hub = TestHub::start().await;
    let component = hub.upload(DROP).await;
    for (more, refusal) in [
        (json!({"inputs": ["a", "a"]}), (422, "module-spec")),
        (json!({"fields": ["temperature"], "batch": {"messages": 65}}), (422, "module-spec")),
        (json!({"limits": {"memory": "1Gi"}}), (403, "policy-denied")),
        (json!({"grants": {"timers": 1}}), (422, "module-spec")),
        (json!({"limits": {"memory": "much"}}), (400, "invalid-request")),
        (json!({"privileged": true}), (400, "invalid-request")),
        (json!({"type": "docker"}), (400, "invalid-request")),
        (json!({"component": format!("sha256:{}", "0".repeat(64))}), (404, "not-found")),
    ] {
        let mut spec = json!({"type": "wasm", "component": component});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = hub.put("/api/v1/modules/m", spec).await;
        assert_eq!(answer.refusal(), refusal, "{more}: {answer:?}");
        if answer.status == 422 {
            assert!(answer.json["errors"][0]["pointer"].is_string(), "{answer:?}");
        }
    }
    let broken = hub.install("m", BROKEN).await;
    assert_eq!(broken.refusal(), (409, "swap-failed"));
    assert_eq!(hub.get("/api/v1/modules").await.json["items"], json!([]));
}

#[tokio::test]
async fn a_swap_answers_after_the_switch_and_a_failed_one_leaves_the_old_version() {
    let hub = TestHub::start().await;
    hub.install("filter", DROP).await;
    let swaps = "/api/v1/modules/filter/swaps";
    let to = hub.upload(REJECT).await;
    let swapped = hub.post(swaps, json!({"component": to})).await;
    assert_eq!(swapped.status, 200, "{swapped:?}");
    assert_eq!(
        swapped.json,
        json!({"module": "filter", "change": "switched", "version": 2,
        "onProbation": true, "component": to})
    );
    assert_eq!(hub.post(swaps, json!({"component": to})).await.json["change"], "unchanged");
    let broken = hub.upload(BROKEN).await;
    let failed = hub.post(swaps, json!({"component": broken})).await;
    assert_eq!(failed.refusal(), (409, "swap-failed"));
    assert!(failed.json["detail"].as_str().unwrap().contains("on purpose"), "{failed:?}");
    assert_eq!(hub.get("/api/v1/modules/filter").await.json["version"], 2);
    let spec =
        json!({"type": "wasm", "component": to, "inputs": ["in", "more"], "outputs": ["out"]});
    let by_spec = hub.post(swaps, json!({"spec": spec})).await;
    assert_eq!((by_spec.status, &by_spec.json["version"]), (200, &json!(3)));
    let tag = hub.get("/api/v1/modules/filter").await.header("etag").to_owned();
    let call =
        |tag: &str| hub.call("POST", swaps).json(&json!({"component": to})).header("if-match", tag);
    assert_eq!(call("\"1\"").send().await.refusal(), (412, "version-mismatch"));
    assert_eq!(call(&tag).send().await.status, 200);
    for body in [json!({}), json!({"component": to, "spec": spec}), json!({"component": "x"})] {
        assert_eq!(hub.post(swaps, body).await.refusal(), (400, "invalid-request"));
    }
    let wait = hub.post(&format!("{swaps}?wait=51"), json!({"component": to})).await;
    assert_eq!(wait.refusal(), (400, "invalid-request"));
    let nobody = hub.post("/api/v1/modules/nobody/swaps", json!({"component": to})).await;
    assert_eq!(nobody.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn an_instance_that_ends_without_an_answer_leaves_neither_state_nor_a_blocked_queue() {
    let hub = TestHub::start().await;
    hub.install("filter", b"\0asm vanish").await;
    let route = "FROM /messages/* INTO BrokeredEndpoint(\"/modules/filter/inputs/in\")";
    hub.put("/api/v1/routes/to-filter", json!({"route": route})).await;
    hub.put("/api/v1/devices/pump", json!({})).await;
    hub.send("pump", &["one", "end", "two"]).await;
    let path = "/api/v1/modules/filter";
    hub.until(path, |module| module["counters"]["messages"] == 2).await;
    let dead = hub.until("/api/v1/dead-letters", |list| list["items"][0].is_object()).await;
    assert_eq!(dead["items"].as_array().unwrap().len(), 1);
    assert_eq!(dead["items"][0]["message"]["content"]["body"], "end");
}

#[tokio::test]
async fn a_swap_that_takes_long_goes_on_as_an_operation() {
    let hub = TestHub::start().await;
    hub.install("filter", DROP).await;
    let slow = hub.upload(SLOW).await;
    let begun = hub.post("/api/v1/modules/filter/swaps?wait=0", json!({"component": slow})).await;
    assert_eq!((begun.status, &begun.json["state"]), (202, &json!("running")), "{begun:?}");
    let path = begun.header("operation-location").to_owned();
    assert_eq!(hub.get(&path).await.json["state"], "running");
    assert_eq!(hub.get("/api/v1/modules/filter").await.json["version"], 1);
    hub.runtime.open();
    let ended = hub.until(&path, |operation| operation["state"] != "running").await;
    assert_eq!(ended["state"], "succeeded", "{ended}");
    assert_eq!(ended["result"], "switched to version 2");
    assert_eq!(hub.get("/api/v1/modules/filter").await.json["version"], 2);
    let list = hub.get("/api/v1/operations").await;
    assert_eq!(list.json["items"].as_array().unwrap().len(), 1);
    let unknown = hub.get("/api/v1/operations/ffffffffffff").await;
    assert_eq!(unknown.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn an_operation_that_a_stop_cut_off_has_failed() {
    let hub = TestHub::start().await;
    hub.install("filter", DROP).await;
    let slow = hub.upload(SLOW).await;
    let begun = hub.post("/api/v1/modules/filter/swaps?wait=0", json!({"component": slow})).await;
    let path = begun.header("location").to_owned();
    let hub = hub.restart().await;
    let ended = hub.get(&path).await;
    assert_eq!(ended.json["state"], "failed", "{ended:?}");
    assert_eq!(ended.json["problem"]["code"], "not-ready");
}

#[tokio::test]
async fn the_last_log_lines_of_a_module_are_shown() {
    let hub = TestHub::start().await;
    hub.install("filter", DROP).await;
    for number in 1..=5 {
        hub.logs.push("filter", "info", format!("line {number}"), hub.clock.now());
    }
    let page = hub.get("/api/v1/modules/filter/logs?limit=2").await;
    assert_eq!(
        page.json["items"][1],
        json!({"number": 2, "at": "2026-05-04T10:00:00Z",
        "level": "info", "message": "line 2"})
    );
    let next = page.json["next"].as_str().unwrap();
    let more = hub.get(&format!("/api/v1/modules/filter/logs?limit=2&after=0&cursor={next}")).await;
    assert_eq!(more.json["items"][0]["number"], 3);
    let last = hub.get("/api/v1/modules/filter/logs?after=4").await;
    assert_eq!(last.json["items"].as_array().unwrap().len(), 1);
    assert_eq!(hub.get("/api/v1/modules/nobody/logs").await.refusal(), (404, "not-found"));
}
