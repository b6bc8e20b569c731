//! Reports, direct methods and desired properties: what a guest gets, what comes back, and what one that
//! misbehaves can do with them.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod support;

use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use support::{Module, bodies, deliver, guests, plain, runtime, timed};
use weir_core::method::MethodAnswer;
use weir_core::module_twin::InForce;
use weir_core::port::{
    Answer, Called, DesiredChange, Fault, Handlers, Instance, Outcome, RuntimeError,
};

fn broken() -> Module {
    Module::broken(json!({}))
}

fn reports(fault: &str, size: usize) -> Module {
    Module::broken(json!({ "fault": fault, "size": size }))
}

async fn call(
    instance: &Arc<dyn Instance>,
    name: &str,
    body: &'static str,
) -> Result<Called<MethodAnswer>, Fault> {
    let called = instance.call_method(name, Bytes::from_static(body.as_bytes()));
    tokio::time::timeout(Duration::from_secs(60), called).await.unwrap()
}

async fn answer(instance: &Arc<dyn Instance>, name: &str, body: &'static str) -> (i32, String) {
    let answer = call(instance, name, body).await.unwrap().answer;
    (answer.status, String::from_utf8(answer.payload.to_vec()).unwrap())
}

async fn desired(
    instance: &Arc<dyn Instance>,
    value: Value,
) -> Result<Called<Result<(), String>>, Fault> {
    let Value::Object(value) = value else { panic!("an object") };
    instance.desired_changed(InForce::default().change_to(&InForce { value, version: 7 })).await
}

fn nothing_happened(answer: &Answer) {
    assert!(answer.sends.is_empty() && answer.releases.is_empty() && answer.state.is_empty());
    assert!(answer.reports.is_empty() && answer.outcomes.is_empty());
}

/// What the hub said to the report of a batch, what the guest then read, and the call's reports.
async fn reported(module: &Module) -> (String, String, usize) {
    let answer = deliver(&module.start(&runtime()).await, plain(1)).await.unwrap();
    let Outcome::Annotate { set, .. } = &answer.outcomes[0] else { panic!("{answer:?}") };
    (set[0].1.clone(), set[1].1.clone(), answer.reports.len())
}

async fn spent(instance: &Arc<dyn Instance>) {
    let after = deliver(instance, plain(1)).await;
    assert!(matches!(after, Err(Fault::Unavailable { .. })), "{after:?}");
}

#[tokio::test]
async fn what_a_component_can_be_called_with_is_read_from_its_exports() {
    let runtime = runtime();
    for (guest, methods, desired) in [
        ("filter", false, false),
        ("threshold", false, true),
        ("counter", true, false),
        ("broken", true, true),
    ] {
        let instance = Module::new(guests::guest(guest)).start(&runtime).await;
        assert_eq!(instance.handlers(), Handlers { methods, desired }, "{guest}");
    }
}

#[tokio::test]
async fn a_component_without_the_exports_has_no_methods_and_takes_what_is_desired() {
    let instance = Module::new(guests::guest("filter")).start(&runtime()).await;
    assert_eq!(answer(&instance, "any", "null").await, (404, "null".to_owned()));
    assert_eq!(desired(&instance, json!({ "a": 1 })).await.unwrap().answer, Ok(()));
}

