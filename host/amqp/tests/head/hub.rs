//! A hub with its store in a temporary folder, and a plain listener.

use bytes::Bytes;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use weir_amqp::{Security, Server};
use weir_core::clock::{Clock, Timestamp};
use weir_core::digest::Digest;
use weir_core::id::Identity;
use weir_core::identity::{Authentication, Status};
use weir_core::message::StampedMessage;
use weir_core::module::Ceilings;
use weir_core::port::{
    BoxFuture, ComponentFacts, Instance, ModuleRuntime, ModuleStart, RuntimeError,
};
use weir_core::sas;
use weir_core::twin::{Mode, Patch, Section, TwinChange};
use weir_hub::authenticate::make_token;
use weir_hub::tasks::{TaskGroup, TaskKind};
use weir_hub::{Config, Hub, IdentitySpec, Parts, QueueDefaults, RouteSpec};
use weir_store::{Durability, EndpointId, Expect, Opened, Options, QueueLimit, Store, WhenFull};

pub(crate) const IOTHUB: &str = "hub.weir.test";
/// Where [`TestHub::route`] leads.
const INPUT: &str = "E/M/in1";

/// These tests need no Wasm.
struct NoModules;

impl ModuleRuntime for NoModules {
    fn compile(&self, _: Bytes) -> BoxFuture<'_, Result<ComponentFacts, RuntimeError>> {
        Box::pin(async { Err(RuntimeError::Host("none in this test".to_owned())) })
    }

    fn start(&self, _: ModuleStart) -> BoxFuture<'_, Result<Arc<dyn Instance>, RuntimeError>> {
        Box::pin(async { Err(RuntimeError::Host("none in this test".to_owned())) })
    }

    fn forget(&self, _: &Digest) {}
}

/// A running hub.
pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) address: SocketAddr,
    storage: TaskGroup,
    _folder: TempDir,
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        Self::with_clients(100).await
    }

    pub(crate) async fn with_clients(max_clients: usize) -> Self {
        Self::open(tempfile::tempdir().unwrap(), max_clients).await
    }

    async fn open(folder: TempDir, max_clients: usize) -> Self {
        let clock = Clock::system();
        let options = Options {
            dir: folder.path().to_owned(),
            durability: Durability::Power,
            total_bytes: None,
            clock: clock.clone(),
        };
        let opened = Store::open(options).await.unwrap();
        let config = Config {
            edge_device: "E".parse().unwrap(),
            hostname: "gateway.weir.test".to_owned(),
            iothub_hostname: IOTHUB.to_owned(),
            ceilings: Ceilings::default(),
            default_ttl: None,
            queues: QueueDefaults::default(),
            max_clients,
            device_roots: Vec::new(),
            module_certificates: false,
        };
        let Opened { store, writer, report, start } = opened;
        // A group of its own: the last acknowledgements need the writer.
        let storage = TaskGroup::default();
        storage.spawn(TaskKind::Essential, "writer", |_| async { writer.run().await.unwrap() });
        let parts = Parts { store, report, start, runtime: Arc::new(NoModules), upstream: None };
        let hub = Hub::start(config, clock, parts, TaskGroup::default()).await.unwrap();
        hub.set_ready(true);
        let server = Server::new(hub.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        server.listen(listener, Security::Plain);
        Self { hub, address, storage, _folder: folder }
    }

    /// A token of an identity, which is made if there is none.
    pub(crate) async fn token(&self, identity: &Identity) -> String {
        let expires = self.hub.clock().now().after(Duration::from_secs(3600));
        self.token_until(identity, expires).await
    }

    pub(crate) async fn token_until(&self, identity: &Identity, expires: Timestamp) -> String {
        if self.hub.identities().get(identity).is_none() {
            self.put(identity, IdentitySpec::default()).await;
        }
        let record = self.hub.identities().get(identity).unwrap().record;
        let Authentication::Sas { primary, .. } = &record.authentication else { panic!() };
        make_token(primary, &sas::resource_of(IOTHUB, identity), expires, None)
    }

    async fn put(&self, identity: &Identity, spec: IdentitySpec) {
        self.hub.identities().put(&self.hub, identity.clone(), spec, Expect::Any).await.unwrap();
    }

    pub(crate) async fn disable(&self, identity: &Identity) {
        let spec = IdentitySpec { status: Status::Disabled, ..IdentitySpec::default() };
        self.put(identity, spec).await;
    }

    /// All messages go to the input `in1` of the module `M`.
    pub(crate) async fn route(&self) {
        let route = r#"FROM /messages/* INTO BrokeredEndpoint("/modules/M/inputs/in1")"#.to_owned();
        let spec = RouteSpec { route, priority: None, time_to_live_secs: None };
        let name = "all".parse().unwrap();
        self.hub.routes().put(&self.hub, &name, spec, Expect::Any).await.unwrap();
    }

    fn endpoint(&self) -> EndpointId {
        let all = self.hub.store().endpoint_names();
        all.into_iter().find(|(_, name)| name == INPUT).expect("the route has made it").0
    }

    /// Bodies that wait in the queue of that input, from disk.
    pub(crate) async fn stored(&self) -> Vec<Bytes> {
        let messages = self.stored_messages().await;
        messages.iter().map(|message| message.body().clone()).collect()
    }

    /// The messages themselves.
    pub(crate) async fn stored_messages(&self) -> Vec<StampedMessage> {
        let store = self.hub.store();
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = store.peek(self.endpoint(), after, 1000).await.unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.sequence);
            all.extend(page.iter().map(|entry| entry.record.message.clone()));
        }
    }

    /// Makes the queue of that input refuse, or take, more.
    pub(crate) fn set_full(&self, full: bool) {
        let max_bytes = if full { Some(1) } else { None };
        let limit = QueueLimit { max_bytes, when_full: WhenFull::Reject };
        self.hub.store().set_limit(self.endpoint(), limit);
    }

    /// Changes desired properties as an operator would.
    pub(crate) async fn desire(&self, of: &Identity, patch: serde_json::Value) {
        let patch = Patch::parse(Section::Desired, patch.to_string().as_bytes()).unwrap();
        let change = TwinChange { mode: Mode::Merge, desired: Some(patch), tags: None };
        self.hub.twins().change(&self.hub, of, change, None, "test").await.unwrap();
    }

    /// How many dead letters there are, once there is one.
    pub(crate) async fn dead_letters(&self) -> usize {
        for _ in 0..500 {
            let letters = self.hub.store().dead_letters(None, 100, None).await.unwrap();
            if !letters.is_empty() {
                return letters.len();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        0
    }

    pub(crate) async fn stop(&self) {
        assert_eq!(self.hub.tasks().shut_down(Duration::from_secs(9)).await, None);
        self.hub.store().close().await;
        assert_eq!(self.storage.shut_down(Duration::from_secs(1)).await, None);
    }
}
