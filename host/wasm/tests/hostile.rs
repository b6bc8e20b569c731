//! Guests that do what they should not: the hub never crashes, the deadline holds, memory is bounded,
//! a neighbour keeps answering, and the fault says in one line what happened.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

mod support;

use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use support::{Module, batch, bodies, deliver, guests, log, peak_memory, plain, runtime, timed};
use weir_core::module_state::StateChange;
use weir_core::port::{Answer, Batch, Fault, Instance, Outcome, RuntimeError};

/// A second module that must not notice the first.
struct Neighbour(Arc<dyn Instance>);

impl Neighbour {
    async fn start() -> Self {
        let filter = Module::new(guests::guest("filter"))
            .with("body", json!("none"))
            .with("fields", json!(["/temperature"]))
            .with("settings", json!({}));
        Self(filter.start(&runtime()).await)
    }

    async fn answers(&self) {
        let answer = deliver(&self.0, bodies(&[r#"{"temperature":30}"#])).await.unwrap();
        assert_eq!(answer.outcomes, [Outcome::Pass { output: 0 }]);
    }
}

/// Delivers to the hostile instance while the neighbour works; gives the result and its time.
async fn attack(instance: &Arc<dyn Instance>, batch: Batch) -> (Result<Answer, Fault>, Duration) {
    let neighbour = Neighbour::start().await;
    let over = Cell::new(false);
    let hostile = async {
        let done = timed(deliver(instance, batch)).await;
        over.set(true);
        done
    };
    let neighbour = async {
        while !over.get() {
            neighbour.answers().await;
        }
        neighbour.answers().await;
    };
    tokio::join!(hostile, neighbour).0
}

/// What comes of a fault that happens on every message.
async fn fault_of(module: &Module) -> Fault {
    let instance = module.start(&runtime()).await;
    let (result, _) = attack(&instance, plain(2)).await;
    let fault = result.expect_err("the call fails");
    let text = fault.to_string();
    assert!(!text.contains('\n') && text.len() < 5_000, "{text}");
    assert!(fault.is_guest());
    assert!(
        matches!(deliver(&instance, plain(1)).await, Err(Fault::Unavailable { .. })),
        "the instance is spent"
    );
    fault
}

fn broken(fault: &str) -> Module {
    Module::broken(json!({ "fault": fault }))
}

fn sized(fault: &str, size: usize) -> Module {
    Module::broken(json!({ "fault": fault, "size": size }))
}

async fn answer_of(module: &Module) -> Answer {
    let instance = module.start(&runtime()).await;
    attack(&instance, plain(1)).await.0.expect("the call goes well")
}

fn contract(fault: Fault, words: &str) {
    match fault {
        Fault::Contract(what) => assert!(what.contains(words), "{what}"),
        other => panic!("{other}"),
    }
}

fn trap(fault: Fault, words: &str) {
    match fault {
        Fault::Trap(what) => assert!(what.contains(words), "{what}"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_panic_is_a_trap_with_the_panics_own_words() {
    trap(fault_of(&broken("panic")).await, "the guest panics on purpose");
}

#[tokio::test]
async fn a_trap_without_words_names_the_instruction() {
    trap(fault_of(&broken("trap")).await, "unreachable");
}

#[tokio::test]
async fn a_module_that_calls_exit_is_told_from_one_that_ends_well() {
    trap(fault_of(&broken("exit")).await, "called exit");
}

#[tokio::test]
async fn a_trap_at_every_seventh_message_fails_the_batch_that_has_it() {
    let module = Module::broken(json!({ "fault": "panic", "when": "every", "every": 7 }));
    let instance = module.start(&runtime()).await;
    assert!(deliver(&instance, plain(6)).await.is_ok());
    let (result, _) = attack(&instance, plain(6)).await;
    assert!(matches!(result, Err(Fault::Trap(_))), "{result:?}");
    let fresh = module.start(&runtime()).await;
    assert!(deliver(&fresh, plain(6)).await.is_ok());
}

#[tokio::test]
async fn a_poison_message_alone_is_what_fails() {
    let settings = json!({ "fault": "panic", "when": "marked" });
    let instance = Module::broken(settings).start(&runtime()).await;
    assert!(deliver(&instance, plain(2)).await.is_ok());
    let (result, _) = attack(&instance, batch(&[&[], &[("poison", "1")]])).await;
    assert!(matches!(result, Err(Fault::Trap(_))), "{result:?}");
}

/// The deadline holds to +100 ms. The shortest of three counts, because what is measured here is
/// also how soon this test's own thread runs again.
async fn ends_at_its_deadline(fault: &str) {
    let module = broken(fault).limit("cpu-ms-per-call", 100);
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let instance = module.start(&runtime()).await;
        let (result, time) = attack(&instance, plain(1)).await;
        assert_eq!(result.unwrap_err(), Fault::TimeOut(Duration::from_millis(100)));
        assert!(time >= Duration::from_millis(95), "{time:?}");
        shortest = shortest.min(time);
    }
    assert!(shortest <= Duration::from_millis(200), "{shortest:?}");
}

#[tokio::test]
async fn an_endless_loop_ends_at_its_deadline() {
    ends_at_its_deadline("loop").await;
}

#[tokio::test]
async fn a_sleep_of_an_hour_ends_at_the_deadline() {
    ends_at_its_deadline("sleep").await;
}

#[tokio::test]
async fn a_call_with_less_time_ends_earlier_and_one_with_more_does_not_end_later() {
    for (given, granted) in [(20, 20), (5_000, 100)] {
        let module = broken("loop").limit("cpu-ms-per-call", 100);
        let instance = module.start(&runtime()).await;
        let fault = instance.deliver_within(plain(1), Duration::from_millis(given)).await;
        assert_eq!(fault.unwrap_err(), Fault::TimeOut(Duration::from_millis(granted)));
    }
}

#[tokio::test]
async fn endless_host_calls_end_at_their_budget_long_before_the_deadline() {
    let module = broken("host-calls");
    contract(fault_of(&module).await, "more than 10000 times");
}

#[tokio::test]
async fn endless_recursion_traps_and_says_that_the_stack_is_full() {
    trap(fault_of(&broken("recursion")).await, "stack of 512 KiB is full");
    // A frame in the guest's own memory runs out there first.
    trap(fault_of(&broken("recursion-wide")).await, "out of bounds");
}

#[tokio::test]
async fn a_memory_bomb_ends_at_its_limit_and_says_so() {
    let before = peak_memory();
    trap(fault_of(&broken("memory")).await, "may have 64Mi");
    let grown = peak_memory() - before;
    assert!(grown < 400 << 20, "{} MiB", grown >> 20);
}

#[tokio::test]
async fn memory_that_grows_slowly_ends_at_its_limit_or_its_deadline() {
    let module = broken("memory-slowly").limit("memory", "4Mi");
    trap(fault_of(&module).await, "may have 4Mi");
}

#[tokio::test]
async fn a_module_that_needs_more_memory_than_it_may_have_does_not_start() {
    let error = broken("none").limit("memory", "128Ki").try_start(&runtime()).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains("may have 128Ki"), "{text}");
}

#[tokio::test]
async fn a_wrong_number_of_outcomes_is_a_breach() {
    for (fault, words) in [
        ("too-few-outcomes", "1 outcomes for 2 messages"),
        ("too-many-outcomes", "3 outcomes for 2 messages"),
        ("no-outcomes", "0 outcomes for 2 messages"),
    ] {
        contract(fault_of(&broken(fault)).await, words);
    }
}

#[tokio::test]
async fn a_million_outcomes_do_not_become_a_million_values_of_the_hub() {
    let before = peak_memory();
    let fault = fault_of(&broken("million-outcomes")).await;
    assert!(matches!(fault, Fault::Trap(_) | Fault::Contract(_)), "{fault}");
    assert!(peak_memory() - before < 300 << 20);
}

#[tokio::test]
async fn one_large_text_named_by_every_outcome_is_not_copied_for_each() {
    let before = peak_memory();
    let module = broken("shared-giant");
    let instance = module.start(&runtime()).await;
    let (result, _) = attack(&instance, plain(64)).await;
    let text = result.unwrap_err().to_string();
    assert!(text.contains("limits.bytes-per-call"), "{text}");
    assert!(peak_memory() - before < 300 << 20, "{}", (peak_memory() - before) >> 20);
}

#[tokio::test]
async fn an_output_that_is_not_declared_is_a_breach() {
    contract(fault_of(&broken("unknown-output")).await, "outcome 0: output 99 is not declared");
}

#[tokio::test]
async fn a_send_to_an_output_that_is_not_declared_is_denied() {
    let module = broken("send-unknown-output");
    let answer = answer_of(&module).await;
    assert!(answer.sends.is_empty());
    assert!(module.state_text("unknown").unwrap().contains("denied"));
}

#[tokio::test]
async fn a_flood_of_sends_is_cut_at_the_quota() {
    let answer = answer_of(&sized("send-flood", 5_000)).await;
    assert_eq!(answer.sends.len(), 1_000);
}

#[tokio::test]
async fn sends_are_cut_at_their_bytes() {
    let answer = answer_of(&sized("send-large", 30)).await;
    assert_eq!(answer.sends.len(), (4 << 20) / 200_000);
}

#[tokio::test]
async fn a_message_over_the_hubs_limit_is_too_large_to_send() {
    let module = sized("send-giant", 300_000);
    assert!(answer_of(&module).await.sends.is_empty());
    assert!(module.state_text("giant").unwrap().contains("too-large"));
}

#[tokio::test]
async fn a_giant_that_does_not_fit_the_call_ends_it() {
    contract(fault_of(&sized("send-giant", 20 << 20)).await, "limits.bytes-per-call");
}

#[tokio::test]
async fn a_flood_of_emitted_messages_is_a_breach() {
    contract(fault_of(&sized("emit-flood", 5_000)).await, "limits.sends-per-call");
}

#[tokio::test]
async fn a_giant_emitted_message_is_a_breach() {
    contract(fault_of(&sized("emit-giant", 300_000)).await, "262144 bytes");
}

#[tokio::test]
async fn a_huge_property_is_a_breach() {
    contract(fault_of(&sized("huge-property", 300_000)).await, "262144 bytes");
}

#[tokio::test]
async fn more_properties_than_a_message_may_have_are_a_breach_and_not_left_out() {
    contract(fault_of(&sized("emit-properties", 1_001)).await, "more than 1000 properties");
    contract(fault_of(&sized("annotate-properties", 1_001)).await, "more than 1000 properties");
    let module = sized("send-properties", 1_001);
    assert!(answer_of(&module).await.sends.is_empty());
    assert!(module.state_text("sent").unwrap().contains("too-large"));

    let sent = answer_of(&sized("send-properties", 1_000)).await.sends;
    assert_eq!(sent[0].properties.iter().count(), 1_000);
}

#[tokio::test]
async fn a_property_set_twice_is_a_breach() {
    contract(fault_of(&broken("twice-property")).await, "name is set twice");
}

#[tokio::test]
async fn a_module_cannot_say_that_it_is_another_device() {
    contract(fault_of(&broken("forged-system")).await, "connectionDeviceId");
}

#[tokio::test]
async fn a_flood_of_releases_is_a_breach() {
    contract(fault_of(&sized("release-flood", 30_000)).await, "released more");
}

#[tokio::test]
async fn state_is_refused_at_its_quota_and_the_call_goes_on() {
    let module = sized("state-flood", 1_000);
    let answer = answer_of(&module).await;
    assert_eq!(module.state_text("refused").as_deref(), Some("StateError::Quota"));
    assert!(answer.state.len() < 110, "{}", answer.state.len());
}

#[tokio::test]
async fn a_giant_value_is_refused_and_the_call_goes_on() {
    let module = sized("state-giant", 200_000);
    answer_of(&module).await;
    assert_eq!(module.state_text("answer").as_deref(), Some("Err(StateError::TooLarge)"));
    assert_eq!(module.state_text("giant"), None);
}

#[tokio::test]
async fn a_call_that_traps_leaves_no_trace_in_the_state() {
    let module = broken("state-then-panic");
    trap(fault_of(&module).await, "after effects");
    assert_eq!(module.state.lock().unwrap().used_bytes(), 0);
    assert_eq!(module.state.lock().unwrap().commit(), Vec::<StateChange>::new());
}

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_counted() {
    log::collect();
    let instance = sized("log-flood", 5_000).start(&runtime()).await;
    attack(&instance, plain(1)).await.0.unwrap();
    let usage = instance.usage();
    assert_eq!(usage.log_lines + usage.log_dropped, 5_000);
    assert!(usage.log_lines <= 300, "{usage:?}");
}

#[tokio::test]
async fn a_log_line_is_cut_and_cannot_forge_another() {
    log::collect();
    let instance = sized("log-giant", 1_000_000).start(&runtime()).await;
    attack(&instance, plain(1)).await.0.unwrap();
    let instance = broken("log-forge").start(&runtime()).await;
    attack(&instance, plain(1)).await.0.unwrap();
    let lines = log::lines();
    assert!(lines.iter().all(|line| line.len() < 5_000));
    assert!(!lines.iter().any(|line| line.starts_with("2026-01-01 ERROR")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.contains("weir::module") && line.contains("forged\\u{1b}"))
    );
}

#[tokio::test]
async fn a_flood_on_stdout_is_a_log_and_is_bounded_like_one() {
    log::collect();
    for fault in ["stdout-flood", "stdout-endless-line"] {
        let instance = sized(fault, 3_000).start(&runtime()).await;
        attack(&instance, plain(1)).await.0.unwrap();
        assert!(instance.usage().log_lines <= 300, "{:?}", instance.usage());
    }
}

#[tokio::test]
async fn a_flood_of_metrics_fills_a_table_of_limited_size() {
    let runtime = runtime();
    let instance = sized("metric-flood", 2_000).start(&runtime).await;
    attack(&instance, plain(1)).await.0.unwrap();
    let metrics = runtime.metrics();
    assert_eq!(metrics.len(), 100);
    assert!(metrics.iter().all(|metric| metric.value == 1.0));
}

#[tokio::test]
async fn random_numbers_are_given_and_counted() {
    answer_of(&sized("random-flood", 100)).await;
}

async fn refused_start(settings: Value) -> String {
    match Module::broken(settings).try_start(&runtime()).await.err().unwrap() {
        RuntimeError::Init(why) => why,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn init_that_refuses_traps_or_loops_refuses_the_start_with_its_reason() {
    let neighbour = Neighbour::start().await;
    let init = |fault: &str| json!({ "fault": fault, "when": "init" });
    let why = refused_start(init("refuse")).await;
    assert_eq!(why, "the settings do not please me");
    let why = refused_start(init("panic")).await;
    assert!(why.contains("the guest panics on purpose"), "{why}");
    let (why, time) = timed(refused_start(init("loop"))).await;
    assert!(why.contains("1000 ms"), "{why}");
    assert!(time < Duration::from_millis(3_000), "{time:?}");
    neighbour.answers().await;
}

#[tokio::test]
async fn a_trap_in_stop_is_a_fault_and_the_instance_ends() {
    let module = Module::broken(json!({ "fault": "state-then-panic", "when": "stop" }));
    let instance = module.start(&runtime()).await;
    assert!(matches!(instance.stop().await, Err(Fault::Trap(_))));
    assert_eq!(module.state.lock().unwrap().used_bytes(), 0);
}

#[tokio::test]
async fn dropping_the_handle_of_a_looping_guest_does_not_wait_for_it() {
    let module = broken("loop");
    let instance = module.start(&runtime()).await;
    let call = instance.deliver(plain(1));
    drop(call);
    let ((), time) = timed(async { drop(instance) }).await;
    assert!(time < Duration::from_millis(50), "{time:?}");
}
