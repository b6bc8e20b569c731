//! Full queues and a full store.

use crate::fixture::{Rig, append, ids, message, message_of, next, target};
use weir_core::clock::Timestamp;
use weir_store::{
    Append, Change, CommitError, Disposition, EndpointId, QueueLimit, Target, WhenFull, Why,
};

fn limit(max_bytes: u64, when_full: WhenFull) -> QueueLimit {
    QueueLimit { max_bytes: Some(max_bytes), when_full }
}

fn batch(ids: std::ops::Range<u64>, endpoint: EndpointId) -> Vec<Append> {
    ids.map(|id| append(message_of("d", id, 1_000), &[target(endpoint)])).collect()
}

#[tokio::test]
async fn a_queue_that_rejects_takes_a_prefix_and_gives_the_rest_back() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.store.set_limit(a, limit(5_500, WhenFull::Reject));
    let appended = rig.append(batch(0..10, a)).await;
    assert_eq!(appended.accepted, 5);
    let refused = appended.refused.unwrap();
    assert!(matches!(refused.why, Why::Full { endpoint } if endpoint == a));
    assert_eq!(refused.rest, batch(5..10, a));
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 2).await;
    let room = rig.store.room();
    rig.settle(a, &got, Disposition::Done).await;
    room.await;
    assert_eq!(rig.append(refused.rest).await.accepted, 2);
}

#[tokio::test]
async fn a_message_that_one_of_its_queues_refuses_is_in_none() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    rig.store.set_limit(a, limit(2_500, WhenFull::DropOldest));
    rig.store.set_limit(b, limit(1_500, WhenFull::Reject));
    rig.append(batch(0..2, a)).await;
    rig.append(batch(2..3, b)).await;
    let both = append(message_of("d", 9, 1_000), &[target(a), target(b)]);
    let appended = rig.append(vec![both]).await;
    assert!(matches!(appended.refused.unwrap().why, Why::Full { endpoint } if endpoint == b));
    // Nothing was dropped for it either.
    assert_eq!((rig.messages(a), rig.usage(a).dropped), (2, 0));
}

#[tokio::test]
async fn drop_oldest_drops_the_oldest_of_the_lowest_priority() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.store.set_limit(a, limit(5_500, WhenFull::DropOldest));
    let with =
        |id, priority| append(message_of("d", id, 1_000), &[Target { priority, ..target(a) }]);
    rig.append(vec![with(1, 0), with(2, 9), with(3, 0), with(4, 9), with(5, 9)]).await;
    assert_eq!(rig.append(vec![with(6, 0), with(7, 0)]).await.accepted, 2);
    assert_eq!(rig.usage(a).dropped, 2);
    let rig = rig.crash().await;
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(ids(&next(&reader, 9).await), [1, 3, 6, 7]);
    assert_eq!(ids(&next(&reader, 9).await), [5]);
}

#[tokio::test]
async fn drop_oldest_reaches_entries_on_disk_and_spares_those_in_flight() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.store.set_window(a, 4);
    rig.append(batch(0..40, a)).await;
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(next(&reader, 2).await.len(), 2);
    rig.store.set_limit(a, limit(10_900, WhenFull::DropOldest));
    assert_eq!(rig.append(batch(100..101, a)).await.accepted, 1);
    assert_eq!(rig.messages(a), 10);
    let mut seen = Vec::new();
    while seen.len() < 8 {
        seen.extend(ids(&next(&reader, 9).await));
    }
    assert_eq!(seen, [33, 34, 35, 36, 37, 38, 39, 100]);
    // Everything is with the consumer: there is nothing to drop.
    let appended = rig.append(batch(101..102, a)).await;
    assert!(matches!(appended.refused.unwrap().why, Why::Full { .. }));
}

#[tokio::test]
async fn many_senders_at_once_all_get_into_a_small_queue_that_drops() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.store.set_limit(a, limit(20_000, WhenFull::DropOldest));
    let sends = (0..20u64).map(|n| rig.append(batch(n * 10..n * 10 + 10, a)));
    for appended in futures::future::join_all(sends).await {
        assert_eq!(appended.accepted, 10);
    }
    assert!(rig.usage(a).bytes <= 20_000);
    assert_eq!(rig.usage(a).dropped + rig.messages(a), 200);
}

#[tokio::test]
async fn a_full_store_refuses_and_takes_again_when_something_was_settled() {
    let rig = Rig::with_total(Some(2_000_000)).await;
    let a = rig.endpoint("a").await;
    let mut stored = 0;
    let refused = loop {
        let appended = rig.append(batch(stored..stored + 100, a)).await;
        stored += appended.accepted as u64;
        if let Some(refused) = appended.refused {
            break refused;
        }
    };
    assert!(matches!(refused.why, Why::StoreFull));
    // To within what the index of the queues grew by since it was measured.
    assert!(rig.store.usage().bytes <= 2_000_000 + 65_536);
    let full = Change { append: batch(0..9, a), ..Change::default() };
    assert!(matches!(rig.commit(full).await, Err(CommitError::Full { endpoint: None, .. })));
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 300).await;
    rig.settle(a, &got, Disposition::Done).await;
    assert_eq!(rig.append(refused.rest).await.refused.map(|r| r.rest.len()), None);
}

