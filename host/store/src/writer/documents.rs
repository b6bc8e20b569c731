//! Documents that are written with a change, in the transaction of its group.
//!
//! An expectation is checked when the change is planned, against what the group will have written by
//! then, and otherwise against the file, which nobody else changes. A change whose expectation fails
//! comes back and leaves nothing in the group.

use super::Writer;
use super::group::Group;
use super::script::{self, Script};
use crate::document::{LAST_REVISION, PRESENT, Write};

/// A document as the group leaves it.
#[derive(Debug)]
pub(super) struct Written {
    revision: u64,
    body: Option<String>,
}

/// The first write whose expectation is not met.
#[derive(Debug)]
pub(super) struct Unmet {
    pub(super) at: usize,
    pub(super) present: Option<u64>,
}

impl Writer {
    /// Checks what the writes expect, and learns which revision comes next.
    pub(super) async fn check_documents(
        &mut self,
        group: &Group,
        writes: &[Write],
    ) -> Result<Option<Unmet>, sqlx::Error> {
        if writes.is_empty() {
            return Ok(None);
        }
        let connection = self.database.connection()?;
        if self.last_revision.is_none() {
            let last: Option<i64> =
                sqlx::query_scalar(LAST_REVISION).fetch_optional(&mut *connection).await?;
            self.last_revision = Some(last.map_or(0, i64::cast_unsigned));
        }
        for (at, write) in writes.iter().enumerate().filter(|(_, write)| !write.expect.is_any()) {
            let key = (write.kind, write.key.clone());
            let present = match group.documents.get(&key) {
                Some(written) => written.body.as_ref().map(|_| written.revision),
                None => {
                    let query = sqlx::query_scalar(PRESENT).bind(key.0).bind(key.1);
                    let found: Option<i64> = query.fetch_optional(&mut *connection).await?;
                    found.map(i64::cast_unsigned)
                }
            };
            if !write.expect.is_met(present) {
                return Ok(Some(Unmet { at, present }));
            }
        }
        Ok(None)
    }

    /// Puts checked writes into the group; gives the revision of the first.
    pub(super) fn put_documents(&mut self, group: &mut Group, writes: &[Write]) -> Option<u64> {
        let mut last = self.last_revision.filter(|_| !writes.is_empty())?;
        let first = last + 1;
        for write in writes {
            last += 1;
            let body = write.body.clone();
            group.bytes += body.as_ref().map_or(0, String::len);
            let written = Written { revision: last, body };
            group.documents.insert((write.kind, write.key.clone()), written);
        }
        group.messages += writes.len();
        self.last_revision = Some(last);
        Some(first)
    }

    pub(super) fn write_documents(&self, group: &mut Group, script: &mut Script) {
        let documents = std::mem::take(&mut group.documents);
        if documents.is_empty() {
            return;
        }
        script.list(&script::PUT_REVISION, self.last_revision, |values, last| {
            values.add(last.cast_signed());
        });
        let (kept, deleted): (Vec<_>, Vec<_>) =
            documents.into_iter().partition(|(_, written)| written.body.is_some());
        script.list(&script::PUT_DOCUMENTS, kept, |values, ((kind, key), written)| {
            values.add(kind);
            values.add(key);
            values.add(written.revision.cast_signed());
            values.add(written.body);
        });
        script.list(&script::DELETE_DOCUMENTS, deleted, |values, ((kind, key), _)| {
            values.add(kind);
            values.add(key);
        });
    }
}
