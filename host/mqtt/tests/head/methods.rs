//! Direct methods: the side that is called.

use crate::client::{Client, id, publish, unsubscribe};
use crate::hub::TestHub;
use crate::{EVENTS, METHODS, leaf, module, sender};
use std::time::Duration;
use tokio::task::JoinHandle;
use weir_core::id::Identity;
use weir_core::method::{MethodAnswer, MethodCall};
use weir_hub::MethodError;
use weir_mqtt_codec::{Delivery, Packet, Publish, Qos};

/// A call under way, as some caller makes it.
type Call = JoinHandle<Result<MethodAnswer, MethodError>>;

fn call_with(hub: &TestHub, target: &Identity, name: &str, connect: u64) -> Call {
    let body = serde_json::json!({
        "methodName": name,
        "payload": { "n": 7 },
        "connectTimeoutInSeconds": connect,
        "responseTimeoutInSeconds": 5,
    });
    let call = MethodCall::from_json(body.to_string().as_bytes()).unwrap();
    let (hub, target) = (hub.hub.clone(), target.clone());
    #[expect(clippy::disallowed_methods, reason = "a caller beside the test")]
    tokio::spawn(async move { hub.invoke(&target, call).await })
}

fn call(hub: &TestHub, target: &Identity, name: &str) -> Call {
    call_with(hub, target, name, 5)
}

/// The name and request id in the topic of a call.
fn name_and_rid(request: &Publish) -> (String, String) {
    let rest = request.topic.as_str().strip_prefix("$iothub/methods/POST/").unwrap();
    let (name, rid) = rest.split_once("/?$rid=").unwrap();
    (name.to_owned(), rid.to_owned())
}

fn answer_topic(request: &Publish, status: i32) -> String {
    format!("$iothub/methods/res/{status}/?$rid={}", name_and_rid(request).1)
}

fn answered(status: i32, payload: &'static str) -> MethodAnswer {
    MethodAnswer { status, payload: payload.into() }
}

#[tokio::test]
async fn a_call_comes_with_qos_0_and_is_answered_with_either() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(METHODS, Qos::AtLeastOnce).await;
    for (number, body, payload) in [(0, r#"{"a":1}"#, r#"{"a":1}"#), (7, "", "null")] {
        let caller = call(&hub, &module(), "poke");
        let request = client.delivery().await;
        assert_eq!(request.delivery, Delivery::AtMostOnce);
        assert_eq!(request.payload, r#"{"n":7}"#);
        assert_eq!(name_and_rid(&request).0, "poke");
        client.send(publish(&answer_topic(&request, -3), body, number)).await;
        if number > 0 {
            assert_eq!(client.next().await, Some(Packet::Puback(id(number))));
        }
        assert_eq!(caller.await.unwrap().unwrap(), answered(-3, payload));
    }
}

#[tokio::test]
async fn many_calls_are_under_way_and_answered_in_any_order() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&leaf()).await;
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    let callers: Vec<Call> = (0..20).map(|n| call(&hub, &leaf(), &format!("m{n}"))).collect();
    let mut requests = Vec::new();
    for _ in 0..20 {
        requests.push(client.delivery().await);
    }
    for request in requests.iter().rev() {
        let (name, _) = name_and_rid(request);
        client.send(publish(&answer_topic(request, 200), format!("\"{name}\""), 0)).await;
    }
    for (number, caller) in callers.into_iter().enumerate() {
        let payload = format!("\"m{number}\"").into();
        assert_eq!(caller.await.unwrap().unwrap(), MethodAnswer { status: 200, payload });
    }
}

