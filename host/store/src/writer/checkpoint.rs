//! Checkpoints: copying the log into the database, on a connection of their own while groups commit.
//!
//! A checkpoint inside a commit makes one commit in a few hundred wait for the whole log. One beside
//! the commits never catches up, and the log would grow. So the bulk is copied beside, in passes that
//! get shorter, and the last piece by the writer itself; then SQLite begins the log anew.

use super::Writer;
use crate::Error;
use crate::segment::body::PAGE_BYTES;
use crate::sqlite;
use futures::future::{BoxFuture, Either, select};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use std::future::Future;
use std::pin::pin;

/// Bytes in the log that start a checkpoint.
const BEGIN_BYTES: u64 = 16 * 1024 * 1024;
/// What the writer copies by itself: a few milliseconds.
const REST_BYTES: u64 = 1024 * 1024;
/// Passes before the writer takes whatever is left.
const PASSES: u32 = 4;

type Pass = BoxFuture<'static, Result<(SqliteConnection, u64), sqlx::Error>>;

/// See the module.
pub(super) struct Checkpoint {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    pass: Option<Pass>,
    passes: u32,
    /// Bytes in the log that are not in the database, about.
    log_bytes: u64,
    /// The writer is to copy what is left.
    last_piece: bool,
    failure: Option<sqlx::Error>,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checkpoint").field("log_bytes", &self.log_bytes).finish_non_exhaustive()
    }
}

impl Checkpoint {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self {
            options,
            connection: None,
            pass: None,
            passes: 0,
            log_bytes: 0,
            last_piece: false,
            failure: None,
        }
    }

    /// Notes what a commit has added to the log.
    pub(super) fn note_commit(&mut self, pages: usize) {
        self.log_bytes += pages as u64 * PAGE_BYTES;
        if self.log_bytes >= BEGIN_BYTES && self.pass.is_none() && !self.last_piece {
            self.passes = 0;
            self.begin_pass();
        }
    }

    fn begin_pass(&mut self) {
        let (known, options) = (self.connection.take(), self.options.clone());
        self.passes += 1;
        self.pass = Some(Box::pin(async move {
            let mut connection = match known {
                Some(connection) => connection,
                None => options.connect().await?,
            };
            let left = copy(&mut connection).await?;
            Ok((connection, left))
        }));
    }

    /// Waits for `work` and goes on with the pass meanwhile.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            let Some(pass) = &mut self.pass else { return work.await };
            match select(work.as_mut(), pass).await {
                Either::Left((outcome, _)) => return outcome,
                Either::Right((done, _)) => self.end_pass(done),
            }
        }
    }

    /// Goes on with the pass. Cancel-safe; never ends when there is none.
    pub(super) async fn go_on(&mut self) {
        match &mut self.pass {
            Some(pass) => {
                let done = pass.await;
                self.end_pass(done);
            }
            None => std::future::pending().await,
        }
    }

    fn end_pass(&mut self, done: Result<(SqliteConnection, u64), sqlx::Error>) {
        self.pass = None;
        match done {
            Ok((connection, left)) => {
                self.connection = Some(connection);
                self.log_bytes = left;
                if left > REST_BYTES && self.passes < PASSES {
                    self.begin_pass();
                } else {
                    self.last_piece = true;
                }
            }
            Err(error) => self.failure = Some(error),
        }
    }

    /// Ends what is under way.
    pub(super) async fn close(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.connection = pass.await.ok().map(|(connection, _)| connection);
        }
        if let Some(connection) = self.connection.take() {
            drop(connection.close().await);
        }
        self.last_piece = false;
    }
}

/// Copies what can be copied; gives the bytes that are left.
async fn copy(connection: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    let row = connection.fetch_one("PRAGMA wal_checkpoint(PASSIVE)").await?;
    let (log, copied): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    Ok(log.saturating_sub(copied).max(0).cast_unsigned() * PAGE_BYTES)
}

impl Writer {
    /// Does the writer's part of a checkpoint, when it is its turn.
    pub(super) async fn checkpoint_last_piece(&mut self) -> Result<(), Error> {
        if let Some(cause) = self.checkpoint.failure.take() {
            // Without checkpoints the log would grow without end.
            self.begin_outage(&Error::database("copy its log")(cause));
            return self.leave_connection().await;
        }
        if !std::mem::take(&mut self.checkpoint.last_piece) || self.outage.is_some() {
            return Ok(());
        }
        let copied = match self.database.connection() {
            Ok(connection) => copy(connection).await,
            Err(error) => Err(error),
        };
        match copied {
            // A reader may hold a part back; the next checkpoint takes it.
            Ok(_) => self.checkpoint.log_bytes = 0,
            Err(cause) if sqlite::is_busy(&cause) => {}
            Err(cause) => {
                self.begin_outage(&Error::database("copy its log")(cause));
                return self.leave_connection().await;
            }
        }
        Ok(())
    }
}
