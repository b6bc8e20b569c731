//! Where connections come from that have not proven who they are: no source may have all the places,
//! those for whom there is none wait in turn, and who fails again and again is answered slowly.
//!
//! A source is an address (of IPv6 the /64, which is one customer's). Clients behind one address may be
//! many and honest, a whole site behind one gateway: so nobody is locked out for another's failure, and
//! who comes when his source has its share of places waits until one of its own is free. Invariants:
//!
//! 1. A free place goes to the sources that wait in turn, within a source in order of arrival: however
//!    many wait, the first of another source is next but as many as there are sources.
//! 2. When too many wait, the newest of the source with the most gives way; that it is closed costs no
//!    other source anything.
//! 3. A place or a turn is given back when its value is dropped.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use weir_core::limits;

/// Failures that are answered at once: a typing error.
const FREE: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Below the time that a client is given for its CONNECT, so that a refusal takes no longer than
/// silence.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// A source with so many failures …
const SUSPICIOUS: u32 = 10;
/// … may have so many unproven connections.
const SUSPICIOUS_CONNECTIONS: usize = 16;
/// A source that has not failed for this long is forgotten.
const MEMORY: Duration = Duration::from_secs(60);
/// Sources that are remembered; of more the one that failed longest ago is forgotten.
const SOURCES: usize = 4096;

#[derive(Debug)]
struct Record {
    failures: u32,
    failed: Instant,
    /// Connections that have a place and have not proven who they are.
    unproven: usize,
    /// Those that wait for one, by number.
    waiting: VecDeque<(u64, oneshot::Sender<Visit>)>,
    /// One was turned away since the source last had none.
    turned_away: bool,
}

impl Record {
    fn has_place(&self, now: Instant) -> bool {
        let is_suspicious = self.failures >= SUSPICIOUS && now.duration_since(self.failed) < MEMORY;
        self.unproven
            < match is_suspicious {
                true => SUSPICIOUS_CONNECTIONS,
                false => limits::MAX_UNKNOWN_OF_SOURCE,
            }
    }

    fn is_idle(&self) -> bool {
        self.unproven == 0 && self.waiting.is_empty()
    }
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<IpAddr, Record>,
    /// Places that are taken.
    taken: usize,
    /// Those that wait, of all sources.
    waiting: usize,
    /// The sources of those that wait, each once; the first is next.
    turns: VecDeque<IpAddr>,
    /// Of the last that waited.
    number: u64,
}

/// Sources of connections that have failed, or have not proven who they are yet.
#[derive(Debug, Default)]
pub(super) struct Sources(Mutex<State>);

/// A connection that has not proven who it is, and has a place.
#[derive(Debug)]
pub(super) struct Visit {
    /// None once the place was given back.
    sources: Option<Arc<Sources>>,
    source: IpAddr,
}

/// A connection that comes.
#[derive(Debug)]
pub(super) enum Knock {
    /// There is a place.
    Enter(Visit),
    /// There will be one.
    Wait(Turn),
}

/// A place in the line.
#[derive(Debug)]
pub(super) struct Turn {
    sources: Arc<Sources>,
    source: IpAddr,
    number: u64,
    place: oneshot::Receiver<Visit>,
    /// Nobody of this source waited before.
    pub(super) is_first: bool,
}

/// As many wait as may, and of no other source more than of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded {
    /// It was not so a moment ago.
    pub(super) news: bool,
}

