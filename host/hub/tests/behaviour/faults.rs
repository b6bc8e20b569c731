//! Traps, the circuit, and output that does not fit.

use crate::hub::{Call, INPUT, PASS, SINK, TestHub, body, each, emission, trap, wait_for};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use weir_core::id::Identity;
use weir_core::port::{Answer, Delivery, Fault, Outcome};
use weir_hub::{MessageName, State};
use weir_store::{DeadLetter, Expect, Write};

fn numbered(count: usize, poison: &[usize]) -> Vec<String> {
    (0..count).map(|n| if poison.contains(&n) { format!("x{n}") } else { n.to_string() }).collect()
}

fn texts(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn poison_is_found_wherever_it_stands_and_the_module_does_not_rest() {
    for poison in [&[0][..], &[37], &[63], &[0, 1, 31, 32, 63], &[5, 12, 19, 26, 33, 40, 47]] {
        let hub = TestHub::start().await;
        let sent = numbered(64, poison);
        hub.send("a", &texts(&sent)).await;
        let poisoned = |delivery: &Delivery| match body(delivery).starts_with('x') {
            true => Err(trap()),
            false => Ok(PASS),
        };
        hub.install(json!({}), each(poisoned)).await;
        let good: Vec<&String> = sent.iter().filter(|text| !text.starts_with('x')).collect();
        assert_eq!(hub.sunk(64 - poison.len()).await.iter().collect::<Vec<_>>(), good);
        let letters = wait_for("dead letters", || async {
            let letters = hub.dead_letters().await;
            (letters.len() == poison.len()).then_some(letters)
        })
        .await;
        assert!(letters.iter().all(|letter| letter.code.as_deref() == Some("trap")));
        assert!(letters.iter().all(|letter| letter.module_digest.is_some()));
        hub.stop().await;
    }
}

#[tokio::test]
async fn after_a_time_out_the_search_has_less_time_and_the_last_attempt_all_of_it() {
    let hub = TestHub::start().await;
    hub.send("a", &texts(&numbered(4, &[2]))).await;
    let slow = |delivery: &Delivery| match body(delivery).starts_with('x') {
        true => Err(Fault::TimeOut(Duration::from_millis(200))),
        false => Ok(PASS),
    };
    hub.install(json!({ "limits": { "cpu-ms-per-call": 200 } }), each(slow)).await;
    wait_for("dead letter", || async { hub.dead_letters().await.pop() }).await;
    let (all, short) = (None, Some(Duration::from_millis(50)));
    let alone = [(1, short), (1, short), (1, short), (1, short), (1, all)];
    let search = [&[(4, all), (2, short), (2, short)], &alone[..], &[(1, short)]].concat();
    wait_for("end", || async { (hub.calls().len() == search.len()).then_some(()) }).await;
    assert_eq!(hub.calls(), search);
    hub.send("a", &["next"]).await;
    hub.sunk(4).await;
    assert_eq!(hub.calls().last(), Some(&(1, all)));
    assert_eq!(hub.dead_letters().await[0].code.as_deref(), Some("time-out"));
}

#[tokio::test]
async fn a_module_that_always_traps_rests_and_its_messages_wait() {
    let hub = TestHub::start().await;
    let sent = numbered(64, &[]);
    hub.send("a", &texts(&sent)).await;
    hub.install(json!({}), each(|_| Err(trap()))).await;
    wait_for("open circuit", || async {
        (hub.module().await.state == State::CircuitOpen).then_some(())
    })
    .await;
    let (waiting, dead) = (hub.queue(INPUT).await.len(), hub.dead_letters().await.len());
    assert_eq!(waiting + dead, 64);
    assert!(dead <= 3, "{dead} messages were given up before the module rested");
    hub.stop().await;
}

#[tokio::test]
async fn a_module_that_rests_is_bypassed_where_the_operator_says_so() {
    let hub = TestHub::start().await;
    let sent = numbered(64, &[]);
    hub.send("a", &texts(&sent)).await;
    let spec = json!({ "errors": { "when-open": "bypass", "open-after": 3 } });
    hub.install(spec, each(|_| Err(trap()))).await;
    assert_eq!(hub.sunk(64).await, sent);
    assert_eq!(hub.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn a_module_that_rests_can_be_exchanged_and_removed() {
    let hub = TestHub::start().await;
    hub.send("a", &["1", "2"]).await;
    hub.install(json!({ "errors": { "open-after": 1 } }), each(|_| Err(trap()))).await;
    let is_open = || async { (hub.module().await.state == State::CircuitOpen).then_some(()) };
    wait_for("open circuit", is_open).await;
    let good = hub.component("good", each(|_| Ok(PASS))).await;
    hub.put(good, json!({})).await;
    assert_eq!(hub.sunk(2).await, ["1", "2"]);
    hub.put(hub.component("bad", each(|_| Err(trap()))).await, json!({})).await;
    let name = "m".parse().unwrap();
    hub.hub.modules().delete(&hub.hub, &name, weir_store::Expect::Any).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_module_whose_output_has_no_room_waits_loses_nothing_and_counts_no_attempt() {
    let hub = TestHub::start().await;
    hub.route(
        "other",
        "FROM /messages/modules/other/* INTO BrokeredEndpoint(\"/modules/elsewhere/inputs/in\")",
    )
    .await;
    hub.limit(SINK, Some(1));
    let sent = numbered(200, &[]);
    hub.send("a", &texts(&sent)).await;
    let attempts = |delivery: &Delivery| {
        assert_eq!(delivery.attempt, 1);
        Ok(PASS)
    };
    let component = hub.install(json!({ "batch": { "messages": 16 } }), each(attempts)).await;
    let paused = || async {
        let state = hub.module().await.state;
        (state == State::Paused { on: Some(SINK.to_owned()) }).then_some(())
    };
    wait_for("pause", paused).await;
    // Traffic elsewhere makes room elsewhere, which is no reason to try again and again.
    let before = hub.instances(&component);
    let until = tokio::time::Instant::now() + Duration::from_millis(500);
    let other = Identity::module("E".parse().unwrap(), "other".parse().unwrap());
    while tokio::time::Instant::now() < until {
        hub.send_as(&other, &["1"]).await;
        hub.hub.store().purge(hub.endpoint("E/elsewhere/in")).await.unwrap();
    }
    let tries = hub.instances(&component) - before;
    assert!(tries <= 6, "{tries} instances in half a second");
    assert_eq!(hub.queue(INPUT).await.len(), 200);
    let passed = hub.module().await.counters.passed;
    assert_eq!(passed, 0, "what was undone is not counted");
    let last = hub.hub.explain(&MessageName::Last).await.unwrap().unwrap();
    assert_eq!(last.sender, other.to_string(), "nor is it explained");
    hub.limit(SINK, None);
    assert_eq!(hub.sunk(200).await, sent);
    wait_for("end", || async { hub.queue(INPUT).await.is_empty().then_some(()) }).await;
    assert_eq!(hub.module().await.counters.passed, 200);
    assert_eq!(hub.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn what_waits_for_a_module_at_a_start_finds_the_routes_in_force() {
    let hub = TestHub::start().await;
    hub.limit(SINK, Some(1));
    let sent = numbered(200, &[]);
    hub.send("a", &texts(&sent)).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let pass = move |_: &Delivery| {
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(PASS)
    };
    hub.install(json!({ "batch": { "messages": 16 } }), each(pass)).await;
    let paused =
        || async { matches!(hub.module().await.state, State::Paused { .. }).then_some(()) };
    wait_for("pause", paused).await;
    // To put this route in force, its queue must be written down: while the store cannot be written
    // the start stands still in the midst of the routes.
    let route = r#"FROM /nobody INTO BrokeredEndpoint("/modules/new/inputs/in")"#;
    let body = Some(json!({ "route": route }).to_string());
    let write = Write { kind: "route", key: "new".to_owned(), body, expect: Expect::Absent };
    hub.hub.store().write(vec![write]).await.unwrap();
    let (before, at_start) = (Arc::clone(&calls), Arc::new(AtomicUsize::new(usize::MAX)));
    let at_writing = Arc::clone(&at_start);
    let writable = async move {
        let stopped = before.load(Ordering::Relaxed);
        // Time enough for a module that does not wait to take what waits for it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        at_writing.store(before.load(Ordering::Relaxed) - stopped, Ordering::Relaxed);
    };
    let hub = hub.restart_writable(writable).await;
    assert_eq!(at_start.load(Ordering::Relaxed), 0, "nothing is handled before the routes");
    assert_eq!(hub.sunk(200).await, sent);
}

#[tokio::test]
async fn a_module_without_room_for_its_output_can_be_exchanged() {
    let hub = TestHub::start().await;
    hub.limit(SINK, Some(1));
    hub.send("a", &["1", "2"]).await;
    hub.install(json!({}), each(|_| Ok(PASS))).await;
    let paused =
        || async { matches!(hub.module().await.state, State::Paused { .. }).then_some(()) };
    wait_for("pause", paused).await;
    let drops = hub.component("drops", each(|_| Ok(Outcome::Drop))).await;
    hub.put(drops, json!({})).await;
    wait_for("empty input", || async { hub.queue(INPUT).await.is_empty().then_some(()) }).await;
    hub.stop().await;
}

/// Sends a message whose route leads back to the module, and waits until it is a dead letter.
async fn round(hub: &TestHub) -> Vec<DeadLetter> {
    hub.route("loop", "FROM /messages/modules/m/* INTO BrokeredEndpoint(\"/modules/m/inputs/in\")")
        .await;
    hub.send("a", &["round"]).await;
    wait_for("dead letter", || async {
        let letters = hub.dead_letters().await;
        (!letters.is_empty()).then_some(letters)
    })
    .await
}

#[tokio::test]
async fn messages_that_go_round_in_a_loop_end_in_the_dead_letters() {
    let hub = TestHub::start().await;
    hub.install(json!({}), each(|_| Ok(PASS))).await;
    let letters = round(&hub).await;
    assert_eq!(letters[0].code.as_deref(), Some("hop-limit"));
    assert_eq!(hub.bodies(SINK).await.len(), 32);
}

#[tokio::test]
async fn a_loop_through_a_module_that_is_bypassed_ends_as_well() {
    let hub = TestHub::start().await;
    let spec = json!({ "errors": { "when-open": "bypass", "open-after": 1 } });
    hub.install(spec, each(|_| Err(trap()))).await;
    round(&hub).await;
    assert_eq!(hub.bodies(SINK).await.len(), 32);
}

#[tokio::test]
async fn a_loop_of_messages_sent_beside_the_outcomes_ends_as_well() {
    let hub = TestHub::start().await;
    let sends = |_| -> Call {
        Box::new(|deliveries| {
            let outcomes = vec![Outcome::Drop; deliveries.len()];
            let sends = deliveries.iter().map(|delivery| emission(&body(delivery))).collect();
            Ok(Answer { outcomes, sends, ..Answer::default() })
        })
    };
    hub.install(json!({}), sends).await;
    let letters = round(&hub).await;
    assert_eq!(letters[0].code.as_deref(), Some("hop-limit"));
    assert_eq!(hub.bodies(SINK).await.len(), 32);
    assert!(hub.queue(INPUT).await.is_empty());
}
