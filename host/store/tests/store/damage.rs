//! Damaged files: the store opens in time, says what was lost, and hands out nothing wrong.

use crate::fixture::{Rig, append, ids, message_of, next, options, target};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use weir_core::clock::Clock;
use weir_store::{Change, Count, Disposition, OpenReport, Store};

const MESSAGES: u64 = 300;
const DAMAGES: u64 = 50;

/// A closed store with messages in it, some settled, some held, and a dead letter.
async fn filled() -> (TempDir, Clock) {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    for round in 0..MESSAGES / 30 {
        let batch = (round * 30..round * 30 + 30)
            .map(|id| append(message_of("d", id, 200 + (id % 7) as usize * 300), &[target(a)]))
            .collect();
        rig.append(batch).await;
    }
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 20).await;
    rig.settle(a, &got[..10], Disposition::Done).await;
    rig.settle(a, &got[10..12], Disposition::Hold).await;
    drop(reader);
    rig.close().await
}

/// How the files are damaged.
fn damage(dir: &Path, seed: u64) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let path = dir.join("weir.db");
    let mut bytes = fs::read(&path).unwrap();
    let page = 16_384;
    let pages = bytes.len() / page;
    let what = match seed % 7 {
        0 | 1 => {
            let at = random.usize(0..bytes.len());
            bytes[at] ^= 1 << random.u32(0..8);
            format!("a bit of byte {at}")
        }
        2 => {
            let length = random.usize(1..bytes.len());
            bytes.truncate(length);
            format!("cut to {length}")
        }
        3 => {
            let at = random.usize(0..pages);
            bytes[at * page..(at + 1) * page].fill(0);
            format!("page {at} is zero")
        }
        4 => {
            let at = random.usize(0..pages);
            for byte in &mut bytes[at * page..(at + 1) * page] {
                *byte = random.u8(..);
            }
            format!("page {at} is noise")
        }
        5 => {
            bytes = match random.u32(0..3) {
                0 => Vec::new(),
                1 => b"this is no database, but a letter to somebody\n".repeat(100),
                _ => (0..5_000).map(|_| random.u8(..)).collect(),
            };
            "another file".to_owned()
        }
        _ => {
            let length = random.usize(33..200_000);
            let log: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
            fs::write(dir.join("weir.db-wal"), log).unwrap();
            "a wrong log".to_owned()
        }
    };
    fs::write(&path, bytes).unwrap();
    what
}

/// Everything that is left, taken out.
async fn drain(rig: &Rig) -> Vec<u64> {
    let mut seen = Vec::new();
    for (endpoint, name) in rig.store.endpoint_names() {
        assert_eq!(name, "a");
        let reader = rig.store.reader(endpoint).unwrap();
        while rig.messages(endpoint) > 0 {
            let got = next(&reader, 50).await;
            seen.extend(ids(&got));
            rig.settle(endpoint, &got, Disposition::Done).await;
        }
        assert_eq!(rig.usage(endpoint).damaged, 0);
    }
    seen
}

fn assert_report_is_true(report: &OpenReport, seen: &[u64], what: &str) {
    let expected: BTreeSet<u64> = (10..MESSAGES).collect();
    let unique: BTreeSet<u64> = seen.iter().copied().collect();
    let missing = expected.difference(&unique).count() as u64;
    match &report.damage {
        // Nothing was said, so nothing may be missing.
        None => assert_eq!(missing, 0, "{what}"),
        Some(damage) => {
            match damage.lost_messages {
                Count::Known(lost) => assert_eq!(lost, missing, "{what}: {damage:?}"),
                Count::AtLeast(lost) => assert!(lost <= missing, "{what}: {damage:?}"),
            }
            assert!(unique.len() as u64 <= damage.salvaged_messages, "{what}: {damage:?}");
        }
    }
}

#[tokio::test]
async fn of_fifty_damages_each_is_survived_in_time_and_said() {
    let (original, clock) = filled().await;
    let mut reported = 0;
    for seed in 0..DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        for file in fs::read_dir(original.path()).unwrap() {
            let file = file.unwrap();
            if file.file_type().unwrap().is_file() && file.file_name() != "reserve" {
                fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
            }
        }
        let what = format!("{seed}: {}", damage(dir.path(), seed));
        let open = Rig::open(dir, clock.clone(), None);
        let rig = tokio::time::timeout(Duration::from_secs(10), open).await.expect("in time");
        if let Some(damage) = &rig.report.damage {
            reported += 1;
            let folder = rig.dir.path().join("quarantine").join(&damage.quarantined);
            assert!(folder.is_dir(), "{what}");
            assert_eq!(rig.store.health().opened, rig.report, "{what}");
        }
        assert_eq!(rig.start, 2, "{what}");
        let seen = drain(&rig).await;
        assert_report_is_true(&rig.report, &seen, &what);
        // It serves as any store does, and the next start finds nothing wrong.
        let b = rig.endpoint("b").await;
        rig.send(b, 0..3).await;
        let rig = rig.reopen().await;
        assert_eq!((rig.report.damage.clone(), rig.report.entries), (None, 3), "{what}");
    }
    assert!(reported > DAMAGES / 2, "only {reported} damages were noticed");
}

#[tokio::test]
async fn another_stores_file_is_noticed() {
    let (ours, clock) = filled().await;
    let (theirs, _) = filled().await;
    fs::copy(theirs.path().join("weir.db"), ours.path().join("weir.db")).unwrap();
    let rig = Rig::open(ours, clock, None).await;
    let damage = rig.report.damage.unwrap();
    assert_eq!(damage.what, "the file belongs to another store");
    assert_eq!(damage.salvaged_messages, 0);
}

