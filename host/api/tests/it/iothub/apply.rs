//! A deployment's content: all of it, or nothing.

use super::Service;
use crate::support::{DROP, TestHub};
use serde_json::{Value, json};

const APPLY: &str = "/devices/edge/applyConfigurationContent";

fn hub_part(routes: Value) -> Value {
    json!({"schemaVersion": "1.1", "routes": routes,
           "storeAndForwardConfiguration": {"timeToLiveSecs": 60}})
}

async fn routes(hub: &TestHub) -> Vec<(String, String, Value, Value)> {
    let list = hub.get("/api/v1/routes").await.json;
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| {
            let text = |member: &str| route[member].as_str().unwrap().to_owned();
            let of = |member: &str| route.get(member).cloned().unwrap_or(Value::Null);
            (text("name"), text("route"), of("priority"), of("timeToLiveSecs"))
        })
        .collect()
}

async fn desired(service: &Service<'_>, module: &str) -> Value {
    let path = format!("/twins/edge/modules/{}", module.replace('$', "%24"));
    let mut desired = service.get(&path).await.json["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|name, _| !name.starts_with('$'));
    desired
}

#[tokio::test]
async fn content_replaces_the_routes_as_a_set_and_sets_the_twins() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    hub.put("/api/v1/routes/old", json!({"route": "FROM /* INTO $upstream"})).await;
    hub.put("/api/v1/routes/same", json!({"route": "FROM /messages/* INTO $upstream"})).await;
    let kept = hub.get("/api/v1/routes/same").await.header("etag").to_owned();
    service.create("/devices/edge/modules/m", json!({})).await;
    let agent = json!({
        "schemaVersion": "1.1", "runtime": {"type": "docker", "settings": {}},
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": "a"}},
            "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always",
                        "settings": {"image": "h"}},
        },
        "modules": {"made": {"type": "docker", "settings": {"image": "i"}}},
    });
    let content = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": agent},
        "$edgeHub": {"properties.desired": hub_part(json!({
            "r1": "FROM /messages/modules/a/* INTO BrokeredEndpoint(\"/modules/m/inputs/in\")",
            "r2": {"route": "FROM /messages/* INTO $upstream", "priority": 1, "timeToLiveSecs": 30},
            "same": "FROM /messages/* INTO $upstream",
        }))},
        "m": {"properties.desired": {"interval": 5}},
    }, "deviceContent": null});
    let applied = service.post(APPLY, content).await;
    assert_eq!((applied.status, applied.text.as_str()), (204, ""), "{applied:?}");
    let upstream = "FROM /messages/* INTO $upstream".to_owned();
    assert_eq!(
        routes(&hub).await,
        [
            (
                "r1".to_owned(),
                "FROM /messages/modules/a/* INTO BrokeredEndpoint(\"/modules/m/inputs/in\")"
                    .to_owned(),
                Value::Null,
                Value::Null
            ),
            ("r2".to_owned(), upstream.clone(), json!(1), json!(30)),
            ("same".to_owned(), upstream, Value::Null, Value::Null),
        ]
    );
    assert_eq!(hub.get("/api/v1/routes/same").await.header("etag"), kept, "it was not touched");
    assert_eq!(desired(&service, "m").await, json!({"interval": 5}));
    assert_eq!(desired(&service, "$edgeAgent").await, agent);
    assert_eq!(desired(&service, "$edgeHub").await["schemaVersion"], "1.1");
    let made = service.get("/devices/edge/modules/made").await.json;
    assert_eq!(
        (&made["managedBy"], &made["authentication"]["type"]),
        (&json!("iotEdge"), &json!("sas"))
    );
    // In force after a restart, too.
    let hub = hub.restart().await;
    assert_eq!(routes(&hub).await.len(), 3);
}

#[tokio::test]
async fn what_is_wrong_anywhere_leaves_everything_as_it_was() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    hub.install("w", DROP).await;
    hub.put("/api/v1/routes/old", json!({"route": "FROM /* INTO $upstream"})).await;
    service.create("/devices/edge/modules/m", json!({})).await;
    let good = hub_part(json!({"r": "FROM /* INTO $upstream"}));
    let cases = [
        (
            json!({"m": {"properties.desired": {"bad key": 1}}}),
            "/modulesContent/m/properties.desired/bad key",
        ),
        (json!({"m": {"properties.desired": 1}}), "/modulesContent/m/properties.desired"),
        (json!({"m": {"desired": {}}}), "/modulesContent/m/desired"),
        (json!({"$edgeAgent": {"properties.desired": {"schemaVersion": "2.0"}}}), "schemaVersion"),
        (
            json!({"$edgeHub": {"properties.desired": hub_part(json!({"r": "FROM nowhere"}))}}),
            "/modulesContent/$edgeHub/properties.desired/routes/r",
        ),
        (
            json!({"$edgeHub": {"properties.desired": hub_part(json!({"a b": "FROM /* INTO $upstream"}))}}),
            "/routes/a b",
        ),
        (
            json!({"$edgeHub": {"properties.desired": hub_part(json!({
                "r": "FROM /* INTO BrokeredEndpoint(\"/modules/w/inputs/wrong\")"}))}}),
            "has no input wrong",
        ),
        (
            json!({"$edgeHub": {"properties.desired": {"schemaVersion": "1.1", "routes": {}}}}),
            "storeAndForwardConfiguration",
        ),
        (
            json!({"$edgeHub": {"properties.desired.routes.r": "FROM /* INTO $upstream"}}),
            "schemaVersion",
        ),
    ];
    for (modules, place) in cases {
        let mut content = json!({"modulesContent": {
            "new": {"properties.desired": {"a": 1}},
            "$edgeHub": {"properties.desired": good},
        }});
        content["modulesContent"]
            .as_object_mut()
            .unwrap()
            .extend(modules.as_object().unwrap().clone());
        let refused = service.post(APPLY, content).await;
        assert_eq!(refused.refusal(), (400, "InvalidConfigurationContent"), "{place}");
        assert!(refused.message().contains(place), "{place}: {}", refused.message());
        let names: Vec<String> = routes(&hub).await.into_iter().map(|route| route.0).collect();
        assert_eq!(names, ["old"], "{place}");
        assert_eq!(service.get("/devices/edge/modules/new").await.status, 404, "{place}");
        assert_eq!(desired(&service, "$edgeHub").await, json!({}), "{place}");
    }
    let no_json = service.raw("POST", APPLY, &[("authorization", &service.token)], "{").await;
    assert_eq!(no_json.refusal(), (400, "ArgumentInvalid"));
}

