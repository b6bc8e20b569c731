//! Twins and queries, as the SDKs ask for them.

use super::Service;
use crate::support::{DROP, TestHub};
use serde_json::{Value, json};

const MODULE: &str = "/twins/edge/modules/m";

async fn service(hub: &TestHub) -> Service<'_> {
    let owner = Service::owner(hub).await;
    owner.create("/devices/edge/modules/m", json!({})).await;
    owner.create("/devices/d1", json!({"statusReason": "new"})).await;
    owner
}

async fn patch(service: &Service<'_>, path: &str, tag: Option<&str>, body: Value) -> super::Answer {
    let tag = tag.map(|tag| format!("\"{tag}\""));
    service.call("PATCH", path, tag.as_deref(), Some(&body)).await
}

#[tokio::test]
async fn a_twin_has_every_member_that_iot_hub_gives_it() {
    let hub = TestHub::start().await;
    let service = service(&hub).await;
    let answer = service.get("/twins/d1").await;
    let twin = &answer.json;
    assert_eq!(
        answer.headers["etag"].to_str().unwrap(),
        format!("\"{}\"", twin["etag"].as_str().unwrap())
    );
    let scope = twin["deviceScope"].as_str().unwrap();
    assert!(scope.starts_with("ms-azure-iot-edge://edge-"));
    for (member, value) in [
        ("deviceId", json!("d1")),
        ("etag", json!("AAAAAAAAAAE=")),
        ("version", json!(2)),
        ("status", json!("enabled")),
        ("statusReason", json!("new")),
        ("statusUpdateTime", json!("0001-01-01T00:00:00Z")),
        ("connectionState", json!("Disconnected")),
        ("lastActivityTime", json!("0001-01-01T00:00:00Z")),
        ("cloudToDeviceMessageCount", json!(0)),
        ("authenticationType", json!("sas")),
        ("x509Thumbprint", json!({"primaryThumbprint": null, "secondaryThumbprint": null})),
        ("capabilities", json!({"iotEdge": false})),
        ("parentScopes", json!([scope])),
        ("tags", json!({})),
    ] {
        assert_eq!(twin[member], value, "{member}");
    }
    for section in ["desired", "reported"] {
        assert_eq!(twin["properties"][section]["$version"], 1);
        assert!(twin["properties"][section]["$metadata"].is_object());
    }
    let module = service.get(MODULE).await.json;
    assert_eq!((&module["deviceId"], &module["moduleId"]), (&json!("edge"), &json!("m")));
    assert_eq!(service.get("/twins/nobody").await.refusal(), (404, "DeviceNotFound"));
    assert_eq!(service.get("/twins/edge/modules/x").await.refusal(), (404, "ModuleNotFound"));
}

#[tokio::test]
async fn a_patch_is_merged_and_a_put_takes_the_place_and_both_obey_the_etag() {
    let hub = TestHub::start().await;
    let service = service(&hub).await;
    // Node's `updateModuleTwin(…, '*')`.
    let body = json!({"tags": {"site": "a"}, "properties": {"desired": {"x": {"y": 1}, "z": 1}}});
    let first = patch(&service, MODULE, Some("*"), body).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(first.json["tags"], json!({"site": "a"}));
    assert_eq!(first.json["properties"]["desired"]["$version"], 2);
    let tag = first.json["etag"].as_str().unwrap();
    let body = json!({"properties": {"desired": {"x": {"y": null, "k": 2}}}});
    let second = patch(&service, MODULE, Some(tag), body.clone()).await;
    assert_eq!(second.json["properties"]["desired"]["x"], json!({"k": 2}));
    assert_eq!(second.json["properties"]["desired"]["z"], 1);
    assert_eq!(second.json["tags"], json!({"site": "a"}));
    for stale in [tag, "AAAA", "NQ==", ""] {
        let refused = patch(&service, MODULE, Some(stale), body.clone()).await;
        assert_eq!(refused.refusal(), (412, "PreconditionFailed"), "{stale:?}");
    }
    // Python's `replace_module_twin` sends the whole twin back.
    let mut whole = second.json.clone();
    whole["properties"]["desired"] = json!({"only": true});
    let put = service.update(MODULE, second.json["etag"].as_str().unwrap(), whole).await;
    assert_eq!(put.status, 200);
    let desired = put.json["properties"]["desired"].as_object().unwrap();
    let names: Vec<&String> = desired.keys().filter(|name| !name.starts_with('$')).collect();
    assert_eq!(names, ["only"]);
    let without = patch(&service, MODULE, None, json!({"tags": {"site": null}})).await;
    assert_eq!((without.status, &without.json["tags"]), (200, &json!({})));
    let history = hub.get("/api/v1/devices/edge/modules/m").await;
    assert_eq!(history.status, 200);
}

