//! Checking the whole file within a time: SQLite's own structures, and every stored message.

use super::load::{Fault, damaged};
use crate::read;
use crate::segment::Seed;
use crate::segment::body::Loaded;
use crate::segment::directory::Directory;
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;
use std::time::Duration;
use weir_core::clock::Clock;

/// For SQLite's structures.
const STRUCTURE_TIME: Duration = Duration::from_secs(2);
/// For the messages.
const MESSAGES_TIME: Duration = Duration::from_secs(2);

/// True when everything was looked at, false when the time was over before.
pub(super) async fn check(
    connection: &mut SqliteConnection,
    seed: Seed,
    clock: &Clock,
) -> Result<bool, Fault> {
    let structure = check_structure(connection, clock).await?;
    let messages = check_messages(connection, seed, clock).await?;
    Ok(structure && messages)
}

async fn check_structure(connection: &mut SqliteConnection, clock: &Clock) -> Result<bool, Fault> {
    let (begun, watch) = (clock.now(), clock.clone());
    connection
        .lock_handle()
        .await?
        .set_progress_handler(1_000, move || watch.now().since(begun) < STRUCTURE_TIME);
    let result = sqlx::query("PRAGMA quick_check(1)").fetch_one(&mut *connection).await;
    connection.lock_handle().await?.remove_progress_handler();
    match result {
        Ok(row) if row.try_get::<&str, _>(0)? == "ok" => Ok(true),
        Ok(row) => Err(damaged(format!("SQLite finds: {}", row.try_get::<&str, _>(0)?))),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("9") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn check_messages(
    connection: &mut SqliteConnection,
    seed: Seed,
    clock: &Clock,
) -> Result<bool, Fault> {
    let begun = clock.now();
    let mut key = i64::MIN;
    loop {
        let rows =
            sqlx::query(read::SEGMENTS_FROM).bind(key).bind(64).fetch_all(&mut *connection).await?;
        for row in &rows {
            let (first, directory) = read::directory_row(row, seed);
            let directory = directory.ok_or_else(|| damaged("a directory is damaged"))?;
            key = first.cast_signed() + 1;
            if !is_whole(connection, directory, seed).await? {
                return Err(damaged("stored messages are damaged"));
            }
            if clock.now().since(begun) > MESSAGES_TIME {
                return Ok(false);
            }
        }
        if rows.len() < 64 {
            return Ok(true);
        }
    }
}

async fn is_whole(
    connection: &mut SqliteConnection,
    directory: Directory,
    seed: Seed,
) -> Result<bool, sqlx::Error> {
    let slots = read::slots(connection, &directory.slots).await?;
    let segment = Loaded::new(directory, &slots, seed);
    Ok(segment.all_sound())
}
