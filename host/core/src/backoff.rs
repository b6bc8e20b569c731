//! The one schedule for everything that tries again: exponential with full jitter.

use std::time::Duration;

/// How long to wait before the next attempt.
///
/// Full jitter (each wait is drawn from zero to the present bound) keeps a thousand clients from
/// coming back in step. The lower tenth is cut off, so that no two attempts fall together.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    attempt: u32,
}

impl Backoff {
    /// The first bound is `base`; it doubles up to `cap`.
    #[must_use]
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, attempt: 0 }
    }

    /// The wait before the next attempt. `random` lies in 0.0..1.0.
    pub fn next_wait(&mut self, random: f64) -> Duration {
        let bound = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.cap);
        self.attempt = self.attempt.saturating_add(1);
        bound.mul_f64(0.1 + 0.9 * random.clamp(0.0, 1.0))
    }

    /// Attempts that failed since the last success.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.attempt
    }

    /// After a success.
    pub const fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_the_cap_and_starts_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
        let longest: Vec<u64> = (0..11).map(|_| backoff.next_wait(1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        backoff.reset();
        assert_eq!(backoff.next_wait(0.0), Duration::from_millis(100));
    }
}
