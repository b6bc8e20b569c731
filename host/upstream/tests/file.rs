//! The file upstream: rotation, what a crash leaves behind, a full disk.
#![expect(clippy::unwrap_used, reason = "a test may stop at what it does not expect")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{Seen, accepted, batch, dispatch, first_arrivals, run, unavailable};
use weir_core::port::Link;
use weir_upstream::{Config, FileConfig, Fsync};

fn config(path: &Path, change: impl FnOnce(&mut FileConfig)) -> Config {
    let mut config = FileConfig::new(path);
    change(&mut config);
    Config::File(config)
}

fn ids(text: &[u8]) -> Vec<u64> {
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    lines.map(|line| Seen::from_line(line.strip_suffix(b"\n").expect("a whole line")).id).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_full_file_is_closed_under_a_growing_number_and_the_oldest_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.ndjson");
    fs::write(folder.path().join("out.ndjson.000007"), "").unwrap();
    fs::write(folder.path().join("out.ndjson.bak"), "not ours").unwrap();
    fs::write(folder.path().join("other.000001"), "not ours").unwrap();
    let running = run(&config(&path, |config| {
        config.rotate_bytes = 4096;
        config.keep_files = 3;
    }));
    assert_eq!(dispatch(&running, 0..200, 50).await, 0);
    let names = names(folder.path());
    let closed: Vec<_> = names.iter().filter(|name| name.starts_with("out.ndjson.0")).collect();
    assert_eq!(closed.len(), 3);
    assert!(**closed[0] > *"out.ndjson.000007");
    assert!(names.contains(&"out.ndjson.bak".to_owned()));
    assert!(names.contains(&"other.000001".to_owned()));
    let mut text = Vec::new();
    for name in closed {
        let part = fs::read(folder.path().join(name)).unwrap();
        assert!(part.len() <= 4096);
        text.extend(part);
    }
    text.extend(fs::read(&path).unwrap());
    let ids = ids(&text);
    assert_eq!(ids, (ids[0]..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_closed_files_are_kept_where_the_number_is_zero() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let running = run(&config(&path, |config| {
        config.rotate_bytes = 4096;
        config.keep_files = 0;
    }));
    dispatch(&running, 0..500, 50).await;
    let mut text = Vec::new();
    for name in names(folder.path()).iter().skip(1) {
        text.extend(fs::read(folder.path().join(name)).unwrap());
    }
    text.extend(fs::read(&path).unwrap());
    assert_eq!(ids(&text), (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_crash_left_of_a_line_is_cut_off_and_whole_lines_stay() {
    for torn in [
        &b"{"[..],
        b"{\"id\":\"99\",\"enq",
        &[0; 70_000],
        b"{\"id\":\"99\",\0\0\0\0\n{\"id\":\"100\"",
        b"{\"id\":\"1\"}\n\0\0\0\n",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        run(&config(&path, |_| {})).insist(batch(0..3)).await;
        let whole = fs::read(&path).unwrap();
        let kept: &[u8] = if torn.starts_with(b"{\"id\":\"1\"}\n") { &torn[..11] } else { b"" };
        fs::write(&path, [&whole[..], torn].concat()).unwrap();
        run(&config(&path, |_| {})).insist(batch(3..6)).await;
        let after = fs::read(&path).unwrap();
        let rest = after.strip_prefix(&[&whole[..], kept].concat()[..]).expect("whole lines stay");
        assert_eq!(ids(rest), [3, 4, 5], "{}", torn.escape_ascii());
    }
}

#[tokio::test]
async fn a_file_of_others_is_not_touched() {
    for text in ["my notes\n", "no line break", "{\"id\":\"1\"}\nnot JSON\n"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, text).unwrap();
        let running = run(&config(&path, |_| {}));
        let reason = unavailable(running.deliver(batch(0..1)).await);
        assert!(reason.ends_with("it ends with a line that is not a message"), "{reason}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[tokio::test]
async fn a_file_that_another_hub_writes_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let first = run(&config(&path, |_| {}));
    first.insist(batch(0..3)).await;
    let second = run(&config(&path, |_| {}));
    let reason = unavailable(second.deliver(batch(0..3)).await);
    assert!(reason.ends_with("another process writes this file"), "{reason}");
    drop(first);
    second.insist(batch(3..6)).await;
    assert_eq!(ids(&fs::read(&path).unwrap()), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_file_that_was_moved_or_deleted_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let running = run(&config(&path, |_| {}));
    running.insist(batch(0..3)).await;
    fs::rename(&path, folder.path().join("moved")).unwrap();
    running.insist(batch(3..6)).await;
    fs::remove_file(&path).unwrap();
    running.insist(batch(6..9)).await;
    assert_eq!(ids(&fs::read(folder.path().join("moved")).unwrap()), [0, 1, 2]);
    assert_eq!(ids(&fs::read(&path).unwrap()), [6, 7, 8]);
}

#[tokio::test]
async fn every_fsync_policy_writes_the_same_lines() {
    for fsync in [Fsync::Always, Fsync::Interval, Fsync::Never] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let running = run(&config(&path, |config| {
            config.fsync = fsync;
            config.fsync_interval_ms = 1;
        }));
        assert_eq!(dispatch(&running, 0..1000, 100).await, 0);
        assert_eq!(ids(&fs::read(&path).unwrap()), (0..1000).collect::<Vec<_>>());
    }
}

/// A file system of 64 KiB in memory, for as long as it lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_accepts_nothing_tears_no_line_and_goes_on_when_there_is_space() {
    let Some(disk) = SmallDisk::mount() else {
        println!("skipped: a small file system cannot be mounted here");
        return;
    };
    let path = disk.0.path().join("out");
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, vec![0; 40 * 1024]).unwrap();
    let running = run(&config(&path, |_| {}));
    let mut next = 0;
    let reason = loop {
        let result = running.deliver(batch(next..next + 20)).await;
        match result {
            Ok(answer) => assert!(accepted(&answer)),
            failed => break unavailable(failed),
        }
        next += 20;
    };
    assert!(reason.contains("No space left on device"), "{reason}");
    assert!(matches!(running.upstream.link(), Link::Down { .. }));
    assert_eq!(ids(&fs::read(&path).unwrap()), (0..next).collect::<Vec<_>>());
    fs::remove_file(ballast).unwrap();
    running.insist(batch(next..next + 20)).await;
    let ids = ids(&fs::read(&path).unwrap());
    assert_eq!(first_arrivals(ids.clone()), (0..next + 20).collect::<Vec<_>>());
    assert_eq!(ids.len() as u64, next + 20);
}