#[tokio::test]
async fn single_properties_are_put_over_those_that_are_there() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let first = json!({"modulesContent": {
        "m": {"properties.desired": {"a": {"b": 1, "c": 2}}},
        "$edgeHub": {"properties.desired": hub_part(json!({"r1": "FROM /* INTO $upstream"}))},
    }});
    assert_eq!(service.post(APPLY, first).await.status, 204);
    let second = json!({"modulesContent": {
        "m": {"properties.desired.a.b": 5},
        "$edgeHub": {"properties.desired.routes.r2": "FROM /messages/* INTO $upstream"},
    }});
    assert_eq!(service.post(APPLY, second).await.status, 204);
    assert_eq!(desired(&service, "m").await, json!({"a": {"b": 5, "c": 2}}));
    let names: Vec<String> = routes(&hub).await.into_iter().map(|route| route.0).collect();
    assert_eq!(names, ["r1", "r2"]);
}

#[tokio::test]
async fn a_change_of_the_hubs_own_twin_is_put_in_force() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let path = "/twins/edge/modules/%24edgeHub";
    let set = json!({"properties": {"desired": hub_part(json!({"r1": "FROM /* INTO $upstream"}))}});
    let first = service.call("PATCH", path, Some("\"*\""), Some(&set)).await;
    assert_eq!(first.status, 200, "{first:?}");
    assert_eq!(routes(&hub).await.len(), 1);
    let more = json!({"properties": {"desired": {"routes": {
        "r1": null, "r2": "FROM /messages/* INTO $upstream"}}}});
    let stale = service.call("PATCH", path, Some("\"AAAAAAAAAAE=\""), Some(&more)).await;
    assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
    assert_eq!(service.call("PATCH", path, None, Some(&more)).await.status, 200);
    assert_eq!(routes(&hub).await[0].0, "r2");
    let wrong = json!({"properties": {"desired": {"routes": {"r3": "FROM"}}}});
    let refused = service.call("PATCH", path, None, Some(&wrong)).await;
    assert_eq!(refused.refusal(), (400, "ArgumentInvalid"));
    assert!(refused.message().contains("/properties/desired/routes/r3"), "{refused:?}");
    assert_eq!(routes(&hub).await.len(), 1);
    let tags = json!({"tags": {"a": 1}});
    assert_eq!(service.call("PATCH", path, None, Some(&tags)).await.status, 200);
}

#[tokio::test]
async fn the_time_to_live_of_the_content_counts_for_routes_that_set_none() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let content = json!({"modulesContent": {"$edgeHub": {"properties.desired": hub_part(json!({
        "r": "FROM /messages/* INTO BrokeredEndpoint(\"/modules/m/inputs/in\")"}))}}});
    assert_eq!(service.post(APPLY, content).await.status, 204);
    service.create("/devices/d1", json!({})).await;
    hub.send("d1", &["x"]).await;
    let expires = async || {
        let queue = hub.get("/api/v1/queues/edge%2Fm%2Fin/messages").await;
        queue.json["items"][0]["expires"].as_str().map(str::to_owned)
    };
    assert_eq!(expires().await.as_deref(), Some("2026-05-04T10:01:00Z"));
}

#[tokio::test]
async fn only_the_hubs_own_edge_device_is_configured_by_those_who_may() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    service.create("/devices/d1", json!({})).await;
    let content = json!({"modulesContent": {}});
    let other = service.post("/devices/d1/applyConfigurationContent", content.clone()).await;
    assert_eq!(other.refusal(), (400, "InvalidConfigurationContent"));
    let nobody = service.post("/devices/x/applyConfigurationContent", content.clone()).await;
    assert_eq!(nobody.refusal(), (404, "DeviceNotFound"));
    for (policy, status) in [("service", 401), ("registryRead", 401), ("registryReadWrite", 204)] {
        let service = Service::of(&hub, policy).await;
        assert_eq!(service.post(APPLY, content.clone()).await.status, status, "{policy}");
    }
}
