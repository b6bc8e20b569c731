//! A full disk. Needs a small file system of its own (32 to 256 MiB): its path comes in the variable
//! `WEIR_TEST_SMALL_FS`; without it the test says that it was skipped.

use crate::fixture::{append, ids, message_of, options, target};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_core::clock::Clock;
use weir_store::{Change, Disposition, Store, Why};

#[expect(clippy::disallowed_methods, reason = "the test is told where its file system is")]
fn small_fs() -> Option<PathBuf> {
    std::env::var("WEIR_TEST_SMALL_FS").ok().map(PathBuf::from)
}

/// Takes all space but `left` bytes.
fn fill(dir: &Path, left: u64) -> PathBuf {
    let path = dir.join("ballast");
    let mut file = File::create(&path).unwrap();
    let chunk = vec![1; 64 * 1024];
    while rustix::fs::statvfs(dir).map(|s| s.f_bavail * s.f_frsize).unwrap() > left + 64 * 1024 {
        file.write_all(&chunk).unwrap();
    }
    path
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_serves_again_when_there_is_room() {
    let Some(base) = small_fs() else {
        println!("skipped: a_full_disk_acknowledges_nothing (WEIR_TEST_SMALL_FS is not set)");
        return;
    };
    let dir = tempfile::tempdir_in(&base).unwrap();
    let opened = Store::open(options(dir.path(), &Clock::system(), Some(u64::MAX))).await.unwrap();
    let mut writer = tokio::task::JoinSet::new();
    writer.spawn(opened.writer.run());
    let store = opened.store;
    let a = store.endpoint("a").await.unwrap();
    let batch = |from: u64| {
        (from..from + 50).map(|id| append(message_of("d", id, 1_000), &[target(a)])).collect()
    };
    assert_eq!(store.append(batch(0)).await.accepted, 50);
    let ballast = fill(dir.path(), 4_000_000);
    let mut stored = 50;
    loop {
        let appended = store.append(batch(stored)).await;
        match appended.refused {
            None => stored += 50,
            Some(refused) => {
                assert_eq!((appended.accepted, refused.rest.len()), (0, 50));
                assert!(matches!(refused.why, Why::Unavailable(_)), "{:?}", refused.why);
                break;
            }
        }
    }
    assert!(!store.health().writable);
    assert_eq!(store.health().reason.as_deref(), Some("the disk is full"));
    for _ in 0..20 {
        assert_eq!(store.append(batch(stored)).await.accepted, 0);
    }
    // What is there is still handed out and can be settled, by the reserve.
    let reader = store.reader(a).unwrap();
    let got = reader.next(40, usize::MAX).await;
    assert_eq!(ids(&got), (0..40).collect::<Vec<_>>());
    let settle = got.iter().map(|entry| (a, entry.sequence, Disposition::Done)).collect();
    store.commit(Change { settle, ..Change::default() }).await.unwrap();
    std::fs::remove_file(ballast).unwrap();
    let serves_again = async {
        while store.append(batch(stored)).await.accepted == 0 {
            store.room().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), serves_again).await.expect("within 5 s");
    stored += 50;
    assert!(store.health().writable);
    let mut seen = Vec::new();
    while (seen.len() as u64) < stored - 40 {
        seen.extend(ids(&reader.next(1_000, usize::MAX).await));
    }
    assert_eq!(seen, (40..stored).collect::<Vec<_>>());
    store.close().await;
    writer.join_next().await.unwrap().unwrap().unwrap();
    drop(reader);
    let opened = Store::open(options(dir.path(), &Clock::system(), None)).await.unwrap();
    assert_eq!((opened.report.damage, opened.report.entries), (None, stored - 40));
}
