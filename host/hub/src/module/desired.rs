//! Desired properties of a module: offering those that are new, and remembering which are in force.
//!
//! Used by the runner between two batches. Invariants:
//!
//! 1. A version with a `twin-handler` is never run with desired properties that it has not taken, in `init`
//!    or in the handler; what it refused, or failed on, is noted in the reported properties and offered
//!    again when the operator changes them, or to another version.
//! 2. What is in force is on disk under the number of the module's version, in the same commit as what the
//!    handler did: a restart, a swap and a return go on with it.
//! 3. A version without the handler is not asked; it reads what the operator wants.

use super::CounterView;
use super::runner::Runner;
use super::version::Version;
use crate::Hub;
use crate::sync::lock;
use crate::tasks::TaskKind;
use crate::twins::TwinError;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tracing::{error, info, warn};
use weir_core::id::Identity;
use weir_core::module_twin::{InForce, ModuleTwin};
use weir_core::port::{Answer, Called, Fault, Instance};
use weir_core::twin::Twin;
use weir_store::{Expect, Store, Write};

const KIND: &str = "module-desired";
/// The export by which a component is asked about desired properties.
const HANDLER: &str = "weir:module/twin-handler@";

/// What is kept for a version of a module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What it has taken.
    in_force: Arc<InForce>,
    /// The version of the desired properties that it has not.
    refused: Option<u64>,
}

/// What a module has to do with its desired properties.
#[derive(Debug, Default)]
pub(super) struct Desired {
    /// The version of them that the module has refused.
    refused: Option<u64>,
    /// The version on which it failed last, and how often.
    failed: Option<(u64, u32)>,
    /// They are to be looked at although nobody has said that they changed.
    pub(super) due: bool,
}

impl Desired {
    /// Of a version that has refused nothing yet.
    pub(super) fn of_new_version() -> Self {
        Self { due: true, ..Self::default() }
    }
}

fn key(module: &str, version: u32) -> String {
    format!("{module}/{version:010}")
}

fn write(module: &str, version: u32, kept: &Kept) -> Write {
    let body = serde_json::to_string(kept).expect("only text keys");
    Write { kind: KIND, key: key(module, version), body: Some(body), expect: Expect::Any }
}

/// What is in force for an instance that has started with this twin, if it is to be kept.
pub(super) fn of(instance: &dyn Instance, twin: &Mutex<ModuleTwin>) -> Option<Arc<InForce>> {
    instance.handlers().desired.then(|| Arc::clone(lock(twin).in_force()))
}

/// What is written when a version begins; what was kept for those before the one that it may go back to
/// goes.
pub(super) async fn begin(
    store: &Store,
    module: &str,
    version: u32,
    previous: Option<u32>,
    in_force: Option<Arc<InForce>>,
) -> Result<Vec<Write>, weir_store::Error> {
    let stay: Vec<u32> = previous.into_iter().collect();
    let mut writes = deletions(store, module, &stay).await?;
    let first = |in_force| write(module, version, &Kept { in_force, refused: None });
    writes.extend(in_force.map(first));
    Ok(writes)
}

/// What is kept for a version, if it has started before.
async fn find(
    store: &Store,
    module: &str,
    version: u32,
) -> Result<Option<Kept>, weir_store::Error> {
    let document = store.document(KIND, &key(module, version)).await?;
    Ok(document.and_then(|document| {
        serde_json::from_str(&document.body)
            .inspect_err(|cause| error!(module, error = %cause, "what is in force cannot be read"))
            .ok()
    }))
}

/// Deletes what is kept for the versions of a module, but for those named.
pub(super) async fn deletions(
    store: &Store,
    module: &str,
    stay: &[u32],
) -> Result<Vec<Write>, weir_store::Error> {
    let stay: Vec<String> = stay.iter().map(|version| key(module, *version)).collect();
    let limit = weir_core::limits::PAGE_ITEMS;
    let documents = store.documents(KIND, &format!("{module}/"), None, limit).await?;
    let gone = documents.into_iter().filter(|document| !stay.contains(&document.key));
    let deletion = |key| Write { kind: KIND, key, body: None, expect: Expect::Any };
    Ok(gone.map(|document| deletion(document.key)).collect())
}

/// Something comes out whenever the desired properties of a module have changed. A task of its own waits for
/// it, so that reading the twin is never given up for the module's other work.
pub(super) fn news(hub: &Hub, identity: &Identity) -> mpsc::Receiver<()> {
    let (tell, news) = mpsc::channel(1);
    let mut patches = hub.twins().watch(hub, identity);
    hub.tasks().spawn(TaskKind::PerClient, "module-twin", move |stop| async move {
        loop {
            tokio::select! {
                () = stop.draining() => return,
                () = tell.closed() => return,
                _ = patches.next() => {
                    // One that waits already says the same.
                    tell.try_send(()).ok();
                }
            }
        }
    });
    news
}

/// Whether a version is asked about new desired properties.
async fn is_asked(hub: &Hub, version: &Version) -> Result<bool, weir_store::Error> {
    let artifact = hub.artifacts().find(hub, &version.spec.component).await?;
    let exports = artifact.map(|artifact| artifact.facts.exports).unwrap_or_default();
    Ok(exports.iter().any(|export| export.starts_with(HANDLER)))
}

