//! The link's state as others see it. Set by `run`, read by the API; each change is logged once.

use tokio::sync::watch;
use tracing::{info, warn};
use weir_core::clock::Clock;
use weir_core::port::Link;

#[derive(Debug)]
pub(crate) struct LinkState {
    kind: &'static str,
    clock: Clock,
    link: watch::Sender<Link>,
}

impl LinkState {
    pub(crate) fn new(kind: &'static str, clock: &Clock) -> Self {
        Self { kind, clock: clock.clone(), link: watch::Sender::new(Link::Idle) }
    }

    pub(crate) fn get(&self) -> Link {
        self.link.borrow().clone()
    }

    /// Resolves when the link is up, at once when it is. Cancel-safe.
    pub(crate) async fn is_up(&self) {
        let mut link = self.link.subscribe();
        // The sender is here, so that it cannot end before.
        drop(link.wait_for(|link| matches!(link, Link::Up { .. })).await);
    }

    /// An attempt went well.
    pub(crate) fn up(&self) {
        self.link.send_if_modified(|link| {
            match link {
                Link::Up { .. } => return false,
                Link::Idle | Link::Down { .. } => info!(kind = self.kind, "upstream is up"),
            }
            *link = Link::Up { since: self.clock.now() };
            true
        });
    }

    /// An attempt failed or a connection ended. The time is that of the first failure.
    pub(crate) fn down(&self, why: &str) {
        self.link.send_if_modified(|link| {
            let since = match link {
                Link::Down { reason, .. } if reason == why => return false,
                Link::Down { since, .. } => *since,
                Link::Idle | Link::Up { .. } => self.clock.now(),
            };
            warn!(kind = self.kind, reason = why, "upstream is down");
            *link = Link::Down { since, reason: why.to_owned() };
            true
        });
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

    #[tokio::test]
    async fn who_waits_for_the_link_wakes_when_it_is_up() {
        let link = LinkState::new("mqtt", &Clock::manual(Timestamp::from_secs(1)));
        link.down("refused");
        let both = async { tokio::join!(link.is_up(), async { link.up() }) };
        tokio::time::timeout(Duration::from_secs(5), both).await.expect("it wakes");
        tokio::time::timeout(Duration::from_secs(5), link.is_up()).await.expect("at once");
    }
}
