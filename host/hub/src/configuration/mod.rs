//! The content of a deployment, applied: the desired properties of `$edgeHub` are the hub's own
//! configuration (routes, time to live, store limit), those of `$edgeAgent` are kept for whoever runs the
//! modules, those of modules go to their twins.
//!
//! Called by `/devices/{id}/applyConfigurationContent`, by a change of `$edgeHub`'s twin, and by
//! deployments. Invariants:
//!
//! 1. Everything is checked before anything is written; then all of it is one commit.
//! 2. The routes in force are those of the last content that was applied, as a set, with what was
//!    changed by hand since.

mod manifest;

pub use manifest::{Fault, Manifest};

use crate::Hub;
use crate::identities::{IdentityError, IdentitySpec};
use crate::routes::{Replacement, RouteError, RouteSpec, RouteSpecs};
use crate::tasks::TaskKind;
use crate::twins::{Plan, TwinError};
use manifest::{DESIRED, HUB, below};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;
use tokio::sync::oneshot;
use weir_core::error_code::ErrorCode;
use weir_core::id::{Identity, ModuleId};
use weir_core::identity::Notes;
use weir_core::route::Priority;
use weir_core::route::hub_config::{HubConfig, TimeToLive};
use weir_core::twin::{Etag, Mode, Patch, Section, Twin, TwinChange, merge};
use weir_store::Expect;

/// Why nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The content is wrong at these places.
    #[error("{}", text(.0))]
    Refused(Vec<Fault>),
    /// A twin could not be changed.
    #[error(transparent)]
    Twin(#[from] TwinError),
    /// A module's identity could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The routes could not be read or put in force.
    #[error(transparent)]
    Routes(RouteError),
    /// The hub is stopping: it is not known whether the content was applied.
    #[error("the hub is stopping")]
    Unanswered,
}

impl ConfigurationError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(_) => ErrorCode::InvalidRequest,
            Self::Twin(error) => error.code(),
            Self::Identity(error) => error.code(),
            Self::Routes(error) => error.code(),
            Self::Unanswered => ErrorCode::NotReady,
        }
    }
}

/// The first faults, as one line.
fn text(faults: &[Fault]) -> String {
    const SHOWN: usize = 5;
    let shown = faults.iter().take(SHOWN);
    let shown: Vec<String> =
        shown.map(|fault| format!("{}: {}", fault.pointer, fault.message)).collect();
    match faults.len().checked_sub(SHOWN + 1) {
        None => shown.join("; "),
        Some(more) => format!("{}; and {} more", shown.join("; "), more + 1),
    }
}

/// What the manifest says of queues.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreAndForward {
    time_to_live: Option<TimeToLive>,
    max_bytes: Option<u64>,
}

impl StoreAndForward {
    fn of(config: &HubConfig) -> Self {
        // 0 is "none was written", too, and would let every message expire at once.
        let written = config.time_to_live != TimeToLive::Limited(Duration::ZERO);
        Self {
            time_to_live: written.then_some(config.time_to_live),
            max_bytes: config.max_size_bytes,
        }
    }

    /// Time to live of messages whose route sets none.
    pub(crate) fn default_ttl(&self, own: Option<Duration>) -> Option<Duration> {
        match self.time_to_live {
            None => own,
            Some(TimeToLive::Forever) => None,
            Some(TimeToLive::Limited(time)) => Some(time),
        }
    }

    /// Limit of a queue: the host's own, or less.
    pub(crate) fn max_bytes(&self, own: u64) -> u64 {
        self.max_bytes.map_or(own, |bytes| bytes.min(own))
    }
}

/// A configuration of the hub that has passed all checks.
struct Checked {
    settings: StoreAndForward,
    routes: Replacement,
}

/// Reads what the last content said of queues; before the routes are put in force.
pub(crate) async fn load(hub: &Hub) -> Result<(), TwinError> {
    let twin = hub.twins().get(hub, &hub.hub_twin()).await?;
    if twin.desired.value.is_empty() {
        return Ok(());
    }
    match HubConfig::parse(&Value::Object(twin.desired.value.clone())) {
        Ok(config) => hub.set_store_and_forward(StoreAndForward::of(&config)),
        Err(error) => tracing::error!(%error, "the stored configuration of the hub is not used"),
    }
    Ok(())
}

impl Hub {
    /// Applies the content of a deployment to this hub's edge device. Identities of containers that are
    /// missing are made. `author` is for the history of the twins.
    ///
    /// # Errors
    /// [`ConfigurationError`]; nothing has changed then.
    pub async fn apply_configuration(
        &self,
        manifest: Manifest,
        author: &str,
    ) -> Result<(), ConfigurationError> {
        let author = author.to_owned();
        in_task(self, move |hub| async move { hub.apply(&manifest, &author).await }).await
    }