#[tokio::test]
async fn a_store_that_was_set_back_is_noticed() {
    let rig = Rig::new().await;
    let (dir, clock) = rig.close().await;
    let old = fs::read(dir.path().join("weir.db")).unwrap();
    let rig = Rig::open(dir, clock, None).await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..9).await;
    let (dir, clock) = rig.close().await;
    fs::write(dir.path().join("weir.db"), old).unwrap();
    let rig = Rig::open(dir, clock, None).await;
    assert_eq!(rig.report.damage.unwrap().what, "the file is an older one");
    assert_eq!(rig.start, 3);
}

#[tokio::test]
async fn a_database_that_is_gone_is_noticed() {
    let (dir, clock) = filled().await;
    fs::remove_file(dir.path().join("weir.db")).unwrap();
    let rig = Rig::open(dir, clock, None).await;
    let damage = rig.report.damage.unwrap();
    assert_eq!(damage.lost_messages, Count::AtLeast(0));
}

#[tokio::test]
async fn a_hole_in_the_log_is_noticed() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    for id in 0..20 {
        rig.send(a, id..id + 1).await;
    }
    // As the end of the process leaves it: the log holds everything.
    let copy = tempfile::tempdir().unwrap();
    for name in ["weir.db", "weir.db-wal", "weir.note"] {
        fs::copy(rig.dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let whole = Rig::open(copy, rig.clock.clone(), None).await;
    assert_eq!((whole.report.damage.clone(), whole.report.entries), (None, 20));
    let copy = tempfile::tempdir().unwrap();
    for name in ["weir.db", "weir.db-wal", "weir.note"] {
        fs::copy(rig.dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let path = copy.path().join("weir.db-wal");
    let mut log = fs::read(&path).unwrap();
    let middle = log.len() / 2;
    log[middle] ^= 1;
    fs::write(&path, log).unwrap();
    let rig = Rig::open(copy, rig.clock.clone(), None).await;
    let damage = rig.report.damage.unwrap();
    assert_eq!(damage.what, "committed pages in the log are damaged");
    assert!(damage.salvaged_messages < 20);
    assert!(matches!(damage.lost_messages, Count::AtLeast(_)));
}

#[tokio::test]
async fn damage_met_while_running_is_counted_and_blocks_nobody() {
    let (dir, clock) = filled().await;
    let rig = Rig::open(dir, clock, None).await;
    let (a, _) = rig.store.endpoint_names()[0].clone();
    // Behind the back of the open store: entries that were read from no cache.
    let path = rig.dir.path().join("weir.db");
    let mut bytes = fs::read(&path).unwrap();
    let body = [78u8; 400];
    let at = bytes.windows(400).position(|window| window == body).unwrap();
    bytes[at + 100] ^= 1;
    {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&bytes[at + 100..=at + 100], (at + 100) as u64).unwrap();
    }
    let reader = rig.store.reader(a).unwrap();
    let mut seen = BTreeSet::new();
    while rig.messages(a) > 0 {
        let got = next(&reader, 64).await;
        seen.extend(ids(&got));
        rig.settle(a, &got, Disposition::Done).await;
    }
    let missing: Vec<u64> = (10..MESSAGES).filter(|id| !seen.contains(id)).collect();
    assert_eq!(missing, [78]);
    assert_eq!(rig.usage(a).damaged, 1);
    assert_eq!(rig.store.health().damaged_entries, 1);
}

#[tokio::test]
async fn dead_letters_and_module_state_are_saved_too() {
    use weir_core::module_state::{StateChange, StateValue};
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..5).await;
    let reader = rig.store.reader(a).unwrap();
    let got = next(&reader, 1).await;
    let dead = Disposition::Dead { reason: "no".to_owned(), code: None, module_digest: None };
    rig.settle(a, &got, dead).await;
    let value = StateValue { value: vec![1, 2], expires: weir_core::clock::Timestamp::NEVER };
    let change = StateChange { key: "k".to_owned(), value: Some(value) };
    let state = Some(("m".to_owned(), vec![change]));
    rig.commit(Change { state, ..Change::default() }).await.unwrap();
    drop(reader);
    let (dir, clock) = rig.close().await;
    // The note says that the store was opened more often than it says itself.
    let note = fs::read_to_string(dir.path().join("weir.note")).unwrap();
    fs::write(dir.path().join("weir.note"), note.replace(" 1 ", " 9 ")).unwrap();
    let rig = Rig::open(dir, clock, None).await;
    let damage = rig.report.damage.clone().unwrap();
    assert_eq!((damage.salvaged_messages, damage.lost_messages), (4, Count::AtLeast(0)));
    assert_eq!(rig.start, 10);
    assert_eq!(rig.store.dead_letters(None, 9, None).await.unwrap().len(), 1);
    assert_eq!(rig.store.module_state("m").await.unwrap()["k"].value, [1, 2]);
    assert_eq!(rig.endpoint("a").await, a);
    let reader = rig.store.reader(a).unwrap();
    assert_eq!(ids(&next(&reader, 9).await), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_directory_without_permission_is_an_error_and_not_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), b"").unwrap();
    let clock = Clock::system();
    let error = Store::open(options(&dir.path().join("file"), &clock, None)).await;
    assert!(error.is_err());
}
