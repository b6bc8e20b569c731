//! The queue against a plain list: random actions on both, with closing, crashing and opening again in
//! between; again and again both must say the same.

mod list;
mod together;

use crate::fixture::{Rig, SOON, append, message_of};
use list::{Item, Model, Spot, State};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::Sequence;
use weir_core::record;
use weir_store::{
    Append, Change, CommitError, Disposition, ENTRY_OVERHEAD_BYTES, EndpointId, Entry, QueueLimit,
    Reader, RouteNumber, Target, WhenFull, Why,
};

const RUNS: u64 = 150;
const ACTIONS: usize = 40;
const QUEUES: usize = 3;
const MODULE: &str = "m";
/// Sequences in the model of what the store has not numbered yet.
const UNNUMBERED: u64 = u64::MAX / 2;
/// Between those of two batches.
const UNNUMBERED_STEP: u64 = 1 << 20;

/// How the model takes a batch in.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Room {
    /// All of it: the store has said so.
    Given,
    /// What fits, dropping what must go.
    Made,
    /// What fits; what was dropped is read off the store.
    Seen,
}

struct Run {
    rig: Option<Rig>,
    model: Model,
    endpoints: Vec<EndpointId>,
    readers: Vec<Option<Reader>>,
    random: fastrand::Rng,
    next_id: u64,
    /// What has a smaller id has lived through a crash.
    crashed_at: u64,
}

impl Run {
    async fn new(seed: u64) -> Self {
        let rig = Rig::new().await;
        let mut endpoints = Vec::new();
        for name in ["a", "b", "c"] {
            endpoints.push(rig.endpoint(name).await);
        }
        let mut run = Self {
            rig: None,
            model: Model {
                queues: vec![Vec::new(); QUEUES],
                limits: vec![QueueLimit::default(); QUEUES],
                ..Model::default()
            },
            endpoints,
            readers: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            next_id: 1,
            crashed_at: 0,
        };
        run.attach(rig);
        run
    }

    fn rig(&self) -> &Rig {
        self.rig.as_ref().unwrap()
    }

    fn now(&self) -> Timestamp {
        self.rig().clock.now()
    }

    fn attach(&mut self, rig: Rig) {
        // One queue fits into memory, one never does, one sometimes.
        rig.store.set_window(self.endpoints[0], 3);
        rig.store.set_window(self.endpoints[1], 20);
        for (queue, limit) in self.model.limits.iter().enumerate() {
            rig.store.set_limit(self.endpoints[queue], *limit);
        }
        self.rig = Some(rig);
        self.new_readers();
    }

    async fn act(&mut self) {
        match self.random.u32(0..100) {
            0..16 => self.append().await,
            16..18 => self.limit(),
            18..48 => self.next().await,
            48..58 => self.commit().await,
            58..74 => self.together().await,
            74..76 => self.together_on_a_bad_disk().await,
            76..78 => self.crash_in_between().await,
            78..83 => self.put_back(),
            83..86 => self.redeliver_held(),
            86..90 => self.advance(),
            90..91 => self.new_reader(),
            91..94 => self.limit(),
            94..95 => self.purge().await,
            95..97 => self.reopen(true).await,
            97..98 => self.reopen(false).await,
            _ => self.tidy().await,
        }
    }

    /// Both notice expiry when it matters to what follows.
    async fn notice_expired(&mut self) {
        if self.model.has_expired(self.now()) {
            self.tidy().await;
        }
    }

    async fn tidy(&mut self) {
        self.rig().store.tidy().await.unwrap();
        let now = self.now();
        self.model.expire(now);
    }

    fn messages(&mut self, most: usize) -> Vec<(Append, Vec<Spot>)> {
        let now = self.now();
        let count = self.random.usize(1..=most);
        let mut batch = Vec::new();
        for _ in 0..count {
            let id = self.next_id;
            self.next_id += 1;
            let device = ["x", "y", "z"][self.random.usize(0..3)];
            let bytes = match self.random.u32(0..20) {
                0 => self.random.usize(10_000..60_000),
                _ => self.random.usize(0..300),
            };
            let mut places = Vec::new();
            for queue in 0..QUEUES {
                if self.random.bool() || (queue == QUEUES - 1 && places.is_empty()) {
                    let expires = match self.random.u32(0..4) {
                        0 => now.after(Duration::from_secs(self.random.u64(1..30))),
                        _ => Timestamp::NEVER,
                    };
                    places.push((queue, self.random.u32(0..3), expires));
                }
            }
            let targets: Vec<Target> = places
                .iter()
                .map(|(queue, priority, expires)| Target {
                    endpoint: self.endpoints[*queue],
                    priority: *priority,
                    expires: *expires,
                    route: RouteNumber(1),
                })
                .collect();
            batch.push((append(message_of(device, id, bytes), &targets), places));
        }
        batch
    }