    /// Changes the twin of `$edgeHub`, and with it the hub's own configuration.
    pub(crate) async fn configure(
        &self,
        change: TwinChange,
        expect: Option<Etag>,
        author: &str,
    ) -> Result<Twin, TwinError> {
        let author = author.to_owned();
        let done =
            in_task(
                self,
                move |hub| async move { hub.change_own_twin(change, expect, &author).await },
            );
        done.await.map_err(|error| match error {
            ConfigurationError::Twin(error) => error,
            ConfigurationError::Unanswered => TwinError::Unanswered,
            error => TwinError::Configuration(Box::new(error)),
        })
    }

    /// Whose twin holds the hub's own configuration.
    fn hub_twin(&self) -> Identity {
        self.own_module(HUB)
    }

    fn own_module(&self, name: &str) -> Identity {
        let module: ModuleId = name.parse().expect("a name of IoT Edge");
        Identity::module(self.edge_device().clone(), module)
    }

    pub(crate) fn is_hub_twin(&self, of: &Identity) -> bool {
        of.device == *self.edge_device()
            && of.module.as_ref().is_some_and(|module| module.as_str() == HUB)
    }

    async fn apply(&self, manifest: &Manifest, author: &str) -> Result<(), ConfigurationError> {
        let _one = self.routes().hold().await;
        let known = self.present_twins(manifest).await?;
        self.plan(manifest, &known).await?;
        let made = self.make_identities(manifest).await?;
        let all: BTreeSet<Identity> = self.targets(manifest).collect();
        let mut checked = None;
        let done = self.twins().change_together(self, &all, author, async |twins| {
            let (plan, own) = self.plan(manifest, twins).await?;
            checked = own;
            Ok::<_, ConfigurationError>(plan)
        });
        if let Err(error) = done.await {
            for identity in &made {
                drop(self.identities().delete(self, identity, Expect::Any).await);
            }
            return Err(error);
        }
        self.enforce(checked).await
    }

    async fn change_own_twin(
        &self,
        change: TwinChange,
        expect: Option<Etag>,
        author: &str,
    ) -> Result<Twin, ConfigurationError> {
        let _one = self.routes().hold().await;
        let own = self.hub_twin();
        let mut checked = None;
        let plan = async |twins: &BTreeMap<Identity, Twin>| {
            let twin = &twins[&own];
            let present = twin.etag();
            if expect.is_some_and(|expected| expected != present) {
                return Err(TwinError::Mismatch { present }.into());
            }
            let patch = change.desired.as_ref().map(Patch::as_map);
            let mut desired = match change.mode {
                Mode::Merge => twin.desired.value.clone(),
                Mode::Replace => Map::new(),
            };
            merge(&mut desired, patch.unwrap_or(&Map::new()));
            checked = Some(self.check(&desired, "/properties/desired").await?);
            let writes = checked.as_mut().map(|own| std::mem::take(&mut own.routes.writes));
            let writes = writes.unwrap_or_default();
            Ok::<_, ConfigurationError>(Plan { changes: vec![(own.clone(), change)], writes })
        };
        let all = BTreeSet::from([own.clone()]);
        let mut twins = self.twins().change_together(self, &all, author, plan).await?;
        self.enforce(checked).await?;
        Ok(twins.remove(&own).unwrap_or_default())
    }

    async fn enforce(&self, checked: Option<Checked>) -> Result<(), ConfigurationError> {
        let Some(Checked { settings, routes }) = checked else { return Ok(()) };
        self.set_store_and_forward(settings);
        self.routes().enforce_all(self, routes).await.map_err(ConfigurationError::Routes)
    }

    fn targets(&self, manifest: &Manifest) -> impl Iterator<Item = Identity> {
        let device = self.edge_device().clone();
        manifest.modules.keys().map(move |name| Identity::module(device.clone(), name.clone()))
    }

    /// The twins that there are already.
    async fn present_twins(
        &self,
        manifest: &Manifest,
    ) -> Result<BTreeMap<Identity, Twin>, ConfigurationError> {
        let mut known = BTreeMap::new();
        for identity in self.targets(manifest) {
            let twin = match self.has_twin(&identity) {
                true => self.twins().get(self, &identity).await?,
                false => Twin::default(),
            };
            known.insert(identity, twin);
        }
        Ok(known)
    }

