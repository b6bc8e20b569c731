//! `retry` and the order of a sender.

use crate::hub::{Call, PASS, TestHub, body, each, emission};
use serde_json::{Value, json};
use weir_core::port::{Answer, Delivery, Outcome};

/// `…!` is taken at its third delivery, all else at the first.
fn third_time(delivery: &Delivery) -> Outcome {
    match body(delivery).ends_with('!') && delivery.attempt < 3 {
        true => Outcome::Retry { reason: "not now".to_owned(), after: None },
        false => PASS,
    }
}

fn spec(batch: u32, order: &str) -> Value {
    json!({
        "batch": { "messages": batch },
        "errors": { "retry": { "backoff-ms": 20, "order": order } },
    })
}

fn of<'a>(sender: &str, all: &'a [String]) -> Vec<&'a str> {
    all.iter().map(String::as_str).filter(|text| text.starts_with(sender)).collect()
}

#[tokio::test]
async fn later_messages_of_the_sender_wait_for_one_that_is_retried() {
    for batch in [1, 2, 3, 64] {
        let hub = TestHub::start().await;
        hub.send("a", &["a1", "a2!", "a3", "a4", "a5!", "a6"]).await;
        hub.send("b", &["b1", "b2"]).await;
        hub.install(spec(batch, "sender"), each(|delivery| Ok(third_time(delivery)))).await;
        let sunk = hub.sunk(8).await;
        assert_eq!(of("a", &sunk), ["a1", "a2!", "a3", "a4", "a5!", "a6"], "batches of {batch}");
        assert_eq!(of("b", &sunk), ["b1", "b2"]);
        let at = |text: &str| sunk.iter().position(|found| found == text).unwrap();
        assert!(at("b2") < at("a2!"), "other senders do not wait: {sunk:?}");
        assert_eq!(sunk.len(), 8, "nothing is doubled: {sunk:?}");
        hub.stop().await;
    }
}

#[tokio::test]
async fn without_order_nobody_waits_for_one_that_is_retried() {
    let hub = TestHub::start().await;
    hub.send("a", &["a1!", "a2", "a3"]).await;
    hub.install(spec(64, "none"), each(|delivery| Ok(third_time(delivery)))).await;
    assert_eq!(hub.sunk(3).await, ["a2", "a3", "a1!"]);
}

#[tokio::test]
async fn one_that_is_retried_too_often_is_a_dead_letter_and_its_sender_goes_on() {
    let hub = TestHub::start().await;
    hub.send("a", &["a1", "a2!", "a3"]).await;
    let mut spec = spec(64, "sender");
    spec["errors"]["retry"]["max-attempts"] = json!(2);
    hub.install(spec, each(|delivery| Ok(third_time(delivery)))).await;
    assert_eq!(hub.sunk(2).await, ["a1", "a3"]);
    let letters = hub.dead_letters().await;
    let found: Vec<_> = letters.iter().map(|l| (l.code.as_deref(), l.attempts)).collect();
    assert_eq!(found, [(Some("max-attempts"), 2)]);
    assert_eq!(letters[0].reason, "not now");
}

#[tokio::test]
async fn what_a_call_with_a_retry_sent_goes_on_as_the_interface_says() {
    let hub = TestHub::start().await;
    hub.send("a", &["a1!", "a2"]).await;
    let sends = |_| -> Call {
        Box::new(|deliveries| {
            let outcomes = deliveries.iter().map(third_time).collect();
            let sends = deliveries.iter().map(|delivery| emission(&body(delivery))).collect();
            Ok(Answer { outcomes, sends, ..Answer::default() })
        })
    };
    hub.install(spec(64, "sender"), sends).await;
    let sunk = hub.sunk(7).await;
    assert_eq!(sunk.len(), 7, "{sunk:?}");
    assert_eq!(of("a1!", &sunk).len(), 3 + 1, "sent at each of three deliveries, then passed");
    assert_eq!(of("a2", &sunk).len(), 2 + 1, "sent also where it was put back, then passed");
}