/// The twin with which a version starts that goes on where it was, and what it has refused.
pub(super) async fn load(
    hub: &Hub,
    identity: &Identity,
    version: &Version,
) -> Result<(ModuleTwin, Desired), weir_store::Error> {
    let twin = present(hub, identity).await?.unwrap_or_default();
    let name = identity.module.as_ref().map_or("", |module| module.as_str());
    let kept = match is_asked(hub, version).await? {
        true => find(hub.store(), name, version.number).await?,
        false => None,
    };
    let desired =
        Desired { refused: kept.as_ref().and_then(|kept| kept.refused), ..Desired::default() };
    let in_force = match kept {
        Some(kept) => kept.in_force,
        None => Arc::new(InForce::from(&*twin.desired)),
    };
    Ok((ModuleTwin::new(in_force, twin.reported), desired))
}

/// The twin with which a version starts that is to take the place of another: `live` is the other's.
pub(super) async fn inherit(
    hub: &Hub,
    identity: &Identity,
    version: &Version,
    live: ModuleTwin,
) -> Result<ModuleTwin, weir_store::Error> {
    let mut twin = live;
    if !is_asked(hub, version).await? {
        let present = present(hub, identity).await?.unwrap_or_default();
        twin.put_in_force(Arc::new(InForce::from(&*present.desired)));
    }
    Ok(twin)
}

/// The module's twin on disk; none while nobody knows the module, or when it is damaged.
async fn present(hub: &Hub, identity: &Identity) -> Result<Option<Twin>, weir_store::Error> {
    match hub.twins().get(hub, identity).await {
        Ok(twin) => Ok(Some(twin)),
        Err(TwinError::Store(cause)) => Err(cause),
        Err(TwinError::Unknown(_)) => Ok(None),
        Err(cause) => {
            error!(module = %identity, error = %cause, "the twin could not be read");
            Ok(None)
        }
    }
}

impl Runner {
    /// Reads the twin anew: everything submitted is on disk or undone.
    pub(super) async fn reload_twin(&mut self) -> Result<(), weir_store::Error> {
        let (twin, desired) = load(&self.hub, &self.identity, &self.version).await?;
        *lock(&self.twin) = twin;
        self.desired = Desired { due: true, failed: self.desired.failed, ..desired };
        Ok(())
    }

    /// Brings what is in force to what the operator wants, if the module takes it.
    pub(super) async fn offer_desired(&mut self) {
        self.desired.due = false;
        let Some(instance) = self.instance.clone() else { return };
        let wanted = match present(&self.hub, &self.identity).await {
            Ok(Some(twin)) => Arc::new(InForce::from(&*twin.desired)),
            Ok(None) => return,
            Err(cause) => {
                error!(module = %self.identity, error = %cause, "the desired properties could not be read");
                return;
            }
        };
        let present = Arc::clone(lock(&self.twin).in_force());
        if wanted == present || self.desired.refused == Some(wanted.version) {
            return;
        }
        if !instance.handlers().desired {
            self.take_desired(wanted, Answer::default()).await;
            return;
        }
        match instance.desired_changed(present.change_to(&wanted)).await {
            Ok(Called { answer: Ok(()), effects }) => self.take_desired(wanted, effects).await,
            Ok(Called { answer: Err(why), effects }) => {
                self.refuse_desired(wanted.version, &why, effects).await;
            }
            Err(fault) => self.desired_fault(wanted.version, &fault).await,
        }
    }

    async fn take_desired(&mut self, wanted: Arc<InForce>, mut effects: Answer) {
        let version = wanted.version;
        let note = {
            let mut twin = lock(&self.twin);
            twin.put_in_force(wanted);
            twin.clear_refusal(self.hub.clock().now())
        };
        effects.reports.extend(note);
        self.desired.refused = None;
        self.desired.failed = None;
        info!(module = %self.identity, version, "desired properties are in force");
        self.settle_desired(effects).await;
    }

    async fn refuse_desired(&mut self, version: u64, why: &str, mut effects: Answer) {
        warn!(module = %self.identity, version, reason = why, "desired properties are refused");
        let note = lock(&self.twin).note_refusal(version, why, self.hub.clock().now());
        effects.reports.extend(note);
        self.desired.refused = Some(version);
        self.desired.failed = None;
        self.settle_desired(effects).await;
    }

    /// Hands what happened to the store, with what is in force now.
    async fn settle_desired(&mut self, mut effects: Answer) {
        let in_force = Arc::clone(lock(&self.twin).in_force());
        let kept = Kept { in_force, refused: self.desired.refused };
        let documents = vec![write(self.module_name(), self.version.number, &kept)];
        self.keep_quota(&[], &mut effects);
        let tally = CounterView::of_effects(&effects);
        self.settle_with(Vec::new(), effects, tally, documents, None).await;
    }

    /// The module failed on new desired properties: like a message that it fails on alone, they are
    /// offered so often and then count as refused.
    async fn desired_fault(&mut self, version: u64, fault: &Fault) {
        let before = self.desired.failed.filter(|(failed, _)| *failed == version);
        let times = before.map_or(0, |(_, times)| times) + 1;
        self.desired.failed = Some((version, times));
        if self.call_fault(fault, times == 1).await {
            return;
        }
        if times >= self.version.spec.errors.retry.max_attempts {
            let why = fault.to_string();
            self.refuse_desired(version, &why, Answer::default()).await;
        }
    }
}
