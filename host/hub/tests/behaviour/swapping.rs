//! What an exchange of versions promises when something goes wrong.

use crate::hub::{INPUT, PASS, TestHub, body, each, emission, trap, wait_for};
use serde_json::json;
use std::time::Duration;
use weir_core::clock::{Clock, Timestamp};
use weir_core::port::{Delivery, Fault, Outcome};

fn with_input(delivery: &Delivery) -> Result<Outcome, Fault> {
    Ok(Outcome::Emit(vec![emission(&format!("{}@{}", body(delivery), delivery.input))]))
}

#[tokio::test]
async fn the_batch_of_a_version_that_fails_goes_to_the_old_one_by_its_own_inputs() {
    let hub = TestHub::start().await;
    let old = hub.component("old", each(with_input)).await;
    hub.put(old, json!({ "inputs": ["in", "more"] })).await;
    let new = hub.component("new", each(|_| Err(trap()))).await;
    hub.put(new, json!({ "inputs": ["more", "in"] })).await;
    hub.send("a", &["1", "2", "3"]).await;
    assert_eq!(hub.sunk(3).await, ["1@0", "2@0", "3@0"]);
    let module = hub.module().await;
    assert_eq!((module.version, module.counters.dead), (1, 0));
    assert_eq!(module.last_return.unwrap().failed, 2);
}

#[tokio::test]
async fn what_waits_to_be_tried_again_goes_to_the_new_version_by_its_own_inputs() {
    let hub = TestHub::start().await;
    hub.send("a", &["1", "2", "3", "4"]).await;
    let spec = json!({ "inputs": ["in", "more"], "errors": { "open-after": 1 } });
    hub.install(spec, each(|_| Err(trap()))).await;
    let faults = || async { (hub.module().await.counters.faults == 1).then_some(()) };
    wait_for("fault", faults).await;
    let new = hub.component("new", each(with_input)).await;
    hub.put(new, json!({ "inputs": ["more", "in"] })).await;
    assert_eq!(hub.sunk(4).await, ["1@1", "2@1", "3@1", "4@1"]);
}

#[tokio::test]
async fn a_version_on_probation_gives_no_message_up_the_old_one_has_the_last_word() {
    let clock = Clock::manual(Timestamp::from_secs(1_000_000));
    let hub = TestHub::with_clock(clock).await;
    hub.install(json!({}), each(|_| Ok(PASS))).await;
    let worse = |delivery: &Delivery| match body(delivery).as_str() {
        "x" => Err(trap()),
        "r" => Ok(Outcome::Retry { reason: "not now".to_owned(), after: None }),
        _ => Ok(Outcome::Reject { reason: "not mine".to_owned(), code: None }),
    };
    let new = hub.component("new", each(worse)).await;
    hub.put(new, json!({ "errors": { "retry": { "max-attempts": 1 } } })).await;
    hub.send("a", &["1", "r"]).await;
    wait_for("batch", || async { (hub.module().await.counters.batches == 1).then_some(()) }).await;
    hub.send("a", &["x"]).await;
    assert_eq!(hub.sunk(1).await, ["x"]);
    assert_eq!((hub.queue(INPUT).await.len(), hub.dead_letters().await.len()), (2, 0));
    assert!(hub.module().await.last_return.is_some());
    hub.clock.advance(Duration::from_secs(31));
    assert_eq!(hub.sunk(3).await, ["x", "1", "r"]);
    assert_eq!(hub.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn what_a_version_on_probation_rejected_is_given_up_when_it_has_passed() {
    let clock = Clock::manual(Timestamp::from_secs(1_000_000));
    let hub = TestHub::with_clock(clock).await;
    hub.install(json!({}), each(|_| Ok(PASS))).await;
    let judge = |delivery: &Delivery| {
        Ok(match body(delivery).starts_with('x') {
            true => Outcome::Reject { reason: "not mine".to_owned(), code: None },
            false => PASS,
        })
    };
    let new = hub.component("new", each(judge)).await;
    hub.put(new, json!({ "batch": { "messages": 1 } })).await;
    let mut sent = vec!["x"];
    sent.extend(["1"; 120]);
    hub.send("a", &sent).await;
    hub.sunk(120).await;
    assert_eq!(hub.dead_letters().await.len(), 0);
    hub.clock.advance(Duration::from_secs(31));
    hub.send("a", &["1", "1"]).await;
    wait_for("end of the probation", || async { (!hub.module().await.on_probation).then_some(()) })
        .await;
    hub.clock.advance(Duration::from_secs(31));
    wait_for("dead letter", || async { (hub.dead_letters().await.len() == 1).then_some(()) }).await;
}
