//! Direct methods: who answers, who waits, and for how long.

use crate::hub::TestHub;
use bytes::Bytes;
use futures::future::join_all;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::method::{MethodAnswer, MethodCall, MethodId};
use weir_hub::authenticate::Credentials;
use weir_hub::{Hub, IdentitySpec, MethodError, MethodRequests, Session};
use weir_store::Expect;

fn device(name: &str) -> Identity {
    Identity::device(name.parse().unwrap())
}

fn module(name: &str) -> Identity {
    Identity::module("E".parse().unwrap(), name.parse().unwrap())
}

fn call(name: &str, connect: u64, response: u64) -> MethodCall {
    let body = format!(
        r#"{{"methodName":"{name}","payload":{{"n":7}},"connectTimeoutInSeconds":{connect},"responseTimeoutInSeconds":{response}}}"#
    );
    MethodCall::from_json(body.as_bytes()).unwrap()
}

fn answer(text: &'static str) -> MethodAnswer {
    MethodAnswer { status: 200, payload: Bytes::from_static(text.as_bytes()) }
}

async fn answer_next(session: &Session, requests: &mut MethodRequests, text: &'static str) -> bool {
    let request = requests.next().await;
    assert_eq!(&*request.payload, br#"{"n":7}"#);
    session.answer_method(request.id, answer(text))
}

fn counted(hub: &Hub, outcome: &str) -> String {
    let text = hub.metrics_text().unwrap();
    let line = format!("edgehub_direct_methods_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)).unwrap_or("0").to_owned()
}

fn dropped(hub: &Hub) -> String {
    let text = hub.metrics_text().unwrap();
    let name = "weir_method_answers_dropped_total ";
    text.lines().find_map(|found| found.strip_prefix(name)).unwrap().to_owned()
}

#[tokio::test]
async fn the_caller_gets_the_clients_own_status_and_payload() {
    let hub = TestHub::start().await;
    let session = hub.connect(&device("a")).await;
    let mut requests = session.take_methods();
    let target = device("a");
    let (result, waited) = tokio::join!(
        hub.hub.invoke(&target, call("poke", 0, 5)),
        answer_next(&session, &mut requests, " {\"pong\": 7}\n"),
    );
    assert!(waited);
    assert_eq!(result.unwrap().to_json(), br#"{"status":200,"payload":{"pong": 7}}"#);
    assert_eq!(counted(&hub.hub, "answered"), "1");
}

#[tokio::test]
async fn a_call_waits_for_its_target_to_connect_and_to_take_methods() {
    let hub = TestHub::start().await;
    let target = device("a");
    drop(hub.connect(&target).await);
    let comes = async {
        let session = hub.connect(&target).await;
        tokio::task::yield_now().await;
        let mut requests = session.take_methods();
        assert!(answer_next(&session, &mut requests, "1").await);
        session
    };
    let (result, _session) = tokio::join!(hub.hub.invoke(&target, call("poke", 60, 5)), comes);
    assert_eq!(&*result.unwrap().payload, b"1");
}

#[tokio::test]
async fn without_a_target_the_call_ends_with_the_connect_time_out() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    tokio::time::pause();
    for seconds in [0, 20] {
        let started = Instant::now();
        let result = hub.hub.invoke(&target, call("poke", seconds, 5)).await;
        assert_eq!(result, Err(MethodError::NotConnected(target.clone())));
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
    drop(session);
    assert_eq!(counted(&hub.hub, "not_connected"), "2");
}

#[tokio::test]
async fn an_answer_that_is_late_is_dropped_and_counted() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    let mut requests = session.take_methods();
    tokio::time::pause();
    let (result, request) =
        tokio::join!(hub.hub.invoke(&target, call("poke", 0, 7)), requests.next());
    assert_eq!(result, Err(MethodError::TimedOut(Duration::from_secs(7))));
    assert!(!session.answer_method(request.id, answer("1")));
    assert_eq!((counted(&hub.hub, "timed_out"), dropped(&hub.hub)), ("1".into(), "1".into()));
}

#[tokio::test]
async fn a_client_cannot_answer_for_another() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    let thief = hub.connect(&device("b")).await;
    let _thiefs = thief.take_methods();
    let mut requests = session.take_methods();
    let answering = async {
        let request = requests.next().await;
        assert!(!thief.answer_method(request.id, answer("\"stolen\"")));
        assert!(!session.answer_method(MethodId::new([1; 8]), answer("\"guessed\"")));
        assert!(session.answer_method(request.id, answer("\"own\"")));
        assert!(!session.answer_method(request.id, answer("\"again\"")));
    };
    let (result, ()) = tokio::join!(hub.hub.invoke(&target, call("poke", 0, 5)), answering);
    assert_eq!(&*result.unwrap().payload, b"\"own\"");
    assert_eq!(dropped(&hub.hub), "3");
}

#[tokio::test]
async fn the_calls_of_a_client_that_leaves_fail_at_once_and_are_not_repeated() {
    let hub = TestHub::start().await;
    let target = device("a");
    let old = hub.connect(&target).await;
    let mut requests = old.take_methods();
    let leaves = async {
        let request = requests.next().await;
        // The client comes back before its older connection has ended.
        let new = hub.connect(&target).await;
        let mut again = new.take_methods();
        assert!(!new.answer_method(request.id, answer("1")), "it was asked in another session");
        drop(old);
        let second = timeout(Duration::from_millis(100), again.next()).await;
        assert!(second.is_err(), "a call was handed over twice");
        new
    };
    let started = Instant::now();
    let invoked = hub.hub.invoke(&target, call("poke", 300, 300));
    let (result, _new) = tokio::join!(invoked, leaves);
    assert_eq!(result, Err(MethodError::NotConnected(target)));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_call_that_the_leaving_client_has_not_seen_fails_too() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    let requests = session.take_methods();
    let leaves = async {
        tokio::task::yield_now().await;
        drop(requests);
    };
    let (result, ()) = tokio::join!(hub.hub.invoke(&target, call("poke", 0, 300)), leaves);
    assert_eq!(result, Err(MethodError::NotConnected(target.clone())));
    let result = hub.hub.invoke(&target, call("poke", 0, 300)).await;
    assert_eq!(result, Err(MethodError::NotConnected(target)), "nobody takes methods now");
}

#[tokio::test]
async fn subscribing_again_loses_no_call_that_the_client_has() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    let mut first = session.take_methods();
    let answering = async {
        let request = first.next().await;
        let mut second = session.take_methods();
        drop(first);
        assert!(session.answer_method(request.id, answer("1")));
        assert!(answer_next(&session, &mut second, "2").await);
        second
    };
    let calling = async {
        let one = hub.hub.invoke(&target, call("poke", 0, 5)).await.unwrap();
        let two = hub.hub.invoke(&target, call("poke", 5, 5)).await.unwrap();
        (one.payload, two.payload)
    };
    let ((one, two), _second) = tokio::join!(calling, answering);
    assert_eq!((&*one, &*two), (&b"1"[..], &b"2"[..]));
}

