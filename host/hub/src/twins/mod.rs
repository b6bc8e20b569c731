//! Twins: kept, changed, told about.
//!
//! [`Twins`] is the service behind heads, API and modules. A change is one commit in the writer's group:
//! the twin, a row of its history and, for a report, the message that enters the routes as
//! `/twinChangeNotifications`. Invariants:
//!
//! 1. Nobody is answered, and no client told, before the commit.
//! 2. Changes of one twin are in order; those of different twins do not wait for each other.
//! 3. Who has a right to the change decides nothing here: heads pass the proven identity, the API the
//!    operator's name.

mod cell;
mod error;
mod history;
mod record;
mod report;
mod together;
mod watch;

pub use error::TwinError;
pub use history::{HistoryRow, Versions};
pub use report::PlannedReport;
pub(crate) use together::Plan;
pub use watch::DesiredPatches;

use crate::Hub;
use crate::events::Topic;
use crate::tasks::TaskKind;
use cell::{Cell, Cells, Held};
use record::{Kept, Known, Loaded, Row};
use serde_json::{Map, Value, json};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::oneshot;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::twin::{
    DesiredPatch, Etag, Mode, Patch, Properties, Section, Twin, TwinChange, TwinFacts,
};
use weir_store::{Change, CommitError, Committed, Write};

/// Modules of the edge device that have a twin although they never connect: a manifest speaks to them.
const SYSTEM_MODULES: [&str; 2] = ["$edgeAgent", "$edgeHub"];

/// The service.
#[derive(Debug, Default)]
pub struct Twins {
    cells: Cells,
}

impl Twins {
    /// A twin as it is on disk.
    ///
    /// # Errors
    /// [`TwinError::Unknown`], or the store's failures.
    pub async fn get(&self, hub: &Hub, of: &Identity) -> Result<Twin, TwinError> {
        let cell = self.cells.get(of);
        let mut held = cell.hold(hub, of).await?;
        Ok(held.loaded().twin())
    }

    /// A twin in IoT Hub's form, with what stands beside it there.
    #[must_use]
    pub fn view(&self, hub: &Hub, of: &Identity, twin: &Twin) -> Value {
        use weir_core::identity::Status;
        let registered = hub.identities().get(of);
        let facts = TwinFacts {
            identity: of,
            enabled: registered.is_none_or(|found| found.record.status == Status::Enabled),
            connected: hub.is_connected(of),
            is_edge: of.module.is_none() && of.device == *hub.edge_device(),
        };
        twin.service_view(&facts)
    }

    /// An operator's change of desired properties and tags; gives the twin after it. With `expect` only
    /// if the twin still has this tag. `author` is for the history. The desired properties of `$edgeHub`
    /// are the hub's own configuration, and put in force with the change.
    ///
    /// # Errors
    /// [`TwinError`].
    pub async fn change(
        &self,
        hub: &Hub,
        of: &Identity,
        change: TwinChange,
        expect: Option<Etag>,
        author: &str,
    ) -> Result<Twin, TwinError> {
        if change.desired.is_some() && hub.is_hub_twin(of) {
            return hub.configure(change, expect, author).await;
        }
        let (of, author) = (of.clone(), author.to_owned());
        in_task(hub, move |hub| async move {
            let cell = hub.twins().cells.get(&of);
            let mut held = cell.hold(&hub, &of).await?;
            operate(&hub, &mut held, &change, expect, &author).await
        })
        .await
    }

    /// What the client of a twin is given when it asks; the hub remembers which desired version that is.
    pub(crate) async fn give(&self, hub: &Hub, of: &Identity) -> Result<Twin, TwinError> {
        let cell = self.cells.get(of);
        let mut held = cell.hold(hub, of).await?;
        let twin = held.loaded().twin();
        note_known(hub, &mut held, twin.desired.version, &twin.desired.value).await;
        hub.count_twin(of);
        Ok(twin)
    }

