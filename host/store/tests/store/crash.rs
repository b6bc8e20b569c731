//! A process that appends and settles is killed again and again: nothing that it reported as
//! acknowledged is lost, and each sender's messages keep their order.

use crate::fixture::Rig;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use weir_core::clock::Clock;

const KILLS: u64 = 20;

/// What the child reported before it died.
#[derive(Debug, Default)]
struct Told {
    /// Last number of each sender that was acknowledged.
    acknowledged: BTreeMap<String, u64>,
    /// Handed out; the settlement may or may not be on disk.
    taken: BTreeSet<(String, u64)>,
    /// The settlement is on disk.
    settled: BTreeSet<(String, u64)>,
}

fn appender() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/appender")
}

fn start(dir: &Path, run: u64) -> Child {
    Command::new(appender())
        .arg(dir)
        .arg(run.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cargo builds the example with the tests")
}

/// Kills the child after a while and hears everything that it said.
async fn kill(mut child: Child, after: Duration, told: &mut Told) {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    lines.read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let hearing = tokio::task::spawn_blocking(move || {
        let mut all = String::new();
        lines.read_to_string(&mut all).unwrap();
        all
    });
    tokio::time::sleep(after).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let all = hearing.await.unwrap();
    // The last line may be half.
    for line in all.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number: u64 = words[2].parse().unwrap();
        let entry = (words[1].to_owned(), number);
        match words[0] {
            "ack" => drop(told.acknowledged.insert(entry.0, number)),
            "take" => drop(told.taken.insert(entry)),
            "done" => drop(told.settled.insert(entry)),
            other => panic!("unknown word {other}"),
        }
    }
}

/// Compares what the child said with what is in the store.
async fn check(rig: &Rig, told: &Told) {
    let a = rig.endpoint("a").await;
    let mut stored: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = rig.store.peek(a, after, 1_000).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.sequence);
        for peeked in &page {
            let message = &peeked.record.message;
            let number = u64::from_le_bytes(message.body()[..8].try_into().unwrap());
            stored.entry(message.device().to_string()).or_default().push(number);
        }
    }
    for (sender, numbers) in &stored {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{sender} is out of order or doubled");
        for number in numbers {
            let entry = (sender.clone(), *number);
            assert!(!told.settled.contains(&entry), "{entry:?} came back after it was settled");
        }
    }
    let mut lost = Vec::new();
    for (sender, last) in &told.acknowledged {
        let there: BTreeSet<u64> = stored.get(sender).into_iter().flatten().copied().collect();
        for number in 1..=*last {
            let entry = (sender.clone(), number);
            if !there.contains(&number) && !told.taken.contains(&entry) {
                lost.push(entry);
            }
        }
    }
    assert_eq!(lost, [], "acknowledged messages are lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_that_was_acknowledged() {
    let mut dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let mut random = fastrand::Rng::with_seed(4);
    for run in 0..KILLS {
        let child = start(dir.path(), run);
        let after = Duration::from_millis(random.u64(20..500));
        kill(child, after, &mut told).await;
        let rig = Rig::open(dir, Clock::system(), None).await;
        assert_eq!(rig.report.damage, None, "kill {run}");
        check(&rig, &told).await;
        (dir, _) = rig.close().await;
    }
    let acknowledged: u64 = told.acknowledged.values().sum();
    assert!(acknowledged > KILLS * 10, "the child hardly worked: {acknowledged}");
    assert!(!told.settled.is_empty());
}
