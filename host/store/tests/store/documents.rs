//! Documents that are written with a change: whole with it, or not at all.

use crate::fixture::{Rig, append, message, next, target};
use std::collections::BTreeMap;
use weir_store::{Change, CommitError, Committed, Disposition, Expect, Write};

const KIND: &str = "twin";

fn write(key: &str, body: Option<&str>, expect: Expect) -> Write {
    Write { kind: KIND, key: key.to_owned(), body: body.map(str::to_owned), expect }
}

fn put(key: &str, body: &str, expect: Expect) -> Write {
    write(key, Some(body), expect)
}

fn change(documents: Vec<Write>) -> Change {
    Change { documents, ..Change::default() }
}

async fn body(rig: &Rig, key: &str) -> Option<String> {
    rig.store.document(KIND, key).await.unwrap().map(|document| document.body)
}

#[tokio::test]
async fn documents_and_messages_of_a_change_are_there_together() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 1..2).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 1).await;
    let whole = Change {
        settle: vec![(a, got[0].sequence, Disposition::Done)],
        append: vec![append(message(2), &[target(a)])],
        documents: vec![put("x", "1", Expect::Absent), put("y", "1", Expect::Any)],
        ..Change::default()
    };
    let committed = rig.commit(whole).await.unwrap();
    let first = committed.revision.unwrap();
    drop(reader);
    let rig = rig.crash().await;
    let x = rig.store.document(KIND, "x").await.unwrap().unwrap();
    let y = rig.store.document(KIND, "y").await.unwrap().unwrap();
    assert_eq!((x.revision, y.revision), (first, first + 1));
    assert_eq!(rig.messages(a), 1);
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(crate::fixture::ids(&next(&reader, 9).await), [2]);
}

#[tokio::test]
async fn an_expectation_that_fails_refuses_its_change_alone_and_untouched() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let first = rig.commit(change(vec![put("x", "1", Expect::Absent)])).await.unwrap();
    let first = first.revision.unwrap();
    let refused = || Change {
        append: vec![append(message(7), &[target(a)])],
        documents: vec![put("y", "1", Expect::Any), put("x", "2", Expect::Revision(first + 9))],
        ..Change::default()
    };
    // One group: the writer takes what waits.
    let good = |key: &str| rig.commit(change(vec![put(key, "1", Expect::Any)]));
    let (before, bad, behind) = tokio::join!(good("before"), rig.commit(refused()), good("behind"));
    assert!(before.is_ok() && behind.is_ok());
    let Err(CommitError::Mismatch { at, present, change: back }) = bad else {
        panic!("{bad:?}");
    };
    assert_eq!((at, present), (1, Some(first)));
    assert_eq!((back.append, back.documents), (refused().append, refused().documents));
    assert_eq!((body(&rig, "x").await.as_deref(), body(&rig, "y").await), (Some("1"), None));
    assert_eq!(rig.messages(a), 0);
    assert!(body(&rig, "before").await.is_some() && body(&rig, "behind").await.is_some());
}

#[tokio::test]
async fn a_change_that_is_refused_for_room_writes_no_document() {
    use weir_store::{QueueLimit, WhenFull};
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let limit = QueueLimit { max_bytes: Some(1), when_full: WhenFull::Reject };
    rig.store.set_limit(a, limit);
    let full = Change {
        append: vec![append(message(1), &[target(a)])],
        documents: vec![put("x", "1", Expect::Any)],
        ..Change::default()
    };
    assert!(matches!(rig.commit(full).await, Err(CommitError::Full { .. })));
    assert_eq!(body(&rig, "x").await, None);
}

#[tokio::test]
async fn behind_a_failed_expectation_nothing_of_its_chain_is_written() {
    let rig = Rig::new().await;
    let chain = rig.store.chain();
    let slots = [rig.store.slot().await.unwrap(), rig.store.slot().await.unwrap()];
    let [one, two] = slots;
    let one = one.commit(change(vec![put("x", "1", Expect::Present)]), &chain);
    let two = two.commit(change(vec![put("x", "2", Expect::Any)]), &chain);
    assert!(matches!(one.await, Err(CommitError::Mismatch { present: None, .. })));
    assert!(matches!(two.await, Err(CommitError::Broken { .. })));
    assert_eq!(body(&rig, "x").await, None);
}