#[tokio::test]
async fn an_odd_name_stays_one_level_that_python_decodes_to_itself() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    for (name, level) in [
        ("component*reboot", "component*reboot"),
        ("a/b", "a%2Fb"),
        ("50%+1", "50%25%2B1"),
        ("q?#x", "q%3F%23x"),
        ("ä b", "%C3%A4 b"),
    ] {
        let caller = call(&hub, &module(), name);
        let request = client.delivery().await;
        assert_eq!(name_and_rid(&request).0, level);
        client.send(publish(&answer_topic(&request, 200), "1", 0)).await;
        assert_eq!(caller.await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn an_answer_to_no_call_or_to_anothers_is_acknowledged_and_ignored() {
    let hub = TestHub::start().await;
    let (mut client, mut other) = (hub.client(&module()).await, hub.client(&sender()).await);
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    let caller = call(&hub, &module(), "poke");
    let request = client.delivery().await;
    other.publishes(&answer_topic(&request, 500), "1", 1).await;
    client.publishes("$iothub/methods/res/200/?$rid=1", "1", 2).await;
    client.publishes("$iothub/methods/res/200/?$rid=ffffffffffffffff", "1", 3).await;
    client.publishes(&answer_topic(&request, 200), "2", 4).await;
    client.publishes(&answer_topic(&request, 201), "3", 5).await;
    assert_eq!(caller.await.unwrap().unwrap(), answered(200, "2"));
}

#[tokio::test]
async fn who_has_not_subscribed_or_has_unsubscribed_is_not_called() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    let refused = |caller: Call| async { caller.await.unwrap().unwrap_err() };
    let error = refused(call_with(&hub, &module(), "poke", 0)).await;
    assert!(matches!(error, MethodError::NotConnected(_)), "{error}");
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    client.send(unsubscribe(4, METHODS)).await;
    assert_eq!(client.next().await, Some(Packet::Unsuback(id(4))));
    let error = refused(call_with(&hub, &module(), "poke", 0)).await;
    assert!(matches!(error, MethodError::NotConnected(_)), "{error}");
    // A call that has time waits for the subscription.
    let caller = call_with(&hub, &module(), "poke", 30);
    assert_eq!(client.within(Duration::from_millis(200)).await, None);
    client.send(crate::client::subscribe(5, &[(METHODS, Qos::AtMostOnce)])).await;
    assert!(matches!(client.next().await, Some(Packet::Suback(_))));
    let request = client.delivery().await;
    client.send(publish(&answer_topic(&request, 200), "1", 0)).await;
    assert_eq!(caller.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn the_subscription_is_in_force_at_once_after_a_reconnect_and_a_restart() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(METHODS, Qos::AtLeastOnce).await;
    drop(client);
    let hub = hub.restart().await;
    let caller = call_with(&hub, &module(), "poke", 30);
    let before = tokio::time::Instant::now();
    let mut client = hub.client(&module()).await;
    let request = client.delivery().await;
    // No sooner could it be: the SDK keeps a call until the application has set its handler.
    assert!(before.elapsed() < Duration::from_millis(900), "{:?}", before.elapsed());
    client.send(publish(&answer_topic(&request, 200), "1", 0)).await;
    assert_eq!(caller.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_call_ends_at_once_when_the_client_leaves_with_it() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    let caller = call(&hub, &module(), "poke");
    client.delivery().await;
    let before = tokio::time::Instant::now();
    drop(client);
    let error = caller.await.unwrap().unwrap_err();
    assert!(matches!(error, MethodError::NotConnected(_)), "{error}");
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
}

#[tokio::test]
async fn calls_and_messages_do_not_hold_each_other_up() {
    let hub = TestHub::start().await;
    hub.route().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    hub.set_full(true);
    // It waits for room in its queue.
    client.send(publish(EVENTS, "waits", 1)).await;
    let caller = call(&hub, &module(), "poke");
    let request = client.delivery().await;
    client.send(publish(&answer_topic(&request, 200), "1", 0)).await;
    assert_eq!(caller.await.unwrap().unwrap().status, 200);
    hub.set_full(false);
    assert_eq!(client.next().await, Some(Packet::Puback(id(1))));
}

#[tokio::test]
async fn a_client_that_reads_nothing_gets_no_more_calls_than_fit() {
    let hub = TestHub::start().await;
    let mut client = hub.client(&module()).await;
    client.subscribe(METHODS, Qos::AtMostOnce).await;
    let payload = "x".repeat(100_000);
    let body =
        serde_json::json!({ "methodName": "m", "payload": payload, "responseTimeoutInSeconds": 5 });
    let large = MethodCall::from_json(body.to_string().as_bytes()).unwrap();
    let target = module();
    let calls = (0..90).map(|_| hub.hub.invoke(&target, large.clone()));
    let results = futures::future::join_all(calls).await;
    assert!(results.iter().all(Result::is_err));
    // It is served again when it reads.
    let mut seen = 0;
    while let Some(packet) = client.within(Duration::from_millis(500)).await {
        assert!(matches!(packet, Packet::Publish(_)), "{packet:?}");
        seen += 1;
    }
    assert!(seen < 90, "{seen}: calls that nobody waits for any more are not sent");
    let caller = call(&hub, &module(), "poke");
    answer_one(&mut client).await;
    assert_eq!(caller.await.unwrap().unwrap().status, 200);
}

async fn answer_one(client: &mut Client<tokio::net::TcpStream>) {
    let request = client.delivery().await;
    client.send(publish(&answer_topic(&request, 200), "1", 0)).await;
}
