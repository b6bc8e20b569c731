//! Wasm modules and their twins: reports are part of the batch, desired properties come between batches.

use crate::hub::{Guest, MODULE, PASS, SINK, TestHub, body, each, trap, wait_for};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::id::Identity;
use weir_core::module_twin::ModuleTwin;
use weir_core::port::{Answer, Called, DesiredChange, Fault, ModuleStart, RuntimeError};
use weir_core::twin::{Mode, TwinChange};

const NOW: Timestamp = Timestamp::from_secs(1);

fn identity() -> Identity {
    Identity::module("E".parse().unwrap(), MODULE.parse().unwrap())
}

/// The operator wants these.
async fn desire(hub: &TestHub, properties: Value) {
    let body = json!({ "properties": { "desired": properties } }).to_string();
    let change = TwinChange::parse(Mode::Merge, body.as_bytes()).unwrap();
    hub.hub.twins().change(&hub.hub, &identity(), change, None, "operator").await.unwrap();
}

async fn reported(hub: &TestHub) -> (Value, u64) {
    let twin = hub.hub.twins().get(&hub.hub, &identity()).await.unwrap();
    (twin.reported.value.clone().into(), twin.reported.version)
}

/// The reported properties as soon as they are these.
async fn reports(hub: &TestHub, wanted: Value) {
    let seen = Mutex::new(Value::Null);
    let look = || async {
        let (found, _) = reported(hub).await;
        let there = found == wanted;
        *seen.lock().unwrap() = found;
        there.then_some(())
    };
    let found = tokio::time::timeout(Duration::from_secs(7), wait_for("report", look)).await;
    assert!(found.is_ok(), "{} instead of {wanted}", seen.lock().unwrap());
}

fn report(twin: &Arc<Mutex<ModuleTwin>>, patch: &Value) -> Answer {
    let mut twin = twin.lock().unwrap();
    twin.report(patch.to_string().as_bytes(), NOW).unwrap();
    Answer { reports: twin.commit(), ..Answer::default() }
}

/// Passes everything on, and reports how many messages it has had, counted in its reports themselves.
/// Traps on `x`.
fn counting(_: usize, start: &ModuleStart) -> Result<Guest, RuntimeError> {
    let twin = Arc::clone(&start.twin);
    let batch = move |deliveries: &[weir_core::port::Delivery]| {
        let mut live = twin.lock().unwrap();
        let mut outcomes = Vec::new();
        for delivery in deliveries {
            let count = live.reported().value.get("count").and_then(Value::as_u64).unwrap_or(0);
            live.report(json!({ "count": count + 1 }).to_string().as_bytes(), NOW).unwrap();
            if body(delivery) == "x" {
                live.rollback();
                return Err(trap());
            }
            outcomes.push(PASS);
        }
        Ok(Answer { outcomes, reports: live.commit(), ..Answer::default() })
    };
    Ok(Guest { batch: Box::new(batch), method: None, desired: None })
}

/// What a guest was asked to do with desired properties.
type Asked = Arc<Mutex<Vec<DesiredChange>>>;

fn asked(asked: &Asked) -> Vec<(u64, String)> {
    asked.lock().unwrap().iter().map(|change| (change.version, change.patch.clone())).collect()
}

/// What a guest began with, one line for each instance.
type Began = Arc<Mutex<Vec<String>>>;

/// Takes desired properties with `answer`, and reports what it then has.
fn configured(
    changes: &Asked,
    began: &Began,
    answer: impl Fn(&DesiredChange) -> Result<Result<(), String>, Fault> + Send + Sync + Clone + 'static,
) -> impl Fn(usize, &ModuleStart) -> Result<Guest, RuntimeError> + Send + Sync + 'static {
    let (changes, began) = (Arc::clone(changes), Arc::clone(began));
    move |_, start| {
        let live = start.twin.lock().unwrap();
        began.lock().unwrap().push(format!("{} {}", live.in_force().version, live.desired_json()));
        let (twin, changes, answer) =
            (Arc::clone(&start.twin), Arc::clone(&changes), answer.clone());
        let handler = move |change: &DesiredChange| {
            changes.lock().unwrap().push(change.clone());
            let answer = answer(change)?;
            let effects = match answer {
                Ok(()) => report(&twin, &json!({ "has": change.version })),
                Err(_) => Answer::default(),
            };
            Ok(Called { answer, effects })
        };
        let batch = each(|_| Ok(PASS))(0);
        Ok(Guest { batch, method: None, desired: Some(Box::new(handler)) })
    }
}

