//! Durable append through the real store beside raw write + fdatasync of the same bytes, in turns in
//! the same run: into a queue that only grows, and into one whose consumer keeps up, so that space is
//! used again (as raw uses its file again); then ten concurrent appenders, and reading back with settling.
//!
//! `cargo bench -p weir-store --bench append [-- PART]`, where a part is `100x1024`, `concurrent` or
//! `read`; `WEIR_BENCH_DIR` names the folder to write to (default:
//! the target folder), because a temporary folder may be in memory.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and has settings")]
#![expect(clippy::print_stdout, reason = "it prints what it measured")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::{Identity, MessageId};
use weir_core::limits;
use weir_core::message::{Message, StampedMessage};
use weir_store::{
    Append, Change, Disposition, Durability, EndpointId, Options, RouteNumber, Store, Target,
};

const ROUND: Duration = Duration::from_millis(250);
const ROUNDS: usize = 15;
const RAW_BYTES: u64 = 64 << 20;
/// In the steady case consumers are so far behind.
const KEPT_BYTES: u64 = 2 << 20;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    // In a task, as in a hub: the main thread would cost two more hand-overs.
    let mut tasks = JoinSet::new();
    tasks.spawn_on(run(), runtime.handle());
    runtime.block_on(tasks.join_all());
}

async fn run() {
    let dir = folder();
    println!("durable append, one batch in flight; {ROUNDS} rounds of {ROUND:?}, medians");
    println!(" group  bytes        raw/s     growing/s  ratio    steady/s  ratio");
    for (group, bytes) in
        [(1, 100), (100, 100), (1_000, 100), (1, 1_024), (100, 1_024), (1_000, 1_024)]
    {
        if wanted(&format!("{group}x{bytes}")) {
            one_in_flight(&dir, group, bytes).await;
        }
    }
    for bytes in [100, 1_024] {
        if wanted("concurrent") {
            concurrent(&dir, bytes).await;
        }
        if wanted("read") {
            read_back(&dir, bytes, 100_000).await;
        }
    }
    drop(std::fs::remove_dir_all(dir));
}

fn wanted(part: &str) -> bool {
    let mut parts = std::env::args().skip(1).filter(|part| !part.starts_with('-')).peekable();
    parts.peek().is_none() || parts.any(|wanted| wanted == part)
}

