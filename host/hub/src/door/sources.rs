//! Where connections come from that have not proven who they are: no source may have all the places,
//! and who fails again and again is answered slowly.
//!
//! A source is an address (of IPv6 the /64, which is one customer's). Clients behind one address may be
//! many and honest, so nobody is locked out for another's failure: only refusals are delayed, and a
//! source has a share of the places for the unproven, a small one when many of its logins fail.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
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
    /// Connections that have not proven who they are.
    unproven: usize,
    /// One was turned away since the source last had none.
    turned_away: bool,
}

/// Sources of connections that have failed, or have not proven who they are yet.
#[derive(Debug, Default)]
pub(super) struct Sources(Mutex<HashMap<IpAddr, Record>>);

/// A connection that has not proven who it is.
#[derive(Debug)]
pub(super) struct Visit {
    sources: Arc<Sources>,
    source: IpAddr,
}

/// A source has as many connections as it may have that have not proven who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded {
    /// It was not so a moment ago.
    pub(super) news: bool,
}

impl Sources {
    /// A connection comes.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Instant) -> Result<Visit, Crowded> {
        let source = source_of(address);
        let mut records = self.lock();
        if !records.contains_key(&source) && records.len() >= SOURCES {
            forget_one(&mut records);
        }
        let new = Record { failures: 0, failed: now, unproven: 0, turned_away: false };
        let record = records.entry(source).or_insert(new);
        if now.duration_since(record.failed) >= MEMORY {
            record.failures = 0;
        }
        let places = match record.failures >= SUSPICIOUS {
            true => SUSPICIOUS_CONNECTIONS,
            false => limits::MAX_UNKNOWN_OF_SOURCE,
        };
        if record.unproven >= places {
            let news = !std::mem::replace(&mut record.turned_away, true);
            return Err(Crowded { news });
        }
        record.unproven += 1;
        Ok(Visit { sources: Arc::clone(self), source })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// The credentials were refused; says how long the client is to wait for its answer.
    pub(super) fn failed(&self, now: Instant) -> Duration {
        let mut records = self.sources.lock();
        let Some(record) = records.get_mut(&self.source) else { return Duration::ZERO };
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
        let mut records = self.sources.lock();
        if let Some(record) = records.get_mut(&self.source) {
            record.unproven = record.unproven.saturating_sub(1);
            if record.unproven == 0 {
                record.turned_away = false;
                if record.failures == 0 {
                    records.remove(&self.source);
                }
            }
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
    let idle = records.iter().filter(|(_, record)| record.unproven == 0);
    let oldest = idle.min_by_key(|(_, record)| record.failed).map(|(source, _)| *source);
    oldest.map(|source| records.remove(&source));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn start() -> (Arc<Sources>, Instant) {
        (Arc::new(Sources::default()), Instant::now())
    }

    #[test]
    fn refusals_become_slower_up_to_a_limit() {
        let (sources, now) = start();
        let delays: Vec<_> =
            (0..12).map(|_| sources.enter(SOURCE, now).unwrap().failed(now).as_millis()).collect();
        assert_eq!(delays, [0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn a_source_with_failures_may_have_few_unproven_connections() {
        let (sources, now) = start();
        let honest: Vec<_> = (0..100).map(|_| sources.enter(SOURCE, now).unwrap()).collect();
        for _ in 0..SUSPICIOUS {
            honest[0].failed(now);
        }
        assert!(sources.enter(SOURCE, now).is_err());
        assert!(sources.enter("192.0.2.1".parse().unwrap(), now).is_ok(), "another source");
        drop(honest);
        assert!(sources.enter(SOURCE, now).is_ok(), "it is slowed down, not locked out");
    }

    #[test]
    fn a_source_without_failures_may_have_its_share_and_no_more() {
        let (sources, now) = start();
        let enter = || sources.enter(SOURCE, now);
        let all: Vec<_> = (0..limits::MAX_UNKNOWN_OF_SOURCE).map(|_| enter().unwrap()).collect();
        assert_eq!(enter().unwrap_err(), Crowded { news: true });
        assert_eq!(enter().unwrap_err(), Crowded { news: false });
        assert!(sources.enter("192.0.2.1".parse().unwrap(), now).is_ok(), "another source");
        drop(all);
        assert!(enter().is_ok());
        assert_eq!(sources.lock().len(), 0);
    }

    #[test]
    fn failures_are_forgotten_after_a_while() {
        let (sources, now) = start();
        for _ in 0..20 {
            sources.enter(SOURCE, now).unwrap().failed(now);
        }
        let visit = sources.enter(SOURCE, now + MEMORY).unwrap();
        assert_eq!(visit.failed(now + MEMORY), Duration::ZERO);
    }

    #[test]
    fn the_table_is_bounded_and_good_clients_leave_no_trace() {
        let (sources, now) = start();
        drop(sources.enter(SOURCE, now));
        assert_eq!(sources.lock().len(), 0);
        for number in 0..2 * u32::try_from(SOURCES).unwrap() {
            let source = std::net::Ipv4Addr::from(number).into();
            sources.enter(source, now).unwrap().failed(now);
        }
        assert_eq!(sources.lock().len(), SOURCES);
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_a_mapped_address_its_ipv4() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