impl Sources {
    /// A connection comes.
    pub(super) fn knock(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Knock, Crowded> {
        let source = source_of(address);
        let mut state = self.lock();
        let is_full = state.taken >= limits::MAX_UNKNOWN_CLIENTS;
        let record = state.record(source, now);
        if record.waiting.is_empty() && record.has_place(now) && !is_full {
            record.unproven += 1;
            state.taken += 1;
            return Ok(Knock::Enter(Visit { sources: Some(Arc::clone(self)), source }));
        }
        if state.waiting >= limits::MAX_WAITING_CLIENTS {
            state.make_room(source)?;
        }
        state.number += 1;
        state.waiting += 1;
        let number = state.number;
        let (sender, place) = oneshot::channel();
        let record = state.record(source, now);
        let is_first = record.waiting.is_empty();
        record.waiting.push_back((number, sender));
        if is_first {
            state.turns.push_back(source);
        }
        Ok(Knock::Wait(Turn { sources: Arc::clone(self), source, number, place, is_first }))
    }

    /// A place is free: it goes on, and others with it that may.
    fn release(self: &Arc<Self>, source: IpAddr) {
        let mut freed = Some(source);
        loop {
            let (next, sender) = {
                let mut state = self.lock();
                if let Some(source) = freed.take() {
                    state.free(source);
                }
                let Some(next) = state.next_turn(Instant::now()) else { return };
                next
            };
            let visit = Visit { sources: Some(Arc::clone(self)), source: next };
            // Without the lock: a visit that nobody takes gives back its place.
            if let Err(mut untaken) = sender.send(visit) {
                untaken.sources = None;
                freed = Some(next);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, source: IpAddr, now: Instant) -> &mut Record {
        if !self.records.contains_key(&source) && self.records.len() >= SOURCES {
            forget_one(&mut self.records);
        }
        let new = Record {
            failures: 0,
            failed: now,
            unproven: 0,
            waiting: VecDeque::new(),
            turned_away: false,
        };
        let record = self.records.entry(source).or_insert(new);
        if now.duration_since(record.failed) >= MEMORY {
            record.failures = 0;
        }
        record
    }

    /// As many wait as may: the newest of the source with the most goes, unless that is this one.
    fn make_room(&mut self, source: IpAddr) -> Result<(), Crowded> {
        let waiting = |source: &IpAddr| self.records.get(source).map_or(0, |r| r.waiting.len());
        let most = self.turns.iter().copied().max_by_key(waiting);
        let most = most.filter(|most| waiting(most) > waiting(&source) + 1);
        match most.and_then(|most| self.records.get_mut(&most)) {
            Some(record) => {
                record.waiting.pop_back();
                record.turned_away = true;
                self.waiting -= 1;
                Ok(())
            }
            None => {
                let record = self.records.get_mut(&source);
                let news = record.is_some_and(|r| !std::mem::replace(&mut r.turned_away, true));
                self.forget_idle(source);
                Err(Crowded { news })
            }
        }
    }

    /// Whose turn it is, if there is a place: it is taken.
    fn next_turn(&mut self, now: Instant) -> Option<(IpAddr, oneshot::Sender<Visit>)> {
        if self.taken >= limits::MAX_UNKNOWN_CLIENTS {
            return None;
        }
        for _ in 0..self.turns.len() {
            let source = self.turns.pop_front()?;
            let Some(record) = self.records.get_mut(&source) else { continue };
            let next = match record.has_place(now) {
                true => record.waiting.pop_front(),
                false => None,
            };
            if !record.waiting.is_empty() {
                self.turns.push_back(source);
            }
            if let Some((_, sender)) = next {
                record.unproven += 1;
                self.taken += 1;
                self.waiting -= 1;
                return Some((source, sender));
            }
        }
        None
    }

    fn free(&mut self, source: IpAddr) {
        self.taken = self.taken.saturating_sub(1);
        if let Some(record) = self.records.get_mut(&source) {
            record.unproven = record.unproven.saturating_sub(1);
        }
        self.forget_idle(source);
    }

    /// One that waited has left.
    fn leave(&mut self, source: IpAddr, number: u64) {
        let Some(record) = self.records.get_mut(&source) else { return };
        let Some(at) = record.waiting.iter().position(|(found, _)| *found == number) else {
            return;
        };
        record.waiting.remove(at);
        self.waiting -= 1;
        if record.waiting.is_empty() {
            self.turns.retain(|waiting| *waiting != source);
        }
        self.forget_idle(source);
    }

    /// Good clients leave no trace.
    fn forget_idle(&mut self, source: IpAddr) {
        if let Some(record) = self.records.get_mut(&source)
            && record.is_idle()
        {
            record.turned_away = false;
            if record.failures == 0 {
                self.records.remove(&source);
            }
        }
    }
}

impl Turn {
    /// Waits for a place; none when it takes too long, or when too many others wait.
    pub(super) async fn come(mut self) -> Option<Visit> {
        timeout(limits::WAITING_LIMIT, &mut self.place).await.ok()?.ok()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.sources.lock().leave(self.source, self.number);
    }
}

impl Visit {
    /// The credentials were refused; says how long the client is to wait for its answer.
    pub(super) fn failed(&self, now: Instant) -> Duration {
        let Some(sources) = &self.sources else { return Duration::ZERO };
        let mut state = sources.lock();
        let Some(record) = state.records.get_mut(&self.source) else { return Duration::ZERO };
        record.failures = record.failures.saturating_add(1);
        record.failed = now;
        match record.failures.checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(doublings) => (FIRST_DELAY * (1 << doublings.min(10))).min(LONGEST_DELAY),
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(sources) = self.sources.take() {
            sources.release(self.source);
        }
    }
}

fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// Those with connections stay: their number is bounded elsewhere.
fn forget_one(records: &mut HashMap<IpAddr, Record>) {
    let idle = records.iter().filter(|(_, record)| record.is_idle());
    let oldest = idle.min_by_key(|(_, record)| record.failed).map(|(source, _)| *source);
    oldest.map(|source| records.remove(&source));
}

#[cfg(test)]
mod tests;
