//! The handle that heads and API hold, and how a hub starts.

use crate::artifacts::Artifacts;
use crate::authenticate::{Authenticator, TrustError};
use crate::certificates::Certificates;
use crate::clients::Clients;
use crate::commands::CommandQueues;
use crate::configuration::StoreAndForward;
use crate::endpoints::Endpoints;
use crate::events::{EventId, Events, Follower, Topic};
use crate::explain::{Explanations, Fate, Footprint};
use crate::idempotency::Idempotency;
use crate::identities::{Identities, IdentityError};
use crate::lookout;
use crate::methods::Methods;
use crate::metrics::{EndpointLabel, Metrics, SenderLabel};
use crate::module::Modules;
use crate::operations::Operations;
use crate::presence::{self, Presences};
use crate::router::Routing;
use crate::routes::{RouteError, Routes};
use crate::service_policies::ServicePolicies;
use crate::tasks::{TaskGroup, TaskKind};
use crate::tokens::Tokens;
use crate::twins::Twins;
use crate::uplink::{Uplink, UplinkView};
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::{DeviceId, Identity, MessageId};
use weir_core::limits;
use weir_core::message::{MessageNumbers, StampedMessage};
use weir_core::module::Ceilings;
use weir_core::port::{ModuleRuntime, Upstream};
use weir_store::{Append, EndpointId, Entry, OpenReport, Store, WhenFull};

/// What the host's file says of the hub.
#[derive(Debug, Clone)]
pub struct Config {
    /// The edge device's id.
    pub edge_device: DeviceId,
    /// Name that clients dial; in the certificate.
    pub hostname: String,
    /// Name that identities and tokens carry (`HostName=`).
    pub iothub_hostname: String,
    /// Ceilings of Wasm modules.
    pub ceilings: Ceilings,
    /// Time to live of messages whose route sets none.
    pub default_ttl: Option<Duration>,
    /// Limits of the queues.
    pub queues: QueueDefaults,
    /// Clients at once.
    pub max_clients: usize,
    /// Certificates that CA-signed devices chain to, in DER.
    pub device_roots: Vec<Vec<u8>>,
    /// Modules may show certificates instead of tokens.
    pub module_certificates: bool,
}

/// Limits of the queues.
#[derive(Debug, Clone, Copy)]
pub struct QueueDefaults {
    /// Bytes of a module's input queue.
    pub module_bytes: u64,
    /// Bytes of the upstream's queue.
    pub upstream_bytes: u64,
    /// What the upstream's queue does when it is full.
    pub upstream_when_full: WhenFull,
}

impl Default for QueueDefaults {
    fn default() -> Self {
        Self {
            module_bytes: limits::STORE_BYTES / 4,
            upstream_bytes: limits::STORE_BYTES / 2,
            upstream_when_full: WhenFull::DropOldest,
        }
    }
}

/// What a hub is made of.
pub struct Parts {
    /// The open store.
    pub store: Store,
    /// What was found when it was opened.
    pub report: OpenReport,
    /// How often it was opened.
    pub start: u32,
    /// Runs Wasm modules.
    pub runtime: Arc<dyn ModuleRuntime>,
    /// Where messages go that leave this hub.
    pub upstream: Option<Arc<dyn Upstream>>,
}

