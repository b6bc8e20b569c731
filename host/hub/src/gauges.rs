//! Figures that are read from the store when somebody asks, instead of being kept up on every message.

use crate::Hub;
use crate::metrics::{CertificateLabel, EndpointLabel};
use std::sync::atomic::Ordering;

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Hub {
    /// OpenMetrics text with the present figures of queues, clients, store and upstream.
    ///
    /// # Errors
    /// Never in practice: writing to a `String` does not fail.
    pub fn metrics_text(&self) -> Result<String, std::fmt::Error> {
        let metrics = self.metrics();
        let usage = self.store().usage();
        let mut expired = 0;
        for queue in &usage.queues {
            let label = EndpointLabel { endpoint: queue.name.clone() };
            metrics.queue_length.get_or_create(&label).set(gauge(queue.messages));
            metrics.queue_bytes.get_or_create(&label).set(gauge(queue.bytes));
            expired += queue.expired.iter().map(|(_, count)| count).sum::<u64>();
        }
        metrics.set_dropped("ttl_expiry", expired);
        let overflow = usage.queues.iter().map(|queue| queue.dropped).sum();
        metrics.set_dropped("queue_overflow", overflow);
        let letters = usage.queues.iter().map(|queue| queue.dead_letters_dropped).sum();
        metrics.set_dropped("dead_letters_full", letters);
        metrics.clients.set(gauge(self.clients().len() as u64));
        metrics.store_writable.set(i64::from(self.store().health().writable));
        metrics.upstream_up.set(i64::from(self.uplink().state == "up"));
        let now = self.clock().now();
        for end in self.certificates().ends() {
            let label = CertificateLabel { certificate: end.name };
            let left = end.expires.as_secs().saturating_sub(now.as_secs());
            metrics.certificate_expiry.get_or_create(&label).set(left);
        }
        metrics.text()
    }
}

impl crate::Metrics {
    /// A count that somebody else keeps.
    fn set_dropped(&self, reason: &'static str, count: u64) {
        if count > 0 {
            let label = crate::metrics::ReasonLabel { reason };
            self.dropped.get_or_create(&label).inner().store(count, Ordering::Relaxed);
        }
    }
}
