//! Reports: what clients and modules say of themselves.
//!
//! A connected client's report is committed before it is answered, one after the other. A Wasm module
//! may be several batches ahead of the commit: each report is planned on top of the one before
//! ([`Twins::plan_report`]), goes into the batch's change, and is put in force when that is on disk.

use super::record::{self, Kept, Loaded};
use super::{Step, TwinError, Twins, commit, in_task};
use crate::Hub;
use crate::events::Topic;
use weir_core::id::{Identity, MessageId};
use weir_core::message::Message;
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_core::twin::{Patch, Section};
use weir_store::{Append, Change, Write};

/// A report that waits to be committed with other things.
#[derive(Debug)]
#[must_use = "a report is in force when it is committed and PlannedReport::committed was called"]
pub struct PlannedReport {
    /// The twin and its history: for [`Change::documents`].
    pub documents: Vec<Write>,
    /// The notification, if a route wants it: for [`Change::append`], before what follows.
    pub append: Option<Append>,
    /// `$version` of the reported properties after it.
    pub version: u64,
    of: Identity,
    after: Kept,
    bytes: usize,
    /// Number of the notification.
    message: Option<MessageId>,
}

impl PlannedReport {
    /// The change that holds it is on disk. Reports of one twin are told in order.
    pub async fn committed(self, hub: &Hub) {
        if let Some(id) = self.message {
            hub.explanations().accept(id.0..id.0 + 1);
        }
        let cell = hub.twins().cell(&self.of);
        told(hub, &self.of, self.version);
        // The identity may be gone meanwhile.
        let Ok(mut held) = cell.hold(hub, &self.of).await else { return };
        let loaded = held.loaded();
        if loaded.ahead.as_ref().is_some_and(|ahead| ahead.now.version <= self.version) {
            loaded.ahead = None;
        }
        if loaded.reported.now.version < self.version {
            loaded.reported = self.after;
            loaded.reported_bytes = self.bytes;
        }
    }
}

impl Twins {
    /// A connected client's report; resolves after the commit with `$version`.
    ///
    /// # Errors
    /// [`TwinError`].
    pub async fn report(&self, hub: &Hub, of: &Identity, patch: Patch) -> Result<u64, TwinError> {
        let of = of.clone();
        in_task(hub, move |hub| async move {
            let cell = hub.twins().cell(&of);
            let mut held = cell.hold(&hub, &of).await?;
            let plan = plan(&hub, &of, held.loaded(), &patch)?;
            let PlannedReport { documents, append, version, after, bytes, message, .. } = plan;
            let append = append.into_iter().collect();
            let change = Change { documents, append, ..Change::default() };
            if let Err(error) = commit(&hub, change).await {
                message.inspect(|id| hub.explanations().forget(*id));
                return Err(error);
            }
            if let Some(id) = message {
                hub.explanations().accept(id.0..id.0 + 1);
            }
            let loaded = held.loaded();
            loaded.reported = after;
            loaded.reported_bytes = bytes;
            loaded.ahead = None;
            hub.count_report(&of);
            told(&hub, &of, version);
            Ok(version)
        })
        .await
    }

    /// Plans a module's report on top of those that are planned already. Then, in this order: its parts
    /// go into the change of the batch, the change is submitted on the module's chain, and after the
    /// commit [`PlannedReport::committed`] is called; or, when the store refused it,
    /// [`Twins::undo_plans`].
    ///
    /// # Errors
    /// [`TwinError`]; nothing is planned then.
    pub async fn plan_report(
        &self,
        hub: &Hub,
        of: &Identity,
        patch: &Patch,
    ) -> Result<PlannedReport, TwinError> {
        let cell = self.cell(of);
        let mut held = cell.hold(hub, of).await?;
        let plan = plan(hub, of, held.loaded(), patch)?;
        held.loaded().ahead = Some(plan.after.clone());
        hub.count_report(of);
        Ok(plan)
    }

    /// Forgets all plans of a module that are not committed: its chain is broken.
    pub async fn undo_plans(&self, hub: &Hub, of: &Identity) {
        let cell = self.cell(of);
        if let Ok(mut held) = cell.hold(hub, of).await {
            held.loaded().ahead = None;
        }
    }
}

fn told(hub: &Hub, of: &Identity, version: u64) {
    hub.tell(Topic::Twin, "reported", of, serde_json::json!({ "reported": version }));
}

fn plan(
    hub: &Hub,
    of: &Identity,
    loaded: &Loaded,
    patch: &Patch,
) -> Result<PlannedReport, TwinError> {
    let now = hub.clock().now();
    let kept = loaded.ahead.as_ref().unwrap_or(&loaded.reported);
    let next = kept.now.merged(Section::Reported, patch, now)?;
    let version = next.version;
    let mut documents = Vec::new();
    let step = Step { section: Section::Reported, next, patch: patch.clone() };
    let after = step.record(of, kept, now, &of.to_string(), &mut documents);
    let write = record::write_reported(of, &after);
    let bytes = write.body.as_ref().map_or(0, String::len);
    documents.push(write);
    let append = notification(hub, of, patch);
    let message = append.as_ref().map(|append| append.message.id());
    Ok(PlannedReport { documents, append, version, of: of.clone(), after, bytes, message })
}

/// The message that tells of a report, when a route wants it. Its body is the patch.
fn notification(hub: &Hub, of: &Identity, patch: &Patch) -> Option<Append> {
    let mut properties = PropertiesBuilder::default();
    for (property, value) in [
        (SystemProperty::MessageType, "twinChangeNotification"),
        (SystemProperty::MessageSchema, "twinChangeNotification"),
        // So that routes can look into the body.
        (SystemProperty::ContentType, "application/json"),
        (SystemProperty::ContentEncoding, "utf-8"),
    ] {
        properties.push(Key::System(property), Some(value)).expect("these few are small");
    }
    let body = patch.to_json().into();
    let message = Message { body, properties: properties.build(), output: None };
    hub.route_twin_change(message.stamp_twin_change(of, hub.number(), hub.clock().now()))
}
