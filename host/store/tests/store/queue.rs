//! What goes in comes out: order, priorities, expiry, and what can be seen meanwhile.

use crate::fixture::{
    Rig, append, ids, message, message_of, next, nothing_is_due, sequences, target,
};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::{MessageId, Sequence};
use weir_core::limits;
use weir_core::module_state::{StateChange, StateValue};
use weir_store::{Append, Change, Disposition, EntryState, Error, RouteNumber, Target};

#[tokio::test]
async fn messages_come_out_in_the_order_they_went_in() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..5).await;
    rig.send(a, 5..8).await;
    let reader = rig.store.reader(a).unwrap();
    let mut got = next(&reader, 6).await;
    assert_eq!(ids(&got), [0, 1, 2, 3, 4, 5]);
    got.extend(next(&reader, 6).await);
    assert_eq!(ids(&got), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(got[7].record.message, message(7));
    assert!(got.iter().all(|entry| entry.attempt == 1 && !entry.redelivered));
    assert!(nothing_is_due(&reader).await);
}

#[tokio::test]
async fn a_waiting_reader_is_woken_by_an_append() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let reader = rig.store.reader(a).unwrap();
    let (got, ()) = tokio::join!(next(&reader, 9), rig.send(a, 1..2));
    assert_eq!(ids(&got), [1]);
}

#[tokio::test]
async fn the_lowest_priority_number_goes_first_and_a_batch_has_one_priority() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let with = |id, priority| append(message(id), &[Target { priority, ..target(a) }]);
    rig.append(vec![with(1, 5), with(2, 0), with(3, 5), with(4, 0)]).await;
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(ids(&next(&reader, 9).await), [2, 4]);
    assert_eq!(ids(&next(&reader, 1).await), [1]);
    rig.append(vec![with(5, 1)]).await;
    assert_eq!(ids(&next(&reader, 9).await), [5]);
    assert_eq!(ids(&next(&reader, 9).await), [3]);
}

#[tokio::test]
async fn one_message_stands_in_many_queues_and_is_stored_once() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    let big = message_of("d", 1, 200_000);
    rig.append(vec![append(big.clone(), &[target(a), target(b)])]).await;
    rig.store.tidy().await.unwrap();
    assert!(rig.store.usage().bytes < 200_000 * 2 + 400_000);
    for endpoint in [a, b] {
        let reader = rig.store.reader(endpoint).unwrap();
        assert_eq!(next(&reader, 1).await[0].record.message, big);
    }
}

#[tokio::test]
async fn sequences_of_a_batch_follow_without_a_gap() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let batch: Vec<Append> = (0..3_000).map(|id| append(message(id), &[target(a)])).collect();
    let first = rig.append(batch).await.first.unwrap();
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 3_000).await;
    let expected: Vec<Sequence> = (0..3_000).map(|n| Sequence(first.0 + n)).collect();
    assert_eq!(sequences(&got), expected);
}

#[tokio::test]
async fn a_queue_has_one_reader_and_gets_back_what_it_had_in_flight() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..4).await;
    let reader = rig.store.reader(a).unwrap();
    assert!(matches!(rig.store.reader(a), Err(Error::ReaderTaken)));
    next(&reader, 2).await;
    drop(reader);
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 9).await;
    assert_eq!(ids(&got), [1, 2, 3]);
    let seen: Vec<_> = got.iter().map(|entry| (entry.attempt, entry.redelivered)).collect();
    assert_eq!(seen, [(1, true), (1, true), (1, false)]);
    assert!(matches!(rig.store.reader(weir_store::EndpointId(99)), Err(Error::UnknownEndpoint)));
}

#[tokio::test]
async fn dropping_next_takes_nothing() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let reader = rig.store.reader(a).unwrap();
    assert!(nothing_is_due(&reader).await);
    rig.send(a, 1..3).await;
    for _ in 0..3 {
        // Polled once and dropped.
        drop(futures::FutureExt::now_or_never(reader.next(1, 1)));
        reader.put_back(&[], false);
        drop(reader.next(1, 1));
    }
    assert_eq!(rig.messages(a), 2);
}