    /// What the model makes of a batch whose first message stands at `base` until the store has
    /// numbered it: the number of messages that it admits.
    fn model_append(&mut self, batch: &[(Append, Vec<Spot>)], base: u64, room: Room) -> usize {
        for (at, (append, places)) in batch.iter().enumerate() {
            let cost = record::encoded_len(&append.message) as u64 + 8 + ENTRY_OVERHEAD_BYTES;
            if room != Room::Given && !self.model.has_room(places, cost, base) {
                return at;
            }
            if room == Room::Made {
                self.model.make_room(places, cost, base);
            }
            for (queue, priority, expires) in places {
                self.model.queues[*queue].push(Item {
                    sequence: base + at as u64,
                    id: append.message.id().0,
                    device: append.message.device().to_string(),
                    priority: *priority,
                    expires: *expires,
                    cost,
                    state: State::Waiting,
                    attempt: Some(1),
                    seen: Some(false),
                    holds_sender: false,
                });
            }
        }
        batch.len()
    }

    /// The model learns the sequences that the store gave.
    fn number(&mut self, base: u64, first: Option<Sequence>) {
        for item in self.model.queues.iter_mut().flatten() {
            if (base..base + UNNUMBERED_STEP).contains(&item.sequence) {
                item.sequence = item.sequence - base + first.unwrap().0;
            }
        }
    }

    async fn append(&mut self) {
        self.notice_expired().await;
        let most = if self.random.u32(0..8) == 0 { 300 } else { 8 };
        let batch = self.messages(most);
        let expected = self.model_append(&batch, UNNUMBERED, Room::Made);
        let sent: Vec<Append> = batch.into_iter().map(|(append, _)| append).collect();
        let appended = self.rig().append(sent.clone()).await;
        assert_eq!(appended.accepted, expected);
        self.number(UNNUMBERED, appended.first);
        match appended.refused {
            None => assert_eq!(expected, sent.len()),
            Some(refused) => {
                assert!(matches!(refused.why, Why::Full { .. }));
                assert_eq!(refused.rest, sent[expected..]);
            }
        }
    }

    async fn next(&mut self) {
        let queue = self.random.usize(0..QUEUES);
        let max = self.random.usize(1..12);
        let max_bytes = self.random.usize(1..4_000);
        let now = self.now();
        // That a sender is free again is noticed in the background.
        if self.model.queues[queue].iter().any(|item| item.holds_sender && item.expires <= now) {
            self.tidy().await;
        }
        let due = self.model.due(queue, now);
        let reader = self.readers[queue].as_ref().unwrap();
        if due.is_empty() {
            let short = Duration::from_millis(1);
            let got = tokio::time::timeout(short, reader.next(max, max_bytes)).await;
            assert!(got.is_err(), "{got:?} was handed out");
            return;
        }
        let got = tokio::time::timeout(SOON, reader.next(max, max_bytes)).await;
        let got = got.unwrap_or_else(|_| panic!("{:?} should be handed out", due[0]));
        assert!(!got.is_empty() && got.len() <= max);
        for (entry, expected) in got.iter().zip(&due) {
            self.handed_out(queue, entry, expected);
        }
        assert!(got.len() <= due.len());
    }

    fn handed_out(&mut self, queue: usize, entry: &Entry, expected: &Item) {
        assert_eq!(entry.sequence.0, expected.sequence);
        assert_eq!(entry.record.message.id().0, expected.id);
        assert_eq!((entry.priority, entry.expires), (expected.priority, expected.expires));
        if let Some(attempt) = expected.attempt {
            assert_eq!(entry.attempt, attempt, "of {}", expected.id);
        }
        if let Some(seen) = expected.seen {
            assert_eq!(entry.redelivered, seen, "of {}", expected.id);
        }
        let item = self.item(queue, entry.sequence.0);
        item.state = State::InFlight;
        item.seen = Some(true);
        item.attempt = Some(entry.attempt);
    }

    fn item(&mut self, queue: usize, sequence: u64) -> &mut Item {
        let items = &mut self.model.queues[queue];
        items.iter_mut().find(|item| item.sequence == sequence).unwrap()
    }

    fn pick(&mut self, wanted: impl Fn(&Item) -> bool) -> Vec<(usize, u64)> {
        let mut picked = Vec::new();
        let share = self.random.u32(1..4);
        for (queue, items) in self.model.queues.iter().enumerate() {
            for item in items.iter().filter(|item| wanted(item)) {
                if self.random.u32(0..3) < share {
                    picked.push((queue, item.sequence));
                }
            }
        }
        if self.random.bool() {
            self.random.shuffle(&mut picked);
        }
        picked
    }

