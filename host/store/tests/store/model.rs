//! The queue against a plain list: random actions on both, with closing, crashing and opening again in
//! between; again and again both must say the same.

use crate::fixture::{Rig, SOON, append, message_of};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::Sequence;
use weir_core::record;
use weir_store::{
    Append, Change, CommitError, Disposition, ENTRY_OVERHEAD_BYTES, EndpointId, Entry, QueueLimit,
    Reader, RouteNumber, Target, WhenFull, Why,
};

const RUNS: u64 = 500;
const ACTIONS: usize = 40;
const QUEUES: usize = 3;

/// Queue, priority and expiry.
type Spot = (usize, u32, Timestamp);

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Waiting,
    InFlight,
    Held,
    /// To be delivered again; not before the time.
    Again(Timestamp),
}

#[derive(Debug, Clone)]
struct Item {
    sequence: u64,
    id: u64,
    device: String,
    priority: u32,
    expires: Timestamp,
    cost: u64,
    state: State,
    /// Unknown after a restart.
    attempt: Option<u32>,
    holds_sender: bool,
}

#[derive(Debug, Default)]
struct Model {
    queues: Vec<Vec<Item>>,
    limits: Vec<QueueLimit>,
    dead: Vec<(usize, u64)>,
}

impl Model {
    fn bytes(&self, queue: usize) -> u64 {
        self.queues[queue].iter().map(|item| item.cost).sum()
    }

    /// What may be handed out now: all of the lowest priority that has anything, in order.
    fn due(&self, queue: usize, now: Timestamp) -> Vec<Item> {
        let items = &self.queues[queue];
        let blocked = |item: &Item| {
            items.iter().any(|other| {
                other.holds_sender
                    && other.device == item.device
                    && other.sequence < item.sequence
                    // One that has expired blocks nobody, once that is noticed.
                    && (other.expires > now || other.state == State::InFlight)
            })
        };
        let mut due: Vec<Item> = items
            .iter()
            .filter(|item| match item.state {
                State::Waiting => true,
                State::Again(time) => time <= now,
                State::InFlight | State::Held => false,
            })
            .filter(|item| item.expires > now && !blocked(item))
            .cloned()
            .collect();
        let lowest = due.iter().map(|item| item.priority).min();
        due.retain(|item| Some(item.priority) == lowest);
        due.sort_by_key(|item| item.sequence);
        due
    }

    fn expire(&mut self, now: Timestamp) {
        for queue in &mut self.queues {
            queue.retain(|item| item.expires > now || item.state == State::InFlight);
        }
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        let all = self.queues.iter().flatten();
        all.into_iter().any(|item| item.expires <= now && item.state != State::InFlight)
    }

    /// Admits a message or not, dropping what must go; `fresh` and later are of the same batch.
    fn admit(&mut self, targets: &[Spot], cost: u64, fresh: u64) -> bool {
        let over = |model: &Self, queue: usize| {
            let max = model.limits[queue].max_bytes.unwrap_or(u64::MAX);
            (model.bytes(queue) + cost).saturating_sub(max)
        };
        let droppable = |item: &Item| {
            item.sequence < fresh && matches!(item.state, State::Waiting | State::Again(_))
        };
        for (queue, _, _) in targets {
            let over = over(self, *queue);
            let can_go: u64 =
                self.queues[*queue].iter().filter(|i| droppable(i)).map(|i| i.cost).sum();
            let may_drop = self.limits[*queue].when_full == WhenFull::DropOldest;
            if over > 0 && (!may_drop || can_go < over) {
                return false;
            }
        }
        for (queue, _, _) in targets {
            while over(self, *queue) > 0 {
                let items = &self.queues[*queue];
                let victim = items
                    .iter()
                    .filter(|item| droppable(item))
                    .max_by_key(|item| (item.priority, u64::MAX - item.sequence))
                    .map(|item| item.sequence)
                    .unwrap();
                self.queues[*queue].retain(|item| item.sequence != victim);
            }
        }
        true
    }
}

