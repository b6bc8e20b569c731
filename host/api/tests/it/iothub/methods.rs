//! Direct methods and commands, as a back end sees them.

use super::Service;
use crate::support::TestHub;
use serde_json::json;
use weir_core::command::NewCommand;
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_core::method::MethodAnswer;
use weir_hub::authenticate::Proven;

const METHODS: &str = "/twins/edge/modules/m/methods";

async fn with_module(service: &Service<'_>) -> Identity {
    service.create("/devices/edge/modules/m", json!({})).await;
    Identity::module("edge".parse().unwrap(), "m".parse().unwrap())
}

#[tokio::test]
async fn a_method_is_answered_with_the_status_and_payload_of_its_module() {
    let hub = TestHub::start().await;
    let service = Service::of(&hub, "service").await;
    let owner = Service::owner(&hub).await;
    let identity = with_module(&owner).await;
    let session = hub.hub.connect(Proven::trusted(identity), "test", "here").unwrap();
    let mut requests = session.take_methods();
    // The bodies of Node (payload null) and Python (payload empty).
    for (payload, expected) in
        [(json!({"a": 1}), "{\"a\":1}"), (json!(null), "null"), (json!(""), "\"\"")]
    {
        let call = service.post(
            METHODS,
            json!({"methodName": "echo", "payload": payload, "responseTimeoutInSeconds": 30,
                   "connectTimeoutInSeconds": 0}),
        );
        let serve = async {
            let request = requests.next().await;
            assert_eq!(
                (request.name.as_str(), &request.payload[..]),
                ("echo", expected.as_bytes())
            );
            let answer = MethodAnswer { status: 201, payload: request.payload.clone() };
            assert!(session.answer_method(request.id, answer));
        };
        let (answer, ()) = futures::join!(call, serve);
        assert_eq!((answer.status, answer.json), (200, json!({"status": 201, "payload": payload})));
    }
}

#[tokio::test]
async fn a_method_without_a_taker_or_an_answer_fails_with_iot_hubs_codes() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let call = json!({"methodName": "echo", "responseTimeoutInSeconds": 5});
    let nobody = service.post("/twins/nobody/methods", call.clone()).await;
    assert_eq!(nobody.refusal(), (404, "DeviceNotFound"));
    let nobody = service.post("/twins/edge/modules/x/methods", call.clone()).await;
    assert_eq!(nobody.refusal(), (404, "ModuleNotFound"));
    let identity = with_module(&service).await;
    let offline = service.post(METHODS, call.clone()).await;
    assert_eq!(offline.refusal(), (404, "DeviceNotOnline"));
    let bad = service.post(METHODS, json!({"methodName": "x", "responseTimeoutInSeconds": 301}));
    assert_eq!(bad.await.refusal(), (400, "ArgumentInvalid"));
    assert_eq!(service.post(METHODS, json!({})).await.refusal(), (400, "ArgumentInvalid"));
    let session = hub.hub.connect(Proven::trusted(identity), "test", "here").unwrap();
    let _silent = session.take_methods();
    let late = service.post(METHODS, call).await;
    assert_eq!(late.refusal(), (504, "GatewayTimeout"));
}

#[tokio::test]
async fn commands_are_counted_on_the_identity_and_purged() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    service.create("/devices/d1", json!({})).await;
    let target = Identity::device("d1".parse().unwrap());
    for _ in 0..3 {
        let message = Message { body: "x".into(), ..Message::default() };
        let command = NewCommand { message, expires: None };
        hub.hub.commands().send(&hub.hub, &target, command).await.unwrap();
    }
    assert_eq!(service.get("/devices/d1").await.json["cloudToDeviceMessageCount"], 3);
    let purged = service.call("DELETE", "/devices/d1/commands", None, None).await;
    assert_eq!(
        (purged.status, purged.json),
        (200, json!({"totalMessagesPurged": 3, "deviceId": "d1", "moduleId": null}))
    );
    assert_eq!(service.get("/devices/d1").await.json["cloudToDeviceMessageCount"], 0);
    let nobody = service.call("DELETE", "/devices/nobody/commands", None, None).await;
    assert_eq!(nobody.refusal(), (404, "DeviceNotFound"));
}

#[tokio::test]
async fn feedback_over_rest_is_answered_as_not_offered() {
    let hub = TestHub::start().await;
    let service = Service::owner(&hub).await;
    let answer = service.get("/messages/serviceBound/feedback").await;
    assert_eq!(answer.refusal(), (501, "NotImplemented"));
}
