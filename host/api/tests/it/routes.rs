//! Routes and tests of routes.

use crate::support::TestHub;
use serde_json::{Value, json};

const TO_CLOUD: &str = "FROM /messages/* INTO $upstream";

#[tokio::test]
async fn routes_take_effect_at_once_and_survive_a_restart() {
    let hub = TestHub::start().await;
    let body = json!({"route": TO_CLOUD, "priority": 1, "timeToLiveSecs": 60});
    let made = hub.put("/api/v1/routes/to-cloud", body).await;
    assert_eq!(made.status, 201);
    let expected = json!({"name": "to-cloud", "route": TO_CLOUD, "priority": 1,
        "timeToLiveSecs": 60, "sink": "$upstream"});
    assert_eq!(made.json, expected);
    let hub = hub.restart().await;
    let shown = hub.get("/api/v1/routes/to-cloud").await;
    assert_eq!((&shown.json, shown.header("etag")), (&expected, made.header("etag")));
    hub.put("/api/v1/devices/pump", json!({})).await;
    hub.send("pump", &["a"]).await;
    let queue = hub.get("/api/v1/queues/iothub").await;
    assert_eq!(queue.json["messages"], 1, "{queue:?}");
    assert_eq!(hub.delete("/api/v1/routes/to-cloud").await.status, 204);
    assert_eq!(hub.delete("/api/v1/routes/to-cloud").await.refusal(), (404, "not-found"));
    assert_eq!(hub.get("/api/v1/routes/to-cloud").await.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn a_bad_route_changes_nothing() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/routes/good", json!({"route": TO_CLOUD})).await;
    hub.install("filter", crate::support::DROP).await;
    for (body, code) in [
        (json!({"route": "FROM"}), "route-syntax"),
        (json!({"route": ""}), "route-syntax"),
        (json!({"route": TO_CLOUD, "priority": 10}), "route-syntax"),
        (json!({"route": "x".repeat(9000)}), "route-syntax"),
        (
            json!({"route": "FROM /* INTO BrokeredEndpoint(\"/modules/filter/inputs/nope\")"}),
            "route-target",
        ),
    ] {
        let answer = hub.put("/api/v1/routes/bad", body.clone()).await;
        assert_eq!(answer.refusal(), (422, code), "{body}");
        assert!(answer.json["errors"][0]["pointer"].is_string(), "{answer:?}");
    }
    let list = hub.get("/api/v1/routes").await;
    assert_eq!(list.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn all_outputs_of_a_module_can_be_a_source_and_an_unknown_one_cannot() {
    let hub = TestHub::start().await;
    hub.install("filter", crate::support::DROP).await;
    for (source, status) in [
        ("/messages/modules/filter/outputs/*", 200),
        ("/messages/modules/filter/outputs/out", 200),
        ("/Messages/Modules/FILTER/Outputs/OUT", 200),
        ("/messages/modules/filter/*", 200),
        ("/messages/modules/filter/outputs/nope", 422),
        ("/messages/MODULES/Filter/outputs/nope", 422),
    ] {
        let route = format!("FROM {source} INTO $upstream");
        let answer = hub.put("/api/v1/routes/r", json!({ "route": route })).await;
        let status = if status == 200 { answer.status / 100 == 2 } else { answer.status == status };
        assert!(status, "{source}: {answer:?}");
    }
}

async fn test(hub: &TestHub, body: Value) -> (String, Value) {
    let answer = hub.post("/api/v1/route-tests", body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.json["result"].as_str().unwrap().to_owned(), answer.json)
}

#[tokio::test]
async fn a_condition_is_true_false_or_undefined_and_says_why() {
    let hub = TestHub::start().await;
    let message = json!({"source": "/messages", "body": {"temperature": 30},
        "properties": {"site": "north", "empty": null},
        "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}});
    for (condition, result) in [
        ("site = 'north'", "true"),
        ("site = 'south'", "false"),
        ("nothing = 'x'", "undefined"),
        ("$body.temperature > 25", "true"),
        ("NOT is_defined(nothing)", "true"),
    ] {
        let (found, json) = test(&hub, json!({"condition": condition, "message": message})).await;
        assert_eq!(found, result, "{condition}");
        assert_eq!(json["routes"], json!([]));
        assert!(json["reason"]["kind"] == "condition", "{json}");
        assert!(json["text"].as_str().unwrap().len() > 5);
    }
}

#[tokio::test]
async fn changes_of_twins_are_tested_with_their_own_function() {
    let hub = TestHub::start().await;
    let condition = "twin_change_includes(properties.reported.x)";
    let message = |source: &str| {
        json!({"source": source, "body": {"properties": {"reported": {"x": 1}}},
            "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}})
    };
    let body = json!({"condition": condition, "message": message("/twinChangeNotifications")});
    assert_eq!(test(&hub, body).await.0, "true");
}

#[tokio::test]
async fn routes_are_tested_without_being_stored() {
    let hub = TestHub::start().await;
    hub.put("/api/v1/routes/all", json!({"route": TO_CLOUD})).await;
    let message = json!({"properties": {"a": "1"}});
    let (result, json) = test(&hub, json!({"message": message})).await;
    assert_eq!((result.as_str(), &json["endpoints"]), ("true", &json!(["$upstream"])));
    assert_eq!(json["routes"][0]["name"], "all");
    let routes = json!({
        "one": "FROM /messages/* WHERE a = '2' INTO $upstream",
        "two": {"route": "FROM /messages/modules/* INTO $upstream", "priority": 0},
    });
    let (result, json) = test(&hub, json!({"routes": routes, "message": message})).await;
    assert_eq!(result, "false");
    assert_eq!(json["routes"].as_array().unwrap().len(), 2);
    assert_eq!(json["routes"][1]["reason"]["kind"], "sourceDiffers");
    let (result, _) = test(&hub, json!({"routes": {}, "message": message})).await;
    assert_eq!(result, "false");
    assert_eq!(hub.get("/api/v1/routes").await.json["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_compiled_is_refused_with_its_column() {
    let hub = TestHub::start().await;
    let message = json!({"source": "/messages"});
    let answer =
        hub.post("/api/v1/route-tests", json!({"condition": "a = ", "message": message})).await;
    assert_eq!(answer.refusal(), (422, "route-syntax"));
    assert!(answer.json["column"].as_u64().unwrap() >= 4, "{answer:?}");
    assert_eq!(answer.json["errors"][0]["pointer"], "/condition");
    let routes = json!({"bad": "FROM /* INOT $upstream"});
    let answer =
        hub.post("/api/v1/route-tests", json!({"routes": routes, "message": message})).await;
    assert_eq!((answer.refusal(), &answer.json["column"]), ((422, "route-syntax"), &json!(9)));
    assert_eq!(answer.json["errors"][0]["pointer"], "/routes/bad");
    for body in [
        json!({"condition": "true", "routes": {}, "message": message}),
        json!({"condition": "true"}),
        json!({"condition": "true", "message": {"properties": {"a": 1}}}),
        json!({"condition": "true", "message": {"bodi": 1}}),
        json!({"routes": {"a b": TO_CLOUD}, "message": message}),
        json!({"routes": {"a": 1}, "message": message}),
    ] {
        let answer = hub.post("/api/v1/route-tests", body.clone()).await;
        assert_eq!(answer.refusal(), (400, "invalid-request"), "{body}");
    }
}