struct Run {
    rig: Option<Rig>,
    model: Model,
    endpoints: Vec<EndpointId>,
    readers: Vec<Option<Reader>>,
    random: fastrand::Rng,
    next_id: u64,
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
                dead: Vec::new(),
            },
            endpoints,
            readers: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            next_id: 1,
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
            0..30 => self.append().await,
            30..55 => self.next().await,
            55..78 => self.commit().await,
            78..83 => self.put_back(),
            83..86 => self.redeliver_held(),
            86..90 => self.advance(),
            90..92 => self.new_reader(),
            92..94 => self.limit(),
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

    /// What the model makes of a batch: the number of messages that it admits.
    fn model_append(&mut self, batch: &[(Append, Vec<Spot>)], whole: bool) -> Vec<Vec<Item>> {
        let mut admitted = Vec::new();
        for (at, (append, places)) in batch.iter().enumerate() {
            let cost = record::encoded_len(&append.message) as u64 + 8 + ENTRY_OVERHEAD_BYTES;
            let fresh = u64::MAX / 2;
            if !whole && !self.model.admit(places, cost, fresh) {
                break;
            }
            let items: Vec<Item> = places
                .iter()
                .map(|(_, priority, expires)| Item {
                    sequence: fresh + at as u64,
                    id: append.message.id().0,
                    device: append.message.device().to_string(),
                    priority: *priority,
                    expires: *expires,
                    cost,
                    state: State::Waiting,
                    attempt: Some(1),
                    holds_sender: false,
                })
                .collect();
            for ((queue, _, _), item) in places.iter().zip(&items) {
                self.model.queues[*queue].push(item.clone());
            }
            admitted.push(items);
        }
        admitted
    }

    /// The model learns the sequences that the store gave.
    fn number(&mut self, first: Option<Sequence>) {
        for item in self.model.queues.iter_mut().flatten() {
            if item.sequence >= u64::MAX / 2 {
                item.sequence = item.sequence - u64::MAX / 2 + first.unwrap().0;
            }
        }
    }

    async fn append(&mut self) {
        self.notice_expired().await;
        let most = if self.random.u32(0..8) == 0 { 300 } else { 8 };
        let batch = self.messages(most);
        let expected = self.model_append(&batch, false).len();
        let sent: Vec<Append> = batch.into_iter().map(|(append, _)| append).collect();
        let appended = self.rig().append(sent.clone()).await;
        assert_eq!(appended.accepted, expected);
        self.number(appended.first);
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
        let item = self.item(queue, entry.sequence.0);
        item.state = State::InFlight;
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

    async fn commit(&mut self) {
        self.notice_expired().await;
        let picked = self.pick(|item| matches!(item.state, State::InFlight | State::Held));
        let now = self.now();
        let mut settle = Vec::new();
        for (queue, sequence) in &picked {
            let disposition = match self.random.u32(0..10) {
                0 => Disposition::Hold,
                1 | 2 => Disposition::Retry {
                    not_before: now.after(Duration::from_secs(self.random.u64(0..8))),
                    hold_sender: self.random.bool(),
                },
                3 => Disposition::Dead {
                    reason: "no good".to_owned(),
                    code: None,
                    module_digest: None,
                },
                _ => Disposition::Done,
            };
            settle.push((self.endpoints[*queue], Sequence(*sequence), disposition));
        }
        let batch = if self.random.u32(0..3) == 0 { self.messages(4) } else { Vec::new() };
        let append: Vec<Append> = batch.iter().map(|(append, _)| append.clone()).collect();
        let change = Change { settle: settle.clone(), append, ..Change::default() };
        match self.rig().commit(change).await {
            Ok(committed) => {
                assert_eq!(committed.unknown, 0);
                // Whether it fits as a whole is tested by itself; what is dropped for it is read off.
                for ((queue, sequence), (_, _, disposition)) in picked.iter().zip(settle) {
                    self.settled(*queue, *sequence, disposition);
                }
                self.model_append(&batch, true);
                self.number(committed.first);
                self.adopt_drops().await;
            }
            Err(CommitError::Full { change, .. }) => {
                assert!(!batch.is_empty());
                assert_eq!(change.settle, settle);
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Forgets what a change has dropped.
    async fn adopt_drops(&mut self) {
        for queue in 0..QUEUES {
            if self.model.limits[queue].when_full == WhenFull::DropOldest {
                let there = self.peek(queue).await;
                self.model.queues[queue].retain(|item| there.contains_key(&item.sequence));
            }
        }
    }

    fn settled(&mut self, queue: usize, sequence: u64, disposition: Disposition) {
        let item = self.item(queue, sequence);
        match disposition {
            Disposition::Done => self.model.queues[queue].retain(|i| i.sequence != sequence),
            Disposition::Dead { .. } => {
                let id = item.id;
                self.model.dead.push((queue, id));
                self.model.queues[queue].retain(|i| i.sequence != sequence);
            }
            Disposition::Hold => {
                item.state = State::Held;
                item.holds_sender = false;
            }
            Disposition::Retry { not_before, hold_sender } => {
                item.state = State::Again(not_before);
                item.holds_sender |= hold_sender;
                item.attempt = item.attempt.map(|attempt| attempt + 1);
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
                item.attempt = item.attempt.map(|attempt| attempt + 1);
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
        let limit = QueueLimit {
            max_bytes: self.random.bool().then(|| self.random.u64(500..20_000)),
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
        let rig = if orderly { rig.reopen().await } else { rig.crash().await };
        assert_eq!(rig.report.damage, None);
        for item in self.model.queues.iter_mut().flatten() {
            if matches!(item.state, State::InFlight | State::Held) {
                item.state = State::Again(Timestamp::from_secs(0));
            }
            item.attempt = None;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_does_what_a_plain_list_does() {
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..RUNS {
        // Two at a time: the rest of the machine has work too.
        if tasks.len() == 2 {
            tasks.join_next().await.unwrap().unwrap();
        }
        tasks.spawn(async move {
            let name = format!("run with seed {seed}");
            let told = std::panic::AssertUnwindSafe(run(seed));
            let result = futures::FutureExt::catch_unwind(told).await;
            assert!(result.is_ok(), "{name} failed");
        });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap();
    }
}
