//! The process that the crash test kills: four senders append as fast as they can, one consumer takes
//! and settles; each says on standard output what it knows, after it knows it.
#![expect(clippy::print_stdout, reason = "the parent reads it")]

use std::io::Write;
use std::path::Path;
use tokio::task::JoinSet;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::Identity;
use weir_core::message::{Message, MessageNumbers};
use weir_store::{
    Append, Change, Disposition, Durability, EndpointId, Options, RouteNumber, Store, Target,
};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a folder");
    let run: u64 = arguments.next().expect("a run").parse().expect("a number");
    let options = Options {
        dir: Path::new(&dir).to_owned(),
        durability: Durability::Power,
        total_bytes: None,
        clock: Clock::system(),
    };
    let opened = Store::open(options).await.expect("the store opens");
    let mut tasks = JoinSet::new();
    tasks.spawn(async { opened.writer.run().await.expect("the writer runs") });
    let store = opened.store;
    let endpoint = store.endpoint("a").await.expect("a queue");
    println!("ready");
    for sender in 0..4 {
        // A sender of each run, so that its numbers begin at 1.
        let name = format!("r{run}s{sender}");
        tasks.spawn(send(store.clone(), endpoint, name, opened.start));
    }
    tasks.spawn(consume(store, endpoint));
    while tasks.join_next().await.is_some() {}
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("the parent listens");
}

async fn send(store: Store, endpoint: EndpointId, name: String, start: u32) {
    let mut random = fastrand::Rng::with_seed(u64::from(start));
    let numbers = MessageNumbers::of_start(start);
    let identity = Identity::device(name.parse().expect("an id"));
    let route = RouteNumber(1);
    let expires = Timestamp::NEVER;
    let mut next = 1u64;
    loop {
        let count = random.u64(1..20);
        let batch = (next..next + count)
            .map(|number| {
                let mut body = number.to_le_bytes().to_vec();
                body.resize(8 + random.usize(0..900), 7);
                let message = Message { body: body.into(), ..Message::default() };
                let message = message.stamp(&identity, numbers.take(1), Timestamp::from_secs(1));
                let target = Target { endpoint, priority: 0, expires, route };
                Append { message, table: 1, targets: [target].into_iter().collect() }
            })
            .collect();
        let appended = store.append(batch).await;
        next += appended.accepted as u64;
        say(&format!("ack {name} {}\n", next - 1));
    }
}

async fn consume(store: Store, endpoint: EndpointId) {
    let reader = store.reader(endpoint).expect("no other reader");
    loop {
        let batch = reader.next(16, usize::MAX).await;
        let lines = |word: &str| {
            batch
                .iter()
                .map(|entry| {
                    let message = &entry.record.message;
                    let number = message.body()[..8].try_into().expect("eight bytes");
                    format!("{word} {} {}\n", message.device(), u64::from_le_bytes(number))
                })
                .collect::<String>()
        };
        say(&lines("take"));
        let settle = batch.iter().map(|e| (endpoint, e.sequence, Disposition::Done)).collect();
        store.commit(Change { settle, ..Change::default() }).await.expect("a commit");
        say(&lines("done"));
    }
}