#[tokio::test]
async fn a_report_is_a_value_of_the_call_and_the_guest_reads_it_at_once() {
    let module = reports("report", 0);
    let (answer, read, count) = reported(&module).await;
    assert_eq!((answer.as_str(), count), ("Ok(())", 1));
    assert_eq!(read, r#"{"said":{"a":1}}"#);
    assert_eq!(module.reported(), read);
}

#[tokio::test]
async fn a_report_against_the_rules_is_refused_with_the_place_and_the_guest_goes_on() {
    for (fault, size, words) in [
        ("report-not-json", 0, "InvalidJson(\"/a: it is not JSON"),
        ("report-no-object", 0, "InvalidJson(\"the document: it must be an object"),
        ("report-bad-name", 0, "InvalidJson(\"/a/b.c: the name may not contain"),
        ("report-deep", 12, "InvalidJson(\"/a/a/a"),
        ("report-deep", 20_000, "InvalidJson(\"/a/a/a"),
        ("report-forged", 0, "InvalidJson(\"/weir-desired: the hub writes it"),
        ("report-giant", 40_000, "TooLarge"),
        ("report-giant", 2_000_000, "TooLarge"),
    ] {
        let module = reports(fault, size);
        let (answer, read, count) = reported(&module).await;
        assert!(answer.contains(words), "{fault}: {answer}");
        assert_eq!((read.as_str(), count), ("{}", 0), "{fault}");
    }
}

#[tokio::test]
async fn a_flood_of_reports_is_cut_at_the_quota_of_a_call() {
    let module = reports("report-flood", 5_000);
    let instance = module.start(&runtime()).await;
    for _ in 0..2 {
        let answer = deliver(&instance, plain(1)).await.unwrap();
        assert_eq!(answer.reports.len(), weir_core::limits::MODULE_REPORTS);
    }
}

#[tokio::test]
async fn a_report_of_a_call_that_traps_was_not_made() {
    let module = reports("report-then-panic", 0);
    let instance = module.start(&runtime()).await;
    assert!(matches!(deliver(&instance, plain(1)).await, Err(Fault::Trap(_))));
    assert_eq!(module.reported(), "{}");
}

#[tokio::test]
async fn nothing_is_reported_in_init_nor_without_the_grant() {
    let settings = json!({ "fault": "report-then-panic", "when": "init" });
    let module = Module::broken(settings);
    let error = module.try_start(&runtime()).await.err().unwrap();
    assert!(matches!(error, RuntimeError::Init(_)), "{error:?}");
    assert_eq!(module.reported(), "{}");
    let module = reports("report", 0).with("grants", json!({ "report": false }));
    assert_eq!(reported(&module).await.0, "Err(TwinError::Denied)");
}

#[tokio::test]
async fn a_method_gets_its_body_and_its_answer_comes_back() {
    let instance = broken().start(&runtime()).await;
    let body = r#"{"a":[1,"é"]}"#;
    assert_eq!(answer(&instance, "echo", body).await, (200, body.to_owned()));
    assert_eq!(answer(&instance, "nothing", "null").await, (200, "null".to_owned()));
    let unknown = (404, r#"{"message":"there is no method x/y"}"#.to_owned());
    assert_eq!(answer(&instance, "x/y", "null").await, unknown);
}

#[tokio::test]
async fn what_a_method_does_is_a_value_of_the_call() {
    let module = broken();
    let Called { answer, effects } =
        call(&module.start(&runtime()).await, "effects", "null").await.unwrap();
    assert_eq!(&answer.payload[..], b"[true,true,true]");
    assert_eq!(&effects.sends[0].body[..], b"sent");
    assert_eq!((effects.releases.as_slice(), effects.reports.len()), ([7].as_slice(), 1));
    assert_eq!(effects.state[0].key, "called");
    assert_eq!(module.reported(), r#"{"called":true}"#);
}

#[tokio::test]
async fn what_a_method_did_before_it_failed_has_not_happened() {
    let module = broken();
    let instance = module.start(&runtime()).await;
    let fault = call(&instance, "effects-then-panic", "null").await.unwrap_err();
    assert!(fault.to_string().contains("after effects"), "{fault}");
    assert_eq!((module.reported().as_str(), module.state_text("called")), ("{}", None));
    spent(&instance).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_passed_on_ends_the_instance() {
    let runtime = runtime();
    for (method, words) in [
        ("not-json", "the payload is not JSON"),
        ("not-utf8", "the payload is not JSON"),
        ("too-large", "131073 bytes; 131072 are allowed"),
        ("giant", "limits.bytes-per-call"),
    ] {
        let instance = broken().start(&runtime).await;
        let fault = call(&instance, method, "null").await.unwrap_err();
        assert!(matches!(&fault, Fault::Contract(what) if what.contains(words)), "{fault}");
        spent(&instance).await;
    }
    let instance = broken().start(&runtime).await;
    assert_eq!(answer(&instance, "largest", "null").await.1.len(), 128 * 1024);
}

#[tokio::test]
async fn a_method_that_panics_or_eats_memory_is_a_trap() {
    let runtime = runtime();
    for (method, words) in [("panic", "the method panics on purpose"), ("memory", "out of memory")]
    {
        let instance = broken().start(&runtime).await;
        let fault = call(&instance, method, "null").await.unwrap_err();
        assert!(matches!(&fault, Fault::Trap(what) if what.contains(words)), "{fault}");
        spent(&instance).await;
    }
}

#[tokio::test]
async fn endless_methods_and_handlers_end_at_the_deadline_of_a_call() {
    let module = broken().limit("cpu-ms-per-call", 100);
    let most = Duration::from_millis(1_000);
    let instance = module.start(&runtime()).await;
    let (result, time) = timed(call(&instance, "loop", "null")).await;
    assert_eq!(result.unwrap_err(), Fault::TimeOut(Duration::from_millis(100)));
    assert!(time < most, "{time:?}");
    let instance = module.start(&runtime()).await;
    let (result, time) = timed(desired(&instance, json!({ "fault": "loop" }))).await;
    assert_eq!(result.unwrap_err(), Fault::TimeOut(Duration::from_millis(100)));
    assert!(time < most, "{time:?}");
    spent(&instance).await;
}

#[tokio::test]
async fn a_handler_sees_the_change_and_what_is_still_in_force() {
    let module = broken();
    let instance = module.start(&runtime()).await;
    let effects = desired(&instance, json!({ "limit": 30 })).await.unwrap().effects;
    assert_eq!(effects.reports.len(), 1);
    let seen = r#"{"seen":{"before":1,"patch":{"limit":30},"version":7}}"#;
    assert_eq!(module.reported(), seen);
}

#[tokio::test]
async fn a_refusal_has_its_reason_and_leaves_the_instance_at_work() {
    let module = broken();
    let instance = module.start(&runtime()).await;
    let refused = desired(&instance, json!({ "fault": "refuse" })).await.unwrap();
    assert_eq!(refused.answer, Err("I do not like them".to_owned()));
    nothing_happened(&refused.effects);
    let long = desired(&instance, json!({ "fault": "refuse-at-length" })).await.unwrap();
    assert!(long.answer.unwrap_err().len() <= 1_024);
    let tried = desired(&instance, json!({ "fault": "refuse-after-effects" })).await.unwrap();
    assert!(tried.answer.is_err());
    assert_eq!(tried.effects.reports.len(), 1, "what it did counts");
    assert!(deliver(&instance, plain(1)).await.is_ok());
}

#[tokio::test]
async fn the_threshold_begins_with_what_is_in_force_and_changes_between_batches() {
    let module = Module::new(guests::guest("threshold"))
        .with("body", json!("none"))
        .with("fields", json!(["/temperature"]));
    let Value::Object(value) = json!({ "limit": 30 }) else { panic!() };
    module.twin.lock().unwrap().put_in_force(Arc::new(InForce { value, version: 3 }));
    let instance = module.start(&runtime()).await;
    let passed = async || {
        let batch = bodies(&[r#"{"temperature":29}"#, r#"{"temperature":30}"#]);
        let outcomes = deliver(&instance, batch).await.unwrap().outcomes;
        outcomes.iter().filter(|outcome| **outcome == Outcome::Pass { output: 0 }).count()
    };
    assert_eq!(passed().await, 1);
    assert_eq!(module.reported(), r#"{"limit":30.0}"#);
    let change = |version, limit: &str| DesiredChange {
        version,
        patch: format!(r#"{{"limit":{limit}}}"#),
        desired: format!(r#"{{"limit":{limit}}}"#),
    };
    assert_eq!(instance.desired_changed(change(4, "20")).await.unwrap().answer, Ok(()));
    assert_eq!(passed().await, 2);
    let refused = instance.desired_changed(change(5, "\"low\"")).await.unwrap();
    assert_eq!(refused.answer, Err("limit is not a number".to_owned()));
    assert_eq!(passed().await, 2);
    assert_eq!(module.reported(), r#"{"limit":20.0}"#);
}

#[tokio::test]
async fn the_counter_tells_its_count_and_begins_anew() {
    let module = Module::new(guests::guest("counter")).with("settings", json!({ "report": true }));
    let instance = module.start(&runtime()).await;
    let reports = deliver(&instance, plain(3)).await.unwrap().reports;
    assert_eq!(reports.len(), 1);
    assert_eq!(module.reported(), r#"{"count":3}"#);
    assert_eq!(answer(&instance, "stats", "null").await, (200, r#"{"count":3}"#.to_owned()));
    assert_eq!(answer(&instance, "reset", "null").await, (200, r#"{"was":3}"#.to_owned()));
    assert_eq!(answer(&instance, "stats", "null").await, (200, r#"{"count":0}"#.to_owned()));
    assert_eq!(answer(&instance, "explode", "null").await.0, 404);
}
