//! Who is let in, and what his policy allows him.

use super::{Service, own_token, token};
use crate::support::TestHub;
use serde_json::json;
use std::time::Duration;
use weir_core::id::Identity;
use weir_hub::SERVICE_POLICIES;
use weir_hub::authenticate::make_token;
use weir_hub::authorize::{Operation, Protocol};

const UNAUTHORIZED: (u16, &str) = (401, "IotHubUnauthorizedAccess");

async fn with_token(hub: &TestHub, token: &str) -> (u16, String) {
    let service = Service::owner(hub).await;
    let answer = service.raw("GET", "/devices", &[("authorization", token)], "").await;
    (answer.status, answer.text)
}

#[tokio::test]
async fn a_token_of_a_policy_opens_the_paths_under_both_names_of_the_hub() {
    let hub = TestHub::start().await;
    for resource in ["gw", "hub.example", "HUB.example", "gw%2fdevices", "gw%2F"] {
        let token = token(&hub, "iothubowner", resource, 60).await;
        assert_eq!(with_token(&hub, &token).await.0, 200, "{resource}");
    }
}

#[tokio::test]
async fn what_is_no_token_of_a_policy_opens_nothing() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    service.create("/devices/edge/modules/m", json!({})).await;
    let module = Identity::module("edge".parse().unwrap(), "m".parse().unwrap());
    let device = Identity::device("edge".parse().unwrap());
    let key = hub.hub.service_key("service").await.unwrap();
    let expires = hub.clock.now().after(Duration::from_secs(60));
    let good = token(&hub, "iothubowner", "gw", 60).await;
    let cases = [
        ("no token".to_owned(), String::new()),
        ("the api's own token".to_owned(), format!("Bearer {}", hub.admin)),
        ("a device's token".to_owned(), own_token(&hub, &device)),
        ("a module's token".to_owned(), own_token(&hub, &module)),
        ("a module's token that names a policy".to_owned(), {
            format!("{}&skn=iothubowner", own_token(&hub, &module))
        }),
        ("another policy's key".to_owned(), make_token(&key, "gw", expires, Some("iothubowner"))),
        ("no such policy".to_owned(), make_token(&key, "gw", expires, Some("root"))),
        ("no policy".to_owned(), make_token(&key, "gw", expires, None)),
        ("a policy without key".to_owned(), make_token(&key, "gw", expires, Some("device"))),
        ("another hub".to_owned(), token(&hub, "iothubowner", "other", 60).await),
        ("another path".to_owned(), token(&hub, "iothubowner", "gw%2Ftwins", 60).await),
        ("another resource than was signed".to_owned(), good.replace("sr=gw", "sr=hub.example")),
        ("an encoding that was not signed".to_owned(), good.replace("sr=gw", "sr=%67w")),
        ("a later end than was signed".to_owned(), good.replace("&se=1", "&se=2")),
    ];
    for (name, token) in cases {
        let answer = service.raw("GET", "/devices", &[("authorization", &token)], "").await;
        assert_eq!(answer.refusal(), UNAUTHORIZED, "{name}");
    }
    let answer = service.raw("GET", "/devices", &[], "").await;
    assert_eq!(answer.refusal(), UNAUTHORIZED);
    let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
    assert_eq!(service.raw("GET", "/devices", &twice, "").await.refusal(), UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_ends_five_minutes_after_its_expiry() {
    let hub = TestHub::start().await;
    let token = token(&hub, "iothubowner", "gw", 60).await;
    hub.clock.advance(Duration::from_secs(60 + 300));
    assert_eq!(with_token(&hub, &token).await.0, 200);
    hub.clock.advance(Duration::from_secs(1));
    let (status, text) = with_token(&hub, &token).await;
    assert_eq!(status, 401);
    assert!(text.contains("expired"), "{text}");
}

#[tokio::test]
async fn keys_outlive_a_restart() {
    let hub = TestHub::start().await;
    let token = token(&hub, "registryRead", "gw", 60).await;
    let hub = hub.restart().await;
    assert_eq!(with_token(&hub, &token).await.0, 200);
}

/// A path of the table with names in it.
fn concrete(path: &str) -> String {
    path.replace("{id}", "nobody").replace("{module}", "m").replace(['{', '}'], "")
}

#[tokio::test]
async fn every_operation_is_open_to_the_policies_with_its_rights_and_to_no_other() {
    let hub = TestHub::start().await;
    for policy in SERVICE_POLICIES {
        let service = Service::of(&hub, policy.name).await;
        for (method, path, needs) in weir_api::iothub::operations() {
            let answer = service.call(&method, &concrete(path), None, Some(&json!({}))).await;
            if policy.may(needs, Protocol::Https) {
                assert_ne!(answer.status, 401, "{} {method} {path}", policy.name);
                assert_ne!(answer.status, 405, "{method} {path}");
            } else {
                assert_eq!(answer.refusal(), UNAUTHORIZED, "{} {method} {path}", policy.name);
                assert!(answer.message().contains(needs.name()), "{answer:?}");
            }
        }
    }
}

#[test]
fn the_table_gives_each_policy_what_iot_hub_documents() {
    let needs = |wanted: &str| {
        let found = weir_api::iothub::operations()
            .find(|(method, path, _)| format!("{method} {path}") == wanted);
        found.map(|(_, _, needs)| needs).unwrap_or_else(|| panic!("{wanted}"))
    };
    for (operation, right) in [
        ("GET /devices", Operation::ReadRegistry),
        ("GET /devices/{id}/modules/{module}", Operation::ReadRegistry),
        ("PUT /devices/{id}", Operation::WriteRegistry),
        ("DELETE /devices/{id}/modules/{module}", Operation::WriteRegistry),
        ("POST /devices", Operation::WriteRegistry),
        ("POST /devices/query", Operation::ReadRegistry),
        ("GET /twins/{id}", Operation::ReadTwins),
        ("PATCH /twins/{id}/modules/{module}", Operation::WriteTwins),
        ("POST /twins/{id}/methods", Operation::CallMethods),
        ("DELETE /devices/{id}/commands", Operation::SendCommands),
        ("POST /devices/{id}/applyConfigurationContent", Operation::ApplyConfiguration),
    ] {
        assert_eq!(needs(operation), right, "{operation}");
    }
    // Nothing is open to the policy of devices.
    let device = SERVICE_POLICIES.iter().find(|policy| policy.name == "device").unwrap();
    assert!(
        weir_api::iothub::operations().all(|(_, _, needs)| !device.may(needs, Protocol::Https))
    );
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused_in_iot_hubs_form() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    assert_eq!(service.get("/certificates").await.refusal(), (404, "NotFound"));
    assert_eq!(service.get("/api/v1/devices").await.refusal(), (404, "NotFound"));
    let answer = service.call("PATCH", "/devices/edge", None, None).await;
    assert_eq!(answer.refusal(), (405, "MethodNotAllowed"));
    assert_eq!(service.raw("GET", "/nothing", &[], "").await.refusal(), UNAUTHORIZED);
}

#[tokio::test]
async fn jobs_and_digital_twins_are_answered_as_not_offered() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    for path in ["/jobs", "/jobs/1", "/jobs/v2/1", "/jobs/v2/query", "/digitaltwins/d"] {
        assert_eq!(service.get(path).await.refusal(), (501, "NotImplemented"), "{path}");
    }
}
