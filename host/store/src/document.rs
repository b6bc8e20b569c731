//! Everything that is kept but is no message: identities, routes, module versions, tokens,
//! subscriptions. Small JSON documents under a kind and a key, each with a revision.
//!
//! One table with one set of rules instead of a table for each: what a document means is the hub's
//! business, that it is on disk, consistent and not overwritten unseen is the store's. Written alone by
//! [`Store::write`], or together with messages as a part of a [`crate::Change`]. Invariants:
//!
//! 1. All writes of one call are committed together or not at all.
//! 2. A revision is given once in the life of the store, also to what was deleted and made again.

use crate::{Error, Store};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

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

const REVISIONS: &str = "INSERT INTO document_revision (id, last) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET last = last + ?1 RETURNING last";
pub(crate) const LAST_REVISION: &str = "SELECT last FROM document_revision WHERE id = 1";
pub(crate) const PRESENT: &str = "SELECT revision FROM document WHERE kind = ? AND key = ?";
const PUT: &str = "INSERT INTO document (kind, key, revision, body) VALUES (?, ?, ?, ?)
    ON CONFLICT (kind, key) DO UPDATE SET revision = excluded.revision, body = excluded.body";
const DELETE: &str = "DELETE FROM document WHERE kind = ? AND key = ?";
const GET: &str = "SELECT key, revision, body FROM document WHERE kind = ? AND key = ?";
const LIST: &str = "SELECT key, revision, body FROM document
    WHERE kind = ?1 AND key > ?2 AND key >= ?3 AND (?4 IS NULL OR key < ?4) ORDER BY key LIMIT ?5";

impl Store {
    /// Commits all writes together; gives the revision of each (of a deletion too).
    ///
    /// # Errors
    /// [`WriteError::Mismatch`] names the first write that found something else.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Vec<u64>, WriteError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        self.change(move |connection| Box::pin(apply(connection, writes))).await?
    }

    /// One document.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn document(&self, kind: &str, key: &str) -> Result<Option<Document>, Error> {
        let (kind, key) = (kind.to_owned(), key.to_owned());
        self.shared
            .readers
            .with("read a document", async |connection| {
                let row = sqlx::query(GET).bind(kind).bind(key).fetch_optional(connection).await?;
                row.as_ref().map(document).transpose()
            })
            .await
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
        let kind = kind.to_owned();
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        let end = after_prefix(&prefix);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.shared
            .readers
            .with("read documents", async |connection| {
                let query = sqlx::query(LIST).bind(kind).bind(after).bind(prefix).bind(end);
                let rows = query.bind(limit).fetch_all(connection).await?;
                rows.iter().map(document).collect()
            })
            .await
    }
}

/// All expectations are checked before anything is written.
async fn apply(
    connection: &mut SqliteConnection,
    writes: Vec<Write>,
) -> Result<Result<Vec<u64>, WriteError>, sqlx::Error> {
    for (at, write) in writes.iter().enumerate() {
        let query = sqlx::query_scalar(PRESENT).bind(write.kind).bind(write.key.clone());
        let present: Option<i64> = query.fetch_optional(&mut *connection).await?;
        let present = present.map(i64::cast_unsigned);
        if !write.expect.is_met(present) {
            return Ok(Err(WriteError::Mismatch { at, present }));
        }
    }
    let count = i64::try_from(writes.len()).unwrap_or(i64::MAX);
    let last: i64 = sqlx::query_scalar(REVISIONS).bind(count).fetch_one(&mut *connection).await?;
    let mut revisions = Vec::with_capacity(writes.len());
    for (revision, Write { kind, key, body, .. }) in (last - count + 1..).zip(writes) {
        let query = match body {
            Some(body) => sqlx::query(PUT).bind(kind).bind(key).bind(revision).bind(body),
            None => sqlx::query(DELETE).bind(kind).bind(key),
        };
        query.execute(&mut *connection).await?;
        revisions.push(revision.cast_unsigned());
    }
    Ok(Ok(revisions))
}

impl Expect {
    pub(crate) fn is_any(self) -> bool {
        self == Self::Any
    }

