//! The schema and its migrations: forward only, embedded, each in a transaction of its own.

use super::header::APPLICATION;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Executor};

/// In order; the number of a migration is its place, and the file's `user_version` after it.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../../migrations/0001_create_queue.sql"),
    include_str!("../../../../migrations/0002_create_document.sql"),
];

/// The newest schema that is known.
pub(super) fn newest() -> u32 {
    u32::try_from(MIGRATIONS.len()).expect("there are few migrations")
}

/// Brings a file of schema `from` up to date.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    from: u32,
) -> Result<(), sqlx::Error> {
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(from as usize) {
        let to = at + 1;
        let sql = format!(
            "BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION}; {migration}; \
             PRAGMA user_version = {to}; COMMIT;"
        );
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(())
}
