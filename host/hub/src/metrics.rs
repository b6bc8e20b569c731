//! The hub's counters: each named once, with its unit and its meaning.
//!
//! Names that begin with `edgehub_` are IoT Edge's own, so that its dashboards show data at once.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// Who sent or sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SenderLabel {
    /// `device` or `device/module`.
    pub id: String,
}

/// Why a message went no further.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// `no_route`, `ttl_expiry`, `queue_full`, …
    pub reason: &'static str,
}

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EndpointLabel {
    /// `iothub` or `device/module/input`.
    pub endpoint: String,
}

/// One module and what became of a message there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    /// The module.
    pub module: String,
    /// `drop`, `pass`, `annotate`, `emit`, `hold`, `retry`, `reject`, `trap`.
    pub outcome: &'static str,
}

/// One certificate of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CertificateLabel {
    /// `server`, `edge_ca`.
    pub certificate: &'static str,
}

/// What became of a method call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct MethodLabel {
    /// `answered`, `not_found`, `not_connected`, `timed_out`, `busy`, `failed`, `denied`,
    /// `stopping`.
    pub outcome: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Messages taken in, all senders together.
    pub accepted: Counter,
    /// Messages taken in, by sender.
    pub received: Family<SenderLabel, Counter>,
    /// Messages that went no further, by reason.
    pub dropped: Family<ReasonLabel, Counter>,
    /// Messages settled, by queue.
    pub sent: Family<EndpointLabel, Counter>,
    /// Messages waiting, by queue.
    pub queue_length: Family<EndpointLabel, Gauge>,
    /// Bytes waiting, by queue.
    pub queue_bytes: Family<EndpointLabel, Gauge>,
    /// Outcomes, by module.
    pub outcomes: Family<OutcomeLabel, Counter>,
    /// Reported patches that were accepted, by sender.
    pub reports: Family<SenderLabel, Counter>,
    /// Twins that were given to their clients.
    pub twins_given: Family<SenderLabel, Counter>,
    /// Connected clients.
    pub clients: Gauge,
    /// Clients that came in.
    pub connects: Counter,
    /// Clients that were refused.
    pub refusals: Counter,
    /// Clients that left.
    pub disconnects: Counter,
    /// Direct method calls, by what became of them.
    pub direct_methods: Family<MethodLabel, Counter>,
    /// From an answered call to its answer.
    pub direct_method_seconds: Histogram,
    /// Answers to calls that nobody waits for.
    pub method_answers_dropped: Counter,
    /// Commands taken in.
    pub commands_sent: Counter,
    /// Commands that were settled, by how.
    pub commands_ended: Family<ReasonLabel, Counter>,
    /// From taking a client's batch in to its commit.
    pub commit_seconds: Histogram,
    /// 1 while the upstream takes messages.
    pub upstream_up: Gauge,
    /// Failed attempts to reach the upstream.
    pub upstream_failures: Counter,
    /// 1 while the store can be written.
    pub store_writable: Gauge,
    /// Seconds until a certificate ends; negative when it has.
    pub certificate_expiry: Family<CertificateLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            accepted: Counter::default(),
            received: Family::default(),
            dropped: Family::default(),
            sent: Family::default(),
            queue_length: Family::default(),
            queue_bytes: Family::default(),
            outcomes: Family::default(),
            reports: Family::default(),
            twins_given: Family::default(),
            clients: Gauge::default(),
            connects: Counter::default(),
            refusals: Counter::default(),
            disconnects: Counter::default(),
            direct_methods: Family::default(),
            direct_method_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            method_answers_dropped: Counter::default(),
            commands_sent: Counter::default(),
            commands_ended: Family::default(),
            commit_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            upstream_up: Gauge::default(),
            upstream_failures: Counter::default(),
            store_writable: Gauge::default(),
            certificate_expiry: Family::default(),
        };
        metrics.register();
        metrics.register_methods();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("weir_messages_accepted", "Messages taken in", self.accepted.clone());
        registry.register(
            "edgehub_messages_received",
            "Messages taken in, by sender",
            self.received.clone(),
        );
        registry.register(
            "edgehub_messages_dropped",
            "Messages that went no further",
            self.dropped.clone(),
        );
        registry.register("edgehub_messages_sent", "Messages settled, by queue", self.sent.clone());
        registry.register("edgehub_queue_length", "Messages waiting", self.queue_length.clone());
        registry.register("weir_queue_bytes", "Bytes waiting", self.queue_bytes.clone());
        registry.register("weir_module_outcomes", "Outcomes, by module", self.outcomes.clone());
        registry.register(
            "edgehub_reported_properties",
            "Reported patches that were accepted",
            self.reports.clone(),
        );
        registry.register(
            "edgehub_gettwin",
            "Twins that were given to their clients",
            self.twins_given.clone(),
        );
        registry.register("edgehub_connected_clients", "Connected clients", self.clients.clone());
        registry.register(
            "edgehub_client_connect_success",
            "Clients that came in",
            self.connects.clone(),
        );
        registry.register(
            "edgehub_client_connect_failed",
            "Clients that were refused",
            self.refusals.clone(),
        );
        registry.register(
            "edgehub_client_disconnect",
            "Clients that left",
            self.disconnects.clone(),
        );
        registry.register_with_unit(
            "weir_commit",
            "From taking a batch of a client in to its commit",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        registry.register(
            "weir_upstream_up",
            "1 while the upstream takes messages",
            self.upstream_up.clone(),
        );
        registry.register(
            "weir_upstream_failures",
            "Failed attempts to reach the upstream",
            self.upstream_failures.clone(),
        );
        registry.register(
            "weir_store_writable",
            "1 while the store can be written",
            self.store_writable.clone(),
        );
        registry.register_with_unit(
            "weir_certificate_expiry",
            "Time until a certificate of the hub ends",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
    }

    fn register_methods(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "edgehub_direct_methods",
            "Direct method calls, by what became of them",
            self.direct_methods.clone(),
        );
        registry.register_with_unit(
            "edgehub_direct_method_duration",
            "From a call to its answer",
            Unit::Seconds,
            self.direct_method_seconds.clone(),
        );
        registry.register(
            "weir_method_answers_dropped",
            "Answers to calls that nobody waits for",
            self.method_answers_dropped.clone(),
        );
        registry.register(
            "weir_commands_sent",
            "Cloud-to-device messages taken in",
            self.commands_sent.clone(),
        );
        registry.register(
            "weir_commands_ended",
            "Cloud-to-device messages that were settled, by how",
            self.commands_ended.clone(),
        );
    }

    /// OpenMetrics text.
    ///
    /// # Errors
    /// Never in practice: writing to a `String` does not fail.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::with_capacity(8 * 1024);
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Counts messages that went no further.
    pub fn drop_messages(&self, reason: &'static str, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&ReasonLabel { reason }).inc_by(count);
        }
    }

    /// Counts a command that was settled.
    pub(crate) fn command_ended(&self, reason: &'static str) {
        self.commands_ended.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts what a module did with messages.
    pub fn outcome(&self, module: &str, outcome: &'static str, count: u64) {
        if count > 0 {
            let label = OutcomeLabel { module: module.to_owned(), outcome };
            self.outcomes.get_or_create(&label).inc_by(count);
        }
    }
}
