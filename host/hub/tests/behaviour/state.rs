//! A module's state is committed with the batch, or not at all.

use crate::hub::{Call, INPUT, SINK, TestHub, body, emission, trap, wait_for};
use serde_json::json;
use weir_core::port::{Answer, ModuleStart, Outcome};

/// Numbers what it is given, with a counter in its state; traps on the first `x` and the second.
fn counting() -> impl Fn(usize, &ModuleStart) -> Call + Send + Sync + 'static {
    |instance, start: &ModuleStart| {
        let state = std::sync::Arc::clone(&start.state);
        Box::new(move |deliveries| {
            let mut state = state.lock().unwrap();
            let now = weir_core::clock::Timestamp::from_secs(1);
            let mut answer = Answer::default();
            for delivery in deliveries {
                let number = state.increment("count", 1, now).unwrap();
                if body(delivery) == "x" && instance < 2 {
                    state.rollback();
                    return Err(trap());
                }
                answer.outcomes.push(Outcome::Emit(vec![emission(&number.to_string())]));
            }
            answer.state = state.commit();
            Ok(answer)
        })
    }
}

async fn count(hub: &TestHub) -> String {
    let state = hub.hub.store().module_state("m").await.unwrap();
    String::from_utf8(state["count"].value.clone()).unwrap()
}

fn up_to(last: usize) -> Vec<String> {
    (1..=last).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_batch_that_traps_leaves_no_trace_and_those_ahead_of_it_count() {
    let hub = TestHub::start().await;
    let mut sent = vec!["."; 40];
    sent[25] = "x";
    hub.send("a", &sent).await;
    let component = hub.component_with_state("counting", counting()).await;
    hub.put(component, json!({ "batch": { "messages": 4 } })).await;
    assert_eq!(hub.sunk(40).await, up_to(40));
    assert_eq!(count(&hub).await, "40");
}

#[tokio::test]
async fn batches_that_had_no_room_leave_no_trace_in_the_state() {
    let hub = TestHub::start().await;
    hub.send("a", &["."; 100]).await;
    let component = hub.component_with_state("counting", counting()).await;
    // Room for some of them.
    hub.limit(SINK, Some(1_000));
    hub.put(component, json!({ "batch": { "messages": 3 } })).await;
    let paused = || async {
        matches!(hub.module().await.state, weir_hub::State::Paused { .. }).then_some(())
    };
    wait_for("pause", paused).await;
    let before = hub.bodies(SINK).await;
    assert!(!before.is_empty() && before == up_to(before.len()), "{before:?}");
    assert_eq!(count(&hub).await, before.len().to_string());
    hub.limit(SINK, None);
    assert_eq!(hub.sunk(100).await, up_to(100));
    assert_eq!(count(&hub).await, "100");
}

#[tokio::test]
async fn state_and_queue_agree_over_a_switch() {
    let hub = TestHub::start().await;
    let component = hub.component_with_state("counting", counting()).await;
    hub.put(component, json!({ "batch": { "messages": 3 } })).await;
    hub.send("a", &["."; 50]).await;
    hub.sunk(10).await;
    hub.put(component, json!({ "batch": { "messages": 5 } })).await;
    assert_eq!(hub.sunk(50).await, up_to(50));
    wait_for("empty input", || async { hub.queue(INPUT).await.is_empty().then_some(()) }).await;
    assert_eq!(count(&hub).await, "50");
}
