//! Direct methods of Wasm modules: called between batches, answered after the commit.

use crate::hub::{Guest, MODULE, PASS, SINK, TestHub, body, each, emission, trap, wait_for};
use bytes::Bytes;
use futures::future::join_all;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::method::{MethodAnswer, MethodCall};
use weir_core::port::{Answer, Called, Fault, ModuleStart, RuntimeError};
use weir_hub::{MethodError, State};

const NOW: Timestamp = Timestamp::from_secs(1);

fn identity() -> Identity {
    Identity::module("E".parse().unwrap(), MODULE.parse().unwrap())
}

async fn invoke(hub: &TestHub, name: &str, connect: u64) -> Result<String, MethodError> {
    let name = name.parse().unwrap();
    let call = MethodCall {
        name,
        payload: Bytes::from_static(b"[7]"),
        connect_timeout: Duration::from_secs(connect),
        response_timeout: Duration::from_secs(5),
    };
    let answer = hub.hub.invoke(&identity(), call).await?;
    Ok(format!("{} {}", answer.status, std::str::from_utf8(&answer.payload).unwrap()))
}

fn answered(status: i32, text: &str) -> Called<MethodAnswer> {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Called { answer: MethodAnswer { status, payload }, effects: Answer::default() }
}

/// Passes messages on, traps on `x`; its methods say which component and which instance answers.
fn speaking(name: &'static str) -> impl Fn(usize, &ModuleStart) -> Result<Guest, RuntimeError> {
    move |number, start| {
        let state = Arc::clone(&start.state);
        let method = move |method: &str, body: &[u8]| match method {
            "who" => Ok(answered(200, &format!("\"{name}{number}\""))),
            "echo" => Ok(answered(200, std::str::from_utf8(body).unwrap())),
            "send" => {
                let mut state = state.lock().unwrap();
                let count = state.increment("sent", 1, NOW).unwrap();
                let effects = Answer {
                    sends: vec![emission(&format!("sent {count}"))],
                    state: state.commit(),
                    ..Answer::default()
                };
                Ok(Called { effects, ..answered(200, &count.to_string()) })
            }
            "trap" => Err(trap()),
            "slow" => Err(Fault::TimeOut(Duration::from_millis(250))),
            "trap-if-new" if name == "new" => Err(trap()),
            "trap-if-new" => Ok(answered(200, &format!("\"{name}\""))),
            _ => Ok(answered(404, "null")),
        };
        let batch = each(|delivery| if body(delivery) == "x" { Err(trap()) } else { Ok(PASS) })(0);
        Ok(Guest { batch, method: Some(Box::new(method)), desired: None })
    }
}

async fn speaker(hub: &TestHub, members: serde_json::Value) {
    let component = hub.guest("old", speaking("old")).await;
    hub.put(component, members).await;
}

#[tokio::test]
async fn a_method_answers_the_caller_and_an_unknown_one_with_the_guests_own_404() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({})).await;
    assert_eq!(invoke(&hub, "echo", 0).await.unwrap(), "200 [7]");
    assert_eq!(invoke(&hub, "anything", 0).await.unwrap(), "404 null");
}

#[tokio::test]
async fn a_module_without_methods_is_not_connected_for_callers() {
    let hub = TestHub::start().await;
    hub.install(json!({}), each(|_| Ok(PASS))).await;
    let found = invoke(&hub, "echo", 0).await;
    assert_eq!(found, Err(MethodError::NotConnected(identity())));
    assert_eq!(found.unwrap_err().status(), 404);
}

#[tokio::test]
async fn what_a_method_does_is_on_disk_when_the_caller_has_the_answer() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({})).await;
    for count in 1..=3 {
        assert_eq!(invoke(&hub, "send", 0).await.unwrap(), format!("200 {count}"));
        assert_eq!(hub.bodies(SINK).await.len(), count);
        let state = hub.hub.store().module_state(MODULE).await.unwrap();
        assert_eq!(state["sent"].value, count.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_method_whose_work_cannot_be_stored_has_not_happened() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({})).await;
    hub.send("a", &["first"]).await;
    hub.sunk(1).await;
    hub.limit(SINK, Some(1));
    let failed = invoke(&hub, "send", 0).await.unwrap_err();
    assert!(
        matches!(&failed, MethodError::Failed { reason, .. } if reason.contains("stored")),
        "{failed}"
    );
    let paused =
        || async { matches!(hub.module().await.state, State::Paused { .. }).then_some(()) };
    wait_for("pause", paused).await;
    assert_eq!(invoke(&hub, "who", 0).await, Err(MethodError::NotConnected(identity())));
    hub.limit(SINK, None);
    assert_eq!(invoke(&hub, "send", 5).await.unwrap(), "200 1");
    assert_eq!(hub.bodies(SINK).await, ["first", "sent 1"]);
}

