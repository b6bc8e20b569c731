//! A disk that reports errors at the commit, with work of a module ahead of it.

use crate::fixture::{Rig, SOON, append, ids, message, next, sequences, target};
use weir_core::clock::Timestamp;
use weir_core::id::Sequence;
use weir_core::module_state::{StateChange, StateValue};
use weir_store::{Change, ChangeReceipt, CommitError, Disposition, EndpointId, Reader};

/// Batches that a module is ahead.
const AHEAD: u64 = 12;

/// What a module did with one message: it is settled, another goes on, its state says so.
fn work(input: EndpointId, sequence: Sequence, output: EndpointId, at: u64) -> Change {
    let value = Some(StateValue { value: at.to_le_bytes().into(), expires: Timestamp::NEVER });
    Change {
        settle: vec![(input, sequence, Disposition::Done)],
        append: vec![append(message(100 + at), &[target(output)])],
        state: Some(("m".to_owned(), vec![StateChange { key: "last".to_owned(), value }])),
        ..Change::default()
    }
}

/// A module that has taken its messages and handed its work over without waiting.
struct Ahead {
    rig: Rig,
    input: EndpointId,
    output: EndpointId,
    reader: Reader,
    sequences: Vec<Sequence>,
    receipts: Vec<ChangeReceipt>,
}

impl Ahead {
    /// The first commits succeed, the disk fails from then on. `pause` lets the writer run in
    /// between, so that the rest is spread over several groups.
    async fn new(before: u64, pause: bool) -> Self {
        let rig = Rig::new().await;
        let (input, output) = (rig.endpoint("in").await, rig.endpoint("out").await);
        rig.send(input, 0..AHEAD).await;
        let reader = rig.store.reader(input).unwrap();
        let sequences = sequences(&next(&reader, usize::MAX).await);
        let chain = rig.store.chain();
        for at in 0..before {
            let slot = rig.store.slot().await.unwrap();
            let change = work(input, sequences[usize::try_from(at).unwrap()], output, at);
            slot.commit(change, &chain).await.unwrap();
        }
        rig.break_commits().await;
        let mut receipts = Vec::new();
        for at in before..AHEAD {
            let slot = rig.store.slot().await.unwrap();
            let change = work(input, sequences[usize::try_from(at).unwrap()], output, at);
            receipts.push(slot.commit(change, &chain));
            if pause {
                tokio::task::yield_now().await;
            }
        }
        Self { rig, input, output, reader, sequences, receipts }
    }

    /// All are refused, and come back as they were handed over.
    async fn all_come_back(&mut self, before: u64) {
        let mut at = before;
        for (number, receipt) in self.receipts.drain(..).enumerate() {
            let result = tokio::time::timeout(SOON, receipt).await.expect("an answer");
            let change = match result {
                Err(CommitError::Unavailable { change, .. }) => change,
                Err(CommitError::Broken { change }) if number > 0 => change,
                other => panic!("{other:?}"),
            };
            let sequence = self.sequences[usize::try_from(at).unwrap()];
            let expected = work(self.input, sequence, self.output, at);
            assert_eq!((&change.settle, &change.append), (&expected.settle, &expected.append));
            assert_eq!(change.state, expected.state);
            at += 1;
        }
        assert_eq!(at, AHEAD);
    }
}

/// Only the first `done` messages were worked on.
async fn assert_done(rig: &Rig, done: u64) {
    let (input, output) = (rig.endpoint("in").await, rig.endpoint("out").await);
    assert_eq!((rig.messages(input), rig.messages(output)), (AHEAD - done, done));
    let state = rig.store.module_state("m").await.unwrap();
    let last = state.get("last").map(|value| value.value.clone());
    assert_eq!(last, done.checked_sub(1).map(|last| last.to_le_bytes().to_vec()));
    let reader = rig.store.reader(input).unwrap();
    let expected: Vec<u64> = (done..AHEAD).collect();
    assert_eq!(ids(&next(&reader, usize::MAX).await), expected);
    if done > 0 {
        let reader = rig.store.reader(output).unwrap();
        let expected: Vec<u64> = (100..100 + done).collect();
        assert_eq!(ids(&next(&reader, usize::MAX).await), expected);
    }
}

#[tokio::test]
async fn nothing_behind_a_failed_commit_is_in_the_file_after_a_restart() {
    for (before, pause, orderly) in
        [(0, false, true), (3, false, false), (3, true, true), (0, true, false)]
    {
        let mut ahead = Ahead::new(before, pause).await;
        ahead.all_come_back(before).await;
        let Ahead { rig, reader, .. } = ahead;
        drop(reader);
        let rig = if orderly { rig.reopen().await } else { rig.crash().await };
        assert_eq!(rig.report.damage, None);
        rig.mend_commits().await;
        assert_done(&rig, before).await;
    }
}

#[tokio::test]
async fn work_goes_on_where_the_commits_failed_when_the_disk_is_well_again() {
    for pause in [false, true] {
        let mut ahead = Ahead::new(3, pause).await;
        ahead.all_come_back(3).await;
        let Ahead { rig, input, output, reader, sequences, .. } = ahead;
        rig.mend_commits().await;
        rig.store.tidy().await.unwrap();
        assert!(rig.store.health().writable);
        // The consumer begins again with what it had.
        reader.put_back(&sequences, false);
        let again = next(&reader, usize::MAX).await;
        assert_eq!(ids(&again), (3..AHEAD).collect::<Vec<_>>());
        let chain = rig.store.chain();
        for (entry, at) in again.iter().zip(3..6) {
            let slot = rig.store.slot().await.unwrap();
            slot.commit(work(input, entry.sequence, output, at), &chain).await.unwrap();
        }
        drop(reader);
        assert_done(&rig.crash().await, 6).await;
    }
}

#[tokio::test]
async fn work_behind_a_failed_commit_is_refused_on_a_disk_that_is_well_again() {
    let rig = Rig::new().await;
    let (input, output) = (rig.endpoint("in").await, rig.endpoint("out").await);
    rig.send(input, 0..AHEAD).await;
    let reader = rig.store.reader(input).unwrap();
    let sequences = sequences(&next(&reader, usize::MAX).await);
    let chain = rig.store.chain();
    let commit = async |at: u8| {
        let slot = rig.store.slot().await.unwrap();
        let change = work(input, sequences[usize::from(at)], output, u64::from(at));
        slot.commit(change, &chain).await
    };
    rig.break_commits().await;
    assert!(matches!(commit(0).await, Err(CommitError::Unavailable { .. })));
    rig.mend_commits().await;
    rig.store.tidy().await.unwrap();
    assert!(rig.store.health().writable);
    // The module has not heard yet that its first batch is undone.
    assert!(matches!(commit(1).await, Err(CommitError::Broken { .. })));
    assert!(matches!(commit(2).await, Err(CommitError::Broken { .. })));
    drop(reader);
    assert_done(&rig.crash().await, 0).await;
}
