//! Work that outlives the request that began it.
//!
//! An operation is written when it begins to be waited for and when it ends, so that whoever asks
//! after a restart learns what became of it. The last [`weir_core::limits::OPERATIONS`] are kept.

use crate::Hub;
use serde::{Deserialize, Serialize};
use weir_core::clock::Timestamp;
use weir_core::error_code::ErrorCode;
use weir_core::limits;
use weir_store::{Document, Expect, Write, WriteError};

const KIND: &str = "operation";

/// How it stands with an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Progress {
    /// It goes on.
    Running,
    /// It did what was asked.
    Succeeded {
        /// In a few words.
        result: String,
    },
    /// It did not.
    Failed {
        /// For machines.
        code: ErrorCode,
        /// For people.
        detail: String,
    },
}

/// Work that outlives its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Grows.
    pub id: String,
    /// `swap`.
    pub kind: String,
    /// What it works on: a path of the API.
    pub target: String,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How it stands.
    #[serde(flatten)]
    pub progress: Progress,
}

/// The operations that are kept.
#[derive(Debug, Default)]
pub struct Operations(tokio::sync::Mutex<()>);

impl Operations {
    /// What a stop of the hub has cut off is over.
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        for document in hub.store().documents(KIND, "", None, limits::OPERATIONS).await? {
            if let Some(operation) = read(&document)
                && operation.progress == Progress::Running
            {
                let detail = "the hub stopped meanwhile; look at the target".to_owned();
                let code = ErrorCode::NotReady;
                self.end(hub, operation, Progress::Failed { code, detail }).await?;
            }
        }
        Ok(())
    }

    /// Writes a running operation down.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(
        &self,
        hub: &Hub,
        kind: &str,
        target: String,
        began: Timestamp,
    ) -> Result<Operation, weir_store::Error> {
        let _one = self.0.lock().await;
        let all = hub.store().documents(KIND, "", None, limits::OPERATIONS + 1).await?;
        let last = all.last().and_then(|document| u64::from_str_radix(&document.key, 16).ok());
        let id = format!("{:012x}", last.unwrap_or(0) + 1);
        let progress = Progress::Running;
        let operation =
            Operation { id, kind: kind.to_owned(), target, began, ended: None, progress };
        let mut writes = vec![row(&operation)];
        let surplus = (all.len() + 1).saturating_sub(limits::OPERATIONS);
        for old in all.into_iter().take(surplus) {
            writes.push(Write { kind: KIND, key: old.key, body: None, expect: Expect::Any });
        }
        write(hub, writes).await?;
        Ok(operation)
    }

    /// Writes down how an operation ended.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(
        &self,
        hub: &Hub,
        operation: Operation,
        progress: Progress,
    ) -> Result<(), weir_store::Error> {
        let operation = Operation { ended: Some(hub.clock().now()), progress, ..operation };
        write(hub, vec![row(&operation)]).await
    }

    /// One operation.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn get(&self, hub: &Hub, id: &str) -> Result<Option<Operation>, weir_store::Error> {
        Ok(hub.store().document(KIND, id).await?.as_ref().and_then(read))
    }

    /// Operations after `after`, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        hub: &Hub,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Operation>, weir_store::Error> {
        let documents = hub.store().documents(KIND, "", after, limit).await?;
        Ok(documents.iter().filter_map(read).collect())
    }
}

fn row(operation: &Operation) -> Write {
    let body = Some(serde_json::to_string(operation).expect("an operation has only text keys"));
    Write { kind: KIND, key: operation.id.clone(), body, expect: Expect::Any }
}

async fn write(hub: &Hub, writes: Vec<Write>) -> Result<(), weir_store::Error> {
    match hub.store().write(writes).await {
        Ok(_) => Ok(()),
        Err(WriteError::Store(cause)) => Err(cause),
        Err(WriteError::Mismatch { .. }) => unreachable!("anything was expected"),
    }
}

fn read(document: &Document) -> Option<Operation> {
    serde_json::from_str(&document.body).ok()
}
