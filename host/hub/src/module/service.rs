//! The service behind `/api/v1/modules`: install, exchange, remove, look at.

use super::calls::Call;
use super::desired;
use super::record::{self, VersionRow};
use super::runner::Runner;
use super::version::{Probation, Version};
use super::{Control, CounterView, Counters, Report, Return, State, Switch};
use crate::Hub;
use crate::routes::InForce;
use crate::sync::lock;
use crate::tasks::TaskKind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::{mpsc, oneshot, watch};
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::error_code::ErrorCode;
use weir_core::id::{Identity, ModuleId};
use weir_core::module::{ModuleSpec, SpecProblem};
use weir_core::module_state::ModuleState;
use weir_core::port::{InstanceUsage, RuntimeError, StartReason};
use weir_store::{Expect, WriteError};

/// A module as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ModuleView {
    /// Its name.
    pub name: ModuleId,
    /// What it is doing.
    pub state: State,
    /// The version in force.
    pub version: u32,
    /// True while a fault brings the version before it back.
    pub on_probation: bool,
    /// What it is.
    pub spec: Arc<ModuleSpec>,
    /// What it has done since the hub started.
    pub counters: CounterView,
    /// Figures of its instance.
    pub usage: Option<InstanceUsage>,
    /// The last fault and when it was.
    pub last_fault: Option<FaultView>,
    /// The last return to an older version.
    pub last_return: Option<Return>,
    /// Bytes and keys of its state.
    pub state_bytes: usize,
    /// Keys of its state.
    pub state_keys: usize,
    /// For `If-Match`.
    #[serde(skip)]
    pub revision: u64,
}

/// A fault and when it was.
#[derive(Debug, Clone, Serialize)]
pub struct FaultView {
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: String,
}

/// What a change of a module did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleChange {
    /// There was none of this name.
    Installed,
    /// Another version took over.
    Switched,
    /// It was exactly so already.
    Unchanged,
}

/// Why a module could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The specification is refused.
    #[error("the specification is refused")]
    Spec(Vec<SpecProblem>),
    /// The component is not there or is refused.
    #[error(transparent)]
    Component(#[from] RuntimeError),
    /// The new version did not start; the old one goes on.
    #[error("the new version did not start, the old one goes on: {0}")]
    Start(String),
    /// There is no such module.
    #[error("there is no module {0}")]
    Unknown(ModuleId),
    /// It was changed in the meantime.
    #[error("module {module} was changed in the meantime")]
    Mismatch {
        /// The module.
        module: ModuleId,
        /// Its present revision.
        present: Option<u64>,
    },
    /// Too many modules.
    #[error("a hub runs at most {} modules", weir_core::limits::MODULES)]
    TooMany,
    /// The module's task is ending.
    #[error("module {0} is being stopped")]
    Stopping(ModuleId),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl ModuleError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Spec(problems) if problems.iter().any(|problem| problem.policy) => {
                ErrorCode::PolicyDenied
            }
            Self::Spec(_) | Self::TooMany => ErrorCode::ModuleSpec,
            Self::Component(RuntimeError::Unknown(_)) => ErrorCode::NotFound,
            Self::Component(RuntimeError::Host(_)) => ErrorCode::Internal,
            Self::Component(_) => ErrorCode::ComponentRefused,
            Self::Start(_) => ErrorCode::SwapFailed,
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Mismatch { .. } => ErrorCode::VersionMismatch,
            Self::Stopping(_) => ErrorCode::ModuleNotRunning,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

pub(super) struct Running {
    control: mpsc::Sender<Control>,
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) report: watch::Receiver<Report>,
    counters: Arc<Counters>,
}

/// All Wasm modules of the hub.
#[derive(Default)]
pub struct Modules {
    pub(super) running: Mutex<BTreeMap<ModuleId, Running>>,
    /// One change at a time: installs and swaps read, start and record.
    changing: tokio::sync::Mutex<()>,
    routes: OnceLock<InForce>,
}

impl Modules {
    /// True for a Wasm module of this hub.
    pub(crate) fn is_wasm(&self, module: &ModuleId) -> bool {
        lock(&self.running).contains_key(module)
    }