/// Why a hub does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate that devices are to chain to.
    #[error("a trusted certificate for devices cannot be used")]
    Trust(#[from] TrustError),
    /// The registry.
    #[error("the identities could not be loaded")]
    Identities(#[from] IdentityError),
    /// The routes.
    #[error("the stored routes could not be put in force")]
    Routes(#[from] RouteError),
    /// The hub's own configuration.
    #[error("the stored configuration could not be read")]
    Configuration(#[from] crate::TwinError),
    /// Modules or queues.
    #[error("the store could not be read")]
    Store(#[from] weir_store::Error),
}

mod admission;

pub use admission::ConnectError;

pub(crate) struct Inner {
    config: Config,
    clock: Clock,
    store: Store,
    report: OpenReport,
    started: Timestamp,
    tasks: TaskGroup,
    numbers: MessageNumbers,
    routing: ArcSwap<Routing>,
    store_and_forward: ArcSwap<StoreAndForward>,
    /// Bytes of messages that wait for their commit.
    intake: Arc<Semaphore>,
    /// Bytes of messages that wait for room in a queue.
    refused: Arc<Semaphore>,
    ready: AtomicBool,
    runtime: Arc<dyn ModuleRuntime>,
    uplink: Uplink,
    metrics: Metrics,
    explanations: Explanations,
    events: Events,
    clients: Arc<Clients>,
    methods: Methods,
    commands: CommandQueues,
    presences: Presences,
    endpoints: Endpoints,
    authenticator: Authenticator,
    identities: Identities,
    service_policies: ServicePolicies,
    routes: Routes,
    modules: Modules,
    artifacts: Artifacts,
    tokens: Tokens,
    twins: Twins,
    operations: Operations,
    idempotency: Idempotency,
    certificates: Certificates,
}

/// A running hub; cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

impl Hub {
    /// Starts everything that was running: identities, routes, modules, deliveries. The store's
    /// writer must run already.
    ///
    /// # Errors
    /// When what is stored cannot be read.
    pub async fn start(
        config: Config,
        clock: Clock,
        parts: Parts,
        tasks: TaskGroup,
    ) -> Result<Self, StartError> {
        let authenticator =
            Authenticator::new(&config.iothub_hostname, &config.hostname, &config.device_roots)?
                .with_module_certificates(config.module_certificates);
        let Parts { store, report, start, runtime, upstream } = parts;
        let hub = Self(Arc::new(Inner {
            config,
            started: clock.now(),
            clock,
            store,
            report,
            tasks,
            numbers: MessageNumbers::of_start(start),
            routing: ArcSwap::from_pointee(Routing::empty()),
            store_and_forward: ArcSwap::from_pointee(StoreAndForward::default()),
            intake: Arc::new(Semaphore::new(limits::INTAKE_BYTES)),
            refused: Arc::new(Semaphore::new(limits::REFUSED_BYTES)),
            ready: AtomicBool::new(false),
            runtime,
            uplink: Uplink::new(upstream),
            metrics: Metrics::default(),
            explanations: Explanations::default(),
            events: Events::of_start(start),
            clients: Arc::new(Clients::default()),
            methods: Methods::default(),
            commands: CommandQueues::default(),
            presences: Presences::default(),
            endpoints: Endpoints::default(),
            authenticator,
            identities: Identities::default(),
            service_policies: ServicePolicies::default(),
            routes: Routes::default(),
            modules: Modules::default(),
            artifacts: Artifacts::default(),
            tokens: Tokens::default(),
            twins: Twins::default(),
            operations: Operations::default(),
            idempotency: Idempotency::default(),
            certificates: Certificates::default(),
        }));
        hub.0.identities.load(&hub).await?;
        hub.0.service_policies.load(&hub).await?;
        hub.0.tokens.load(&hub).await?;
        hub.0.operations.load(&hub).await?;
        hub.0.idempotency.load(&hub).await?;
        hub.0.commands.load(&hub).await?;
        hub.0.presences.load(&hub).await?;
        // Before queues are opened with their limits.
        crate::configuration::load(&hub).await?;
        // Modules first: their inputs are then known as theirs when the routes open the queues.
        let modules = hub.0.modules.load(&hub).await?;
        let routes = hub.0.routes.load(&hub).await?;
        hub.0.modules.start(&hub, modules, routes);
        hub.serve_leftovers().await?;
        hub.0.uplink.start(&hub).await?;
        let looking = hub.clone();
        let seeing = hub.clone();
        hub.0.tasks.spawn(TaskKind::Essential, "presence", |stop| presence::run(seeing, stop));
        hub.0.tasks.spawn(TaskKind::Essential, "lookout", |stop| lookout::run(looking, stop));
        Ok(hub)
    }

    /// From now on clients are let in.
    pub fn set_ready(&self, ready: bool) {
        self.0.ready.store(ready, Ordering::SeqCst);
    }

    /// True when clients are let in.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.ready.load(Ordering::SeqCst) && !self.0.tasks.stop().is_draining()
    }

    /// The hub's tasks.
    #[must_use]
    pub fn tasks(&self) -> &TaskGroup {
        &self.0.tasks
    }

    /// The hub's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// What the host's file says.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// The edge device's id.
    #[must_use]
    pub fn edge_device(&self) -> &DeviceId {
        &self.0.config.edge_device
    }

    /// Ceilings of Wasm modules.
    #[must_use]
    pub fn ceilings(&self) -> &Ceilings {
        &self.0.config.ceilings
    }

    /// When the hub started.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.0.started
    }

    /// What was found when the store was opened.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.0.report
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The registry of devices and modules.
    #[must_use]
    pub fn identities(&self) -> &Identities {
        &self.0.identities
    }

    pub(crate) fn service_policies(&self) -> &ServicePolicies {
        &self.0.service_policies
    }

    /// The routes.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.0.routes
    }

    /// The Wasm modules.
    #[must_use]
    pub fn modules(&self) -> &Modules {
        &self.0.modules
    }

    /// Cloud-to-device messages.
    #[must_use]
    pub fn commands(&self) -> &CommandQueues {
        &self.0.commands
    }

    /// The uploaded components.
    #[must_use]
    pub fn artifacts(&self) -> &Artifacts {
        &self.0.artifacts
    }

    /// The control plane's tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.0.tokens
    }

    /// The twins of devices and modules.
    #[must_use]
    pub fn twins(&self) -> &Twins {
        &self.0.twins
    }

    /// Work that outlives its request.
    #[must_use]
    pub fn operations(&self) -> &Operations {
        &self.0.operations
    }

    /// Answers to repeated requests.
    #[must_use]
    pub fn idempotency(&self) -> &Idempotency {
        &self.0.idempotency
    }

    /// When the hub's certificates end.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.0.certificates
    }

    /// The upstream.
    #[must_use]
    pub fn uplink(&self) -> UplinkView {
        self.0.uplink.view(self)
    }

    /// Cuts the link to the upstream (messages wait) or mends it.
    pub fn pause_uplink(&self, paused: bool) {
        self.0.uplink.pause(paused);
        let what = if paused { "paused" } else { "resumed" };
        self.tell(Topic::Link, what, "upstream", serde_json::Value::Null);
    }

    pub(crate) fn runtime(&self) -> &Arc<dyn ModuleRuntime> {
        &self.0.runtime
    }

    pub(crate) fn presences(&self) -> &Presences {
        &self.0.presences
    }

    pub(crate) fn methods(&self) -> &Methods {
        &self.0.methods
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.0.endpoints
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    /// Tells those who look on that something has happened. `what` in one or two words; no secrets and
    /// no bodies in `data`.
    pub fn tell(
        &self,
        topic: Topic,
        what: &'static str,
        subject: impl std::fmt::Display,
        data: serde_json::Value,
    ) {
        self.0.events.tell(self.0.clock.now(), topic, what, subject.to_string(), data);
    }

    /// Follows what happens: after the event `after`, else from now on; all topics where none is named.
    #[must_use]
    pub fn follow_events(&self, after: Option<EventId>, topics: Vec<Topic>) -> Follower {
        Follower::new(self.clone(), self.0.events.follow(after, topics))
    }

    pub(crate) fn explanations(&self) -> &Explanations {
        &self.0.explanations
    }

    pub(crate) fn numbers(&self) -> &MessageNumbers {
        &self.0.numbers
    }

    /// The number of one more accepted message.
    pub(crate) fn number(&self) -> MessageId {
        self.0.numbers.take(1)
    }

    pub(crate) fn routing(&self) -> arc_swap::Guard<Arc<Routing>> {
        self.0.routing.load()
    }

    /// What the manifest says of queues.
    pub(crate) fn store_and_forward(&self) -> StoreAndForward {
        **self.0.store_and_forward.load()
    }

    pub(crate) fn set_store_and_forward(&self, settings: StoreAndForward) {
        self.0.store_and_forward.store(Arc::new(settings));
    }

    pub(crate) fn set_routing(&self, routing: Routing) {
        self.0.routing.store(Arc::new(routing));
    }

    /// Routes what a module sent on; none when no route wants it.
    pub(crate) fn route(&self, message: StampedMessage) -> Option<Append> {
        let routing = self.routing();
        let (id, enqueued) = (message.id(), message.enqueued());
        let sender = message.sender().clone();
        let (append, trace) = routing.append(message);
        let table = routing.revision;
        let fates = Vec::new();
        self.0.explanations.note(Footprint {
            id,
            enqueued,
            sender,
            table,
            trace,
            fates,
            client_id: None,
        });
        append
    }

    /// Routes the message that tells of a report; none when no route wants it, which is usual and leaves
    /// no trace.
    pub(crate) fn route_twin_change(&self, message: StampedMessage) -> Option<Append> {
        let routing = self.routing();
        let (id, enqueued) = (message.id(), message.enqueued());
        let sender = message.sender().clone();
        let (append, trace) = routing.append(message);
        let (table, fates) = (routing.revision, Vec::new());
        append.inspect(|_| {
            let client_id = None;
            let print = Footprint { id, enqueued, sender, table, trace, fates, client_id };
            self.0.explanations.note(print);
        })
    }

    /// A report was accepted.
    pub(crate) fn count_report(&self, from: &Identity) {
        let label = SenderLabel { id: from.to_string() };
        self.0.metrics.reports.get_or_create(&label).inc();
    }

    /// A client was given its twin.
    pub(crate) fn count_twin(&self, of: &Identity) {
        let label = SenderLabel { id: of.to_string() };
        self.0.metrics.twins_given.get_or_create(&label).inc();
    }

    /// Messages that came from a client are on disk, or no route wanted them.
    pub(crate) fn count_received(&self, sender: &Identity, total: u64, unrouted: u64) {
        if total == 0 {
            return;
        }
        self.0.metrics.accepted.inc_by(total);
        let label = SenderLabel { id: sender.to_string() };
        self.0.metrics.received.get_or_create(&label).inc_by(total);
        self.0.metrics.drop_messages("no_route", unrouted);
    }

    /// What a client or the upstream did with messages.
    pub(crate) fn settled(&self, endpoint: &str, settled: &[(Entry, Fate)]) {
        let delivered = settled.iter().filter(|(_, fate)| *fate == Fate::Delivered).count();
        let label = EndpointLabel { endpoint: endpoint.to_owned() };
        self.0.metrics.sent.get_or_create(&label).inc_by(delivered as u64);
        for (entry, fate) in settled {
            self.0.explanations.settle(entry.record.message.id(), None, *fate);
        }
    }

    /// Name of a queue.
    pub(crate) fn endpoint_name(&self, endpoint: EndpointId) -> Option<String> {
        self.0
            .store
            .endpoint_names()
            .into_iter()
            .find(|(id, _)| *id == endpoint)
            .map(|(_, name)| name)
    }

    /// Room for so many bytes of messages that wait for their commit.
    pub(crate) async fn intake_permit(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.clamp(1, limits::INTAKE_BYTES)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.0.intake).acquire_many_owned(bytes).await;
        room.expect("the semaphore is never closed")
    }

    /// Room for so many bytes of messages that the store has refused, if there is some.
    pub(crate) fn refused_permit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0.refused).try_acquire_many_owned(bytes).ok()
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hub({})", self.0.config.edge_device)
    }
}
