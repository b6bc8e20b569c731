//! Desired properties of `$edgeHub`: what is refused, skipped and warned of.

use serde_json::{Value, json};

use super::super::hub_config::{HubConfig, TimeToLive};

fn faults(desired: &Value) -> Vec<(String, String)> {
    let error = HubConfig::parse(desired).unwrap_err();
    error.faults.into_iter().map(|f| (f.pointer, f.kind.to_string())).collect()
}

#[test]
fn every_fault_is_listed_by_pointer() {
    let found = faults(&json!({
        "schemaVersion": "1.1",
        "routes": {
            "good": "FROM /* INTO $upstream",
            "a/b": "FORM /* INTO $upstream",
            "bad": {"route": "FROM /* WHERE 3 + x = 4 INTO $upstream", "priority": 50},
            "empty": "",
            "gone": null,
            "": "FROM /* INTO $upstream",
            "ttl": {"route": "FROM /* INTO $upstream", "timeToLiveSecs": -1},
            "none": {"priority": 1},
        },
        "storeAndForwardConfiguration": {"timeToLiveSecs": "x"},
    }));
    let pointers: Vec<&str> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/routes/",
            "/routes/a~1b",
            "/routes/bad/priority",
            "/routes/empty",
            "/routes/gone",
            "/routes/none",
            "/routes/ttl/timeToLiveSecs",
            "/storeAndForwardConfiguration/timeToLiveSecs",
            "/routes/bad/route",
        ]
    );
    assert!(found.iter().any(|(_, message)| message.contains("at column")), "{found:?}");
}

#[test]
fn an_empty_route_is_skipped_in_schema_1_0_only() {
    let desired = |version: &str| {
        json!({
            "schemaVersion": version,
            "routes": {"a": "FROM /* INTO $upstream", "b": ""},
            "storeAndForwardConfiguration": {},
        })
    };
    assert_eq!(HubConfig::parse(&desired("1.0")).unwrap().table.routes().len(), 1);
    assert_eq!(faults(&desired("1.1")), [("/routes/b".into(), "the route is empty".into())]);
}

#[test]
fn a_newer_minor_version_is_read_with_a_warning() {
    let config = HubConfig::parse(&json!({
        "schemaVersion": "1.9",
        "routes": {},
        "storeAndForwardConfiguration": {
            "timeToLiveSecs": -1, "storeLimits": {"maxSizeBytes": 1000}
        },
    }))
    .unwrap();
    assert_eq!(config.warnings[0].pointer, "/schemaVersion");
    assert_eq!(config.time_to_live, TimeToLive::Forever);
    assert_eq!(config.max_size_bytes, Some(1000));
}

#[test]
fn sections_that_are_missing_are_faults() {
    assert_eq!(faults(&json!({}))[0].0, "/schemaVersion");
    let found = faults(&json!({"schemaVersion": "1.0"}));
    assert_eq!(found[0].0, "/routes");
    assert_eq!(found[1].0, "/storeAndForwardConfiguration");
    assert_eq!(faults(&json!([]))[0].1, "expected an object, found a list");
}