    /// Everything that is to run. From now on its inputs are its own.
    pub(crate) async fn load(&self, hub: &Hub) -> Result<Vec<Runner>, weir_store::Error> {
        let mut loaded = Vec::new();
        for (name, row) in record::all(hub.store()).await? {
            let Ok(module) = name.parse::<ModuleId>() else { continue };
            let Some(version) = record::version(hub.store(), &name, row.version).await? else {
                continue;
            };
            let previous = match row.previous {
                Some(number) => record::version(hub.store(), &name, number).await?,
                None => None,
            };
            loaded.push(self.enter(hub, &module, version, previous).await?);
        }
        Ok(loaded)
    }

    /// Starts what was loaded.
    pub(crate) fn start(&self, hub: &Hub, modules: Vec<Runner>, routes: InForce) {
        self.routes.get_or_init(|| routes);
        for runner in modules {
            launch(hub, runner, routes);
        }
    }

    /// A module that is to run takes its place among the others.
    async fn enter(
        &self,
        hub: &Hub,
        module: &ModuleId,
        version: Version,
        previous: Option<Version>,
    ) -> Result<Runner, weir_store::Error> {
        let quota = usize::try_from(version.spec.limits.state.0).unwrap_or(usize::MAX);
        let values = hub.store().module_state(module.as_str()).await?;
        let state = Arc::new(Mutex::new(ModuleState::new(values, quota)));
        let identity = Identity::module(hub.edge_device().clone(), module.clone());
        let (control, commands) = mpsc::channel(4);
        let (calls, called) = mpsc::channel(weir_core::limits::METHOD_CALLS_PER_TARGET);
        let (reporter, report) = watch::channel(Report {
            state: State::Starting,
            version: version.number,
            component: Some(version.spec.component),
            on_probation: previous.is_some(),
            usage: None,
            last_fault: None,
            last_return: None,
        });
        let counters = Arc::new(Counters::default());
        let channels = (commands, called, reporter);
        let mut runner =
            Runner::new(hub.clone(), identity, version, state, channels, Arc::clone(&counters));
        if previous.is_some() {
            runner.probation = Some(Probation::begin(hub.clock().now()));
            runner.previous = previous;
        }
        hub.release_inputs(module).await;
        let running = Running { control, calls, report, counters };
        lock(&self.running).insert(module.clone(), running);
        // Only now is there a twin of this name.
        if let Err(cause) = runner.reload_twin().await {
            lock(&self.running).remove(module);
            return Err(cause);
        }
        Ok(runner)
    }

    /// Installs a module, or exchanges its version for one with this specification.
    ///
    /// # Errors
    /// The running version goes on in every case.
    pub async fn put(
        &self,
        hub: &Hub,
        name: &ModuleId,
        spec: ModuleSpec,
        expect: Expect,
    ) -> Result<ModuleChange, ModuleError> {
        let mut problems = spec.problems(hub.ceilings());
        problems.extend(hub.routes().problems_for(hub, name, &spec));
        if !problems.is_empty() {
            return Err(ModuleError::Spec(problems));
        }
        let _one = self.changing.lock().await;
        let found = record::find(hub.store(), name.as_str()).await?;
        let present = found.as_ref().map(|(_, revision)| *revision);
        let as_expected = match expect {
            Expect::Any => true,
            Expect::Absent => present.is_none(),
            Expect::Present => present.is_some(),
            Expect::Revision(revision) => present == Some(revision),
        };
        if !as_expected {
            return Err(ModuleError::Mismatch { module: name.clone(), present });
        }
        hub.artifacts().prepare(hub, &spec.component).await?;
        match found {
            None => self.install(hub, name, spec).await,
            Some((row, _)) => self.exchange(hub, name, &row, spec).await,
        }
    }

    /// Exchanges only the component, or any other member that is given.
    ///
    /// # Errors
    /// The running version goes on in every case.
    pub async fn swap(
        &self,
        hub: &Hub,
        name: &ModuleId,
        component: Digest,
        expect: Expect,
    ) -> Result<ModuleChange, ModuleError> {
        let version = self.version_in_force(hub, name).await?;
        let spec = ModuleSpec { component, ..(*version.spec).clone() };
        self.put(hub, name, spec, expect).await
    }