#[tokio::test]
async fn what_a_failed_commit_wrote_is_not_there_and_is_not_expected() {
    let rig = Rig::new().await;
    let first = rig.commit(change(vec![put("x", "1", Expect::Any)])).await.unwrap();
    rig.break_commits().await;
    let again = change(vec![put("x", "2", Expect::Revision(first.revision.unwrap()))]);
    let Err(CommitError::Unavailable { change: back, .. }) = rig.commit(again).await else {
        panic!("the disk fails");
    };
    rig.mend_commits().await;
    rig.store.tidy().await.unwrap();
    assert_eq!(body(&rig, "x").await.as_deref(), Some("1"));
    let second = rig.commit(*back).await.unwrap();
    assert!(second.revision > first.revision);
    assert_eq!(body(&rig, "x").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn revisions_grow_whoever_writes() {
    let rig = Rig::new().await;
    let mut last = 0;
    for round in 0..6 {
        let revision = match round % 3 {
            0 => rig.store.write(vec![put("x", "a", Expect::Any)]).await.unwrap()[0],
            1 => rig
                .commit(change(vec![put("x", "b", Expect::Revision(last))]))
                .await
                .unwrap()
                .revision
                .unwrap(),
            _ => rig
                .commit(change(vec![write("x", None, Expect::Present)]))
                .await
                .unwrap()
                .revision
                .unwrap(),
        };
        assert!(revision > last);
        last = revision;
    }
    let rig = rig.reopen().await;
    let next = rig.commit(change(vec![put("x", "c", Expect::Absent)])).await.unwrap();
    assert!(next.revision > Some(last));
}

/// What a plain map says of the same changes.
#[derive(Default)]
struct Model {
    documents: BTreeMap<String, (u64, String)>,
    last: u64,
}

impl Model {
    fn expects(&self, random: &mut fastrand::Rng, key: &str) -> Expect {
        let present = self.documents.get(key).map(|(revision, _)| *revision);
        match random.u8(0..8) {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 => Expect::Revision(random.u64(0..=self.last)),
            3..6 => present.map_or(Expect::Absent, Expect::Revision),
            _ => Expect::Any,
        }
    }

    fn unmet(&self, write: &Write) -> Option<Option<u64>> {
        let present = self.documents.get(&write.key).map(|(revision, _)| *revision);
        let met = match write.expect {
            Expect::Any => true,
            Expect::Absent => present.is_none(),
            Expect::Present => present.is_some(),
            Expect::Revision(wanted) => present == Some(wanted),
        };
        (!met).then_some(present)
    }

    fn apply(&mut self, writes: &[Write]) {
        for write in writes {
            self.last += 1;
            match &write.body {
                Some(body) => {
                    self.documents.insert(write.key.clone(), (self.last, body.clone()));
                }
                None => drop(self.documents.remove(&write.key)),
            }
        }
    }

    fn check(&mut self, writes: &[Write], result: &Result<Committed, CommitError>) {
        let unmet = writes.iter().enumerate().find_map(|(at, w)| Some((at, self.unmet(w)?)));
        match (unmet, result) {
            (None, Ok(committed)) => {
                assert_eq!(committed.revision, Some(self.last + 1));
                self.apply(writes);
            }
            (Some((at, present)), Err(CommitError::Mismatch { at: found, present: seen, .. })) => {
                assert_eq!((at, present), (*found, *seen));
            }
            (unmet, result) => panic!("{unmet:?} {result:?} of {writes:?}"),
        }
    }
}

/// Random changes, many in a group, with closing and crashing in between: a plain map says the same.
#[tokio::test]
async fn documents_do_what_a_plain_map_does() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut rig, mut model) = (Rig::new().await, Model::default());
        for _ in 0..12 {
            let mut waiting = Vec::new();
            let mut planned = Model { documents: model.documents.clone(), last: model.last };
            for _ in 0..random.usize(1..12) {
                let writes: Vec<Write> = (0..random.usize(1..4))
                    .map(|_| {
                        let key = format!("k{}", random.u8(0..5));
                        let body =
                            random.u8(0..4).checked_sub(1).map(|_| random.u32(..).to_string());
                        let expect = planned.expects(&mut random, &key);
                        Write { kind: KIND, key, body, expect }
                    })
                    .collect();
                if !writes.iter().any(|write| planned.unmet(write).is_some()) {
                    planned.apply(&writes);
                }
                waiting.push(writes);
            }
            let mut receipts = Vec::new();
            for writes in &waiting {
                let slot = rig.store.slot().await.unwrap();
                receipts.push(slot.commit(change(writes.clone()), &rig.store.chain()));
            }
            for (writes, receipt) in waiting.iter().zip(receipts) {
                model.check(writes, &receipt.await);
            }
            rig = match random.u8(0..6) {
                0 => rig.crash().await,
                1 => rig.reopen().await,
                _ => rig,
            };
            let found = rig.store.documents(KIND, "", None, 99).await.unwrap();
            let found: BTreeMap<_, _> =
                found.into_iter().map(|d| (d.key, (d.revision, d.body))).collect();
            assert_eq!(found, model.documents, "seed {seed}");
        }
    }
}