/// Refuses a limit that is no number.
fn choosy(change: &DesiredChange) -> Result<Result<(), String>, Fault> {
    let desired: Value = serde_json::from_str(&change.desired).unwrap();
    Ok(match desired.get("limit").is_none_or(Value::is_number) {
        true => Ok(()),
        false => Err("limit is no number".to_owned()),
    })
}

async fn install(hub: &TestHub, component: Digest) {
    hub.put(component, json!({})).await;
}

#[tokio::test]
async fn reports_of_a_batch_that_traps_were_not_made_and_those_of_the_others_count() {
    let hub = TestHub::start().await;
    let component = hub.guest("counting", counting).await;
    hub.put(component, json!({ "batch": { "messages": 4 } })).await;
    let mut sent = vec!["."; 40];
    sent[25] = "x";
    hub.send("a", &sent).await;
    hub.sunk(39).await;
    reports(&hub, json!({ "count": 39 })).await;
    // One version for each report that was committed; they begin at 1.
    assert_eq!(reported(&hub).await.1, 40);
}

#[tokio::test]
async fn reports_and_messages_agree_when_there_was_no_room_and_after_a_restart() {
    let hub = TestHub::start().await;
    let component = hub.guest("counting", counting).await;
    hub.limit(SINK, Some(1_000));
    hub.put(component, json!({ "batch": { "messages": 3 } })).await;
    hub.send("a", &["."; 100]).await;
    let paused = || async {
        matches!(hub.module().await.state, weir_hub::State::Paused { .. }).then_some(())
    };
    wait_for("pause", paused).await;
    let in_sink = hub.bodies(SINK).await.len();
    assert!(in_sink > 0 && in_sink < 100);
    assert_eq!(reported(&hub).await.0, json!({ "count": in_sink }));
    let hub = hub.restart().await;
    hub.limit(SINK, None);
    hub.sunk(100).await;
    reports(&hub, json!({ "count": 100 })).await;
    assert_eq!(reported(&hub).await.1, 101);
}