#[tokio::test]
async fn many_calls_are_open_on_one_connection_and_each_gets_its_own_answer() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    let mut requests = session.take_methods();
    let names: Vec<String> =
        (0..limits::METHOD_CALLS_PER_TARGET).map(|n| format!("m{n}")).collect();
    let calls = join_all(names.iter().map(|name| hub.hub.invoke(&target, call(name, 0, 60))));
    let answering = async {
        let mut open = Vec::new();
        while open.len() < names.len() {
            open.push(requests.next().await);
        }
        // One more would be a queue.
        let more = hub.hub.invoke(&target, call("more", 0, 60)).await;
        assert_eq!(more, Err(MethodError::Busy));
        open.reverse();
        for request in open {
            let payload = format!("\"{}\"", request.name).into();
            assert!(session.answer_method(request.id, MethodAnswer { status: 1, payload }));
        }
    };
    let (answers, ()) = tokio::join!(calls, answering);
    for (name, answer) in names.iter().zip(answers) {
        assert_eq!(answer.unwrap().payload, format!("\"{name}\""));
    }
}

#[tokio::test]
async fn an_answer_that_is_no_json_is_not_passed_on() {
    let hub = TestHub::start().await;
    let target = device("a");
    let session = hub.connect(&target).await;
    let mut requests = session.take_methods();
    for (text, passed) in [("", true), ("{", false), ("1,\"status\":0", false)] {
        let (result, waited) = tokio::join!(
            hub.hub.invoke(&target, call("poke", 0, 5)),
            answer_next(&session, &mut requests, text),
        );
        assert!(waited);
        match result {
            Ok(answer) => assert!(passed && &*answer.payload == b"null", "{text}"),
            Err(MethodError::Answer { .. }) => assert!(!passed, "{text}"),
            Err(other) => panic!("{text}: {other}"),
        }
    }
}