#[tokio::test]
async fn a_method_that_traps_answers_the_caller_and_costs_the_instance_only() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({})).await;
    assert_eq!(invoke(&hub, "who", 0).await.unwrap(), "200 \"old1\"");
    let failed = invoke(&hub, "trap", 0).await.unwrap_err();
    assert_eq!(failed.status(), 502);
    assert!(failed.to_string().contains("on purpose"), "{failed}");
    assert_eq!(invoke(&hub, "slow", 0).await.unwrap_err().status(), 504);
    assert_eq!(invoke(&hub, "who", 0).await.unwrap(), "200 \"old3\"");
    hub.send("a", &["."]).await;
    hub.sunk(1).await;
    assert_eq!(hub.module().await.counters.faults, 2);
}

#[tokio::test]
async fn a_module_whose_circuit_is_open_is_not_connected() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({ "errors": { "open-after": 2 } })).await;
    for _ in 0..2 {
        invoke(&hub, "trap", 0).await.unwrap_err();
    }
    let open = || async { (hub.module().await.state == State::CircuitOpen).then_some(()) };
    wait_for("open circuit", open).await;
    assert_eq!(invoke(&hub, "who", 0).await, Err(MethodError::NotConnected(identity())));
}

#[tokio::test]
async fn a_call_on_which_a_new_version_fails_is_answered_by_the_old_one() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({})).await;
    let new = hub.guest("new", speaking("new")).await;
    hub.put(new, json!({})).await;
    assert_eq!(invoke(&hub, "who", 0).await.unwrap(), "200 \"new0\"");
    assert_eq!(invoke(&hub, "trap-if-new", 0).await.unwrap(), "200 \"old\"");
    let module = hub.module().await;
    assert_eq!((module.version, module.last_return.unwrap().failed), (1, 2));
}

#[tokio::test]
async fn calls_during_swaps_are_all_answered() {
    let hub = TestHub::start().await;
    let old = hub.guest("old", speaking("old")).await;
    let new = hub.guest("new", speaking("new")).await;
    hub.put(old, json!({})).await;
    let done = AtomicBool::new(false);
    let calls = async {
        while !done.load(Ordering::Relaxed) {
            invoke(&hub, "who", 0).await.unwrap();
        }
    };
    let swaps = async {
        for _ in 0..5 {
            for (component, name) in [(new, "new"), (old, "old")] {
                hub.put(component, json!({})).await;
                let answer = invoke(&hub, "who", 0).await.unwrap();
                assert_eq!(&answer[5..8], name, "who asks after the switch gets the new version");
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(calls, swaps);
}

#[tokio::test]
async fn calls_and_messages_take_turns() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({ "batch": { "messages": 1 } })).await;
    hub.send("a", &["."; 50]).await;
    let calls = async {
        for _ in 0..50 {
            invoke(&hub, "send", 0).await.unwrap();
        }
    };
    let ((), found) = tokio::join!(calls, hub.sunk(50));
    assert!(found.iter().any(|body| body == "."), "messages went on meanwhile");
    hub.sunk(100).await;
}

#[tokio::test]
async fn more_calls_than_may_wait_are_refused_and_none_is_lost() {
    let hub = TestHub::start().await;
    speaker(&hub, json!({})).await;
    let count = 3 * limits::METHOD_CALLS_PER_TARGET;
    let results = join_all((0..count).map(|_| invoke(&hub, "echo", 0))).await;
    let busy = results.iter().filter(|result| **result == Err(MethodError::Busy)).count();
    let good = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(busy + good, count);
    assert!(busy > 0 && good >= limits::METHOD_CALLS_PER_TARGET, "{busy} busy, {good} good");
}

#[tokio::test]
async fn a_call_waits_for_a_module_that_comes_back_in_time() {
    let hub = TestHub::start().await;
    let starts = Mutex::new(0);
    let make = speaking("old");
    let shaky = move |number: usize, start: &ModuleStart| {
        let mut starts = starts.lock().unwrap();
        *starts += 1;
        // The first one tries the installation; the third follows the fault.
        match *starts {
            3 => Err(RuntimeError::Init("not now".to_owned())),
            _ => make(number, start),
        }
    };
    let component = hub.guest("shaky", shaky).await;
    hub.put(component, json!({})).await;
    invoke(&hub, "trap", 0).await.unwrap_err();
    let away = || async { (hub.module().await.state == State::BackingOff).then_some(()) };
    wait_for("pause", away).await;
    assert_eq!(invoke(&hub, "who", 0).await, Err(MethodError::NotConnected(identity())));
    assert!(invoke(&hub, "who", 30).await.is_ok());
}