    /// What is to be committed, or everything that is wrong.
    async fn plan(
        &self,
        manifest: &Manifest,
        twins: &BTreeMap<Identity, Twin>,
    ) -> Result<(Plan, Option<Checked>), ConfigurationError> {
        let (mut plan, mut checked, mut faults) = (Plan::default(), None, Vec::new());
        for (identity, wanted) in self.targets(manifest).zip(manifest.modules.values()) {
            let name = identity.module.as_ref().map_or("", ModuleId::as_str);
            let pointer = below("/modulesContent", name);
            if manifest.is_component(name) && !self.has_twin(&identity) {
                let message = "this Wasm module is not installed, so it has no twin".to_owned();
                faults.push(Fault { pointer: pointer.clone(), message });
            }
            let pointer = below(&pointer, DESIRED);
            let desired = wanted.over(&twins[&identity].desired.value);
            match change(&desired, &pointer) {
                Ok(change) => plan.changes.push((identity.clone(), change)),
                Err(fault) => faults.push(fault),
            }
            if name == HUB {
                match self.check(&desired, &pointer).await {
                    Ok(mut own) => {
                        plan.writes = std::mem::take(&mut own.routes.writes);
                        checked = Some(own);
                    }
                    Err(ConfigurationError::Refused(more)) => faults.extend(more),
                    Err(error) => return Err(error),
                }
            }
        }
        match faults.is_empty() {
            true => Ok((plan, checked)),
            false => Err(ConfigurationError::Refused(faults)),
        }
    }

    /// Checks the desired properties of `$edgeHub`, under the routes' lock.
    async fn check(
        &self,
        desired: &Map<String, Value>,
        pointer: &str,
    ) -> Result<Checked, ConfigurationError> {
        let config = HubConfig::parse(&Value::Object(desired.clone())).map_err(|error| {
            let faults = error.faults.into_iter().map(|fault| Fault {
                pointer: format!("{pointer}{}", fault.pointer),
                message: fault.kind.to_string(),
            });
            ConfigurationError::Refused(faults.collect())
        })?;
        for warning in &config.warnings {
            tracing::warn!(at = warning.pointer, what = warning.message, "a manifest's route");
        }
        let (mut specs, mut faults) = (RouteSpecs::new(), Vec::new());
        for named in config.table.routes() {
            let priority = Some(named.priority).filter(|given| *given != Priority::DEFAULT);
            let spec = RouteSpec {
                route: named.route.text().to_owned(),
                priority: priority.map(Priority::get),
                time_to_live_secs: named.time_to_live.map(|time| time.as_secs()),
            };
            match named.name.parse() {
                Ok(name) => drop(specs.insert(name, spec)),
                Err(error) => {
                    let pointer = below(&format!("{pointer}/routes"), &named.name);
                    faults.push(Fault { pointer, message: format!("{error}") });
                }
            }
        }
        if !faults.is_empty() {
            return Err(ConfigurationError::Refused(faults));
        }
        let routes = self.routes().plan_all(self, specs).await;
        let routes = routes.map_err(|error| match error {
            RouteError::Store(_) => ConfigurationError::Routes(error),
            error => {
                let pointer = format!("{pointer}/routes");
                ConfigurationError::Refused(vec![Fault { pointer, message: error.to_string() }])
            }
        })?;
        Ok(Checked { settings: StoreAndForward::of(&config), routes })
    }

    /// Makes the identities that containers need; gives those that were made.
    async fn make_identities(
        &self,
        manifest: &Manifest,
    ) -> Result<Vec<Identity>, ConfigurationError> {
        let device = self.edge_device();
        let named = manifest.modules.keys().filter(|name| !manifest.is_component(name.as_str()));
        let needed: BTreeSet<&ModuleId> = named.chain(&manifest.containers).collect();
        let mut made = Vec::new();
        for name in needed {
            let identity = Identity::module(device.clone(), name.clone());
            if self.has_twin(&identity) {
                continue;
            }
            let managed_by = Some("iotEdge".to_owned());
            let notes = Some(Notes { managed_by, ..Notes::default() });
            let spec = IdentitySpec { notes, ..IdentitySpec::default() };
            match self.identities().put(self, identity.clone(), spec, Expect::Absent).await {
                Ok(_) => made.push(identity),
                // Somebody else made it in this moment.
                Err(IdentityError::Mismatch { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(made)
    }
}

/// A replacement of the desired properties.
fn change(desired: &Map<String, Value>, pointer: &str) -> Result<TwinChange, Fault> {
    let json = serde_json::to_vec(desired).expect("an object with text keys");
    let patch = Patch::parse(Section::Desired, &json).map_err(|problem| Fault {
        pointer: format!("{pointer}{}", problem.pointer),
        message: problem.problem.to_string(),
    })?;
    Ok(TwinChange { mode: Mode::Replace, desired: Some(patch), tags: None })
}

/// Runs a change to its end even if the one who asked for it is gone.
async fn in_task<T, F>(
    hub: &Hub,
    work: impl FnOnce(Hub) -> F + Send + 'static,
) -> Result<T, ConfigurationError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ConfigurationError>> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let own = hub.clone();
    hub.tasks().spawn(TaskKind::PerClient, "configuration", |_| async move {
        drop(reply.send(work(own).await));
    });
    answer.await.unwrap_or(Err(ConfigurationError::Unanswered))
}