    pub(crate) fn is_met(self, present: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => present.is_none(),
            Self::Present => present.is_some(),
            Self::Revision(wanted) => present == Some(wanted),
        }
    }
}

fn document(row: &SqliteRow) -> Result<Document, sqlx::Error> {
    let revision: i64 = row.try_get(1)?;
    Ok(Document { key: row.try_get(0)?, revision: revision.cast_unsigned(), body: row.try_get(2)? })
}

/// The first text behind all that begin with `prefix`; none for the empty prefix.
fn after_prefix(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Durability, Options};
    use weir_core::clock::Clock;

    struct Open {
        store: Store,
        task: tokio::task::JoinHandle<Result<(), Error>>,
        _folder: tempfile::TempDir,
    }

    impl Open {
        #[expect(clippy::disallowed_methods, reason = "a test runs the writer itself")]
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let options = Options {
                dir: folder.path().to_owned(),
                durability: Durability::Process,
                total_bytes: Some(64 << 20),
                clock: Clock::system(),
            };
            let opened = Store::open(options).await.unwrap();
            let task = tokio::spawn(opened.writer.run());
            Self { store: opened.store, task, _folder: folder }
        }

        async fn end(self) {
            self.store.close().await;
            self.task.await.unwrap().unwrap();
        }
    }

    fn put(key: &str, body: &str, expect: Expect) -> Write {
        Write { kind: "route", key: key.to_owned(), body: Some(body.to_owned()), expect }
    }

    fn delete(key: &str, expect: Expect) -> Write {
        Write { kind: "route", key: key.to_owned(), body: None, expect }
    }

    #[tokio::test]
    async fn a_write_that_expects_something_else_changes_nothing() {
        let open = Open::new().await;
        let store = &open.store;
        let first = store.write(vec![put("a", "1", Expect::Absent)]).await.unwrap()[0];
        let both = vec![put("b", "1", Expect::Absent), put("a", "2", Expect::Revision(first + 7))];
        let error = store.write(both).await.unwrap_err();
        assert!(matches!(error, WriteError::Mismatch { at: 1, present } if present == Some(first)));
        assert_eq!(store.document("route", "b").await.unwrap(), None);
        assert_eq!(store.document("route", "a").await.unwrap().unwrap().body, "1");
        open.end().await;
    }

    #[tokio::test]
    async fn a_revision_is_never_given_twice() {
        let open = Open::new().await;
        let store = &open.store;
        let first = store.write(vec![put("a", "1", Expect::Any)]).await.unwrap()[0];
        let gone = store.write(vec![delete("a", Expect::Revision(first))]).await.unwrap()[0];
        let again = store.write(vec![put("a", "1", Expect::Absent)]).await.unwrap()[0];
        assert!(first < gone && gone < again);
        open.end().await;
    }

    #[tokio::test]
    async fn documents_are_listed_in_order_by_prefix_and_page() {
        let open = Open::new().await;
        let store = &open.store;
        let keys = ["a/1", "a/2", "a/3", "b/1", "a"];
        let writes = keys.iter().map(|key| put(key, "x", Expect::Any)).collect();
        store.write(writes).await.unwrap();
        let list = async |prefix: &str, after: Option<&str>, limit| {
            let documents = store.documents("route", prefix, after, limit).await.unwrap();
            documents.into_iter().map(|document| document.key).collect::<Vec<_>>()
        };
        assert_eq!(list("", None, 9).await, ["a", "a/1", "a/2", "a/3", "b/1"]);
        assert_eq!(list("a/", None, 2).await, ["a/1", "a/2"]);
        assert_eq!(list("a/", Some("a/2"), 2).await, ["a/3"]);
        assert_eq!(store.documents("other", "", None, 9).await.unwrap(), []);
        open.end().await;
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_everything_that_begins_with_it() {
        assert_eq!(after_prefix("a/").as_deref(), Some("a0"));
        assert_eq!(after_prefix(""), None);
        assert_eq!(after_prefix(&format!("a{}", char::MAX)).as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
    }
}
