//! Twins on disk: documents, each written with the change that it is about.
//!
//! | kind | key | what |
//! | --- | --- | --- |
//! | `twin` | the identity | desired properties and tags: the operator writes them |
//! | `twin-reported` | the identity | reported properties: the client writes them |
//! | `twin-history` | `device/module/section/version` | the change that led to a version, and back |
//! | `twin-known` | the identity | the desired version that the client was given last |
//!
//! A twin that nobody has written to has no document. Reported properties stand alone, so that a module
//! may be several reports ahead of the commit without the operator's changes waiting for it.

use super::TwinError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::VecDeque;
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::twin::{Patch, Properties, Section, Twin};
use weir_store::{Document, Expect, Store, Write};

const TWIN: &str = "twin";
const REPORTED: &str = "twin-reported";
const HISTORY: &str = "twin-history";
const KNOWN: &str = "twin-known";

/// A section and which of its changes are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) now: Arc<Properties>,
    /// Bytes of the rows of its history, oldest first; the newest is the row of the present version.
    rows: VecDeque<u32>,
}

/// What the operator writes.
#[derive(Default, Serialize, Deserialize)]
struct Operated {
    desired: Kept,
    tags: Kept,
}

/// The desired version that a client was given last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) version: u64,
    /// What the section said then, once the history does not reach back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) base: Option<Arc<Map<String, Value>>>,
}

/// A row of the history: how the version before it became the one it is kept under.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) at: Timestamp,
    pub(super) by: String,
    pub(super) patch: Patch,
    /// The way back.
    pub(super) undo: Patch,
}

/// Everything that is known of one twin.
#[derive(Debug, Clone, Default)]
pub(super) struct Loaded {
    pub(super) desired: Kept,
    pub(super) tags: Kept,
    pub(super) reported: Kept,
    /// What a module has reported and the store has not committed yet.
    pub(super) ahead: Option<Kept>,
    pub(super) known: Option<Known>,
    /// Length of the documents of what the operator and of what the client writes.
    pub(super) operated_bytes: usize,
    pub(super) reported_bytes: usize,
}

impl Loaded {
    pub(super) fn bytes(&self) -> u64 {
        (self.operated_bytes + self.reported_bytes) as u64
    }

    pub(super) fn twin(&self) -> Twin {
        Twin {
            desired: Arc::clone(&self.desired.now),
            reported: Arc::clone(&self.reported.now),
            tags: Arc::clone(&self.tags.now),
        }
    }

    pub(super) fn section(&self, section: Section) -> &Kept {
        match section {
            Section::Desired => &self.desired,
            Section::Reported => &self.reported,
            Section::Tags => &self.tags,
        }
    }
}

impl Kept {
    /// The oldest version whose row is kept; one more than the present one when there is none.
    pub(super) fn oldest_row(&self) -> u64 {
        self.now.version + 1 - self.rows.len() as u64
    }

    /// The section after a change, and the writes of its history.
    pub(super) fn after(
        &self,
        of: &Identity,
        section: Section,
        next: Properties,
        row: &Row,
    ) -> (Self, Vec<Write>) {
        let body = json(row);
        let mut rows = self.rows.clone();
        rows.push_back(u32::try_from(body.len()).unwrap_or(u32::MAX));
        let mut writes = vec![write(HISTORY, row_key(of, section, next.version), Some(body))];
        let mut oldest = self.oldest_row();
        let bytes = |rows: &VecDeque<u32>| rows.iter().map(|bytes| u64::from(*bytes)).sum::<u64>();
        while rows.len() > 1
            && (rows.len() > limits::TWIN_VERSIONS || bytes(&rows) > limits::TWIN_HISTORY_BYTES)
        {
            rows.pop_front();
            writes.push(write(HISTORY, row_key(of, section, oldest), None));
            oldest += 1;
        }
        (Self { now: Arc::new(next), rows }, writes)
    }
}

fn row_key(of: &Identity, section: Section, version: u64) -> String {
    format!("{}{version:020}", rows_of(of, section))
}

