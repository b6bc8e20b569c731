//! A hub whose modules are closures.

use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use weir_core::clock::Clock;
use weir_core::digest::Digest;
use weir_core::id::{Identity, ModuleId, OutputName};
use weir_core::message::Message;
use weir_core::method::MethodAnswer;
use weir_core::module::{Ceilings, ModuleSpec};
use weir_core::port::{
    Answer, Batch, BoxFuture, Called, ComponentFacts, Consumer, Delivery, DesiredChange, Emission,
    Fault, Handlers, Instance, InstanceUsage, ModuleRuntime, ModuleStart, Outcome, RuntimeError,
};
use weir_core::sas;
use weir_hub::authenticate::{Credentials, make_token};
use weir_hub::tasks::{TaskGroup, TaskKind};
use weir_hub::{
    Config, DeadLetter, Hub, IdentitySpec, ModuleView, Parts, Publication, QueueDefaults,
    RouteSpec, Session, digest_of,
};
use weir_store::{
    Durability, EndpointId, Expect, Opened, Options, Peeked, QueueLimit, Store, WhenFull,
};

const IOTHUB: &str = "hub.weir.test";
/// The module under test, and where what it sends is gathered: a module that never connects.
pub(crate) const MODULE: &str = "m";
pub(crate) const INPUT: &str = "E/m/in";
pub(crate) const SINK: &str = "E/sink/in";
/// Long enough for a slow machine, shorter than the rest of an open circuit.
const PATIENCE: Duration = Duration::from_secs(8);

/// What an instance does with a batch; it may remember.
pub(crate) type Call = Box<dyn FnMut(&[Delivery]) -> Result<Answer, Fault> + Send>;
/// What it does with a method.
pub(crate) type Method = Box<dyn FnMut(&str, &[u8]) -> Result<Called<MethodAnswer>, Fault> + Send>;
/// What it does with new desired properties.
pub(crate) type Handler =
    Box<dyn FnMut(&DesiredChange) -> Result<Called<Result<(), String>>, Fault> + Send>;

/// An instance: what it does when it is called.
pub(crate) struct Guest {
    pub(crate) batch: Call,
    pub(crate) method: Option<Method>,
    pub(crate) desired: Option<Handler>,
}

impl From<Call> for Guest {
    fn from(batch: Call) -> Self {
        Self { batch, method: None, desired: None }
    }
}

/// Makes instances; they are counted from 0.
type Component = Arc<dyn Fn(usize, &ModuleStart) -> Result<Guest, RuntimeError> + Send + Sync>;

#[derive(Default)]
struct Closures {
    components: Mutex<HashMap<Digest, (Component, usize)>>,
    /// Components that are asked about new desired properties.
    asked: Mutex<HashSet<Digest>>,
    times: Arc<Times>,
}

/// Of every call: how many messages, and the time it was given where that was less than usual.
type Times = Mutex<Vec<(usize, Option<Duration>)>>;

struct Running {
    guest: Mutex<Guest>,
    handlers: Handlers,
    outputs: Vec<OutputName>,
    times: Arc<Times>,
}

impl ModuleRuntime for Closures {
    fn compile(&self, bytes: Bytes) -> BoxFuture<'_, Result<ComponentFacts, RuntimeError>> {
        let handler = "weir:module/twin-handler@0.1.0".to_owned();
        let asked = self.asked.lock().unwrap().contains(&digest_of(&bytes));
        let (imports, bytes) = (Vec::new(), bytes.len() as u64);
        let exports = asked.then_some(handler).into_iter().collect();
        Box::pin(async move { Ok(ComponentFacts { imports, exports, bytes }) })
    }

    fn start(&self, start: ModuleStart) -> BoxFuture<'_, Result<Arc<dyn Instance>, RuntimeError>> {
        let mut components = self.components.lock().unwrap();
        let (component, started) = components.get_mut(&start.component).unwrap();
        let guest = component(*started, &start);
        *started += 1;
        let (outputs, times) = (start.spec.outputs.clone(), Arc::clone(&self.times));
        Box::pin(async move {
            let guest = guest?;
            let handlers =
                Handlers { methods: guest.method.is_some(), desired: guest.desired.is_some() };
            let running = Running { guest: Mutex::new(guest), handlers, outputs, times };
            Ok(Arc::new(running) as Arc<dyn Instance>)
        })
    }

    fn forget(&self, _: &Digest) {}
}

