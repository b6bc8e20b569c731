//! Devices and modules: exact statuses, etags, and every member of an identity.

use super::Service;
use crate::support::{DROP, TestHub};
use serde_json::{Value, json};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn tag(identity: &Value) -> String {
    identity["etag"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_device_is_made_with_200_and_a_second_time_refused_with_409() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    // The body of Node's `Registry.create({deviceId})`.
    let body = json!({"deviceId": "d1", "authentication":
        {"type": "sas", "symmetricKey": {"primaryKey": "", "secondaryKey": ""}}});
    let made = service.create("/devices/d1", body.clone()).await;
    assert_eq!(made.status, 200, "{made:?}");
    assert_eq!(made.headers["etag"].to_str().unwrap(), format!("\"{}\"", tag(&made.json)));
    let key = made.json["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    assert_eq!(key.len(), 44);
    assert_ne!(made.json["authentication"]["symmetricKey"]["secondaryKey"], key);
    let again = service.create("/devices/d1", body).await;
    assert_eq!(again.refusal(), (409, "DeviceAlreadyExists"));
    assert_eq!(service.get("/devices/d1").await.json, made.json);
}

#[tokio::test]
async fn an_identity_has_every_member_that_iot_hub_gives_it() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let edge = service.get("/devices/edge").await.json;
    assert_eq!(edge["capabilities"], json!({"iotEdge": true}));
    let scope = format!("ms-azure-iot-edge://edge-{}", edge["generationId"].as_str().unwrap());
    assert_eq!(edge["deviceScope"], scope);
    assert_eq!(edge["parentScopes"], json!([]));

    // The body of Python's `create_device_with_sas(…, status_reason=…)`.
    let body = json!({"deviceId": "d1", "status": "disabled", "statusReason": "in repair",
        "authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}},
        "capabilities": {"iotEdge": false}});
    let device = service.create("/devices/d1", body).await.json;
    let generation = device["generationId"].as_str().unwrap();
    let etag = tag(&device);
    assert_eq!(
        device,
        json!({
            "deviceId": "d1", "generationId": generation, "etag": etag,
            "status": "disabled", "statusReason": "in repair",
            "statusUpdatedTime": "0001-01-01T00:00:00Z",
            "connectionState": "Disconnected",
            "connectionStateUpdatedTime": "0001-01-01T00:00:00Z",
            "lastActivityTime": "0001-01-01T00:00:00Z",
            "cloudToDeviceMessageCount": 0,
            "authentication": {
                "type": "sas",
                "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY},
                "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
            },
            "capabilities": {"iotEdge": false},
            "deviceScope": scope, "parentScopes": [scope],
        })
    );

    let module = json!({"moduleId": "m", "deviceId": "edge", "managedBy": "iotEdge"});
    let module = service.create("/devices/edge/modules/m", module).await;
    assert_eq!(module.status, 201);
    assert_eq!(module.json["moduleId"], "m");
    assert_eq!(module.json["deviceId"], "edge");
    assert_eq!(module.json["managedBy"], "iotEdge");
    assert!(module.json.get("status").is_none(), "a module has no status of its own");
}

#[tokio::test]
async fn an_update_needs_the_etag_or_a_star_and_quotes_do_not_count() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let body = |status: &str| json!({"deviceId": "d1", "status": status});
    let first = service.create("/devices/d1", body("enabled")).await.json;
    let second = service.update("/devices/d1", &tag(&first), body("disabled")).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.json["status"], "disabled");
    assert_eq!(second.json["authentication"], first["authentication"], "its keys stay");
    assert_ne!(second.json["statusUpdatedTime"], "0001-01-01T00:00:00Z");
    let stale = service.update("/devices/d1", &tag(&first), body("enabled")).await;
    assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
    for star in ["\"*\"", "*"] {
        let answer = service.call("PUT", "/devices/d1", Some(star), Some(&body("enabled"))).await;
        assert_eq!(answer.status, 200, "{star}");
    }
    let unquoted = tag(&service.get("/devices/d1").await.json);
    let answer = service.call("PUT", "/devices/d1", Some(&unquoted), Some(&body("enabled"))).await;
    assert_eq!(answer.status, 200);
    let absent = service.update("/devices/nobody", "*", body("enabled")).await;
    assert_eq!(absent.refusal(), (404, "DeviceNotFound"));
}

