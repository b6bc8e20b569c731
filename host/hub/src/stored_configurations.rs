//! IoT Hub's configurations at scale, kept and shown: what a back end writes under `/configurations`.
//!
//! Their target conditions are not evaluated and nothing is applied: one hub has one edge device, and
//! [`crate::configuration`] applies a manifest to it directly.

use crate::Hub;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use weir_core::clock::Timestamp;
use weir_core::limits;
use weir_store::{Document, Expect, Write, WriteError};

const KIND: &str = "configuration";

/// A configuration as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredConfiguration {
    /// Its id: 1 to 128 characters of IoT Hub's alphabet.
    pub id: String,
    /// What the back end wrote: content, labels, priority, target condition, metrics.
    pub body: Map<String, Value>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
    /// For `If-Match`.
    #[serde(skip)]
    pub revision: u64,
}

/// Why a configuration was not kept.
#[derive(Debug, thiserror::Error)]
pub enum StoredConfigurationError {
    /// There is none of this id.
    #[error("there is no configuration {0}")]
    Unknown(String),
    /// The id is outside of its alphabet or length.
    #[error("the id of a configuration is 1 to 128 of a-z 0-9 - + % _ * ! '")]
    Id,
    /// Too many.
    #[error("a hub keeps at most {} configurations", limits::CONFIGURATIONS)]
    TooMany,
    /// It is not of the version that was expected.
    #[error("configuration {0} was changed in the meantime")]
    Mismatch(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl Hub {
    /// One configuration.
    ///
    /// # Errors
    /// [`StoredConfigurationError`].
    pub async fn stored_configuration(
        &self,
        id: &str,
    ) -> Result<StoredConfiguration, StoredConfigurationError> {
        let document = self.store().document(KIND, id).await?;
        let found = document.as_ref().and_then(read);
        found.ok_or_else(|| StoredConfigurationError::Unknown(id.to_owned()))
    }

    /// The first configurations, in order of ids.
    ///
    /// # Errors
    /// [`StoredConfigurationError`].
    pub async fn stored_configurations(
        &self,
        limit: usize,
    ) -> Result<Vec<StoredConfiguration>, StoredConfigurationError> {
        let documents = self.store().documents(KIND, "", None, limit).await?;
        Ok(documents.iter().filter_map(read).collect())
    }

    /// Makes or replaces a configuration. True when it is new.
    ///
    /// # Errors
    /// [`StoredConfigurationError`]; nothing has changed then.
    pub async fn store_configuration(
        &self,
        id: &str,
        body: Map<String, Value>,
        expect: Expect,
    ) -> Result<(StoredConfiguration, bool), StoredConfigurationError> {
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(is_id_character) {
            return Err(StoredConfigurationError::Id);
        }
        let present = self.store().document(KIND, id).await?;
        let present = present.as_ref().and_then(read);
        if present.is_none() {
            let all = self.store().documents(KIND, "", None, limits::CONFIGURATIONS).await?;
            if all.len() >= limits::CONFIGURATIONS {
                return Err(StoredConfigurationError::TooMany);
            }
        }
        let now = self.clock().now();
        let created = present.as_ref().map_or(now, |present| present.created);
        let mut made =
            StoredConfiguration { id: id.to_owned(), body, created, updated: now, revision: 0 };
        let text = serde_json::to_string(&made).expect("texts and JSON");
        made.revision = self.write_configuration(id, Some(text), expect).await?;
        Ok((made, present.is_none()))
    }

    /// Deletes a configuration.
    ///
    /// # Errors
    /// [`StoredConfigurationError`]; nothing has changed then.
    pub async fn delete_configuration(
        &self,
        id: &str,
        expect: Expect,
    ) -> Result<(), StoredConfigurationError> {
        self.stored_configuration(id).await?;
        self.write_configuration(id, None, expect).await.map(drop)
    }

    async fn write_configuration(
        &self,
        id: &str,
        body: Option<String>,
        expect: Expect,
    ) -> Result<u64, StoredConfigurationError> {
        let write = Write { kind: KIND, key: id.to_owned(), body, expect };
        match self.store().write(vec![write]).await {
            Ok(revisions) => Ok(revisions[0]),
            Err(WriteError::Mismatch { .. }) => {
                Err(StoredConfigurationError::Mismatch(id.to_owned()))
            }
            Err(WriteError::Store(cause)) => Err(cause.into()),
        }
    }
}

/// Longest id (IoT Hub's limit).
const MAX_ID: usize = 128;

fn is_id_character(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-+%_*!'".contains(&byte)
}

fn read(document: &Document) -> Option<StoredConfiguration> {
    let read: StoredConfiguration = serde_json::from_str(&document.body)
        .inspect_err(|_| tracing::error!(key = document.key, "a configuration cannot be read"))
        .ok()?;
    Some(StoredConfiguration { revision: document.revision, ..read })
}