#[tokio::test]
async fn a_settled_entry_does_not_come_back_after_a_restart() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..10).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 10).await;
    // Out of order: the ones between are still owed.
    rig.settle(a, &got[5..7], Disposition::Done).await;
    rig.settle(a, &got[0..2], Disposition::Done).await;
    drop(reader);
    let rig = rig.crash().await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 10).await;
    assert_eq!(ids(&got), [2, 3, 4, 7, 8, 9]);
    assert_eq!(rig.report.entries, 6);
    // Those that the cursor had passed are known to have been delivered.
    assert_eq!(got[0].attempt, 2);
    assert!(got[0].redelivered);
    assert_eq!(got[3].attempt, 1);
}

#[tokio::test]
async fn settling_twice_is_counted_and_does_nothing() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..2).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 1).await;
    assert_eq!(rig.settle(a, &got, Disposition::Done).await.unknown, 0);
    assert_eq!(rig.settle(a, &got, Disposition::Done).await.unknown, 1);
    assert_eq!(rig.messages(a), 1);
}

#[tokio::test]
async fn the_last_change_of_a_key_within_one_group_counts() {
    let rig = Rig::new().await;
    let change = |key: &str, value: Option<&str>| StateChange {
        key: key.to_owned(),
        value: value.map(|value| StateValue { value: value.into(), expires: Timestamp::NEVER }),
    };
    let commit = |changes: Vec<StateChange>| {
        let state = Some(("m".to_owned(), changes));
        rig.store.commit(Change { state, ..Change::default() })
    };
    let (first, second, third) = tokio::join!(
        commit(vec![change("a", Some("1")), change("b", None)]),
        commit(vec![change("a", None), change("b", Some("1"))]),
        commit(vec![change("b", Some("2")), change("c", Some("1"))]),
    );
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    let state = rig.store.module_state("m").await.unwrap();
    let found: Vec<(&str, &[u8])> =
        state.iter().map(|(key, value)| (key.as_str(), &value.value[..])).collect();
    assert_eq!(found, [("b", &b"2"[..]), ("c", b"1")]);
}

#[tokio::test]
async fn an_expired_entry_is_not_delivered_and_is_counted_by_route() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let later = rig.clock.now().after(Duration::from_secs(60));
    let with = |id, expires, route| {
        append(message(id), &[Target { expires, route: RouteNumber(route), ..target(a) }])
    };
    let never = Timestamp::NEVER;
    rig.append(vec![with(1, later, 7), with(2, never, 7), with(3, later, 8)]).await;
    let reader = rig.store.reader(a).unwrap();
    rig.clock.advance(Duration::from_secs(59));
    let first = next(&reader, 1).await;
    assert_eq!(ids(&first), [1]);
    reader.put_back(&sequences(&first), true);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(ids(&next(&reader, 9).await), [2]);
    assert!(nothing_is_due(&reader).await);
    assert_eq!(rig.usage(a).expired, [(RouteNumber(7), 1), (RouteNumber(8), 1)]);
    assert_eq!(rig.messages(a), 1);
}

