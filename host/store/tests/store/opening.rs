//! Opening: who may, what is refused, what is counted.

use crate::fixture::{Rig, message, options};
use std::os::unix::fs::PermissionsExt;
use weir_core::clock::{Clock, Timestamp};
use weir_store::{Error, Store};

#[tokio::test]
async fn a_directory_is_open_once() {
    let rig = Rig::new().await;
    let second = Store::open(options(rig.dir.path(), &rig.clock, None)).await;
    assert!(matches!(second, Err(Error::InUse)));
    let (dir, clock) = rig.close().await;
    assert!(Store::open(options(dir.path(), &clock, None)).await.is_ok());
}

#[tokio::test]
async fn starts_are_counted_and_the_first_makes_the_store() {
    let rig = Rig::new().await;
    assert!(rig.report.created && rig.report.checked_whole);
    assert_eq!(rig.start, 1);
    let rig = rig.reopen().await;
    assert!(!rig.report.created);
    assert_eq!(rig.start, 2);
    assert_eq!(rig.crash().await.start, 3);
}

#[tokio::test]
async fn sequences_never_repeat_over_starts() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    let first = rig.append(vec![crate::fixture::append(message(1), &[crate::fixture::target(a)])]);
    let first = first.await.first.unwrap();
    rig.store.purge(a).await.unwrap();
    let rig = rig.reopen().await;
    let second = rig.append(vec![crate::fixture::append(message(2), &[crate::fixture::target(a)])]);
    assert!(second.await.first.unwrap() > first);
    assert_eq!(rig.messages(a), 1);
}

#[tokio::test]
async fn files_are_for_the_owner_alone() {
    let rig = Rig::new().await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(rig.dir.path()), 0o700);
    for file in std::fs::read_dir(rig.dir.path()).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_not_touched() {
    let rig = Rig::new().await;
    let (dir, clock) = rig.close().await;
    let path = dir.path().join("weir.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&77u32.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    // The newer version has written its note too.
    let note = std::fs::read_to_string(dir.path().join("weir.note")).unwrap();
    let words: Vec<&str> = note.split_ascii_whitespace().collect();
    let newer = format!("{} {} 77\n", words[0], words[1]);
    std::fs::write(dir.path().join("weir.note"), newer).unwrap();
    let error = Store::open(options(dir.path(), &clock, None)).await.unwrap_err();
    assert!(matches!(error, Error::NewerSchema { found: 77, known } if known < 77), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(!dir.path().join("quarantine").exists());
}

#[tokio::test]
async fn a_start_without_a_clock_works() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::open(dir, Clock::manual(Timestamp::from_secs(0)), None).await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..3).await;
    assert_eq!(rig.messages(a), 3);
    assert!(rig.store.health().writable);
}

#[tokio::test]
async fn what_an_interrupted_exchange_left_is_cleared_or_taken() {
    let rig = Rig::new().await;
    let a = rig.endpoint("a").await;
    rig.send(a, 0..3).await;
    let (dir, clock) = rig.close().await;
    std::fs::write(dir.path().join("weir.db.new"), b"half").unwrap();
    let rig = Rig::open(dir, clock, None).await;
    assert_eq!(rig.report.damage, None);
    assert!(!rig.dir.path().join("weir.db.new").exists());
    let (dir, clock) = rig.close().await;
    let file = |name: &str| dir.path().join(name);
    std::fs::rename(file("weir.db"), file("weir.db.ready")).unwrap();
    for name in ["weir.db-wal", "weir.db-shm"] {
        drop(std::fs::remove_file(file(name)));
    }
    let rig = Rig::open(dir, clock, None).await;
    assert_eq!(rig.report.damage, None);
    assert_eq!(rig.report.entries, 3);
}
