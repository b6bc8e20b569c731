//! What comes again: retried, held, put back, or with a consumer when the hub ended.

use crate::fixture::{Rig, append, ids, message_of, next, nothing_is_due, sequences, target};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::limits;
use weir_store::{Change, Disposition};

fn retry(not_before: Timestamp, hold_sender: bool) -> Disposition {
    Disposition::Retry { not_before, hold_sender }
}

fn dead() -> Disposition {
    Disposition::Dead { reason: "bad".to_owned(), code: None, module_digest: None }
}

#[tokio::test]
async fn what_is_put_back_comes_first_and_counts_if_it_should() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..6).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 4).await;
    reader.put_back(&sequences(&got[2..]), true);
    reader.put_back(&sequences(&got[..1]), false);
    let again = next(&reader, 9).await;
    assert_eq!(ids(&again), [1, 3, 4, 5]);
    let attempts: Vec<u32> = again.iter().map(|entry| entry.attempt).collect();
    assert_eq!(attempts, [1, 2, 2, 1]);
}

#[tokio::test]
async fn a_retry_waits_for_its_time() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..3).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 2).await;
    let time = rig.clock.now().after(Duration::from_secs(10));
    rig.settle(a, &got, retry(time, false)).await;
    assert!(nothing_is_due(&reader).await);
    assert_eq!(rig.usage(a).retrying, 2);
    rig.clock.advance(Duration::from_secs(10));
    let got = next(&reader, 2).await;
    assert_eq!(ids(&got), [1, 2]);
    assert_eq!(got[0].attempt, 2);
}

#[tokio::test]
async fn a_retry_that_holds_its_sender_lets_others_pass() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let from = |device, id| append(message_of(device, id, 10), &[target(a)]);
    rig.append(vec![from("x", 1), from("x", 2), from("y", 3), from("x", 4), from("y", 5)]).await;
    let reader = rig.store.reader(a).unwrap();
    let first = next(&reader, 1).await;
    let time = rig.clock.now().after(Duration::from_secs(10));
    rig.settle(a, &first, retry(time, true)).await;
    let others = next(&reader, 9).await;
    assert_eq!(ids(&others), [3, 5]);
    rig.settle(a, &others, Disposition::Done).await;
    drop(reader);
    // The wait survives the end of the process.
    let rig = rig.crash().await;
    let reader = rig.store.reader(a).unwrap();
    assert!(nothing_is_due(&reader).await);
    rig.clock.advance(Duration::from_secs(10));
    let first = next(&reader, 9).await;
    assert_eq!(ids(&first), [1]);
    assert!(nothing_is_due(&reader).await);
    rig.settle(a, &first, Disposition::Done).await;
    assert_eq!(ids(&next(&reader, 9).await), [2, 4]);
}

#[tokio::test]
async fn held_entries_stay_until_released_or_redelivered() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..5).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 3).await;
    rig.settle(a, &got, Disposition::Hold).await;
    assert_eq!(rig.usage(a).held, 3);
    assert_eq!(ids(&next(&reader, 9).await), [4]);
    rig.settle(a, &got[1..2], Disposition::Done).await;
    reader.redeliver_held();
    let again = next(&reader, 9).await;
    assert_eq!(ids(&again), [1, 3]);
    assert!(again.iter().all(|entry| entry.redelivered));
}

#[tokio::test]
async fn what_was_handed_out_before_an_orderly_stop_is_known_afterwards() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..10).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 4).await;
    rig.settle(a, &got[2..3], Disposition::Done).await;
    // The reader may outlive the store.
    let rig = rig.reopen().await;
    drop(reader);
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 9).await;
    assert_eq!(ids(&got), [0, 1, 3, 4, 5, 6, 7, 8, 9]);
    let seen: Vec<bool> = got.iter().map(|entry| entry.redelivered).collect();
    assert_eq!(seen, [true, true, true, false, false, false, false, false, false]);
    assert!(got.iter().all(|entry| entry.attempt == 1));
    rig.settle(a, &got, Disposition::Done).await;
    drop(reader);
    assert_eq!(rig.reopen().await.messages(a), 0);
}