    /// Deletes twins with everything that belongs to them: `commit` is given the writes and does what
    /// goes with them. One that is made anew under the same name starts at version 1. The caller lets
    /// nobody else delete one of several twins meanwhile: each would wait for the other.
    pub(crate) async fn delete_with<T, E: From<weir_store::Error>>(
        &self,
        hub: &Hub,
        gone: &[Identity],
        commit: impl AsyncFnOnce(Vec<Write>) -> Result<T, E>,
    ) -> Result<T, E> {
        let cells: Vec<Arc<Cell>> = gone.iter().map(|of| self.cells.get(of)).collect();
        let (mut seized, mut writes) = (Vec::new(), Vec::new());
        for (cell, of) in cells.iter().zip(gone) {
            seized.push(cell.seize().await);
            writes.extend(record::deletions(hub.store(), of).await?);
        }
        let done = commit(writes).await?;
        for (seized, of) in seized.into_iter().zip(gone) {
            seized.deleted(&self.cells, of);
        }
        Ok(done)
    }

    fn cell(&self, of: &Identity) -> Arc<Cell> {
        self.cells.get(of)
    }
}

impl Hub {
    /// Whether a twin belongs to such an identity: one of the registry, a Wasm module, or one of those
    /// that a manifest speaks to.
    pub(crate) fn has_twin(&self, of: &Identity) -> bool {
        let own = |module: &weir_core::id::ModuleId| {
            of.device == *self.edge_device()
                && (self.modules().is_wasm(module) || SYSTEM_MODULES.contains(&module.as_str()))
        };
        self.identities().get(of).is_some() || of.module.as_ref().is_some_and(own)
    }
}

/// Runs a change to its end even if the one who asked for it is gone: memory and disk stay alike.
async fn in_task<T, F>(
    hub: &Hub,
    work: impl FnOnce(Hub) -> F + Send + 'static,
) -> Result<T, TwinError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, TwinError>> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let own = hub.clone();
    hub.tasks().spawn(TaskKind::PerClient, "twin", |_| async move {
        drop(reply.send(work(own).await));
    });
    answer.await.unwrap_or(Err(TwinError::Unanswered))
}

async fn operate(
    hub: &Hub,
    held: &mut Held<'_>,
    change: &TwinChange,
    expect: Option<Etag>,
    author: &str,
) -> Result<Twin, TwinError> {
    let present = held.loaded().twin().etag();
    if expect.is_some_and(|expected| expected != present) {
        return Err(TwinError::Mismatch { present });
    }
    let (prepared, documents) = prepare(hub, held, change, author).await?;
    if !documents.is_empty() {
        commit(hub, Change { documents, ..Change::default() }).await?;
    }
    Ok(prepared.enforce(hub, held))
}

/// A twin after a change that is not on disk yet.
struct Prepared {
    next: Loaded,
    told: Option<DesiredPatch>,
    changed: bool,
}

impl Prepared {
    /// It is on disk now: puts it in force.
    fn enforce(self, hub: &Hub, held: &mut Held<'_>) -> Twin {
        let twin = self.next.twin();
        if self.changed {
            hub.tell(Topic::Twin, "changed", held.of(), versions_of(&twin));
        }
        *held.loaded() = self.next;
        if let Some(patch) = self.told {
            held.desired_changed(patch);
        }
        twin
    }
}

/// The twin after a change, and the documents to be written; none when the change says nothing.
async fn prepare(
    hub: &Hub,
    held: &mut Held<'_>,
    change: &TwinChange,
    author: &str,
) -> Result<(Prepared, Vec<Write>), TwinError> {
    let now = hub.clock().now();
    let mut next = held.loaded().clone();
    let mut documents = Vec::new();
    let mut told = None;
    if let Some(patch) = &change.desired {
        if let Some(step) = Step::of(Section::Desired, &next.desired, patch, change.mode, now)? {
            told = Some(DesiredPatch::new(&step.patch, step.next.version));
            next.desired = step.record(held.of(), &next.desired, now, author, &mut documents);
        }
        documents.extend(keep_base(hub, held, &mut next).await?);
    }
    if let Some(patch) = &change.tags
        && let Some(step) = Step::of(Section::Tags, &next.tags, patch, change.mode, now)?
    {
        next.tags = step.record(held.of(), &next.tags, now, author, &mut documents);
    }
    if !documents.is_empty() {
        let write = record::write_operated(held.of(), &next.desired, &next.tags);
        next.operated_bytes = write.body.as_ref().map_or(0, String::len);
        documents.push(write);
    }
    Ok((Prepared { next, told, changed: !documents.is_empty() }, documents))
}