#[tokio::test]
async fn expiry_reaches_held_entries_and_those_deep_in_the_queue() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.store.set_window(a, 10);
    let later = rig.clock.now().after(Duration::from_secs(60));
    let expires = |id: u64| if id.is_multiple_of(2) { later } else { Timestamp::NEVER };
    let batch = (0..1_000)
        .map(|id| append(message(id), &[Target { expires: expires(id), ..target(a) }]))
        .collect();
    rig.append(batch).await;
    let reader = rig.store.reader(a).unwrap();
    let held = next(&reader, 4).await;
    rig.settle(a, &held, Disposition::Hold).await;
    rig.clock.advance(Duration::from_secs(61));
    rig.store.tidy().await.unwrap();
    assert_eq!(rig.messages(a), 500);
    assert_eq!(rig.usage(a).held, 2);
    drop(reader);
    let rig = rig.crash().await;
    assert_eq!(rig.report.entries, 500);
    let reader = rig.store.reader(a).unwrap();
    let mut seen = Vec::new();
    while seen.len() < 500 {
        seen.extend(ids(&next(&reader, 100).await));
    }
    assert_eq!(seen, (0..1_000).filter(|id| id % 2 == 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_queue_is_read_from_disk_in_order() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    let count = limits::LANE_ENTRIES as u64 * 2 + 777;
    let mut id = 0;
    while id < count {
        let batch = (id..count.min(id + 500))
            .map(|id| match id % 10 {
                3 => append(message(id), &[target(a), target(b)]),
                _ => append(message(id), &[target(a)]),
            })
            .collect();
        rig.append(batch).await;
        id += 500;
    }
    let rig = rig.reopen().await;
    for (endpoint, expected) in
        [(a, (0..count).collect::<Vec<_>>()), (b, (0..count).filter(|id| id % 10 == 3).collect())]
    {
        let reader = rig.store.reader(endpoint).unwrap();
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let got = next(&reader, 700).await;
            rig.settle(endpoint, &got, Disposition::Done).await;
            seen.extend(ids(&got));
        }
        assert_eq!(seen, expected);
        assert_eq!(rig.messages(endpoint), 0);
    }
}

#[tokio::test]
async fn settled_messages_give_their_space_to_new_ones() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let reader = rig.store.reader(a).unwrap();
    let mut sizes = Vec::new();
    for round in 0..6 {
        let batch = (0..400).map(|n| append(message_of("d", round * 400 + n, 2_000), &[target(a)]));
        rig.append(batch.collect()).await;
        let mut left = 400;
        while left > 0 {
            let got = next(&reader, 100).await;
            left -= got.len();
            rig.settle(a, &got, Disposition::Done).await;
        }
        rig.store.tidy().await.unwrap();
        let file = std::fs::metadata(rig.dir.path().join("weir.db")).unwrap().len();
        sizes.push((file, rig.store.usage().bytes));
    }
    assert!(sizes[5].1 < 600_000, "{sizes:?}");
    assert!(sizes[5].0 <= sizes[2].0.max(2_000_000), "{sizes:?}");
}

#[tokio::test]
async fn a_few_old_entries_do_not_pin_the_space_of_many() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let reader = rig.store.reader(a).unwrap();
    let mut kept = Vec::new();
    for round in 0..10u64 {
        let batch = (0..100).map(|n| append(message_of("d", round * 100 + n, 2_000), &[target(a)]));
        rig.append(batch.collect()).await;
        let mut got = next(&reader, 100).await;
        kept.push(got.remove(50));
        rig.settle(a, &got, Disposition::Done).await;
    }
    let before = rig.store.usage().bytes;
    for _ in 0..10 {
        rig.store.tidy().await.unwrap();
    }
    let after = rig.store.usage().bytes;
    assert!(after + 1_000_000 < before, "{before} -> {after}");
    reader.put_back(&sequences(&kept), false);
    assert_eq!(ids(&next(&reader, 99).await), ids(&kept));
    drop(reader);
    let rig = rig.crash().await;
    assert_eq!(rig.report.damage, None);
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 99).await;
    assert_eq!(ids(&got), ids(&kept));
    assert_eq!(got[3].record, kept[3].record);
}