#[tokio::test]
async fn what_may_have_been_handed_out_before_a_crash_is_said_to_be_delivered_again() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..2_000).await;
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(next(&reader, 4).await.len(), 4);
    drop(reader);
    let rig = rig.crash().await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 2_000).await;
    let seen = got.iter().take_while(|entry| entry.redelivered).count();
    assert_eq!(seen, limits::HANDED_OUT);
    assert!(got[seen..].iter().all(|entry| !entry.redelivered));
    // What comes later is new.
    rig.settle(a, &got, Disposition::Done).await;
    rig.send(a, 2_000..2_001).await;
    assert!(!next(&reader, 9).await[0].redelivered);
}

#[tokio::test]
async fn being_held_over_many_restarts_uses_no_attempts() {
    let mut rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..2).await;
    for round in 0..6 {
        let reader = rig.store.reader(a).unwrap();
        let got = next(&reader, 9).await;
        assert_eq!((got[0].attempt, got[0].redelivered), (1, round > 0));
        rig.settle(a, &got, Disposition::Hold).await;
        // The module starts anew, then the hub.
        reader.redeliver_held();
        let got = next(&reader, 9).await;
        assert_eq!((got[0].attempt, got[0].redelivered), (1, true));
        rig.settle(a, &got, Disposition::Hold).await;
        drop(reader);
        rig = if round % 2 == 0 { rig.reopen().await } else { rig.crash().await };
    }
    let reader = rig.store.reader(a).unwrap();
    let now = rig.clock.now();
    let got = next(&reader, 9).await;
    rig.settle(a, &got, retry(now, false)).await;
    let again = next(&reader, 9).await;
    assert_eq!((again[0].attempt, again[0].redelivered), (2, true));
}

#[tokio::test]
async fn an_entry_can_be_held_and_released_within_one_group() {
    for last in [Disposition::Done, dead(), Disposition::Hold] {
        let rig = Rig::new().await;
        let a = rig.endpoint("a").await;
        rig.send(a, 1..4).await;
        let reader = rig.store.reader(a).unwrap();
        let got = next(&reader, 2).await;
        let settle = |disposition: &Disposition| {
            let settle = got.iter().map(|entry| (a, entry.sequence, disposition.clone()));
            rig.store.commit(Change { settle: settle.collect(), ..Change::default() })
        };
        let later = Disposition::Retry { not_before: Timestamp::NEVER, hold_sender: true };
        // Nothing is committed before all three wait.
        let (held, retried, ended) =
            tokio::join!(settle(&Disposition::Hold), settle(&later), settle(&last));
        assert_eq!([held, retried, ended].map(|done| done.unwrap().unknown), [0, 0, 0]);
        let left = if last == Disposition::Hold { 2 } else { 0 };
        let usage = rig.usage(a);
        assert_eq!((usage.messages, usage.held, usage.retrying), (left + 1, left, 0));
        let letters = rig.store.dead_letters(None, 9, None).await.unwrap();
        let attempts: Vec<u32> = letters.iter().map(|letter| letter.attempts).collect();
        assert_eq!(attempts, if last == dead() { vec![2, 2] } else { vec![] });
        drop(reader);
        let rig = rig.reopen().await;
        assert_eq!(rig.messages(a), left + 1);
        let reader = rig.store.reader(a).unwrap();
        let expected: &[u64] = if left > 0 { &[1, 2, 3] } else { &[3] };
        assert_eq!(ids(&next(&reader, 9).await), expected);
    }
}

#[tokio::test]
async fn held_entries_are_delivered_again_after_a_restart() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..4).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 2).await;
    rig.settle(a, &got, Disposition::Hold).await;
    drop(reader);
    let rig = rig.reopen().await;
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(ids(&next(&reader, 9).await), [1, 2, 3]);
}
