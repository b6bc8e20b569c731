//! Devices, identities of modules, connection strings.

use crate::support::{EDGE, TestHub};
use serde_json::json;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

#[tokio::test]
async fn a_device_is_made_with_keys_that_are_shown_then_and_on_request_only() {
    let hub = TestHub::start().await;
    let made = hub.put("/api/v1/devices/pump-1", json!({"authentication": {"type": "sas"}})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let key = made.json["authentication"]["symmetricKey"]["primaryKey"].as_str().unwrap();
    let shown = hub.get("/api/v1/devices/pump-1").await;
    assert_eq!(shown.json["deviceId"], "pump-1");
    assert!(!shown.text.contains(key), "{shown:?}");
    assert!(!hub.get("/api/v1/devices").await.text.contains(key));
    let keys = hub.get("/api/v1/devices/pump-1?keys=true").await;
    assert_eq!(keys.json["authentication"]["symmetricKey"]["primaryKey"], key);
    let reader = hub.token(&["devices:write"]).await;
    let refused = hub.call("GET", "/api/v1/devices/pump-1?keys=true").token(&reader).send().await;
    assert_eq!(refused.refusal(), (403, "forbidden"));
    let again = hub.put("/api/v1/devices/pump-1", json!({})).await;
    assert_eq!(again.status, 200);
    assert!(!again.text.contains(key), "a replacement shows no keys");
    let text = hub.get("/api/v1/devices/pump-1/connection-string").await;
    let expected =
        format!("HostName=hub.example;DeviceId=pump-1;SharedAccessKey={key};GatewayHostName=gw");
    assert_eq!(text.json["connectionString"], expected, "the keys stayed");
}

#[tokio::test]
async fn identities_of_modules_live_below_their_device() {
    let hub = TestHub::start().await;
    let path = format!("/api/v1/devices/{EDGE}/modules/receiver");
    let keys = json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY}}});
    let made = hub.put(&path, keys).await;
    assert_eq!((made.status, &made.json["moduleId"]), (201, &json!("receiver")));
    let text = hub.get(&format!("{path}/connection-string")).await;
    let text = text.json["connectionString"].as_str().unwrap();
    assert!(text.contains(&format!("DeviceId={EDGE};ModuleId=receiver;SharedAccessKey={KEY}")));
    let list = hub.get(&format!("/api/v1/devices/{EDGE}/modules")).await;
    let names = list.json["items"].as_array().unwrap().iter().map(|module| &module["moduleId"]);
    assert_eq!(names.collect::<Vec<_>>(), ["$edgeAgent", "$edgeHub", "receiver"]);
    let nobody = hub.put("/api/v1/devices/nobody/modules/m", json!({})).await;
    assert_eq!(nobody.refusal(), (404, "not-found"));
    assert_eq!(hub.delete(&format!("/api/v1/devices/{EDGE}")).await.refusal(), (409, "conflict"));
    assert_eq!(hub.delete(&path).await.status, 204);
    assert_eq!(hub.get(&path).await.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn a_device_with_modules_is_not_deleted_and_a_disabled_one_is_patched() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/devices/a", json!({})).await;
    hub.put("/api/v1/devices/a/modules/m", json!({})).await;
    assert_eq!(hub.delete("/api/v1/devices/a").await.refusal(), (409, "conflict"));
    let key = hub.get("/api/v1/devices/a?keys=true").await.json["authentication"].clone();
    let call = hub.call("PATCH", "/api/v1/devices/a").json(&json!({"status": "disabled"}));
    let patched = call.header("content-type", "application/merge-patch+json").send().await;
    assert_eq!((patched.status, &patched.json["status"]), (200, &json!("disabled")));
    assert_eq!(hub.get("/api/v1/devices/a?keys=true").await.json["authentication"], key);
    hub.delete("/api/v1/devices/a/modules/m").await;
    assert_eq!(hub.delete("/api/v1/devices/a").await.status, 204);
    let call = hub.call("PATCH", "/api/v1/devices/a").json(&json!({}));
    assert_eq!(call.send().await.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn an_identity_that_contradicts_itself_is_refused() {
    let hub = TestHub::start().await;
    for (body, status) in [
        (json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": "short"}}}), 400),
        (json!({"authentication": {"type": "selfSigned"}}), 400),
        (json!({"authentication": {"type": "password"}}), 400),
        (json!({"deviceId": "other"}), 400),
        (json!({"status": "asleep"}), 400),
        (json!({"parent": "no/device"}), 400),
        (json!({"capabilities": {"iotEdge": true}}), 400),
        (json!([]), 400),
        (json!({"deviceId": "d"}), 201),
    ] {
        let answer = hub.put("/api/v1/devices/d", body.clone()).await;
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(!answer.text.contains("short"), "secrets are not repeated");
    }
    let none = hub.put("/api/v1/devices/n", json!({"authentication": {"type": "none"}})).await;
    assert_eq!(none.status, 201);
    let text = hub.get("/api/v1/devices/n/connection-string").await;
    assert_eq!(text.refusal(), (409, "conflict"));
}

#[tokio::test]
async fn names_are_checked_after_they_are_decoded() {
    let hub = TestHub::start().await;
    for name in ["a%2Fb", "a%23", "%2E%2E%2Fx", "a%20b", "%ff", "%00", &"a".repeat(129)] {
        let answer = hub.put(&format!("/api/v1/devices/{name}"), json!({})).await;
        assert_eq!(answer.refusal(), (422, "invalid-name"), "{name}");
        assert_eq!(answer.json["errors"][0]["parameter"], "id", "{answer:?}");
    }
    let answer = hub.put("/api/v1/devices/a%24b%3A%40", json!({})).await;
    assert_eq!((answer.status, &answer.json["deviceId"]), (201, &json!("a$b:@")));
}

#[tokio::test]
async fn service_clients_get_a_key_that_stays() {
    let hub = TestHub::start().await;
    let path = "/api/v1/service-policies/service/connection-string";
    let text = hub.get(path).await.json["connectionString"].as_str().unwrap().to_owned();
    assert!(text.starts_with("HostName=gw;SharedAccessKeyName=service;SharedAccessKey="), "{text}");
    let other = hub.get("/api/v1/service-policies/iothubowner/connection-string").await;
    assert_ne!(other.json["connectionString"], text);
    let hub = hub.restart().await;
    assert_eq!(hub.get(path).await.json["connectionString"], text);
    let unknown = hub.get("/api/v1/service-policies/root/connection-string").await;
    assert_eq!(unknown.refusal(), (404, "not-found"));
    let list = hub.get("/api/v1/service-policies").await;
    let names = list.json["items"].as_array().unwrap().iter().map(|policy| &policy["name"]);
    let expected = ["device", "iothubowner", "registryRead", "registryReadWrite", "service"];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert_eq!(list.json["items"][4]["rights"], "ServiceConnect");
}

#[tokio::test]
async fn who_is_connected_is_listed() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/devices/pump-1", json!({})).await;
    let identity = weir_core::id::Identity::device("pump-1".parse().unwrap());
    let proven = weir_hub::authenticate::Proven::trusted(identity);
    let session = hub.hub.connect(proven, "mqtt", "192.0.2.7:1").unwrap();
    let list = hub.get("/api/v1/clients").await;
    assert_eq!(list.json["items"][0]["deviceId"], "pump-1");
    assert_eq!(list.json["items"][0]["peer"], "192.0.2.7:1");
    drop(session);
    assert_eq!(hub.get("/api/v1/clients").await.json["items"], json!([]));
}

#[tokio::test]
async fn the_environment_of_a_module_names_all_that_an_sdk_needs_and_no_secret() {
    let hub = TestHub::start().await;
    let path = format!("/api/v1/devices/{EDGE}/modules/$sender");
    let made = hub.put(&path, json!({"authentication": {"type": "sas"}})).await;
    let answer = hub.get("/api/v1/edge-environment/$sender").await;
    let expected = json!({
        "IOTEDGE_APIVERSION": "2021-12-07",
        "IOTEDGE_AUTHSCHEME": "sasToken",
        "IOTEDGE_DEVICEID": EDGE,
        "IOTEDGE_GATEWAYHOSTNAME": "gw",
        "IOTEDGE_IOTHUBHOSTNAME": "hub.example",
        "IOTEDGE_MODULEGENERATIONID": made.json["generationId"],
        "IOTEDGE_MODULEID": "$sender",
        "IOTEDGE_WORKLOADURI": "unix:///data/run/workload/=24sender.sock",
    });
    assert_eq!(answer.json["variables"], expected, "{made:?}");
    let http = hub.get("/api/v1/edge-environment/$sender?transport=http").await;
    assert_eq!(http.json["variables"]["IOTEDGE_WORKLOADURI"], "http://127.0.0.1:15580/");
    let refused = hub.get("/api/v1/edge-environment/nobody").await;
    assert_eq!(refused.refusal(), (404, "not-found"));
    hub.put(&path, json!({"authentication": {"type": "certificateAuthority"}})).await;
    let refused = hub.get("/api/v1/edge-environment/$sender").await;
    assert_eq!(refused.refusal(), (409, "conflict"));
}