    async fn version_in_force(&self, hub: &Hub, name: &ModuleId) -> Result<Version, ModuleError> {
        let unknown = || ModuleError::Unknown(name.clone());
        let (row, _) = record::find(hub.store(), name.as_str()).await?.ok_or_else(unknown)?;
        record::version(hub.store(), name.as_str(), row.version).await?.ok_or_else(unknown)
    }

    async fn install(
        &self,
        hub: &Hub,
        name: &ModuleId,
        spec: ModuleSpec,
    ) -> Result<ModuleChange, ModuleError> {
        if lock(&self.running).len() >= weir_core::limits::MODULES {
            return Err(ModuleError::TooMany);
        }
        let version = Version { number: 1, spec: Arc::new(spec) };
        // A first version that does not start is not installed.
        let empty = Arc::new(Mutex::new(ModuleState::new(BTreeMap::new(), 0)));
        let identity = Identity::module(hub.edge_device().clone(), name.clone());
        let (twin, _) = desired::load(hub, &identity, &version).await?;
        let twin = Arc::new(Mutex::new(twin));
        let trial = version.start(&identity, StartReason::Cold, empty, Arc::clone(&twin));
        let started = hub.runtime().start(trial).await;
        let instance = started.map_err(|cause| ModuleError::Start(cause.to_string()))?;
        drop(instance.stop().await);
        let in_force = desired::of(&*instance, &twin);
        let kept = desired::begin(hub.store(), name.as_str(), 1, None, in_force).await?;
        let with = (hub.clock().now(), kept);
        record::install(hub.store(), name.as_str(), &version, None, with, Expect::Absent)
            .await
            .map_err(|error| mismatch(name, error))?;
        let runner = self.enter(hub, name, version, None).await?;
        let routes = *self.routes.get().expect("a hub that has started has its routes in force");
        launch(hub, runner, routes);
        Ok(ModuleChange::Installed)
    }

    async fn exchange(
        &self,
        hub: &Hub,
        name: &ModuleId,
        row: &record::ModuleRow,
        spec: ModuleSpec,
    ) -> Result<ModuleChange, ModuleError> {
        let stopping = || ModuleError::Stopping(name.clone());
        let present = record::version(hub.store(), name.as_str(), row.version).await?;
        if present.is_some_and(|present| *present.spec == spec) {
            return Ok(ModuleChange::Unchanged);
        }
        let control = lock(&self.running).get(name).map(|running| running.control.clone());
        let control = control.ok_or_else(stopping)?;
        let version = Version { number: row.newest + 1, spec: Arc::new(spec) };
        let (reply, forked) = oneshot::channel();
        control.send(Control::Fork(reply)).await.map_err(|_| stopping())?;
        let (state, twin) = forked.await.map_err(|_| stopping())?;
        let identity = Identity::module(hub.edge_device().clone(), name.clone());
        let twin = desired::inherit(hub, &identity, &version, twin).await?;
        let (state, twin) = (Arc::new(Mutex::new(state)), Arc::new(Mutex::new(twin)));
        let shared = (Arc::clone(&state), Arc::clone(&twin));
        let start = version.start(&identity, StartReason::Upgrade, shared.0, shared.1);
        let instance = hub.runtime().start(start).await;
        let instance = instance.map_err(|cause| ModuleError::Start(cause.to_string()))?;
        let (done, switched) = oneshot::channel();
        let switch = Switch { version, instance, state, twin, done };
        control.send(Control::Switch(Box::new(switch))).await.map_err(|_| stopping())?;
        switched.await.map_err(|_| stopping())?.map_err(ModuleError::Start)?;
        Ok(ModuleChange::Switched)
    }

    /// Stops and removes a module, its history and its state. Its queues stay.
    ///
    /// # Errors
    /// [`ModuleError::Unknown`], [`ModuleError::Mismatch`], or when the store fails.
    pub async fn delete(
        &self,
        hub: &Hub,
        name: &ModuleId,
        expect: Expect,
    ) -> Result<(), ModuleError> {
        let _one = self.changing.lock().await;
        if record::find(hub.store(), name.as_str()).await?.is_none() {
            return Err(ModuleError::Unknown(name.clone()));
        }
        let expect = if expect == Expect::Any { Expect::Present } else { expect };
        record::delete(hub.store(), name.as_str(), expect)
            .await
            .map_err(|error| mismatch(name, error))?;
        let running = lock(&self.running).remove(name);
        if let Some(running) = running {
            let (done, stopped) = oneshot::channel();
            if running.control.send(Control::Stop(done)).await.is_ok() {
                drop(stopped.await);
            }
        }
        hub.store().delete_module_state(name.as_str()).await?;
        let identity = Identity::module(hub.edge_device().clone(), name.clone());
        let commit = async |twin| hub.store().write(twin).await.map_err(|e| mismatch(name, e));
        hub.twins().delete_with(hub, &[identity], commit).await?;
        hub.serve_inputs(name).await;
        Ok(())
    }