impl Consumer for Running {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async move { self.call(&batch, None) })
    }
}

impl Running {
    fn call(&self, batch: &Batch, time: Option<Duration>) -> Result<Answer, Fault> {
        self.times.lock().unwrap().push((batch.deliveries.len(), time));
        (self.guest.lock().unwrap().batch)(&batch.deliveries)
    }
}

impl Instance for Running {
    fn deliver_within(&self, batch: Batch, time: Duration) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async move { self.call(&batch, Some(time)) })
    }

    fn handlers(&self) -> Handlers {
        self.handlers
    }

    fn call_method(
        &self,
        name: &str,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Called<MethodAnswer>, Fault>> {
        let name = name.to_owned();
        Box::pin(async move {
            let mut guest = self.guest.lock().unwrap();
            (guest.method.as_mut().expect("it has methods"))(&name, &body)
        })
    }

    fn desired_changed(
        &self,
        change: DesiredChange,
    ) -> BoxFuture<'_, Result<Called<Result<(), String>>, Fault>> {
        Box::pin(async move {
            let mut guest = self.guest.lock().unwrap();
            (guest.desired.as_mut().expect("it is asked"))(&change)
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async { Ok(Answer::default()) })
    }

    fn usage(&self) -> InstanceUsage {
        InstanceUsage::default()
    }

    fn outputs(&self) -> &[OutputName] {
        &self.outputs
    }
}

/// Body of a delivery.
pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body().to_vec()).unwrap()
}

/// A component that answers message by message.
pub(crate) fn each(
    outcome: impl Fn(&Delivery) -> Result<Outcome, Fault> + Send + Sync + Clone + 'static,
) -> impl Fn(usize) -> Call + Send + Sync {
    move |_| {
        let outcome = outcome.clone();
        Box::new(move |deliveries| {
            let outcomes = deliveries.iter().map(&outcome).collect::<Result<_, _>>()?;
            Ok(Answer { outcomes, ..Answer::default() })
        })
    }
}

/// On to the first output.
pub(crate) const PASS: Outcome = Outcome::Pass { output: 0 };

pub(crate) fn trap() -> Fault {
    Fault::Trap("on purpose".to_owned())
}

pub(crate) fn emission(text: &str) -> Emission {
    Emission { body: Bytes::copy_from_slice(text.as_bytes()), ..Emission::default() }
}

/// A running hub.
pub(crate) struct TestHub {
    pub(crate) hub: Hub,
    pub(crate) clock: Clock,
    runtime: Arc<Closures>,
    storage: TaskGroup,
    folder: TempDir,
}

impl TestHub {
    /// All that devices send goes to the module, all that it sends to the sink.
    pub(crate) async fn start() -> Self {
        Self::with_clock(Clock::system()).await
    }

    pub(crate) async fn with_clock(clock: Clock) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = Self::open(folder, clock, Arc::default(), async {}).await;
        hub.route(
            "in",
            "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
             INTO BrokeredEndpoint(\"/modules/m/inputs/in\")",
        )
        .await;
        hub.route(
            "out",
            "FROM /messages/modules/m/* INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
        )
        .await;
        hub
    }

    /// The store can be read at once, and written when `writable` resolves.
    async fn open(
        folder: TempDir,
        clock: Clock,
        runtime: Arc<Closures>,
        writable: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let options = Options {
            dir: folder.path().to_owned(),
            durability: Durability::Power,
            total_bytes: None,
            clock: clock.clone(),
        };
        let Opened { store, writer, report, start } = Store::open(options).await.unwrap();
        let config = Config {
            edge_device: "E".parse().unwrap(),
            hostname: "gateway.weir.test".to_owned(),
            iothub_hostname: IOTHUB.to_owned(),
            ceilings: Ceilings::default(),
            default_ttl: None,
            queues: QueueDefaults::default(),
            max_clients: 100,
            device_roots: Vec::new(),
            module_certificates: false,
        };
        let storage = TaskGroup::default();
        storage.spawn(TaskKind::Essential, "writer", |_| async {
            writable.await;
            writer.run().await.unwrap();
        });
        let modules: Arc<dyn ModuleRuntime> = Arc::clone(&runtime) as _;
        let parts = Parts { store, report, start, runtime: modules, upstream: None };
        let hub = Hub::start(config, clock.clone(), parts, TaskGroup::default()).await.unwrap();
        hub.set_ready(true);
        Self { hub, clock, runtime, storage, folder }
    }

