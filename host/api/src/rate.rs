//! How often a token may be used: a bucket for each, refilled all the time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use weir_core::limits;

const FULL: f64 = limits::API_REQUEST_BURST as f64;
const PER_SECOND: f64 = limits::API_REQUESTS_PER_SECOND as f64;

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn refilled(self, now: Instant) -> f64 {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * PER_SECOND;
        (self.left + gained).min(FULL)
    }
}

/// The buckets of all tokens that were used of late.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Bucket>>);

impl Rates {
    /// Takes one request out of the token's bucket.
    ///
    /// # Errors
    /// How long until the next one.
    pub(crate) fn take(&self, token: &str) -> Result<(), Duration> {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= limits::TOKENS && !buckets.contains_key(token) {
            buckets.retain(|_, bucket| bucket.refilled(now) < FULL);
        }
        let bucket = buckets.entry(token.to_owned()).or_insert(Bucket { left: FULL, at: now });
        let left = bucket.refilled(now);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / PER_SECOND));
        }
        *bucket = Bucket { left: left - 1.0, at: now };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_has_its_burst_and_then_its_rate_and_others_theirs() {
        let rates = Rates::default();
        let burst = (0..500).filter(|_| rates.take("a").is_ok()).count();
        assert_eq!(burst, limits::API_REQUEST_BURST as usize);
        assert!(rates.take("b").is_ok());
        tokio::time::advance(Duration::from_millis(100)).await;
        let later = (0..500).filter(|_| rates.take("a").is_ok()).count();
        assert_eq!(later, 5);
    }
}
