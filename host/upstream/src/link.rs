//! The link's state as others see it. Set by `run`, read by the API; each change is logged once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};
use weir_core::clock::Clock;
use weir_core::port::Link;

#[derive(Debug)]
pub(crate) struct LinkState {
    kind: &'static str,
    clock: Clock,
    link: Mutex<Link>,
}

impl LinkState {
    pub(crate) fn new(kind: &'static str, clock: &Clock) -> Self {
        Self { kind, clock: clock.clone(), link: Mutex::new(Link::Idle) }
    }

    pub(crate) fn get(&self) -> Link {
        self.lock().clone()
    }

    /// An attempt went well.
    pub(crate) fn up(&self) {
        let mut link = self.lock();
        match &*link {
            Link::Up { .. } => return,
            Link::Idle | Link::Down { .. } => info!(kind = self.kind, "upstream is up"),
        }
        *link = Link::Up { since: self.clock.now() };
    }

    /// An attempt failed or a connection ended. The time is that of the first failure.
    pub(crate) fn down(&self, why: &str) {
        let mut link = self.lock();
        let since = match &*link {
            Link::Down { reason, .. } if reason == why => return,
            Link::Down { since, .. } => *since,
            Link::Idle | Link::Up { .. } => self.clock.now(),
        };
        warn!(kind = self.kind, reason = why, "upstream is down");
        *link = Link::Down { since, reason: why.to_owned() };
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        // The state is a plain value, whole after a panic elsewhere.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use weir_core::clock::Timestamp;

    #[test]
    fn down_keeps_the_time_of_the_first_failure_and_the_last_reason() {
        let clock = Clock::manual(Timestamp::from_secs(1));
        let link = LinkState::new("mqtt", &clock);
        assert_eq!(link.get(), Link::Idle);
        link.down("refused");
        clock.advance(Duration::from_secs(5));
        link.down("timed out");
        let since = Timestamp::from_secs(1);
        assert_eq!(link.get(), Link::Down { since, reason: "timed out".into() });
        link.up();
        clock.advance(Duration::from_secs(5));
        link.up();
        assert_eq!(link.get(), Link::Up { since: Timestamp::from_secs(6) });
    }
}
