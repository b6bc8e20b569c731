//! Direct method calls of modules, in the forms of both SDKs.

use super::{Answer, PATIENCE, Port, device, module};
use serde_json::{Value, json};
use weir_core::id::Identity;
use weir_core::method::MethodAnswer;

const CALL: &str = r#"{"methodName":"ping","payload":{"n":7},"responseTimeoutInSeconds":5}"#;

/// What the module `caller` asks of `path`.
async fn call(port: &Port, path: &str, body: &str) -> Answer {
    let token = port.token(&module("caller"));
    let headers = [("Authorization", token.as_str()), ("x-ms-edge-moduleId", "edge/caller")];
    port.ask(&format!("POST {path}"), &headers, body.as_bytes()).await
}

async fn open() -> Port {
    let port = Port::open().await;
    for identity in [module("caller"), module("target"), device("leaf")] {
        port.register(&identity).await;
    }
    port
}

/// Answers one call with what it was asked.
async fn answer_one(port: &Port, target: &Identity) -> (Value, String) {
    let session = port.session(target);
    let mut requests = session.take_methods();
    // A call that was refused hands nothing over: then the test fails, and does not wait for ever.
    let request = tokio::time::timeout(PATIENCE, requests.next()).await.expect("a call comes");
    let answer = MethodAnswer { status: 299, payload: request.payload.clone() };
    assert!(session.answer_method(request.id, answer));
    (serde_json::from_slice(&request.payload).unwrap(), request.name.to_string())
}

#[tokio::test]
async fn a_module_calls_modules_and_devices_in_the_forms_of_both_sdks() {
    let port = open().await;
    for (path, target) in [
        ("/twins/edge/modules/target/methods?api-version=2019-10-01", module("target")),
        ("/twins/edge/modules/target/methods", module("target")),
        ("/twins/leaf/methods?api-version=2019-10-01", device("leaf")),
        ("/twins/leaf/methods", device("leaf")),
        ("/twins/%6Ceaf/methods", device("leaf")),
    ] {
        let body = CALL.replace("5}", "5,\"connectTimeoutInSeconds\":5}");
        let (answer, asked) = tokio::join!(call(&port, path, &body), answer_one(&port, &target));
        assert_eq!(asked, (json!({"n": 7}), "ping".to_owned()), "{path}");
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.body, r#"{"status":299,"payload":{"n":7}}"#);
    }
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_call_that_reaches_nobody_says_why() {
    let port = open().await;
    let refused = async |path: &str| call(&port, path, CALL).await.refusal();
    assert_eq!(refused("/twins/nobody/methods").await, (404, "DeviceNotFound".into()));
    let path = "/twins/edge/modules/nobody/methods";
    assert_eq!(refused(path).await, (404, "ModuleNotFound".into()));
    assert_eq!(refused("/twins/a%2Fb/methods").await, (404, "DeviceNotFound".into()));
    assert_eq!(refused("/twins/leaf/methods").await, (404, "DeviceNotOnline".into()));
    let silent = port.session(&device("leaf"));
    let _requests = silent.take_methods();
    assert_eq!(refused("/twins/leaf/methods").await, (504, "GatewayTimeout".into()));
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_caller_that_is_not_proven_reaches_nobody() {
    let port = open().await;
    let (own, other) = (port.token(&module("caller")), port.token(&module("target")));
    let leaf = port.token(&device("leaf"));
    let forged = own.replace("sig=", "sig=A");
    let cases = [
        ("no name", None, Some(&own), 400),
        ("half a name", Some("edge"), Some(&own), 400),
        ("three parts", Some("edge/caller/x"), Some(&own), 400),
        ("no token", Some("edge/caller"), None, 401),
        ("forged token", Some("edge/caller"), Some(&forged), 401),
        ("another's token", Some("edge/caller"), Some(&other), 401),
        ("another's name", Some("edge/target"), Some(&own), 401),
        ("a leaf's token", Some("edge/caller"), Some(&leaf), 401),
        ("unknown", Some("edge/unknown"), Some(&own), 401),
    ];
    for (name, caller, token, status) in cases {
        let caller = caller.map(|caller| ("X-MS-Edge-ModuleId", caller));
        let token = token.map(|token| ("Authorization", token.as_str()));
        let headers: Vec<_> = caller.into_iter().chain(token).collect();
        let answer = port.ask("POST /twins/leaf/methods", &headers, CALL.as_bytes()).await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        answer.refusal();
    }
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn modules_of_other_devices_call_nobody() {
    let port = open().await;
    let foreign = Identity::module("leaf".parse().unwrap(), "m".parse().unwrap());
    port.register(&foreign).await;
    let token = port.token(&foreign);
    let headers = [("Authorization", token.as_str()), ("x-ms-edge-moduleId", "leaf/m")];
    let path = "POST /twins/edge/modules/target/methods";
    let answer = port.ask(path, &headers, CALL.as_bytes()).await;
    assert_eq!(answer.refusal(), (401, "IotHubUnauthorizedAccess".into()));
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_call_out_of_bounds_is_refused() {
    let port = open().await;
    let large = format!(r#"{{"methodName":"m","payload":"{}"}}"#, "x".repeat(131_072));
    for body in [
        "",
        "{}",
        r#"{"methodName":""}"#,
        r#"{"methodName":"m","responseTimeoutInSeconds":4}"#,
        r#"{"methodName":"m","responseTimeoutInSeconds":301}"#,
        r#"{"methodName":"m","connectTimeoutInSeconds":301}"#,
        &large,
    ] {
        let answer = call(&port, "/twins/leaf/methods", body).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.refusal(), (400, "ArgumentInvalid".into()), "{shown}");
    }
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_token_that_names_a_policy_never_counts_as_a_modules() {
    let port = open().await;
    let token = format!("{}&skn=iothubowner", port.token(&module("caller")));
    let headers = [("Authorization", token.as_str()), ("x-ms-edge-moduleId", "edge/caller")];
    let answer = port.ask("POST /twins/leaf/methods", &headers, CALL.as_bytes()).await;
    assert_ne!(answer.refusal().1, "DeviceNotOnline", "{answer:?}");
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn a_service_client_calls_on_the_same_path() {
    let port = open().await;
    let token = port.service_token().await;
    for (path, code) in [
        ("/twins/leaf/methods?api-version=2021-04-12", "DeviceNotOnline"),
        ("/twins/edge/modules/target/methods?api-version=2021-04-12", "DeviceNotOnline"),
        ("/twins/nobody/methods?api-version=2021-04-12", "DeviceNotFound"),
    ] {
        let headers = [("Authorization", token.as_str())];
        let answer = port.ask(&format!("POST {path}"), &headers, CALL.as_bytes()).await;
        assert_eq!(answer.refusal(), (404, code.into()), "{path}");
        // A method that only the service paths might know.
        let answer = port.ask(&format!("GET {path}"), &headers, b"").await;
        assert_ne!(answer.status, 400, "{path}: {answer:?}");
    }
    port.hub.hub.tasks().stop().drain();
}
