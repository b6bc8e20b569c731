//! The connections: the writer's own, and a few that only read.

use crate::segment::Seed;
use crate::store::Durability;
use crate::writer::Config;
use crate::{Error, read};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Executor};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Pages of the log after which a commit copies it into the database: 32 MiB, in case that the
/// checkpoints beside the commits do not keep up.
const CHECKPOINT_PAGES: &str = "2000";
/// What of the log stays on disk after that.
const LOG_BYTES: &str = "20971520";
/// Connections that read at the same time.
const READERS: usize = 4;

/// What a failed statement says about the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Full,
    ReadOnly,
    Disk,
    Damaged,
    Other,
}

/// Classifies an error by SQLite's primary result code.
pub(crate) fn failure(error: &sqlx::Error) -> Failure {
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()),
        _ => None,
    };
    match code.map(|code| code & 0xff) {
        Some(13) => Failure::Full,
        Some(8) => Failure::ReadOnly,
        Some(10 | 14) => Failure::Disk,
        Some(11 | 26) => Failure::Damaged,
        Some(_) | None => Failure::Other,
    }
}

/// True for errors that leave the connection usable: a constraint, a value, no such row.
pub(crate) fn is_of_the_statement(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            matches!(code.map(|code| code & 0xff), Some(1 | 18 | 19 | 20 | 25))
        }
        sqlx::Error::RowNotFound | sqlx::Error::Encode(_) | sqlx::Error::Decode(_) => true,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => true,
        _ => false,
    }
}

/// True when another connection holds what is needed.
pub(crate) fn is_busy(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            matches!(code.map(|code| code & 0xff), Some(5 | 6))
        }
        _ => false,
    }
}

/// What every connection has in common.
fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("trusted_schema", "OFF")
        .pragma("cell_size_check", "ON")
        .pragma("mmap_size", "0")
        .disable_statement_logging()
}

/// The connection that writes.
pub(crate) fn writer_options(path: &Path, durability: Durability) -> SqliteConnectOptions {
    let synchronous = match durability {
        Durability::Power => SqliteSynchronous::Full,
        Durability::Process => SqliteSynchronous::Normal,
    };
    options(path)
        .page_size(16_384)
        .auto_vacuum(SqliteAutoVacuum::Incremental)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_BYTES)
        // A group fits into memory (limits::GROUP_BYTES): its pages go to the log once, at the commit.
        .pragma("cache_spill", "OFF")
        // Journals of statements are small; never a file.
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-6144")
        .statement_cache_capacity(64)
}

/// A connection that cannot write.
pub(crate) fn reader_options(path: &Path) -> SqliteConnectOptions {
    options(path).read_only(true).pragma("query_only", "ON").pragma("cache_size", "-1024")
}

/// The writer's connection, if it is open.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    durability: Durability,
    seed: Seed,
    connection: Option<SqliteConnection>,
}

impl Database {
    pub(crate) fn new(
        path: PathBuf,
        durability: Durability,
        seed: Seed,
        connection: SqliteConnection,
    ) -> Self {
        Self { path, durability, seed, connection: Some(connection) }
    }

    /// How the connection is opened.
    pub(crate) fn options(&self) -> SqliteConnectOptions {
        writer_options(&self.path, self.durability)
    }

    /// Opens the connection if it is closed.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        if self.connection.is_none() {
            let options = self.options();
            self.connection = Some(options.connect().await.map_err(Error::database("open"))?);
        }
        Ok(())
    }

    /// Closes the connection; `truncate` copies the log into the database before.
    pub(crate) async fn close(&mut self, truncate: bool) {
        let Some(mut connection) = self.connection.take() else { return };
        if truncate {
            // The log is replayed at the next start when this fails.
            drop(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await);
        }
        drop(connection.close().await);
    }

    /// The open connection.
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Runs a whole transaction.
    pub(crate) async fn run(&mut self, script: crate::writer::Script) -> Result<(), sqlx::Error> {
        script.run(self.connection()?).await
    }

    /// Runs other work in a transaction; an error of a statement rolls back and keeps the
    /// connection.
    pub(crate) async fn transaction(&mut self, work: &mut dyn Config) -> Result<(), sqlx::Error> {
        let connection = self.connection()?;
        connection.execute("BEGIN IMMEDIATE").await?;
        let result = match work.run(connection).await {
            Ok(()) => connection.execute("COMMIT").await.map(drop),
            Err(error) => Err(error),
        };
        if result.is_err() {
            // After a failure of the disk SQLite has rolled back by itself.
            drop(connection.execute("ROLLBACK").await);
        }
        result
    }

    /// Commits something that changes nothing. False when the file's last segment is not the one
    /// that is known here.
    pub(crate) async fn probe(&mut self, newest: Option<(u64, u64)>) -> Result<bool, Error> {
        let seed = self.seed;
        let connection = self.connection().map_err(Error::database("probe"))?;
        let row =
            sqlx::query(read::SEGMENT_OF).bind(i64::MAX).fetch_optional(&mut *connection).await;
        let found = row.map_err(Error::database("probe"))?.map(|row| {
            let (first, directory) = read::directory_row(&row, seed);
            (first, directory.map_or(u64::MAX, |directory| directory.last()))
        });
        let sql = "UPDATE store SET probe = probe + 1";
        connection.execute(sql).await.map_err(Error::database("probe"))?;
        Ok(found == newest)
    }
}

/// A few connections that read, opened when they are needed.
#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    places: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
    /// Never used and never closed while the store is open: as long as a connection is open the
    /// log's index stays, so that what a failed commit left in the log is never taken for committed.
    anchor: Mutex<Option<SqliteConnection>>,
}

impl Readers {
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let options = reader_options(path);
        let mut anchor = options.connect().await.map_err(Error::database("open"))?;
        let read = anchor.execute("SELECT count(*) FROM store").await;
        read.map_err(Error::database("open"))?;
        Ok(Self {
            options,
            places: Semaphore::new(READERS),
            idle: Mutex::default(),
            anchor: Mutex::new(Some(anchor)),
        })
    }

    /// Runs `work` on a connection. A connection whose work failed or was given up is not used
    /// again.
    pub(crate) async fn with<T>(
        &self,
        what: &'static str,
        work: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, Error> {
        let _place = self.places.acquire().await.map_err(|_| Error::Closed)?;
        let idle = self.idle().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.options.connect().await.map_err(Error::database(what))?,
        };
        let result = work(&mut connection).await.map_err(Error::database(what))?;
        self.idle().push(connection);
        Ok(result)
    }

    /// No more reading; what is under way ends first.
    pub(crate) async fn close(&self) {
        let all = u32::try_from(READERS).expect("a small number");
        let places = self.places.acquire_many(all).await;
        self.places.close();
        drop(places);
        let idle = std::mem::take(&mut *self.idle());
        let anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner).take();
        for connection in idle.into_iter().chain(anchor) {
            drop(connection.close().await);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