#[tokio::test]
async fn dead_letters_take_a_quarter_of_the_store_and_the_oldest_go_first() {
    let rig = Rig::with_total(Some(4_000_000)).await;
    let a = rig.endpoint("a").await;
    let reader = rig.store.reader(a).unwrap();
    for id in 0..60 {
        let large = append(message_of("d", id, 100_000), &[target(a)]);
        assert_eq!(rig.append(vec![large]).await.accepted, 1, "message {id}");
        let dead = Disposition::Dead { reason: "x".to_owned(), code: None, module_digest: None };
        rig.settle(a, &next(&reader, 1).await, dead).await;
        rig.store.tidy().await.unwrap();
    }
    let letters = rig.store.dead_letters(None, 100, None).await.unwrap();
    let ids: Vec<u64> = letters.iter().map(|letter| letter.record.message.id().0).collect();
    assert_eq!(ids, [51, 52, 53, 54, 55, 56, 57, 58, 59]);
    assert_eq!((rig.usage(a).dead_letters_dropped, rig.usage(a).dropped), (51, 0));
}

#[tokio::test]
async fn a_change_that_does_not_fit_comes_back_and_nothing_of_it_happened() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    rig.store.set_limit(b, limit(2_500, WhenFull::Reject));
    rig.send(a, 1..2).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 1).await;
    let settle = vec![(a, got[0].sequence, Disposition::Done)];
    let change = Change { settle, append: batch(0..3, b), ..Change::default() };
    let Err(CommitError::Full { endpoint, change }) = rig.commit(change).await else {
        panic!("it does not fit");
    };
    assert_eq!((endpoint, change.append.len()), (Some(b), 3));
    assert_eq!((rig.messages(b), rig.usage(a).in_flight), (0, 1));
    let less = Change { append: change.append[..2].to_vec(), ..*change };
    rig.commit(less).await.unwrap();
    assert_eq!((rig.messages(a), rig.messages(b)), (0, 2));
}

#[tokio::test]
async fn a_module_that_feeds_itself_can_go_on_when_its_queue_is_full() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.append(batch(0..3, a)).await;
    rig.store.set_limit(a, limit(rig.usage(a).bytes, WhenFull::Reject));
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 1).await;
    let settle = vec![(a, got[0].sequence, Disposition::Done)];
    rig.commit(Change { settle, append: batch(9..10, a), ..Change::default() }).await.unwrap();
    assert_eq!(rig.messages(a), 3);
}

#[tokio::test]
async fn what_a_group_puts_aside_still_takes_its_room() {
    for when_full in [WhenFull::Reject, WhenFull::DropOldest] {
        let rig = Rig::new().await;
        let a = rig.endpoint("a").await;
        rig.append(batch(0..3, a)).await;
        let full = limit(rig.usage(a).bytes, when_full);
        rig.store.set_limit(a, full);
        let reader = rig.store.reader(a).unwrap();
        let got = next(&reader, 3).await;
        let later = Disposition::Retry { not_before: Timestamp::NEVER, hold_sender: false };
        let settle = got.iter().map(|entry| (a, entry.sequence, later.clone())).collect();
        let change = Change { settle, ..Change::default() };
        // Nothing is committed before both wait.
        let (retried, appended) =
            tokio::join!(rig.store.commit(change), rig.store.append(batch(9..10, a)));
        assert_eq!(retried.unwrap().unknown, 0);
        // The oldest can be dropped once it is known that it waits.
        assert_eq!(appended.accepted, usize::from(when_full == WhenFull::DropOldest));
        assert_eq!(Some(rig.usage(a).bytes), full.max_bytes, "{when_full:?}");
    }
}

#[tokio::test]
async fn an_entry_that_is_settled_twice_makes_room_once() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.append(batch(0..3, a)).await;
    rig.store.set_limit(a, limit(rig.usage(a).bytes, WhenFull::Reject));
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 1).await;
    let settle = vec![(a, got[0].sequence, Disposition::Done); 2];
    let change = Change { settle, append: batch(8..10, a), ..Change::default() };
    let refused = rig.commit(change).await.unwrap_err();
    assert!(matches!(refused, CommitError::Full { .. }));
    assert_eq!(rig.messages(a), 3);
}

#[tokio::test]
async fn an_unknown_queue_is_refused() {
    let rig = Rig::new().await;
    let appended = rig.append(vec![append(message(1), &[target(EndpointId(77))])]).await;
    assert!(matches!(appended.refused.unwrap().why, Why::Unavailable(_)));
    let change = Change { append: batch(0..1, EndpointId(77)), ..Change::default() };
    assert!(matches!(rig.commit(change).await, Err(CommitError::Unavailable { .. })));
}