    fn disposition(&mut self) -> Disposition {
        match self.random.u32(0..10) {
            0 => Disposition::Hold,
            1 | 2 => Disposition::Retry {
                not_before: self.now().after(Duration::from_secs(self.random.u64(0..8))),
                hold_sender: self.random.bool(),
            },
            3 => {
                Disposition::Dead { reason: "no good".to_owned(), code: None, module_digest: None }
            }
            _ => Disposition::Done,
        }
    }

    async fn commit(&mut self) {
        self.notice_expired().await;
        let picked = self.pick(|item| matches!(item.state, State::InFlight | State::Held));
        let mut settle = Vec::new();
        for (queue, sequence) in &picked {
            let disposition = self.disposition();
            settle.push((self.endpoints[*queue], Sequence(*sequence), disposition));
        }
        let batch = if self.random.u32(0..3) == 0 { self.messages(4) } else { Vec::new() };
        let append: Vec<Append> = batch.iter().map(|(append, _)| append.clone()).collect();
        let change = Change { settle: settle.clone(), append, ..Change::default() };
        match self.rig().commit(change).await {
            Ok(committed) => {
                assert_eq!(committed.unknown, 0);
                // Whether it fits as a whole is tested by itself; what is dropped for it is read off.
                for ((queue, sequence), (_, _, disposition)) in picked.iter().zip(&settle) {
                    assert!(self.model.settle(*queue, *sequence, disposition));
                }
                self.model_append(&batch, UNNUMBERED, Room::Given);
                self.number(UNNUMBERED, committed.first);
                self.adopt_drops().await;
            }
            Err(CommitError::Full { change, .. }) => {
                assert!(!batch.is_empty());
                assert_eq!(change.settle, settle);
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Forgets what was dropped to make room.
    async fn adopt_drops(&mut self) {
        for queue in 0..QUEUES {
            if self.model.limits[queue].when_full == WhenFull::DropOldest {
                let there = self.peek(queue).await;
                let mut kept = self.model.queues[queue].iter();
                assert!(kept.all(|item| {
                    there.contains_key(&item.sequence)
                        || matches!(item.state, State::Waiting | State::Again(_))
                }));
                self.model.queues[queue].retain(|item| there.contains_key(&item.sequence));
            }
        }
    }

    fn put_back(&mut self) {
        let counted = self.random.bool();
        for (queue, sequence) in self.pick(|item| item.state == State::InFlight) {
            self.readers[queue].as_ref().unwrap().put_back(&[Sequence(sequence)], counted);
            let item = self.item(queue, sequence);
            item.state = State::Again(Timestamp::from_secs(0));
            item.attempt = item.attempt.map(|attempt| attempt + u32::from(counted));
        }
    }

    fn redeliver_held(&mut self) {
        let queue = self.random.usize(0..QUEUES);
        self.readers[queue].as_ref().unwrap().redeliver_held();
        for item in &mut self.model.queues[queue] {
            if item.state == State::Held {
                item.state = State::Again(Timestamp::from_secs(0));
            }
        }
    }

    fn advance(&mut self) {
        let secs = self.random.u64(1..10);
        self.rig().clock.advance(Duration::from_secs(secs));
    }

    fn new_reader(&mut self) {
        let queue = self.random.usize(0..QUEUES);
        self.readers[queue] = None;
        for item in &mut self.model.queues[queue] {
            if item.state == State::InFlight {
                item.state = State::Again(Timestamp::from_secs(0));
            }
        }
        self.readers[queue] = Some(self.rig().store.reader(self.endpoints[queue]).unwrap());
    }

    fn limit(&mut self) {
        let queue = self.random.usize(0..QUEUES);
        // Now and then all is full, mostly there is little room.
        let bytes = self.model.bytes(queue) + 1_000;
        let max_bytes = self.random.u64(bytes / 2..bytes + 5_000);
        let limit = QueueLimit {
            max_bytes: (self.random.u32(0..3) > 0).then_some(max_bytes),
            when_full: if self.random.bool() { WhenFull::Reject } else { WhenFull::DropOldest },
        };
        self.model.limits[queue] = limit;
        self.rig().store.set_limit(self.endpoints[queue], limit);
    }

    async fn purge(&mut self) {
        self.notice_expired().await;
        let queue = self.random.usize(0..QUEUES);
        let before = self.model.queues[queue].len();
        self.model.queues[queue].retain(|item| item.state == State::InFlight);
        let purged = self.rig().store.purge(self.endpoints[queue]).await.unwrap();
        assert_eq!(purged, (before - self.model.queues[queue].len()) as u64);
    }

    async fn reopen(&mut self, orderly: bool) {
        self.readers.clear();
        let rig = self.rig.take().unwrap();
        let rig = match orderly {
            true => rig.reopen().await,
            false => rig.crash().await,
        };
        match orderly {
            false => self.forget_deliveries(),
            // Of what is left from before a crash it is still not known whether it was seen.
            true if self.all().any(|item| item.id < self.crashed_at) => self.forget_seen(),
            true => {}
        }
        self.opened_again(rig).await;
    }

    /// How far the deliveries had come is not known after a crash; but what was seen is told.
    fn forget_deliveries(&mut self) {
        self.crashed_at = self.next_id;
        for item in self.model.queues.iter_mut().flatten() {
            item.attempt = None;
        }
        self.forget_seen();
    }

    fn forget_seen(&mut self) {
        for item in self.model.queues.iter_mut().flatten() {
            item.seen = item.seen.filter(|seen| *seen);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Item> {
        self.model.queues.iter().flatten()
    }

    async fn opened_again(&mut self, rig: Rig) {
        assert_eq!(rig.report.damage, None);
        for item in self.model.queues.iter_mut().flatten() {
            if matches!(item.state, State::InFlight | State::Held) {
                item.state = State::Again(Timestamp::from_secs(0));
            }
        }
        self.attach(rig);
        // What was given back when the readers left may have expired meanwhile.
        self.tidy().await;
    }

    async fn peek(&self, queue: usize) -> BTreeMap<u64, u64> {
        let (mut all, mut after) = (BTreeMap::new(), None);
        loop {
            let store = &self.rig().store;
            let page = store.peek(self.endpoints[queue], after, 50).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.sequence);
            all.extend(page.iter().map(|p| (p.sequence.0, p.record.message.id().0)));
        }
    }

    /// Both say the same.
    async fn compare(&mut self) {
        self.notice_expired().await;
        for queue in 0..QUEUES {
            let usage = self.rig().usage(self.endpoints[queue]);
            let items = &self.model.queues[queue];
            let count = |wanted: State| items.iter().filter(|i| i.state == wanted).count() as u64;
            assert_eq!(usage.messages, items.len() as u64);
            assert_eq!(usage.bytes, self.model.bytes(queue));
            assert_eq!(usage.in_flight, count(State::InFlight));
            assert_eq!(usage.held, count(State::Held));
            let expected: BTreeMap<u64, u64> =
                items.iter().map(|item| (item.sequence, item.id)).collect();
            assert_eq!(self.peek(queue).await, expected);
        }
        let dead = self.rig().store.dead_letters(None, 1_000, None).await.unwrap();
        let dead: Vec<_> = dead.iter().map(|d| (d.endpoint, d.record.message.id().0)).collect();
        let expected: Vec<_> =
            self.model.dead.iter().map(|(queue, id)| (self.endpoints[*queue], *id)).collect();
        assert_eq!(dead, expected);
        let state = self.rig().store.module_state(MODULE).await.unwrap();
        let state: BTreeMap<_, _> = state.into_iter().map(|(key, v)| (key, v.value)).collect();
        assert_eq!(state, self.model.state);
    }

    /// Everything that is left comes out in order and leaves nothing behind.
    async fn drain(&mut self) {
        self.rig().clock.advance(Duration::from_secs(20));
        self.new_readers();
        self.tidy().await;
        for queue in 0..QUEUES {
            self.readers[queue].as_ref().unwrap().redeliver_held();
            while self.rig().messages(self.endpoints[queue]) > 0 {
                let got = self.readers[queue].as_ref().unwrap().next(64, usize::MAX);
                let got = tokio::time::timeout(SOON, got).await.expect("all is due");
                self.rig().settle(self.endpoints[queue], &got, Disposition::Done).await;
            }
        }
        self.rig().store.tidy().await.unwrap();
    }

    fn new_readers(&mut self) {
        self.readers.clear();
        let readers = self.endpoints.iter().map(|id| Some(self.rig().store.reader(*id).unwrap()));
        self.readers = readers.collect();
    }
}

async fn run(seed: u64) {
    let mut run = Run::new(seed).await;
    for action in 0..ACTIONS {
        run.act().await;
        if action % 4 == 3 {
            run.compare().await;
        }
    }
    run.drain().await;
    assert_eq!(run.rig().store.peek(run.endpoints[0], None, 9).await.unwrap().len(), 0);
}

/// What is handed over without a wait in between is in one group: on one thread the writer runs only
/// when the test waits.
#[test]
fn queue_does_what_a_plain_list_does() {
    let share = |first: u64| {
        move || {
            for seed in (first..RUNS).step_by(2) {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let told = std::panic::AssertUnwindSafe(|| runtime.unwrap().block_on(run(seed)));
                let result = std::panic::catch_unwind(told);
                assert!(result.is_ok(), "run with seed {seed} failed");
            }
        }
    };
    // Two at a time: the rest of the machine has work too.
    let other = std::thread::spawn(share(1));
    share(0)();
    other.join().unwrap();
}