/// Names have no `/`, so a device's rows never look like those of a module.
fn all_rows_of(of: &Identity) -> String {
    let module = of.module.as_ref().map_or("", |module| module.as_str());
    format!("{}/{module}/", of.device)
}

fn rows_of(of: &Identity, section: Section) -> String {
    format!("{}{section}/", all_rows_of(of))
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("documents have only text keys")
}

fn write(kind: &'static str, key: String, body: Option<String>) -> Write {
    Write { kind, key, body, expect: Expect::Any }
}

fn read<T: for<'de> Deserialize<'de>>(document: &Document) -> Result<T, TwinError> {
    serde_json::from_str(&document.body).map_err(|error| {
        tracing::error!(key = document.key, %error, "a stored twin cannot be read");
        TwinError::Damaged
    })
}

/// Everything the store has of a twin.
pub(super) async fn load(store: &Store, of: &Identity) -> Result<Loaded, TwinError> {
    let key = of.to_string();
    let operated = store.document(TWIN, &key).await?;
    let reported = store.document(REPORTED, &key).await?;
    let known = store.document(KNOWN, &key).await?;
    let Operated { desired, tags } = operated.as_ref().map(read).transpose()?.unwrap_or_default();
    let length = |document: &Option<Document>| document.as_ref().map_or(0, |d| d.body.len());
    Ok(Loaded {
        operated_bytes: length(&operated),
        reported_bytes: length(&reported),
        desired,
        tags,
        reported: reported.as_ref().map(read).transpose()?.unwrap_or_default(),
        ahead: None,
        known: known.as_ref().map(read).transpose()?,
    })
}

pub(super) fn write_operated(of: &Identity, desired: &Kept, tags: &Kept) -> Write {
    let body = Operated { desired: desired.clone(), tags: tags.clone() };
    write(TWIN, of.to_string(), Some(json(&body)))
}

pub(super) fn write_reported(of: &Identity, reported: &Kept) -> Write {
    write(REPORTED, of.to_string(), Some(json(reported)))
}

pub(super) fn write_known(of: &Identity, known: &Known) -> Write {
    write(KNOWN, of.to_string(), Some(json(known)))
}

/// Deletes everything of a twin.
pub(super) async fn deletions(
    store: &Store,
    of: &Identity,
) -> Result<Vec<Write>, weir_store::Error> {
    let key = of.to_string();
    let mut writes: Vec<Write> =
        [TWIN, REPORTED, KNOWN].map(|kind| write(kind, key.clone(), None)).into();
    let all = limits::TWIN_VERSIONS * Section::ALL.len() + 1;
    let rows = store.documents(HISTORY, &all_rows_of(of), None, all).await?;
    writes.extend(rows.into_iter().map(|row| write(HISTORY, row.key, None)));
    Ok(writes)
}

/// Rows of a section behind `after`, oldest first, with the versions that they led to.
pub(super) async fn rows(
    store: &Store,
    of: &Identity,
    section: Section,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Row)>, TwinError> {
    let (prefix, after) = (rows_of(of, section), row_key(of, section, after));
    let documents = store.documents(HISTORY, &prefix, Some(&after), limit).await?;
    let number = |key: &str| key[prefix.len()..].parse().map_err(|_| TwinError::Damaged);
    documents.iter().map(|row| Ok((number(&row.key)?, read(row)?))).collect()
}

/// What a section said at a version.
pub(super) async fn value_at(
    store: &Store,
    of: &Identity,
    section: Section,
    kept: &Kept,
    version: u64,
) -> Result<Map<String, Value>, TwinError> {
    if version > kept.now.version || version + 1 < kept.oldest_row() {
        return Err(TwinError::NoVersion { section, version });
    }
    let mut value = kept.now.value.clone();
    if version < kept.now.version {
        let rows = rows(store, of, section, version, limits::TWIN_VERSIONS).await?;
        let wanted = version + 1..=kept.now.version;
        if !rows.iter().map(|(version, _)| *version).eq(wanted) {
            return Err(TwinError::Damaged);
        }
        for (_, row) in rows.iter().rev() {
            weir_core::twin::merge(&mut value, row.undo.as_map());
        }
    }
    Ok(value)
}
