//! How often a token may be used: a bucket for each, refilled all the time.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
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

/// What a token may still do, for the headers of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    /// How long until the next request; none when this one is let through.
    pub(crate) wait: Option<Duration>,
    left: f64,
}

impl Quota {
    /// `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): the burst, what is left
    /// of it, and the seconds until all of it is there again.
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        let window = (FULL / PER_SECOND).ceil();
        let reset = ((FULL - self.left) / PER_SECOND).ceil();
        let values = [
            ("ratelimit-policy", format!("\"token\";q={FULL};w={window}")),
            ("ratelimit", format!("\"token\";r={};t={reset}", self.left.floor())),
        ];
        for (name, value) in values {
            let value =
                HeaderValue::from_str(&value).expect("digits and quotes can stand in a header");
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

/// The buckets of all tokens that were used of late.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Bucket>>);

impl Rates {
    /// Takes one request out of the token's bucket.
    pub(crate) fn take(&self, token: &str) -> Quota {
        let now = Instant::now();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= limits::TOKENS && !buckets.contains_key(token) {
            buckets.retain(|_, bucket| bucket.refilled(now) < FULL);
        }
        let bucket = buckets.entry(token.to_owned()).or_insert(Bucket { left: FULL, at: now });
        let left = bucket.refilled(now);
        if left < 1.0 {
            return Quota { wait: Some(Duration::from_secs_f64((1.0 - left) / PER_SECOND)), left };
        }
        let left = left - 1.0;
        *bucket = Bucket { left, at: now };
        Quota { wait: None, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_has_its_burst_and_then_its_rate_and_others_theirs() {
        let rates = Rates::default();
        let burst = (0..500).filter(|_| rates.take("a").wait.is_none()).count();
        assert_eq!(burst, limits::API_REQUEST_BURST as usize);
        assert!(rates.take("b").wait.is_none());
        tokio::time::advance(Duration::from_millis(100)).await;
        let later = (0..500).filter(|_| rates.take("a").wait.is_none()).count();
        assert_eq!(later, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn the_headers_say_what_is_left() {
        let rates = Rates::default();
        let mut headers = HeaderMap::new();
        (0..101).for_each(|_| rates.take("a").write(&mut headers));
        assert_eq!(headers["ratelimit-policy"], "\"token\";q=200;w=4");
        assert_eq!(headers["ratelimit"], "\"token\";r=99;t=3");
    }
}