#[tokio::test]
async fn a_report_is_told_to_those_whose_route_wants_it() {
    let hub = TestHub::start().await;
    hub.route(
        "twins",
        "FROM /twinChangeNotifications INTO BrokeredEndpoint(\"/modules/watcher/inputs/in\")",
    )
    .await;
    let component = hub.guest("counting", counting).await;
    install(&hub, component).await;
    hub.send("a", &[".", "."]).await;
    hub.sunk(2).await;
    let told = hub.queue("E/watcher/in").await;
    let bodies = hub.bodies("E/watcher/in").await;
    assert_eq!(bodies, [r#"{"count":1}"#, r#"{"count":2}"#]);
    assert_eq!(told[0].record.message.sender(), &identity());
}

#[tokio::test]
async fn desired_properties_come_in_the_order_of_their_versions() {
    let hub = TestHub::start().await;
    let (changes, began) = (Asked::default(), Began::default());
    let component = hub.guest("configured", configured(&changes, &began, choosy)).await;
    install(&hub, component).await;
    assert_eq!(began.lock().unwrap().last().unwrap(), "1 {}");
    desire(&hub, json!({ "limit": 1 })).await;
    reports(&hub, json!({ "has": 2 })).await;
    desire(&hub, json!({ "limit": 2, "unit": "C" })).await;
    reports(&hub, json!({ "has": 3 })).await;
    let expected = [(2, r#"{"limit":1}"#), (3, r#"{"limit":2,"unit":"C"}"#)];
    assert_eq!(asked(&changes), expected.map(|(version, patch)| (version, patch.to_owned())));
}

#[tokio::test]
async fn changes_that_a_module_has_missed_come_as_one() {
    let hub = TestHub::start().await;
    let (changes, began) = (Asked::default(), Began::default());
    let down = Arc::new(AtomicBool::new(false));
    let (refuses, make) = (Arc::clone(&down), configured(&changes, &began, choosy));
    let component = hub
        .guest("shaky", move |number, start| {
            if refuses.load(Ordering::SeqCst) {
                return Err(RuntimeError::Init("not now".to_owned()));
            }
            let mut guest = make(number, start)?;
            guest.batch =
                each(|delivery| if body(delivery) == "x" { Err(trap()) } else { Ok(PASS) })(0);
            Ok(guest)
        })
        .await;
    install(&hub, component).await;
    desire(&hub, json!({ "limit": 1, "unit": "C" })).await;
    reports(&hub, json!({ "has": 2 })).await;
    down.store(true, Ordering::SeqCst);
    hub.send("a", &["x"]).await;
    wait_for("pause", || async {
        (hub.module().await.state == weir_hub::State::BackingOff).then_some(())
    })
    .await;
    for change in [json!({ "limit": 2 }), json!({ "unit": null }), json!({ "limit": 3 })] {
        desire(&hub, change).await;
    }
    down.store(false, Ordering::SeqCst);
    reports(&hub, json!({ "has": 5 })).await;
    let expected = [(2, r#"{"limit":1,"unit":"C"}"#), (5, r#"{"limit":3,"unit":null}"#)];
    assert_eq!(asked(&changes), expected.map(|(version, patch)| (version, patch.to_owned())));
}

#[tokio::test]
async fn what_is_wanted_before_the_first_start_is_what_the_module_begins_with() {
    let hub = TestHub::start().await;
    let spec = weir_hub::IdentitySpec::default();
    let registry = hub.hub.identities();
    registry.put(&hub.hub, identity(), spec, weir_store::Expect::Any).await.unwrap();
    desire(&hub, json!({ "limit": 7 })).await;
    let (changes, began) = (Asked::default(), Began::default());
    let component = hub.guest("configured", configured(&changes, &began, choosy)).await;
    install(&hub, component).await;
    let begun = |instances: usize| {
        let began = Arc::clone(&began);
        move || {
            let found = began.lock().unwrap().len();
            async move { (found >= instances).then_some(()) }
        }
    };
    wait_for("start", begun(2)).await;
    let hub = hub.restart().await;
    wait_for("second start", begun(3)).await;
    assert!(began.lock().unwrap().iter().all(|began| began == r#"2 {"limit":7}"#), "{began:?}");
    assert_eq!(asked(&changes), []);
    hub.stop().await;
}

#[tokio::test]
async fn a_refusal_is_noted_and_the_old_properties_stay_in_force_over_a_restart() {
    let hub = TestHub::start().await;
    let (changes, began) = (Asked::default(), Began::default());
    let component = hub.guest("configured", configured(&changes, &began, choosy)).await;
    install(&hub, component).await;
    desire(&hub, json!({ "limit": 1 })).await;
    reports(&hub, json!({ "has": 2 })).await;
    desire(&hub, json!({ "limit": "much" })).await;
    let note = json!({ "refused": 3, "inForce": 2, "reason": "limit is no number" });
    reports(&hub, json!({ "has": 2, "weir-desired": note })).await;
    began.lock().unwrap().clear();
    let hub = hub.restart().await;
    hub.send("a", &["."]).await;
    hub.sunk(1).await;
    assert_eq!(*began.lock().unwrap(), [r#"2 {"limit":1}"#]);
    assert_eq!(asked(&changes).len(), 2, "it is not asked again for the same");
    desire(&hub, json!({ "limit": 5 })).await;
    reports(&hub, json!({ "has": 4 })).await;
    assert_eq!(asked(&changes)[2], (4, r#"{"limit":5}"#.to_owned()));
}

#[tokio::test]
async fn another_version_begins_with_what_is_in_force_and_is_asked_about_what_was_refused() {
    let hub = TestHub::start().await;
    let (changes, began) = (Asked::default(), Began::default());
    let old = hub.guest("old", configured(&changes, &began, choosy)).await;
    install(&hub, old).await;
    desire(&hub, json!({ "limit": 1 })).await;
    reports(&hub, json!({ "has": 2 })).await;
    desire(&hub, json!({ "limit": "much" })).await;
    wait_for("refusal", || async {
        reported(&hub).await.0.get("weir-desired").is_some().then_some(())
    })
    .await;
    let (news, starts) = (Asked::default(), Began::default());
    let new = hub.guest("new", configured(&news, &starts, |_| Ok(Ok(())))).await;
    install(&hub, new).await;
    reports(&hub, json!({ "has": 3 })).await;
    assert_eq!(*starts.lock().unwrap(), [r#"2 {"limit":1}"#]);
    assert_eq!(asked(&news), [(3, r#"{"limit":"much"}"#.to_owned())]);
}

#[tokio::test]
async fn a_version_on_probation_that_fails_on_desired_properties_goes_back() {
    let hub = TestHub::start().await;
    let (changes, began) = (Asked::default(), Began::default());
    let old = hub.guest("old", configured(&changes, &began, choosy)).await;
    install(&hub, old).await;
    let (news, starts) = (Asked::default(), Began::default());
    let taking = |change: &DesiredChange| match change.version {
        2 => Ok(Ok(())),
        _ => Err(trap()),
    };
    let new = hub.guest("new", configured(&news, &starts, taking)).await;
    install(&hub, new).await;
    desire(&hub, json!({ "limit": 1 })).await;
    reports(&hub, json!({ "has": 2 })).await;
    began.lock().unwrap().clear();
    desire(&hub, json!({ "limit": 2 })).await;
    reports(&hub, json!({ "has": 3 })).await;
    assert_eq!(hub.module().await.version, 1);
    // The old version has never taken version 2: it begins with what it had.
    assert_eq!(*began.lock().unwrap(), ["1 {}"]);
    assert_eq!(asked(&changes), [(3, r#"{"limit":2}"#.to_owned())]);
}

#[tokio::test]
async fn properties_on_which_the_module_fails_each_time_count_as_refused_and_messages_go_on() {
    let hub = TestHub::start().await;
    let (changes, began) = (Asked::default(), Began::default());
    let failing = |_: &DesiredChange| Err(trap());
    let component = hub.guest("failing", configured(&changes, &began, failing)).await;
    hub.put(component, json!({ "errors": { "retry": { "max-attempts": 3 }, "open-after": 3 } }))
        .await;
    desire(&hub, json!({ "limit": 1 })).await;
    let reason = trap().to_string();
    let note = json!({ "refused": 2, "inForce": 1, "reason": reason });
    reports(&hub, json!({ "weir-desired": note })).await;
    assert_eq!(asked(&changes).len(), 3);
    hub.send("a", &["."]).await;
    hub.sunk(1).await;
    let module = hub.module().await;
    assert_eq!(module.counters.faults, 3);
    assert_eq!(module.state, weir_hub::State::Running, "they count as one fault");
}

#[tokio::test]
async fn a_module_that_is_not_asked_has_what_is_wanted() {
    let hub = TestHub::start().await;
    let twin: Arc<Mutex<Option<Arc<Mutex<ModuleTwin>>>>> = Arc::default();
    let kept = Arc::clone(&twin);
    let component = hub
        .component_with_state("quiet", move |_, start: &ModuleStart| {
            *kept.lock().unwrap() = Some(Arc::clone(&start.twin));
            each(|_| Ok(PASS))(0)
        })
        .await;
    install(&hub, component).await;
    desire(&hub, json!({ "limit": 3 })).await;
    wait_for("property", || async {
        let live = twin.lock().unwrap().clone().unwrap();
        let json = live.lock().unwrap().desired_json();
        (json == r#"{"limit":3}"#).then_some(())
    })
    .await;
}
