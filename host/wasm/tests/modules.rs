//! What well-behaved guests see and what comes back from them.

mod support;

use serde_json::json;
use std::sync::Arc;
use support::{Module, batch, bodies, deliver, delivery, guests, plain, runtime, stamped};
use weir_core::port::{Batch, Fault, Outcome};

fn pass() -> Outcome {
    Outcome::Pass { output: 0 }
}

#[tokio::test]
async fn the_filter_keeps_what_reaches_its_threshold() {
    let filter = Module::new(guests::guest("filter"))
        .with("body", json!("none"))
        .with("fields", json!(["/temperature"]))
        .with("settings", json!({ "threshold": 25 }));
    let instance = filter.start(&runtime()).await;
    let answer = deliver(
        &instance,
        bodies(&[
            r#"{"temperature":25}"#,
            r#"{"temperature":24.9}"#,
            "no JSON",
            r#"{"temperature":"30"}"#,
        ]),
    )
    .await
    .unwrap();
    assert_eq!(answer.outcomes, [pass(), Outcome::Drop, Outcome::Drop, Outcome::Drop]);
}

#[tokio::test]
async fn a_guest_that_parses_the_body_itself_gives_the_same_outcomes() {
    let filter = Module::new(guests::guest("filter"))
        .with("settings", json!({ "member": "temperature", "mark": "state" }));
    for body in ["bytes", "text"] {
        let filter = Module::new(filter.component.clone())
            .with("body", json!(body))
            .with("settings", filter.spec["settings"].clone());
        let instance = filter.start(&runtime()).await;
        let answer = deliver(&instance, bodies(&[r#"{"a":[1,{}],"temperature":25}"#, "{}"])).await;
        let hot = Outcome::Annotate {
            output: 0,
            set: vec![("state".into(), "hot".into())],
            unset: vec![],
        };
        assert_eq!(answer.unwrap().outcomes, [hot, Outcome::Drop]);
    }
}

#[tokio::test]
async fn every_outcome_crosses_the_border() {
    let instance = Module::broken(json!({})).start(&runtime()).await;
    let names = ["drop", "hold", "retry", "reject", "annotate", "emit", "pass"];
    let messages: Vec<Vec<(&str, &str)>> =
        names.iter().map(|name| vec![("outcome", *name)]).collect();
    let lists: Vec<&[(&str, &str)]> = messages.iter().map(Vec::as_slice).collect();
    let found = deliver(&instance, batch(&lists)).await.unwrap().outcomes;
    insta_like(
        &found,
        &[
            "Drop",
            "Hold",
            r#"Retry { reason: "not now", after: Some(250ms) }"#,
            r#"Reject { reason: "never", code: Some("bad-unit") }"#,
            r#"Annotate { output: 0, set: [("seen", "yes")], unset: [] }"#,
            r#"Emit([Emission { output: 0, body: b"one", properties: [] }, Emission { output: 0, body: b"two", properties: [] }])"#,
            "Pass { output: 0 }",
        ],
    );
}

fn insta_like(found: &[Outcome], expected: &[&str]) {
    let found: Vec<String> = found.iter().map(|outcome| format!("{outcome:?}")).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn sends_releases_and_state_are_a_value_of_the_call() {
    let module = Module::broken(json!({}));
    let instance = module.start(&runtime()).await;
    let answer = deliver(&instance, batch(&[&[("outcome", "send")], &[("outcome", "release")]]))
        .await
        .unwrap();
    assert_eq!(answer.sends.len(), 1);
    assert_eq!(&answer.sends[0].body[..], b"sent");
    assert_eq!(answer.releases, [2]);
    assert_eq!(answer.outcomes[1], Outcome::Hold);
    assert_eq!(answer.state.len(), 1);
    assert_eq!(answer.state[0].key, "sent");
    assert_eq!(module.state_text("sent").as_deref(), Some("Ok(1)"));
}

#[tokio::test]
async fn a_guest_gets_what_the_specification_asks_for_and_no_more() {
    let module = Module::broken(json!({}))
        .with("body", json!("none"))
        .with("fields", json!(["/n", "/o"]))
        .with("properties", json!(["outcome"]))
        .with("system", json!(["connectionDeviceId", "weir-origin-device", "messageId"]));
    let instance = module.start(&runtime()).await;
    let pairs = [("outcome", "echo"), ("secret", "x")];
    let message = stamped(1, r#"{"n":7,"o":{"k":1}}"#, &pairs);
    let found = deliver(&instance, Batch { deliveries: vec![delivery(9, message)] }).await.unwrap();
    let Outcome::Annotate { set, .. } = &found.outcomes[0] else { panic!("{found:?}") };
    let seen = &set[0].1;
    for part in [
        "sequence: 9",
        "enqueued: 500000000000",
        "Body::None",
        "Field::Integer(7)",
        r#"Field::Json("{\"k\":1}")"#,
        r#"system: [("connectionDeviceId", "sensor")]"#,
    ] {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    assert!(!seen.contains("secret"), "{seen}");
}

#[tokio::test]
async fn a_body_over_the_inline_limit_stays_in_the_hub_and_is_read_piece_by_piece() {
    let module = Module::broken(json!({})).limit("body-inline", "1Ki");
    let instance = module.start(&runtime()).await;
    let large = stamped(1, vec![b'x'; 123_456], &[("outcome", "large")]);
    let small = stamped(2, vec![b'x'; 1_024], &[("outcome", "large")]);
    let deliveries = vec![delivery(1, large), delivery(2, small)];
    let found = deliver(&instance, Batch { deliveries }).await.unwrap().outcomes;
    let length = |at: usize| match &found[at] {
        Outcome::Annotate { set, .. } => set[0].1.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!((length(0), length(1)), ("123456".to_owned(), "1024".to_owned()));
}

#[tokio::test]
async fn the_aggregate_holds_a_window_and_releases_it_with_its_result() {
    let aggregate = Module::new(guests::guest("aggregate"))
        .with("body", json!("none"))
        .with("fields", json!(["/t"]))
        .with("settings", json!({ "count": 3 }));
    let runtime = runtime();
    let instance = aggregate.start(&runtime).await;
    let first = deliver(&instance, bodies(&[r#"{"t":1}"#, r#"{"t":2}"#])).await.unwrap();
    assert_eq!(first.outcomes, [Outcome::Hold, Outcome::Hold]);
    assert!(first.sends.is_empty() && first.releases.is_empty());
    let mut third = bodies(&[r#"{"t":6}"#]);
    third.deliveries[0].number = 3;
    let closed = deliver(&instance, third.clone()).await.unwrap();
    assert_eq!(closed.releases, [1, 2, 3]);
    assert_eq!(
        &closed.sends[0].body[..],
        br#"{"maximum":6.0,"mean":3.0,"messages":3,"minimum":1.0}"#
    );
    assert_eq!(closed.sends[0].properties.application("window"), Some(Some("1")));

    // The number of windows is state: it goes on in the next instance.
    drop(instance);
    let next = aggregate.start(&runtime).await;
    deliver(&next, bodies(&[r#"{"t":1}"#, r#"{"t":2}"#])).await.unwrap();
    let closed = deliver(&next, third).await.unwrap();
    assert_eq!(closed.sends[0].properties.application("window"), Some(Some("2")));
}

#[tokio::test]
async fn the_aggregate_closes_a_window_when_a_later_message_is_past_it() {
    let aggregate = Module::new(guests::guest("aggregate"))
        .with("fields", json!(["/t"]))
        .with("settings", json!({ "count": 100, "window-ms": 1_000 }));
    let instance = aggregate.start(&runtime()).await;
    let at = |number: u64, secs: i64| {
        let sensor = weir_core::id::Identity::device("s".parse().unwrap());
        let message =
            weir_core::message::Message { body: r#"{"t":1}"#.into(), ..Default::default() };
        let time = weir_core::clock::Timestamp::from_secs(secs);
        delivery(number, message.stamp(&sensor, weir_core::id::MessageId(number), time))
    };
    let deliveries = vec![at(1, 10), at(2, 10), at(3, 11)];
    let answer = deliver(&instance, Batch { deliveries }).await.unwrap();
    assert_eq!(answer.releases, [1, 2]);
    assert_eq!(answer.outcomes, vec![Outcome::Hold; 3]);
    assert_eq!(answer.sends.len(), 1);
}

#[tokio::test]
async fn enrich_sets_what_its_settings_say() {
    let enrich = Module::new(guests::guest("enrich"))
        .with("system", json!(["connectionDeviceId"]))
        .with("settings", json!({ "set": { "site": "north" }, "sender-as": "from" }));
    let answer = deliver(&enrich.start(&runtime()).await, bodies(&["x"])).await.unwrap();
    let set = vec![("site".into(), "north".into()), ("from".into(), "sensor".into())];
    assert_eq!(answer.outcomes, [Outcome::Annotate { output: 0, set, unset: vec![] }]);
}

#[tokio::test]
async fn the_demos_three_versions_keep_their_rules() {
    let runtime = runtime();
    let start = async |name: &str| {
        Module::new(guests::guest(name))
            .with("body", json!("none"))
            .with("fields", json!(["/temperature"]))
            .start(&runtime)
            .await
    };
    let readings =
        || bodies(&[r#"{"temperature":19}"#, r#"{"temperature":24}"#, r#"{"temperature":31}"#]);
    let first = deliver(&start("demo-v1").await, readings()).await.unwrap().outcomes;
    assert_eq!(first, [Outcome::Drop, Outcome::Drop, pass()]);
    let second = deliver(&start("demo-v2").await, readings()).await.unwrap().outcomes;
    assert_eq!(second[..2], [Outcome::Drop, pass()]);
    assert!(matches!(second[2], Outcome::Annotate { .. }));
    let third = deliver(&start("demo-v3").await, readings()).await.unwrap_err();
    assert!(matches!(third, Fault::Trap(_)), "{third:?}");
}

#[tokio::test]
async fn batches_are_handled_in_the_order_of_the_calls() {
    let module = Module::new(guests::guest("aggregate"))
        .with("fields", json!(["/t"]))
        .with("settings", json!({ "count": 16 }));
    let instance = module.start(&runtime()).await;
    let answers = (1..=16u64).map(|number| {
        let deliveries = vec![delivery(number, stamped(number, r#"{"t":1}"#, &[]))];
        instance.deliver(Batch { deliveries })
    });
    // Polled last first: the calls' order counts, not the polls'.
    let mut waiting: Vec<_> = answers.collect();
    let last = waiting.pop().unwrap().await.unwrap();
    assert_eq!(last.releases, (1..=16).collect::<Vec<u64>>());
    for answer in waiting {
        assert!(answer.await.unwrap().releases.is_empty());
    }
}

#[tokio::test]
async fn usage_counts_calls_messages_and_memory() {
    let instance = Module::broken(json!({})).start(&runtime()).await;
    deliver(&instance, plain(2)).await.unwrap();
    deliver(&instance, plain(1)).await.unwrap();
    let usage = instance.usage();
    assert_eq!((usage.calls, usage.messages), (2, 3));
    assert!(usage.memory_bytes >= 65_536 && usage.memory_bytes < 64 << 20, "{usage:?}");
    assert_eq!(instance.outputs()[0].as_str(), "out");
}

#[tokio::test]
async fn effects_of_stop_are_in_its_answer_and_the_instance_ends() {
    let module = Module::broken(json!({ "when": "stop", "fault": "send-unknown-output" }));
    let instance = module.start(&runtime()).await;
    let answer = instance.stop().await.unwrap();
    assert_eq!(answer.state[0].key, "unknown");
    assert!(matches!(deliver(&instance, plain(1)).await, Err(Fault::Unavailable { .. })));
}

#[tokio::test]
async fn a_batch_that_is_given_up_ends_the_instance() {
    let module = Module::broken(json!({}));
    let instance = module.start(&runtime()).await;
    let behind = {
        let given_up = instance.deliver(plain(1));
        let behind = instance.deliver(plain(1));
        drop(given_up);
        behind
    };
    // Whether the guest had seen it already or not: nothing later is handled on top of it for long.
    drop(behind.await);
    assert!(matches!(deliver(&instance, plain(1)).await, Err(Fault::Unavailable { .. })));
}

#[tokio::test]
async fn init_sees_state_and_cannot_change_it() {
    let module = Module::broken(json!({ "when": "init", "fault": "state-giant", "size": 10 }));
    let instance = module.start(&runtime()).await;
    assert_eq!(module.state_text("giant"), None);
    assert!(deliver(&instance, plain(1)).await.is_ok());
}

#[tokio::test]
async fn what_is_not_granted_answers_denied_and_the_guest_goes_on() {
    let module = Module::broken(json!({ "fault": "denied" }))
        .with("grants", json!({ "state": false, "report": false }));
    let answer = deliver(&module.start(&runtime()).await, plain(1)).await.unwrap();
    let Outcome::Annotate { set, .. } = &answer.outcomes[0] else { panic!("{answer:?}") };
    assert_eq!(
        set[0].1,
        "Ok(Document { version: 1, json: \"{}\" }) Err(TwinError::Denied) Err(StateError::Denied) true"
    );
}

#[tokio::test]
async fn an_instance_ends_when_its_last_handle_is_dropped() {
    let module = Module::broken(json!({}));
    let instance = module.start(&runtime()).await;
    deliver(&instance, plain(1)).await.unwrap();
    drop(instance);
    // The state is shared with the instance's thread for as long as that lives.
    let gone = async {
        while Arc::strong_count(&module.state) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.unwrap();
}
