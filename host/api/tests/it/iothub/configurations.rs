//! Configurations are kept and shown.

use super::Service;
use crate::support::TestHub;
use serde_json::json;

#[tokio::test]
async fn a_configuration_is_kept_as_it_was_written_and_changed_by_its_etag() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    // The body of Node's `addConfiguration`.
    let body = json!({"id": "c1", "schemaVersion": "1.0", "priority": 10,
        "targetCondition": "tags.site='a'", "labels": {"by": "me"},
        "content": {"deviceContent": {"properties.desired.x": 1}},
        "metrics": {"queries": {"q": "SELECT deviceId FROM devices"}}, "etag": null});
    let made = service.create("/configurations/c1", body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    for member in ["id", "priority", "targetCondition", "labels", "content", "metrics"] {
        assert_eq!(made.json[member], body[member], "{member}");
    }
    assert_eq!(made.json["systemMetrics"]["results"]["targetedCount"], 0);
    let again = service.create("/configurations/c1", body.clone()).await;
    assert_eq!(again.refusal(), (409, "ConfigurationAlreadyExists"));
    assert_eq!(service.get("/configurations/c1").await.json, made.json);
    let tag = made.json["etag"].as_str().unwrap().to_owned();
    let mut changed = made.json.clone();
    changed["priority"] = json!(20);
    let updated = service.update("/configurations/c1", &tag, changed.clone()).await;
    assert_eq!((updated.status, &updated.json["priority"]), (200, &json!(20)));
    let stale = service.update("/configurations/c1", &tag, changed).await;
    assert_eq!(stale.refusal(), (412, "PreconditionFailed"));
    let list = service.get("/configurations?top=5").await;
    assert_eq!(list.json, json!([updated.json]));
    assert_eq!(service.delete("/configurations/c1", &tag).await.refusal().0, 412);
    // Node's `removeConfiguration`.
    let gone = service.call("DELETE", "/configurations/c1", None, None).await;
    assert_eq!(gone.status, 204);
    let missing = service.get("/configurations/c1").await;
    assert_eq!(missing.refusal(), (404, "ConfigurationNotFound"));
    let missing = service.update("/configurations/c1", "*", body).await;
    assert_eq!(missing.refusal(), (404, "ConfigurationNotFound"));
}

#[tokio::test]
async fn bad_configurations_and_more_than_a_hundred_are_refused() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    for (path, body) in [
        ("/configurations/C1", json!({})),
        ("/configurations/c1", json!({"id": "c2"})),
        ("/configurations/c1", json!({"priority": "high"})),
        ("/configurations/c1", json!({"content": []})),
    ] {
        let answer = service.create(path, body.clone()).await;
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid"), "{body}");
    }
    for number in 0..100 {
        let made = service.create(&format!("/configurations/c{number}"), json!({})).await;
        assert_eq!(made.status, 201);
    }
    let more = service.create("/configurations/more", json!({})).await;
    assert_eq!(more.refusal(), (403, "ConfigurationCountLimitExceeded"));
    let queries = service.post("/configurations/testQueries", json!({})).await;
    assert_eq!(queries.refusal(), (501, "NotImplemented"));
}