#[tokio::test]
async fn an_identity_that_is_unknown_or_disabled_is_not_found() {
    let hub = TestHub::start().await;
    let unknown = hub.hub.invoke(&device("nobody"), call("poke", 300, 5)).await;
    assert_eq!(unknown, Err(MethodError::NotFound(device("nobody"))));
    drop(hub.connect(&device("a")).await);
    let spec: IdentitySpec = serde_json::from_str(r#"{"status":"disabled"}"#).unwrap();
    hub.hub.identities().put(&hub.hub, device("a"), spec, Expect::Any).await.unwrap();
    let disabled = hub.hub.invoke(&device("a"), call("poke", 300, 5)).await.unwrap_err();
    assert_eq!((disabled.status(), disabled.iothub_code().0), (404, "DeviceNotFound"));
}

#[tokio::test]
async fn a_module_of_the_edge_device_may_call_and_nobody_else() {
    let hub = TestHub::start().await;
    let target = device("leaf");
    let session = hub.connect(&target).await;
    let mut requests = session.take_methods();
    hub.connect(&device("other")).await;
    let of_leaf = Identity::module("other".parse().unwrap(), "m1".parse().unwrap());
    for (caller, allowed) in [(module("m1"), true), (device("other"), false), (of_leaf, false)] {
        drop(hub.connect(&caller).await);
        let visitor = hub.visit(&caller);
        if allowed {
            let (result, _) = tokio::join!(
                visitor.invoke(&target, call("poke", 0, 5)),
                answer_next(&session, &mut requests, "1"),
            );
            assert!(result.is_ok());
        } else {
            let result = visitor.invoke(&target, call("poke", 0, 5)).await.unwrap_err();
            assert_eq!(
                (result.status(), matches!(result, MethodError::Denied { .. })),
                (401, true)
            );
        }
    }
}

#[tokio::test]
async fn one_caller_does_not_take_the_room_of_all() {
    let hub = TestHub::start().await;
    let caller = module("m1");
    drop(hub.connect(&caller).await);
    let visitor = hub.visit(&caller);
    let targets = [device("a"), device("b")];
    for target in &targets {
        drop(hub.connect(target).await);
    }
    tokio::time::pause();
    let each = limits::METHOD_CALLS_PER_CALLER / 2 + 1;
    let calls = targets.iter().flat_map(|target| std::iter::repeat_n(target, each));
    let results = join_all(calls.map(|target| visitor.invoke(target, call("poke", 10, 5)))).await;
    let busy = results.iter().filter(|result| **result == Err(MethodError::Busy)).count();
    assert_eq!(busy, 2);
    let after = visitor.invoke(&targets[0], call("poke", 1, 5)).await;
    assert_eq!(after, Err(MethodError::NotConnected(targets[0].clone())), "the room is back");
}

impl TestHub {
    /// A single request of an identity that exists.
    pub(crate) fn visit(&self, identity: &Identity) -> weir_hub::Visitor {
        let token = self.token(identity);
        let proven = self.hub.authenticate(identity, Credentials::of(Some(&token), &[])).unwrap();
        self.hub.visit(proven).unwrap()
    }
}
