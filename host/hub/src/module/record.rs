//! What the store knows of modules: the version in force, the one before it while there is a trial,
//! and the history.

use super::version::Version;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::module::ModuleSpec;
use weir_store::{Document, Expect, Store, Write, WriteError};

const MODULE: &str = "module";
const VERSION: &str = "module-version";
/// Versions kept, the newest one included.
const HISTORY: u32 = weir_core::limits::MODULE_VERSIONS;

/// The module's row: which version is in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModuleRow {
    /// The version in force.
    pub(crate) version: u32,
    /// The version to go back to while the one in force is on probation.
    pub(crate) previous: Option<u32>,
    /// The highest number that was ever given.
    pub(crate) newest: u32,
}

/// What became of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Fortune {
    /// It is or was in force.
    Installed,
    /// It failed and the one before it came back.
    Returned {
        /// How it failed.
        why: String,
    },
}

/// One version in a module's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRow {
    /// Its number.
    pub number: u32,
    /// When it was installed.
    pub at: Timestamp,
    /// What became of it.
    pub fortune: Fortune,
    /// What it is.
    pub spec: Arc<ModuleSpec>,
}

fn version_key(name: &str, number: u32) -> String {
    format!("{name}/{number:010}")
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("rows have only text keys")
}

/// Records that `version` takes over at a time, with what it begins with; all of it in one transaction:
/// this is the switch.
pub(crate) async fn install(
    store: &Store,
    name: &str,
    version: &Version,
    previous: Option<u32>,
    (at, with): (Timestamp, Vec<Write>),
    expect: Expect,
) -> Result<u64, WriteError> {
    let row = ModuleRow { version: version.number, previous, newest: version.number };
    let history = VersionRow {
        number: version.number,
        at,
        fortune: Fortune::Installed,
        spec: Arc::clone(&version.spec),
    };
    let mut writes = vec![
        Write { kind: MODULE, key: name.to_owned(), body: Some(json(&row)), expect },
        Write {
            kind: VERSION,
            key: version_key(name, version.number),
            body: Some(json(&history)),
            expect: Expect::Any,
        },
    ];
    // However many newer ones have failed, the one to go back to stays.
    let oldest = version.number.checked_sub(HISTORY).filter(|number| previous != Some(*number));
    writes.extend(oldest.map(|number| Write {
        kind: VERSION,
        key: version_key(name, number),
        body: None,
        expect: Expect::Any,
    }));
    writes.extend(with);
    Ok(store.write(writes).await?[0])
}

/// Records the return to an older version.
pub(crate) async fn go_back(
    store: &Store,
    name: &str,
    failed: &Version,
    to: u32,
    why: &str,
    at: Timestamp,
) -> Result<(), WriteError> {
    let row = ModuleRow { version: to, previous: None, newest: failed.number };
    let history = VersionRow {
        number: failed.number,
        at,
        fortune: Fortune::Returned { why: why.to_owned() },
        spec: Arc::clone(&failed.spec),
    };
    let writes = vec![
        Write {
            kind: MODULE,
            key: name.to_owned(),
            body: Some(json(&row)),
            expect: Expect::Present,
        },
        Write {
            kind: VERSION,
            key: version_key(name, failed.number),
            body: Some(json(&history)),
            expect: Expect::Any,
        },
    ];
    store.write(writes).await.map(drop)
}

/// Records that a version has passed its trial.
pub(crate) async fn pass(store: &Store, name: &str, version: u32) -> Result<(), WriteError> {
    let row = ModuleRow { version, previous: None, newest: version };
    let write = Write {
        kind: MODULE,
        key: name.to_owned(),
        body: Some(json(&row)),
        expect: Expect::Present,
    };
    store.write(vec![write]).await.map(drop)
}

/// Deletes a module's row and history.
pub(crate) async fn delete(store: &Store, name: &str, expect: Expect) -> Result<(), WriteError> {
    let mut writes = vec![Write { kind: MODULE, key: name.to_owned(), body: None, expect }];
    for version in history(store, name).await? {
        let key = version_key(name, version.number);
        writes.push(Write { kind: VERSION, key, body: None, expect: Expect::Any });
    }
    writes.extend(super::desired::deletions(store, name, &[]).await?);
    store.write(writes).await.map(drop)
}

/// A module's row, with its revision.
pub(crate) async fn find(
    store: &Store,
    name: &str,
) -> Result<Option<(ModuleRow, u64)>, weir_store::Error> {
    let document = store.document(MODULE, name).await?;
    Ok(document.and_then(|document| Some((read(&document)?, document.revision))))
}

/// All modules, in order of names.
pub(crate) async fn all(store: &Store) -> Result<Vec<(String, ModuleRow)>, weir_store::Error> {
    let documents = store.documents(MODULE, "", None, weir_core::limits::MODULES).await?;
    Ok(documents
        .into_iter()
        .filter_map(|document| Some((document.key.clone(), read(&document)?)))
        .collect())
}

/// A module's versions, oldest first.
pub(crate) async fn history(
    store: &Store,
    name: &str,
) -> Result<Vec<VersionRow>, weir_store::Error> {
    let prefix = format!("{name}/");
    let documents = store.documents(VERSION, &prefix, None, weir_core::limits::PAGE_ITEMS).await?;
    Ok(documents.iter().filter_map(read).collect())
}

/// One version of a module.
pub(crate) async fn version(
    store: &Store,
    name: &str,
    number: u32,
) -> Result<Option<Version>, weir_store::Error> {
    let document = store.document(VERSION, &version_key(name, number)).await?;
    let row: Option<VersionRow> = document.as_ref().and_then(read);
    Ok(row.map(|row| Version { number: row.number, spec: row.spec }))
}

fn read<T: for<'de> Deserialize<'de>>(document: &Document) -> Option<T> {
    serde_json::from_str(&document.body)
        .inspect_err(|cause| {
            tracing::error!(key = document.key, error = %cause, "a stored module cannot be read");
        })
        .ok()
}