#[tokio::test]
async fn a_dead_letter_tells_what_happened_and_can_go_back() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    rig.send(a, 1..4).await;
    rig.send(b, 4..5).await;
    let digest = weir_core::digest::Digest::from_bytes([7; 32]);
    let dead = Disposition::Dead {
        reason: "cannot be parsed".to_owned(),
        code: Some("bad-json".to_owned()),
        module_digest: Some(digest),
    };
    for endpoint in [a, b] {
        let reader = rig.store.reader(endpoint).unwrap();
        let got = next(&reader, 2).await;
        rig.settle(endpoint, &got, dead.clone()).await;
    }
    let all = rig.store.dead_letters(None, 9, None).await.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(rig.store.dead_letters(Some(all[0].id), 1, None).await.unwrap(), all[1..2]);
    assert_eq!(rig.store.dead_letters(None, 9, Some(b)).await.unwrap(), all[2..]);
    let letter = rig.store.dead_letter(all[1].id).await.unwrap().unwrap();
    assert_eq!((letter.endpoint, letter.attempts, letter.at), (a, 1, rig.clock.now()));
    assert_eq!(
        (letter.reason.as_str(), letter.code.as_deref()),
        ("cannot be parsed", Some("bad-json"))
    );
    assert_eq!(letter.module_digest, Some(digest));
    assert_eq!(letter.record.message, message(2));
    let again = letter.record.message.replayed(MessageId(77), rig.clock.now());
    let change = Change {
        append: vec![append(again, &[target(b)])],
        replayed: vec![letter.id],
        ..Change::default()
    };
    rig.commit(change).await.unwrap();
    assert_eq!(rig.store.dead_letter(letter.id).await.unwrap(), None);
    assert!(rig.store.delete_dead_letter(all[0].id).await.unwrap());
    assert!(!rig.store.delete_dead_letter(all[0].id).await.unwrap());
    assert_eq!(rig.store.dead_letters(None, 9, None).await.unwrap(), all[2..]);
    let reader = rig.store.reader(b).unwrap();
    assert_eq!(ids(&next(&reader, 9).await), [77]);
}

#[tokio::test]
async fn a_change_is_committed_whole() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    rig.send(a, 1..3).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 2).await;
    let value = StateValue { value: b"42".to_vec(), expires: Timestamp::NEVER };
    let set = |key: &str, value| StateChange { key: key.to_owned(), value };
    let change = Change {
        settle: vec![(a, got[0].sequence, Disposition::Done)],
        append: vec![append(message(10), &[target(b)]), append(message(11), &[target(b)])],
        state: Some((
            "counter".to_owned(),
            vec![set("seen", Some(value.clone())), set("gone", Some(value.clone()))],
        )),
        ..Change::default()
    };
    let committed = rig.commit(change).await.unwrap();
    assert!(committed.first.is_some());
    let state = Some(("counter".to_owned(), vec![set("gone", None)]));
    rig.commit(Change { state, ..Change::default() }).await.unwrap();
    drop(reader);
    let rig = rig.crash().await;
    assert_eq!((rig.messages(a), rig.messages(b)), (1, 2));
    let state = rig.store.module_state("counter").await.unwrap();
    assert_eq!(state.into_iter().collect::<Vec<_>>(), [("seen".to_owned(), value)]);
    rig.store.delete_module_state("counter").await.unwrap();
    assert!(rig.store.module_state("counter").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_message_is_found_with_its_places() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    rig.send(a, 1..50).await;
    let places = [target(a), Target { priority: 4, ..target(b) }];
    rig.append(vec![append(message(50), &places)]).await;
    let reader = rig.store.reader(a).unwrap();
    next(&reader, 99).await;
    let found = rig.store.find(MessageId(50)).await.unwrap().unwrap();
    assert_eq!(found.record.message, message(50));
    let places: Vec<_> = found.places.iter().map(|p| (p.endpoint, p.priority, p.state)).collect();
    assert_eq!(places, [(a, 0, EntryState::InFlight), (b, 4, EntryState::Waiting)]);
    assert_eq!(rig.store.find(MessageId(99)).await.unwrap(), None);
}