#[tokio::test]
async fn what_was_read_can_be_written_back() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    for path in ["/devices/edge", "/devices/d1", "/devices/d2", "/devices/edge/modules/m"] {
        let body = match path {
            "/devices/d2" => json!({"authentication": {"x509Thumbprint":
                {"primaryThumbprint": "0A".repeat(20), "secondaryThumbprint": ""}}}),
            _ => json!({}),
        };
        service.create(path, body).await;
        let read = service.get(path).await.json;
        let written = service.update(path, &tag(&read), read.clone()).await;
        assert_eq!(written.status, 200, "{written:?}");
        let mut expected = read;
        expected["etag"] = written.json["etag"].clone();
        assert_eq!(written.json, expected);
    }
    let x509 = service.get("/devices/d2").await.json;
    assert_eq!(x509["authentication"]["type"], "selfSigned");
}

#[tokio::test]
async fn a_deletion_is_answered_with_204_and_takes_the_modules_with_it() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let device = service.create("/devices/d1", json!({})).await.json;
    service.create("/devices/d1/modules/m1", json!({})).await;
    let stale = service.delete("/devices/d1", "MA==").await;
    assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
    assert_eq!(service.get("/devices/d1/modules/m1").await.status, 200);
    let gone = service.delete("/devices/d1", &tag(&device)).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    assert_eq!(service.get("/devices/d1").await.refusal(), (404, "DeviceNotFound"));
    assert_eq!(service.get("/devices/d1/modules").await.refusal(), (404, "DeviceNotFound"));
    assert_eq!(service.delete("/devices/d1", "*").await.refusal(), (404, "DeviceNotFound"));
    let again = service.create("/devices/d1", json!({})).await;
    assert_eq!(again.status, 200);
    assert_eq!(service.get("/devices/d1/modules").await.json, json!([]));
    let edge = service.delete("/devices/edge", "*").await;
    assert_eq!(edge.refusal(), (409, "OperationNotAllowedInCurrentState"));
}

#[tokio::test]
async fn lists_give_devices_and_modules_whole() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    service.create("/devices/d1", json!({})).await;
    let all = service.get("/devices/").await;
    assert_eq!(all.json[0], service.get("/devices/d1").await.json);
    assert_eq!(all.json[1]["deviceId"], "edge");
    assert_eq!(service.get("/devices?top=1").await.json.as_array().unwrap().len(), 1);
    assert_eq!(service.get("/devices?top=0").await.refusal(), (400, "ArgumentInvalid"));
    hub.install("wasm", DROP).await;
    service.create("/devices/edge/modules/m", json!({})).await;
    let modules = service.get("/devices/edge/modules").await.json;
    let names: Vec<&Value> =
        modules.as_array().unwrap().iter().map(|module| &module["moduleId"]).collect();
    assert_eq!(names, ["$edgeAgent", "$edgeHub", "m", "wasm"]);
}

#[tokio::test]
async fn the_system_modules_are_there_and_have_no_credentials() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    for name in ["$edgeAgent", "$edgeHub"] {
        let path = format!("/devices/edge/modules/{}", name.replace('$', "%24"));
        let module = service.get(&path).await.json;
        assert_eq!(module["moduleId"], name);
        assert_eq!(module["managedBy"], "iotEdge");
        assert_eq!(module["authentication"]["type"], "none");
        let keys = json!({"authentication": {"type": "sas"}});
        let refused = service.update(&path, "*", keys).await;
        assert_eq!(refused.refusal(), (409, "OperationNotAllowedInCurrentState"));
        let refused = service.delete(&path, "*").await;
        assert_eq!(refused.refusal(), (409, "OperationNotAllowedInCurrentState"));
    }
}