    /// Stops it and starts it again on the same store.
    pub(crate) async fn restart(self) -> Self {
        self.restart_writable(async {}).await
    }

    /// Another hub on the files as they stand in this moment: what a kill would leave.
    pub(crate) async fn killed(&self) -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(self.folder.path(), folder.path());
        Self::open(folder, self.clock.clone(), Arc::clone(&self.runtime), async {}).await
    }

    /// As [`TestHub::restart`]; the store can be written when `writable` resolves.
    pub(crate) async fn restart_writable(
        self,
        writable: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let (clock, runtime) = (self.clock.clone(), Arc::clone(&self.runtime));
        Self::open(self.stop().await, clock, runtime, writable).await
    }

    pub(crate) async fn route(&self, name: &str, text: &str) {
        let spec = RouteSpec { route: text.to_owned(), priority: None, time_to_live_secs: None };
        let name = name.parse().unwrap();
        self.hub.routes().put(&self.hub, &name, spec, Expect::Any).await.unwrap();
    }

    /// Uploads a component of this name.
    pub(crate) async fn component(
        &self,
        name: &'static str,
        component: impl Fn(usize) -> Call + Send + Sync + 'static,
    ) -> Digest {
        self.component_with_state(name, move |number, _| component(number)).await
    }

    /// As [`TestHub::component`], of one that has state.
    pub(crate) async fn component_with_state(
        &self,
        name: &'static str,
        component: impl Fn(usize, &ModuleStart) -> Call + Send + Sync + 'static,
    ) -> Digest {
        self.upload(name, Arc::new(move |number, start| Ok(component(number, start).into()))).await
    }

    /// As [`TestHub::component`], of one that can be called, is asked about desired properties, or does
    /// not start.
    pub(crate) async fn guest(
        &self,
        name: &'static str,
        component: impl Fn(usize, &ModuleStart) -> Result<Guest, RuntimeError> + Send + Sync + 'static,
    ) -> Digest {
        self.runtime.asked.lock().unwrap().insert(digest_of(name.as_bytes()));
        self.upload(name, Arc::new(component)).await
    }

    async fn upload(&self, name: &'static str, component: Component) -> Digest {
        let bytes = Bytes::from_static(name.as_bytes());
        let digest = digest_of(&bytes);
        self.runtime.components.lock().unwrap().insert(digest, (component, 0));
        self.hub.artifacts().put(&self.hub, digest, bytes).await.unwrap();
        digest
    }

    /// Instances of a component so far.
    pub(crate) fn instances(&self, component: &Digest) -> usize {
        self.runtime.components.lock().unwrap()[component].1
    }

    /// The calls so far: how many messages, and the time where it was less than usual.
    pub(crate) fn calls(&self) -> Vec<(usize, Option<Duration>)> {
        self.runtime.times.lock().unwrap().clone()
    }

    /// Installs the module, or exchanges its version. `members` are added to the shortest
    /// specification.
    pub(crate) async fn put(&self, component: Digest, members: serde_json::Value) {
        let mut spec = serde_json::json!({
            "type": "wasm", "component": component, "inputs": ["in"], "outputs": ["out"],
        });
        spec.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let spec: ModuleSpec = serde_json::from_value(spec).unwrap();
        let name = MODULE.parse().unwrap();
        self.hub.modules().put(&self.hub, &name, spec, Expect::Any).await.unwrap();
    }

    /// Installs a component as the module at once.
    pub(crate) async fn install(
        &self,
        members: serde_json::Value,
        component: impl Fn(usize) -> Call + Send + Sync + 'static,
    ) -> Digest {
        let digest = self.component("v1", component).await;
        self.put(digest, members).await;
        digest
    }

    pub(crate) async fn module(&self) -> ModuleView {
        let name: ModuleId = MODULE.parse().unwrap();
        self.hub.modules().get(&self.hub, &name).await.unwrap()
    }

    pub(crate) async fn connect(&self, identity: &Identity) -> Session {
        self.connect_by(identity, "test").await
    }

    /// As [`TestHub::connect`], by the head of a protocol.
    pub(crate) async fn connect_by(&self, identity: &Identity, protocol: &'static str) -> Session {
        if self.hub.identities().get(identity).is_none() {
            let spec = IdentitySpec::default();
            let identities = self.hub.identities();
            identities.put(&self.hub, identity.clone(), spec, Expect::Any).await.unwrap();
        }
        let token = self.token(identity);
        let proven = self.hub.authenticate(identity, Credentials::of(Some(&token), &[])).unwrap();
        self.hub.connect(proven, protocol, "here").unwrap()
    }

    /// A token of an identity that exists, signed with its primary key.
    pub(crate) fn token(&self, identity: &Identity) -> String {
        let record = self.hub.identities().get(identity).unwrap().record;
        let weir_core::identity::Authentication::Sas { primary, .. } = &record.authentication
        else {
            panic!("the default is a key");
        };
        let expires = self.hub.clock().now().after(Duration::from_secs(3600));
        make_token(primary, &sas::resource_of(IOTHUB, identity), expires, None)
    }

    /// A device sends these, and they are acknowledged.
    pub(crate) async fn send(&self, device: &str, bodies: &[&str]) {
        self.send_as(&Identity::device(device.parse().unwrap()), bodies).await;
    }

    pub(crate) async fn send_as(&self, sender: &Identity, bodies: &[&str]) {
        let session = self.connect(sender).await;
        let mut intake = session.intake();
        let publication = |body: &&str| {
            let body = Bytes::copy_from_slice(body.as_bytes());
            Publication { message: Message { body, ..Message::default() }, reliable: true }
        };
        intake.submit(bodies.iter().map(publication).collect()).await;
        assert_eq!(intake.settled().await.unwrap(), bodies.len());
    }

    pub(crate) fn endpoint(&self, queue: &str) -> EndpointId {
        let all = self.hub.store().endpoint_names();
        all.into_iter().find(|(_, name)| name == queue).expect("a route has made it").0
    }

    pub(crate) async fn queue(&self, queue: &str) -> Vec<Peeked> {
        self.hub.store().peek(self.endpoint(queue), None, 1000).await.unwrap()
    }

    pub(crate) async fn bodies(&self, queue: &str) -> Vec<String> {
        let text =
            |entry: &Peeked| String::from_utf8(entry.record.message.body().to_vec()).unwrap();
        self.queue(queue).await.iter().map(text).collect()
    }

    /// What the sink has, as soon as it is so many.
    pub(crate) async fn sunk(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} messages in the sink"), || async {
            let found = self.bodies(SINK).await;
            (found.len() >= count).then_some(found)
        })
        .await
    }

    pub(crate) async fn dead_letters(&self) -> Vec<DeadLetter> {
        self.hub.store().dead_letters(None, 1000, None).await.unwrap()
    }

    /// Limits a queue to so many bytes.
    pub(crate) fn limit(&self, queue: &str, max_bytes: Option<u64>) {
        let limit = QueueLimit { max_bytes, when_full: WhenFull::Reject };
        self.hub.store().set_limit(self.endpoint(queue), limit);
    }

    pub(crate) async fn stop(self) -> TempDir {
        assert_eq!(self.hub.tasks().shut_down(Duration::from_secs(5)).await, None);
        self.hub.store().close().await;
        assert_eq!(self.storage.shut_down(Duration::from_secs(1)).await, None);
        self.folder
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => {
                std::fs::create_dir_all(&to).unwrap();
                copy(&entry.path(), &to);
            }
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// Looks again and again until it is there.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl Fn() -> F,
) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no {what}"))
}