/// What an event tells of a twin.
fn versions_of(twin: &Twin) -> Value {
    json!({ "etag": twin.etag().to_string(), "desired": twin.desired.version, "tags": twin.tags.version })
}

/// Before the history forgets the way back to what the client knows, that is written down.
async fn keep_base(
    hub: &Hub,
    held: &mut Held<'_>,
    next: &mut Loaded,
) -> Result<Option<Write>, TwinError> {
    let of = held.of().clone();
    let before = &held.loaded().desired;
    let Some(known) = &mut next.known else { return Ok(None) };
    let forgotten = known.version + 1 < next.desired.oldest_row();
    if known.base.is_some() || !forgotten {
        return Ok(None);
    }
    let value = record::value_at(hub.store(), &of, Section::Desired, before, known.version).await;
    known.base = Some(Arc::new(match value {
        Ok(value) => value,
        // The way back is lost already: the client will get everything.
        Err(TwinError::NoVersion { .. } | TwinError::Damaged) => Map::new(),
        Err(error) => return Err(error),
    }));
    Ok(Some(record::write_known(&of, known)))
}

/// One change of one section.
struct Step {
    section: Section,
    next: Properties,
    patch: Patch,
}

impl Step {
    /// None for a patch that says nothing.
    fn of(
        section: Section,
        kept: &Kept,
        patch: &Patch,
        mode: Mode,
        now: Timestamp,
    ) -> Result<Option<Self>, TwinError> {
        let changed = match mode {
            Mode::Merge if patch.is_empty() => return Ok(None),
            Mode::Merge => kept.now.merged(section, patch, now).map(|next| (next, patch.clone())),
            Mode::Replace => kept.now.replaced(section, patch, now),
        };
        // An operator's body holds several sections.
        let pointer = match section {
            Section::Desired => "/properties/desired",
            Section::Reported => "/properties/reported",
            Section::Tags => "/tags",
        };
        let (next, patch) = changed.map_err(|problem| problem.below(pointer))?;
        Ok(Some(Self { section, next, patch }))
    }

    /// The section after it; the writes of its history go to `documents`.
    fn record(
        self,
        of: &Identity,
        kept: &Kept,
        at: Timestamp,
        by: &str,
        documents: &mut Vec<Write>,
    ) -> Kept {
        let undo = Patch::between(&self.next.value, &kept.now.value);
        let row = Row { at, by: by.to_owned(), patch: self.patch, undo };
        let (kept, writes) = kept.after(of, self.section, self.next, &row);
        documents.extend(writes);
        kept
    }
}

async fn commit(hub: &Hub, change: Change) -> Result<Committed, TwinError> {
    hub.store().commit(change).await.map_err(|error| match error {
        CommitError::Full { .. } => TwinError::QueueFull,
        CommitError::Unavailable { .. }
        | CommitError::Broken { .. }
        | CommitError::Mismatch { .. } => TwinError::Unavailable,
    })
}

/// The client knows a desired version, which says `value`. Written down without anyone waiting: after a crash before the
/// commit it is told once more.
async fn note_known(hub: &Hub, held: &mut Held<'_>, version: u64, value: &Map<String, Value>) {
    let of = held.of().clone();
    let forgotten = version + 1 < held.loaded().desired.oldest_row();
    let known = &mut held.loaded().known;
    if known.as_ref().is_some_and(|known| known.version >= version) {
        return;
    }
    let Ok(slot) = hub.store().slot().await else { return };
    let now = Known { version, base: forgotten.then(|| Arc::new(value.clone())) };
    let documents = vec![record::write_known(&of, &now)];
    let change = Change { documents, ..Change::default() };
    drop(slot.commit(change, &hub.store().chain()));
    *known = Some(now);
}