    /// How many modules there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.running).len()
    }

    /// All modules, in order of names.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, hub: &Hub) -> Result<Vec<ModuleView>, ModuleError> {
        let names: Vec<ModuleId> = lock(&self.running).keys().cloned().collect();
        let mut views = Vec::with_capacity(names.len());
        for name in names {
            views.push(self.get(hub, &name).await?);
        }
        Ok(views)
    }

    /// One module.
    ///
    /// # Errors
    /// [`ModuleError::Unknown`], or when the store cannot be read.
    pub async fn get(&self, hub: &Hub, name: &ModuleId) -> Result<ModuleView, ModuleError> {
        let unknown = || ModuleError::Unknown(name.clone());
        let (report, counters) = {
            let running = lock(&self.running);
            let module = running.get(name).ok_or_else(unknown)?;
            (module.report.borrow().clone(), module.counters.view())
        };
        let (_, revision) = record::find(hub.store(), name.as_str()).await?.ok_or_else(unknown)?;
        let version = record::version(hub.store(), name.as_str(), report.version).await?;
        let values = hub.store().module_state(name.as_str()).await?;
        Ok(ModuleView {
            name: name.clone(),
            state: report.state,
            version: report.version,
            on_probation: report.on_probation,
            spec: version.ok_or_else(unknown)?.spec,
            counters,
            usage: report.usage,
            last_fault: report.last_fault.map(|(at, what)| FaultView { at, what }),
            last_return: report.last_return,
            state_bytes: values.iter().map(|(key, held)| key.len() + held.value.len()).sum(),
            state_keys: values.len(),
            revision,
        })
    }

    /// The versions of a module, oldest first.
    ///
    /// # Errors
    /// [`ModuleError::Unknown`], or when the store cannot be read.
    pub async fn versions(
        &self,
        hub: &Hub,
        name: &ModuleId,
    ) -> Result<Vec<VersionRow>, ModuleError> {
        if record::find(hub.store(), name.as_str()).await?.is_none() {
            return Err(ModuleError::Unknown(name.clone()));
        }
        Ok(record::history(hub.store(), name.as_str()).await?)
    }

    /// A module that runs the artifact, or would go back to it.
    pub(crate) async fn user_of(
        &self,
        hub: &Hub,
        digest: &Digest,
    ) -> Result<Option<String>, weir_store::Error> {
        for (name, row) in record::all(hub.store()).await? {
            for number in [Some(row.version), row.previous].into_iter().flatten() {
                let version = record::version(hub.store(), &name, number).await?;
                if version.is_some_and(|version| version.spec.component == *digest) {
                    return Ok(Some(name));
                }
            }
        }
        Ok(None)
    }

    /// Specifications of all modules: routes are checked against them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) async fn specs(
        &self,
        hub: &Hub,
    ) -> Result<BTreeMap<ModuleId, Arc<ModuleSpec>>, weir_store::Error> {
        let mut specs = BTreeMap::new();
        for (name, row) in record::all(hub.store()).await? {
            let version = record::version(hub.store(), &name, row.version).await?;
            if let (Ok(module), Some(version)) = (name.parse(), version) {
                specs.insert(module, version.spec);
            }
        }
        Ok(specs)
    }
}

fn launch(hub: &Hub, runner: Runner, routes: InForce) {
    hub.tasks().spawn(TaskKind::PerClient, "module", move |stop| runner.run(stop, routes));
}

fn mismatch(name: &ModuleId, error: WriteError) -> ModuleError {
    match error {
        WriteError::Mismatch { present, .. } => {
            ModuleError::Mismatch { module: name.clone(), present }
        }
        WriteError::Store(cause) => ModuleError::Store(cause),
    }
}
