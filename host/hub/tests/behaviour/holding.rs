//! `hold` and `release`.

use crate::hub::{Call, INPUT, PASS, TestHub, body, emission, trap, wait_for};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_core::port::{Answer, Outcome};

/// Keeps `h…`, traps once on `x`, and lets all go with what it has on `r`.
fn window(trapped: &Arc<AtomicBool>) -> impl Fn(usize) -> Call + Send + Sync + 'static {
    let trapped = Arc::clone(trapped);
    move |_| {
        let trapped = Arc::clone(&trapped);
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        Box::new(move |deliveries| {
            let mut answer = Answer::default();
            for delivery in deliveries {
                let text = body(delivery);
                answer.outcomes.push(match &text[..1] {
                    "h" => {
                        texts.push(text);
                        numbers.push(delivery.number);
                        Outcome::Hold
                    }
                    "x" if !trapped.swap(true, Ordering::SeqCst) => return Err(trap()),
                    "r" => {
                        answer.sends.push(emission(&texts.join("+")));
                        texts.clear();
                        answer.releases.append(&mut numbers);
                        Outcome::Drop
                    }
                    _ => PASS,
                });
            }
            Ok(answer)
        })
    }
}

#[tokio::test]
async fn a_window_that_a_trap_cut_is_handed_to_the_next_instance_before_what_came_later() {
    for batch in [1, 2, 64] {
        let hub = TestHub::start().await;
        hub.send("a", &["h1", "h2", "h3", "x", "h4", "r"]).await;
        let spec = json!({ "batch": { "messages": batch } });
        hub.install(spec, window(&Arc::default())).await;
        assert_eq!(hub.sunk(2).await, ["x", "h1+h2+h3+h4"]);
        let left = || async { hub.queue(INPUT).await.is_empty().then_some(()) };
        wait_for("end of the window", left).await;
        assert_eq!(hub.dead_letters().await, []);
        hub.stop().await;
    }
}

#[tokio::test]
async fn what_is_held_stays_in_the_queue_until_it_is_released() {
    let hub = TestHub::start().await;
    hub.send("a", &["h1", "h2"]).await;
    hub.install(json!({}), window(&Arc::new(AtomicBool::new(true)))).await;
    let held = || async {
        let usage = hub.hub.store().usage();
        let queue = usage.queues.iter().find(|queue| queue.name == INPUT).unwrap().clone();
        (queue.held == 2).then_some(queue.messages)
    };
    assert_eq!(wait_for("held messages", held).await, 2);
    hub.send("a", &["r"]).await;
    assert_eq!(hub.sunk(1).await, ["h1+h2"]);
    wait_for("release", || async { hub.queue(INPUT).await.is_empty().then_some(()) }).await;
}

#[tokio::test]
async fn past_its_quota_a_hold_is_a_retry() {
    let hub = TestHub::start().await;
    hub.send("a", &["h1", "h2", "h3", "h4", "h5"]).await;
    let spec = json!({
        "limits": { "held": 3 },
        "errors": { "retry": { "max-attempts": 2, "backoff-ms": 1, "order": "none" } },
    });
    hub.install(spec, window(&Arc::new(AtomicBool::new(true)))).await;
    let letters = wait_for("dead letters", || async {
        let letters = hub.dead_letters().await;
        (letters.len() == 2).then_some(letters)
    })
    .await;
    for letter in &letters {
        assert!(letter.reason.contains("limits.held"), "{}", letter.reason);
        assert_eq!(letter.attempts, 2);
    }
    hub.send("a", &["r"]).await;
    let sunk = hub.sunk(1).await;
    assert!(sunk[0].starts_with("h1+h2+h3"), "{sunk:?}");
    hub.send("a", &["h6"]).await;
    wait_for("room for another", || async {
        let usage = hub.hub.store().usage();
        usage.queues.iter().any(|queue| queue.name == INPUT && queue.held == 1).then_some(())
    })
    .await;
}