#[tokio::test]
async fn a_bad_patch_is_refused_with_its_pointer() {
    let hub = TestHub::start().await;
    let service = service(&hub).await;
    for (body, place) in [
        (json!({"properties": {"desired": {"a b": 1}}}), "/properties/desired/a b"),
        (json!({"properties": {"desired": {"a": [null]}}}), "/properties/desired/a/0"),
        (json!({"tags": {"a": "x".repeat(5000)}}), "/tags/a"),
        (json!({"properties": {"desired": []}}), "/properties/desired"),
        (json!({}), "neither tags nor desired"),
    ] {
        let answer = patch(&service, MODULE, Some("*"), body).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{place}");
        assert!(answer.message().contains(place), "{place}: {answer:?}");
    }
}

async fn query(
    service: &Service<'_>,
    text: &str,
    most: &str,
    after: Option<&str>,
) -> super::Answer {
    let token = service.token.clone();
    let mut headers = vec![("authorization", token.as_str()), ("x-ms-max-item-count", most)];
    if let Some(after) = after {
        headers.push(("x-ms-continuation", after));
    }
    let body = json!({ "query": text }).to_string();
    service.raw("POST", "/devices/query", &headers, &body).await
}

fn names(answer: &super::Answer) -> Vec<String> {
    let items = answer.json.as_array().unwrap_or_else(|| panic!("{answer:?}"));
    items
        .iter()
        .map(|twin| {
            let device = twin["deviceId"].as_str().unwrap().to_owned();
            match twin["moduleId"].as_str() {
                Some(module) => format!("{device}/{module}"),
                None => device,
            }
        })
        .collect()
}

#[tokio::test]
async fn queries_give_the_twins_of_devices_and_modules() {
    let hub = TestHub::start().await;
    let service = service(&hub).await;
    hub.install("wasm", DROP).await;
    service.create("/devices/d1/modules/k", json!({})).await;
    let all = query(&service, "SELECT * FROM devices", "100", None).await;
    assert_eq!(names(&all), ["d1", "edge"]);
    assert_eq!(all.headers["x-ms-item-type"], "Twin");
    assert!(!all.headers.contains_key("x-ms-continuation"));
    assert_eq!(all.json[0], service.get("/twins/d1").await.json);
    for (text, expected) in [
        (
            "SELECT * FROM devices.modules",
            &["d1/k", "edge/$edgeAgent", "edge/$edgeHub", "edge/m", "edge/wasm"][..],
        ),
        ("SELECT * FROM devices.modules WHERE deviceId = 'd1'", &["d1/k"]),
        ("SELECT * FROM devices.modules WHERE deviceId = 'edge' AND moduleId = 'm'", &["edge/m"]),
        ("SELECT * FROM devices WHERE deviceId = 'd1'", &["d1"]),
        ("SELECT * FROM devices WHERE deviceId = 'nobody'", &[]),
        ("select * from devices where capabilities.iotEdge = true", &["edge"]),
        ("select * from devices where status = 'disabled'", &[]),
        ("select * from devices where connectionState = 'Disconnected'", &["d1", "edge"]),
    ] {
        assert_eq!(names(&query(&service, text, "100", None).await), expected, "{text}");
    }
    let refused = query(&service, "SELECT * FROM devices WHERE tags.a = 'b'", "1", None).await;
    assert_eq!(refused.refusal(), (400, "ArgumentInvalid"));
    assert!(refused.message().contains("SELECT * FROM devices.modules"), "{refused:?}");
}

#[tokio::test]
async fn pages_of_a_query_go_on_where_the_one_before_ended() {
    let hub = TestHub::start().await;
    let service = service(&hub).await;
    let text = "SELECT * FROM devices.modules";
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = query(&service, text, "2", after.as_deref()).await;
        found.extend(names(&page));
        match page.headers.get("x-ms-continuation") {
            Some(token) => after = Some(token.to_str().unwrap().to_owned()),
            None => break,
        }
    }
    assert_eq!(found, ["edge/$edgeAgent", "edge/$edgeHub", "edge/m"]);
    let wrong = query(&service, text, "2", Some("not ours!")).await;
    assert_eq!(wrong.refusal(), (400, "ArgumentInvalid"));
    assert_eq!(query(&service, text, "0", None).await.refusal(), (400, "ArgumentInvalid"));
}