fn folder() -> PathBuf {
    let base = std::env::var("WEIR_BENCH_DIR")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../target").to_owned());
    let dir = PathBuf::from(base).join(format!("store-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the folder can be made");
    dir
}

struct Hub {
    store: Store,
    endpoint: EndpointId,
    route: RouteNumber,
    next: u64,
    tasks: JoinSet<()>,
}

impl Hub {
    async fn open(dir: &std::path::Path) -> Self {
        let dir = dir.join("store");
        drop(std::fs::remove_dir_all(&dir));
        let options = Options {
            dir,
            durability: Durability::Power,
            total_bytes: Some(16 << 30),
            clock: Clock::system(),
        };
        let opened = Store::open(options).await.expect("the store opens");
        let mut tasks = JoinSet::new();
        tasks.spawn(async { opened.writer.run().await.expect("the writer runs") });
        let store = opened.store;
        let endpoint = store.endpoint("upstream").await.expect("a queue");
        let route = store.route_number("to-upstream").await.expect("a route");
        Self { store, endpoint, route, next: 0, tasks }
    }

    fn batch(&mut self, group: usize, bytes: usize) -> Vec<Append> {
        let (endpoint, route) = (self.endpoint, self.route);
        (0..group)
            .map(|_| {
                self.next += 1;
                append(self.next, bytes, endpoint, route)
            })
            .collect()
    }

    async fn close(mut self) {
        self.store.close().await;
        drop(self.store);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn append(id: u64, bytes: usize, endpoint: EndpointId, route: RouteNumber) -> Append {
    let target = Target { endpoint, priority: 0, expires: Timestamp::NEVER, route };
    Append { message: message(id, bytes), table: 1, targets: [target].into_iter().collect() }
}

fn message(id: u64, bytes: usize) -> StampedMessage {
    let sender = Identity::device("sensor-1".parse().expect("an id"));
    let message = Message { body: vec![7; bytes].into(), ..Message::default() };
    message.stamp(&sender, MessageId(id), Timestamp::from_secs(1_700_000_000))
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

async fn one_in_flight(dir: &std::path::Path, group: usize, bytes: usize) {
    let raw = warm_file(dir);
    let plain = vec![7; group * bytes];
    let mut at = 0;
    let (mut raw_rates, mut grown, mut reused) = (Vec::new(), Vec::new(), Vec::new());
    let mut growing = Hub::open(&dir.join("growing")).await;
    let mut steady = Hub::open(&dir.join("steady")).await;
    for _ in 0..ROUNDS {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < ROUND {
            if at + plain.len() as u64 > RAW_BYTES {
                at = 0;
            }
            raw.write_all_at(&plain, at).expect("room");
            raw.sync_data().expect("a sync");
            at += plain.len() as u64;
            count += group;
        }
        raw_rates.push(count as f64 / begun.elapsed().as_secs_f64());
        grown.push(append_round(&mut growing, group, bytes, u64::MAX).await);
        reused.push(append_round(&mut steady, group, bytes, KEPT_BYTES).await);
    }
    growing.close().await;
    steady.close().await;
    let (raw, grown, reused) = (median(raw_rates), median(grown), median(reused));
    println!(
        "{group:>6} {bytes:>6} {raw:>12.0} {grown:>12.0} {:>6.2} {reused:>12.0} {:>6.2}",
        grown / raw,
        reused / raw
    );
}

fn warm_file(dir: &std::path::Path) -> File {
    let raw = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(dir.join("raw"))
        .expect("a file");
    raw.write_all_at(&vec![1; usize::try_from(RAW_BYTES).expect("64 MiB")], 0).expect("room");
    raw.sync_all().expect("a sync");
    raw
}

/// Appends for a while; beyond `kept` bytes the queue is emptied, which is not timed.
async fn append_round(hub: &mut Hub, group: usize, bytes: usize, kept: u64) -> f64 {
    let (mut spent, mut count, mut stored) = (Duration::ZERO, 0, 0);
    while spent < ROUND {
        let batch = hub.batch(group, bytes);
        let begun = Instant::now();
        let appended = hub.store.append(batch).await;
        spent += begun.elapsed();
        assert_eq!(appended.accepted, group);
        count += group;
        stored += (group * bytes) as u64;
        if stored > kept {
            hub.store.purge(hub.endpoint).await.expect("a purge");
            stored = 0;
        }
    }
    count as f64 / spent.as_secs_f64()
}

async fn concurrent(dir: &std::path::Path, bytes: usize) {
    let hub = Hub::open(dir).await;
    let (store, endpoint, route) = (hub.store.clone(), hub.endpoint, hub.route);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..10u64 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut count = 0u64;
            while begun.elapsed() < Duration::from_secs(4) {
                let batch: Vec<Append> = (0..100)
                    .map(|n| append(task << 32 | (count + n), bytes, endpoint, route))
                    .collect();
                count += store.append(batch).await.accepted as u64;
            }
            count
        });
    }
    let total: u64 = tasks.join_all().await.into_iter().sum();
    let rate = total as f64 / begun.elapsed().as_secs_f64();
    println!("10 appenders, batches of 100 x {bytes} B: {rate:.0} msg/s");
    drop(store);
    hub.close().await;
}

async fn read_back(dir: &std::path::Path, bytes: usize, messages: usize) {
    let mut hub = Hub::open(dir).await;
    for _ in 0..messages / 1_000 {
        let batch = hub.batch(1_000, bytes);
        hub.store.append(batch).await;
    }
    let reader = hub.store.reader(hub.endpoint).expect("no other reader");
    let begun = Instant::now();
    let mut seen = 0;
    let mut commits = JoinSet::new();
    while seen < messages {
        let batch = reader.next(limits::UPSTREAM_BATCH, 4 << 20).await;
        seen += batch.len();
        let settle = batch.iter().map(|e| (hub.endpoint, e.sequence, Disposition::Done)).collect();
        let commit = hub.store.commit(Change { settle, ..Change::default() });
        if commits.len() >= limits::BATCHES_AHEAD {
            commits.join_next().await;
        }
        commits.spawn(async move { assert!(commit.await.is_ok()) });
    }
    while commits.join_next().await.is_some() {}
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    println!("read back and settled, {messages} x {bytes} B: {rate:.0} msg/s");
    drop(reader);
    hub.close().await;
}
