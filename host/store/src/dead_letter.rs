//! Dead letters and module state: rows beside the queue, written in its transactions.

use crate::message::{DeadLetterId, EndpointId, RouteNumber};
use crate::segment::Seed;
use crate::view::DeadLetter;
use crate::{Error, Store};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::collections::BTreeMap;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::id::Sequence;
use weir_core::limits;
use weir_core::module_state::StateValue;
use weir_core::record;

pub(crate) const LIST: &str = "SELECT id, endpoint, sequence, route, at, attempts, reason, code, module_digest, record, \
     checksum FROM dead_letter WHERE id > ? ORDER BY id LIMIT ?";
pub(crate) const LIST_OF_ENDPOINT: &str = "SELECT id, endpoint, sequence, route, at, attempts, reason, code, module_digest, record, \
     checksum FROM dead_letter WHERE id > ? AND endpoint = ? ORDER BY id LIMIT ?";
pub(crate) const ONE: &str = "SELECT id, endpoint, sequence, route, at, attempts, reason, code, module_digest, record, \
     checksum FROM dead_letter WHERE id = ?";
pub(crate) const STATE: &str = "SELECT key, value, expires FROM module_state WHERE module = ?";

impl Store {
    /// Dead letters in order of their number, after `after`, of one queue or of all. Damaged ones
    /// are left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
        endpoint: Option<EndpointId>,
    ) -> Result<Vec<DeadLetter>, Error> {
        let after = after.map_or(0, |id| id.0.cast_signed());
        let limit = i64::try_from(limit.min(limits::PAGE_ITEMS)).unwrap_or(0);
        let rows = self
            .shared
            .readers
            .with("read the dead letters", async |connection| {
                let query = match endpoint {
                    None => sqlx::query(LIST).bind(after).bind(limit),
                    Some(endpoint) => sqlx::query(LIST_OF_ENDPOINT)
                        .bind(after)
                        .bind(i64::from(endpoint.0))
                        .bind(limit),
                };
                query.fetch_all(connection).await
            })
            .await?;
        Ok(rows.iter().filter_map(|row| dead_letter(row, self.shared.seed)).collect())
    }

    /// One dead letter; none when it is damaged.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, Error> {
        let row = self
            .shared
            .readers
            .with("read a dead letter", async |connection| {
                sqlx::query(ONE).bind(id.0.cast_signed()).fetch_optional(connection).await
            })
            .await?;
        Ok(row.and_then(|row| dead_letter(&row, self.shared.seed)))
    }

    /// Deletes a dead letter; false when there is none.
    ///
    /// # Errors
    /// When the change cannot be committed.
    pub async fn delete_dead_letter(&self, id: DeadLetterId) -> Result<bool, Error> {
        self.change(move |connection| {
            Box::pin(async move {
                let query = sqlx::query("DELETE FROM dead_letter WHERE id = ?");
                let done = query.bind(id.0.cast_signed()).execute(connection).await?;
                Ok(done.rows_affected() > 0)
            })
        })
        .await
    }

    /// The committed state of a module; empty when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn module_state(&self, module: &str) -> Result<BTreeMap<String, StateValue>, Error> {
        let rows = self
            .shared
            .readers
            .with("read a module's state", async |connection| {
                sqlx::query(STATE).bind(module.to_owned()).fetch_all(connection).await
            })
            .await?;
        let value = |row: &SqliteRow| {
            let expires = Timestamp::from_micros(row.try_get(2)?);
            Ok((row.try_get(0)?, StateValue { value: row.try_get(1)?, expires }))
        };
        let all: Result<_, sqlx::Error> = rows.iter().map(value).collect();
        all.map_err(Error::database("read a module's state"))
    }

    /// Deletes the state of a module.
    ///
    /// # Errors
    /// When the change cannot be committed.
    pub async fn delete_module_state(&self, module: &str) -> Result<(), Error> {
        let module = module.to_owned();
        self.change(move |connection| {
            Box::pin(async move {
                let query = sqlx::query("DELETE FROM module_state WHERE module = ?");
                query.bind(module).execute(connection).await?;
                Ok(())
            })
        })
        .await
    }
}

fn dead_letter(row: &SqliteRow, seed: Seed) -> Option<DeadLetter> {
    let sequence = row.try_get::<i64, _>(2).ok()?.cast_unsigned();
    let bytes: Vec<u8> = row.try_get(9).ok()?;
    let checksum: i64 = row.try_get(10).ok()?;
    if checksum != i64::from(seed.checksum_of(sequence, &bytes)) {
        tracing::error!("a dead letter is damaged");
        return None;
    }
    let digest: Option<Vec<u8>> = row.try_get(8).ok()?;
    Some(DeadLetter {
        id: DeadLetterId(row.try_get::<i64, _>(0).ok()?.cast_unsigned()),
        endpoint: EndpointId(u32::try_from(row.try_get::<i64, _>(1).ok()?).ok()?),
        sequence: Sequence(sequence),
        route: RouteNumber(u32::try_from(row.try_get::<i64, _>(3).ok()?).ok()?),
        at: Timestamp::from_micros(row.try_get(4).ok()?),
        attempts: u32::try_from(row.try_get::<i64, _>(5).ok()?).ok()?,
        reason: row.try_get(6).ok()?,
        code: row.try_get(7).ok()?,
        module_digest: digest.and_then(|bytes| Some(Digest::from_bytes(bytes.try_into().ok()?))),
        record: record::decode(bytes.into()).ok()?,
    })
}