#[tokio::test]
async fn peeking_takes_nothing_and_goes_on_where_it_stopped() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..20).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 3).await;
    rig.settle(a, &got[..1], Disposition::Done).await;
    rig.settle(a, &got[1..2], Disposition::Hold).await;
    let page = rig.store.peek(a, None, 4).await.unwrap();
    let seen: Vec<_> = page.iter().map(|p| (p.record.message.id().0, p.state)).collect();
    assert_eq!(
        seen,
        [
            (1, EntryState::Held),
            (2, EntryState::InFlight),
            (3, EntryState::Waiting),
            (4, EntryState::Waiting)
        ]
    );
    let page = rig.store.peek(a, Some(page[3].sequence), 99).await.unwrap();
    assert_eq!(page.len(), 15);
    assert_eq!(rig.messages(a), 19);
}

#[tokio::test]
async fn a_purge_leaves_only_what_is_in_flight() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    rig.store.set_window(a, 5);
    let batch = (0..100).map(|id| append(message(id), &[target(a), target(b)])).collect();
    rig.append(batch).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 3).await;
    rig.settle(a, &got[..1], Disposition::Hold).await;
    assert_eq!(rig.store.purge(a).await.unwrap(), 98);
    assert_eq!(rig.messages(a), 2);
    assert_eq!(rig.messages(b), 100);
    rig.settle(a, &got[1..2], Disposition::Done).await;
    rig.send(a, 200..201).await;
    drop(reader);
    let rig = rig.crash().await;
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(ids(&next(&reader, 99).await), [2, 200]);
    assert_eq!(rig.messages(b), 100);
    let unknown = rig.store.purge(weir_store::EndpointId(99)).await;
    assert!(matches!(unknown, Err(Error::UnknownEndpoint)));
}

#[tokio::test]
async fn usage_counts_what_is_there() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..5).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 3).await;
    rig.settle(a, &got[..1], Disposition::Hold).await;
    let usage = rig.usage(a);
    assert_eq!((usage.messages, usage.held, usage.in_flight, usage.retrying), (5, 1, 2, 0));
    assert_eq!(usage.oldest, Some(message(0).enqueued()));
    assert_eq!(usage.name, "a");
    assert!(usage.bytes > 5 * 40);
    let all = rig.store.usage();
    assert!(all.bytes > 0 && all.max_bytes > all.bytes);
}

#[tokio::test]
async fn names_keep_their_numbers() {
    let rig = Rig::new().await;
    let (a, b) = (rig.endpoint("a").await, rig.endpoint("b").await);
    let route = rig.store.route_number("to-cloud").await.unwrap();
    let (same, also) = tokio::join!(rig.store.endpoint("c"), rig.store.endpoint("c"));
    assert_eq!(same.unwrap(), also.unwrap());
    let rig = rig.reopen().await;
    assert_eq!(rig.endpoint("b").await, b);
    assert_eq!(rig.store.route_number("to-cloud").await.unwrap(), route);
    assert_eq!(rig.store.endpoint_names()[0], (a, "a".to_owned()));
    assert_eq!(rig.store.route_names(), [(route, "to-cloud".to_owned())]);
}

#[tokio::test]
async fn closing_answers_everyone() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let reader = rig.store.reader(a).unwrap();
    let store = rig.store.clone();
    let (none, _) = tokio::join!(next(&reader, 1), rig.close());
    assert!(none.is_empty());
    let appended = store.append(vec![append(message(1), &[target(a)])]).await;
    assert_eq!((appended.accepted, appended.refused.unwrap().rest.len()), (0, 1));
    assert!(store.commit(Change::default()).await.is_err());
    assert!(matches!(store.purge(a).await, Err(Error::Closed)));
    assert!(matches!(store.peek(a, None, 1).await, Err(Error::Closed)));
}

#[tokio::test]
async fn the_writer_ends_when_nobody_holds_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let clock = weir_core::clock::Clock::system();
    let opened =
        weir_store::Store::open(crate::fixture::options(dir.path(), &clock, None)).await.unwrap();
    drop(opened.store);
    let ended = tokio::time::timeout(crate::fixture::SOON, opened.writer.run()).await;
    ended.unwrap().unwrap();
    // The log was taken into the database.
    let log = std::fs::metadata(dir.path().join("weir.db-wal"));
    assert!(log.map_or(0, |log| log.len()) == 0);
}