#[tokio::test]
async fn a_wasm_module_is_shown_and_cannot_be_given_credentials() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    hub.install("wasm", DROP).await;
    let path = "/devices/edge/modules/wasm";
    let module = service.get(path).await.json;
    assert_eq!(
        (&module["moduleId"], &module["authentication"]["type"]),
        (&json!("wasm"), &json!("none"))
    );
    assert_eq!(
        service.create(path, json!({})).await.refusal(),
        (409, "ModuleAlreadyExistsOnDevice")
    );
    let refused = service.update(path, "*", json!({})).await;
    assert_eq!(refused.refusal(), (409, "OperationNotAllowedInCurrentState"));
    let refused = service.delete(path, "*").await;
    assert_eq!(refused.refusal(), (409, "OperationNotAllowedInCurrentState"));
}

#[tokio::test]
async fn a_leaf_names_its_parent_by_scope() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let child = json!({"capabilities": {"iotEdge": true}});
    let child = service.create("/devices/child", child).await.json;
    let scope = child["deviceScope"].as_str().unwrap();
    assert!(scope.starts_with("ms-azure-iot-edge://child-"), "{scope}");
    let leaf = service.create("/devices/leaf", json!({"deviceScope": scope})).await.json;
    assert_eq!((&leaf["deviceScope"], &leaf["parentScopes"]), (&json!(scope), &json!([scope])));
    let none = service.update("/devices/leaf", "*", json!({"deviceScope": ""})).await.json;
    assert_eq!((&none["deviceScope"], &none["parentScopes"]), (&Value::Null, &json!([])));
    let wrong = service.create("/devices/l2", json!({"deviceScope": "ms-azure-iot-edge://x-1"}));
    assert_eq!(wrong.await.refusal(), (400, "ArgumentInvalid"));
}

#[tokio::test]
async fn bad_identities_are_refused_with_the_place_of_the_fault() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let long = "x".repeat(129);
    for (path, body, place) in [
        ("/devices/d1", json!({"deviceId": "d2"}), "deviceId"),
        ("/devices/d1", json!({"status": "asleep"}), "status"),
        ("/devices/d1", json!({"statusReason": long}), "statusReason"),
        ("/devices/d1", json!({"authentication": {"type": "password"}}), "authentication.type"),
        (
            "/devices/d1",
            json!({"authentication": {"symmetricKey": {"primaryKey": "short"}}}),
            "primaryKey",
        ),
        ("/devices/d1", json!({"authentication": {"type": "selfSigned"}}), "primaryThumbprint"),
        ("/devices/a%2Fb", json!({}), "device id"),
        ("/devices/d1", json!([]), "object"),
    ] {
        let answer = service.create(path, body).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{place}");
        assert!(answer.message().contains(place), "{place}: {answer:?}");
    }
    let token = service.token.clone();
    let raw = async |body: &str| {
        service.raw("PUT", "/devices/d1", &[("authorization", &token)], body).await
    };
    assert_eq!(raw("{\"status\":\"enabled\",\"status\":\"x\"}").await.refusal().0, 400);
    assert_eq!(raw("").await.refusal().0, 400);
    assert_eq!(raw(&"[".repeat(100_000)).await.refusal().0, 400);
    assert_eq!(raw(&" ".repeat(2 << 20)).await.refusal(), (413, "MessageTooLarge"));
    let no_device = service.create("/devices/nobody/modules/m", json!({})).await;
    assert_eq!(no_device.refusal(), (404, "DeviceNotFound"));
    assert_eq!(service.get("/devices/d1").await.refusal(), (404, "DeviceNotFound"));
}

