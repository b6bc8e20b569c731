//! Everything that is kept but is no message: identities, routes, module versions, tokens,
//! subscriptions. Small JSON documents under a kind and a key, each with a revision.
//!
//! One table with one set of rules instead of a table for each: what a document means is the hub's
//! business, that it is on disk, consistent and not overwritten unseen is the store's. Invariants:
//!
//! 1. All writes of one call are committed together or not at all.
//! 2. A revision is given once in the life of the store, also to what was deleted and made again.

use crate::{Error, Store};

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key within the kind.
    pub key: String,
    /// Grows with every write to any document.
    pub revision: u64,
    /// JSON.
    pub body: String,
}

/// What a write expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Anything.
    #[default]
    Any,
    /// Nothing under this key.
    Absent,
    /// Anything but nothing.
    Present,
    /// Exactly this revision.
    Revision(u64),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The kind.
    pub kind: &'static str,
    /// The key.
    pub key: String,
    /// The new body; `None` deletes.
    pub body: Option<String>,
    /// What must be there.
    pub expect: Expect,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A document is not what the writer expected.
    #[error("the document was changed in the meantime")]
    Mismatch {
        /// Which of the writes.
        at: usize,
        /// The present revision, if the document is there.
        present: Option<u64>,
    },
    /// The change could not be committed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Store {
    /// Commits all writes together; gives the revision of each (of a deletion too).
    ///
    /// # Errors
    /// [`WriteError::Mismatch`] names the first write that found something else.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Vec<u64>, WriteError> {
        let _ = writes;
        todo!()
    }

    /// One document.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, Error> {
        let _ = (kind, key);
        todo!()
    }

    /// Documents of a kind whose keys begin with `prefix`, after `after`, in order of the keys.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn documents(
        &self,
        kind: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Document>, Error> {
        let _ = (kind, prefix, after, limit);
        todo!()
    }
}