#[tokio::test]
async fn a_bulk_change_does_what_it_can_and_says_what_it_could_not() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    // Node's `addDevices`.
    let add = json!([{"id": "d1", "importMode": "create", "status": "enabled"},
                     {"id": "d2", "importMode": "create"}]);
    let done = service.post("/devices", add.clone()).await;
    assert_eq!(done.status, 200);
    assert_eq!(done.json, json!({"isSuccessful": true, "errors": [], "warnings": []}));
    let again = service.post("/devices", add).await;
    assert_eq!(again.status, 400);
    assert_eq!(again.json["isSuccessful"], false);
    assert_eq!(again.json["errors"][0]["deviceId"], "d1");
    assert_eq!(again.json["errors"][0]["errorCode"], "DeviceAlreadyExists");
    // Node's `updateDevices(…, false)` and `removeDevices(…, true)`.
    let present = tag(&service.get("/devices/d1").await.json);
    let mixed = json!([
        {"id": "d1", "importMode": "UpdateIfMatchETag", "etag": present, "status": "disabled"},
        {"id": "d2", "importMode": "UpdateIfMatchETag", "eTag": "MA==", "status": "disabled"},
        {"id": "d3", "importMode": "createOrUpdate"},
        {"id": "edge", "moduleId": "m", "importMode": "create"},
        {"id": "nobody", "importMode": "Delete"},
        {"id": "d4", "importMode": "guess"},
    ]);
    let mixed = service.post("/devices", mixed).await;
    let failed: Vec<(&str, &str)> = mixed.json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["deviceId"].as_str().unwrap(), error["errorCode"].as_str().unwrap()))
        .collect();
    assert_eq!(
        failed,
        [("d2", "PreconditionFailed"), ("nobody", "DeviceNotFound"), ("d4", "ArgumentInvalid")]
    );
    assert_eq!(service.get("/devices/d1").await.json["status"], "disabled");
    assert_eq!(service.get("/devices/d2").await.json["status"], "enabled");
    assert_eq!(service.get("/devices/d3").await.status, 200);
    assert_eq!(service.get("/devices/edge/modules/m").await.status, 200);
    let removed =
        json!([{"id": "d1", "importMode": "Delete"}, {"id": "d3", "importMode": "Delete"}]);
    assert_eq!(service.post("/devices", removed).await.status, 200);
    assert_eq!(service.get("/devices/d1").await.status, 404);
    let twice = service.post("/devices", json!([{"id": "x"}, {"id": "x"}])).await;
    assert_eq!(twice.refusal(), (400, "DeviceDefinedMultipleTimes"));
    let many: Vec<Value> = (0..101).map(|number| json!({"id": format!("x{number}")})).collect();
    assert_eq!(service.post("/devices", json!(many)).await.refusal(), (413, "TooManyDevices"));
}

#[tokio::test]
async fn a_connected_device_is_shown_as_connected_and_a_disabled_one_is_dismissed() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    service.create("/devices/d1", json!({})).await;
    let identity = weir_core::id::Identity::device("d1".parse().unwrap());
    let proven = weir_hub::authenticate::Proven::trusted(identity);
    let session = service.hub().hub.connect(proven, "test", "here").unwrap();
    let shown = service.get("/devices/d1").await.json;
    assert_eq!(shown["connectionState"], "Connected");
    assert_ne!(shown["connectionStateUpdatedTime"], "0001-01-01T00:00:00Z");
    service.update("/devices/d1", "*", json!({"status": "disabled"})).await;
    assert_eq!(session.left().await, weir_hub::Leave::Revoked);
    hub.clock.advance(std::time::Duration::from_secs(60));
    drop(session);
    let gone = service.get("/devices/d1").await.json;
    assert_eq!(gone["connectionState"], "Disconnected");
    assert_eq!(gone["connectionStateUpdatedTime"], "2026-05-04T10:01:00Z");
}
