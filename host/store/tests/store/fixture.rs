//! A store in a temporary folder with its writer running, and messages for it.

use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinSet;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::{Identity, MessageId, Sequence};
use weir_core::message::{Message, StampedMessage};
use weir_store::{
    Append, Appended, Change, CommitError, Committed, Disposition, Durability, EndpointId, Entry,
    Error, OpenReport, Options, Reader, RouteNumber, Store, Target,
};

/// Longer than anything here may take on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) report: OpenReport,
    pub(crate) start: u32,
    pub(crate) total_bytes: Option<u64>,
    writer: JoinSet<Result<(), Error>>,
}

pub(crate) fn options(dir: &Path, clock: &Clock, total_bytes: Option<u64>) -> Options {
    Options {
        dir: dir.to_owned(),
        // The tests kill processes, not power supplies.
        durability: Durability::Process,
        total_bytes,
        clock: clock.clone(),
    }
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with_total(None).await
    }

    pub(crate) async fn with_total(total_bytes: Option<u64>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, Clock::manual(Timestamp::from_secs(1_000_000)), total_bytes).await
    }

    pub(crate) async fn open(dir: TempDir, clock: Clock, total_bytes: Option<u64>) -> Self {
        let opened = Store::open(options(dir.path(), &clock, total_bytes)).await.unwrap();
        let mut writer = JoinSet::new();
        writer.spawn(opened.writer.run());
        let (store, report, start) = (opened.store, opened.report, opened.start);
        Self { dir, store, clock, report, start, total_bytes, writer }
    }

    /// Ends the writer in order; gives the folder back.
    pub(crate) async fn close(mut self) -> (TempDir, Clock) {
        self.store.close().await;
        self.writer.join_next().await.unwrap().unwrap().unwrap();
        (self.dir, self.clock)
    }

    pub(crate) async fn reopen(self) -> Self {
        let total = self.total_bytes;
        let (dir, clock) = self.close().await;
        Self::open(dir, clock, total).await
    }

    /// Drops the writer where it stands, as the end of the process would, and opens the store again.
    pub(crate) async fn crash(mut self) -> Self {
        self.writer.shutdown().await;
        drop(self.store);
        Self::open(self.dir, self.clock, self.total_bytes).await
    }

    pub(crate) async fn endpoint(&self, name: &str) -> EndpointId {
        self.store.endpoint(name).await.unwrap()
    }

    pub(crate) async fn append(&self, batch: Vec<Append>) -> Appended {
        tokio::time::timeout(SOON, self.store.append(batch)).await.expect("an answer")
    }

    /// Appends messages with these ids to one queue.
    pub(crate) async fn send(&self, endpoint: EndpointId, ids: std::ops::Range<u64>) {
        let count = ids.clone().count();
        let batch = ids.map(|id| append(message(id), &[target(endpoint)])).collect();
        let appended = self.append(batch).await;
        assert_eq!(appended.accepted, count);
    }

    pub(crate) async fn settle(
        &self,
        endpoint: EndpointId,
        entries: &[Entry],
        disposition: Disposition,
    ) -> Committed {
        let settle =
            entries.iter().map(|entry| (endpoint, entry.sequence, disposition.clone())).collect();
        self.commit(Change { settle, ..Change::default() }).await.unwrap()
    }

    pub(crate) async fn commit(&self, change: Change) -> Result<Committed, CommitError> {
        tokio::time::timeout(SOON, self.store.commit(change)).await.expect("an answer")
    }

    /// From now on a commit fails at its very end, as on a disk that reports errors.
    pub(crate) async fn break_commits(&self) {
        let fault = "INSERT INTO fault VALUES (1)";
        let mut sql = String::from(
            "CREATE TABLE absent (id INTEGER PRIMARY KEY);
             CREATE TABLE fault (id REFERENCES absent DEFERRABLE INITIALLY DEFERRED);",
        );
        for (table, event) in fault_points() {
            sql += &format!(
                "CREATE TRIGGER {table}_{event} AFTER {event} ON {table} BEGIN {fault}; END;"
            );
        }
        self.run_sql(sql).await;
    }

    pub(crate) async fn mend_commits(&self) {
        let mut sql = String::new();
        for (table, event) in fault_points() {
            sql += &format!("DROP TRIGGER {table}_{event};");
        }
        sql += "DROP TABLE fault; DROP TABLE absent;";
        self.run_sql(sql).await;
    }

    async fn run_sql(&self, sql: String) {
        let options = SqliteConnectOptions::new()
            .filename(self.dir.path().join("weir.db"))
            .synchronous(SqliteSynchronous::Off);
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) fn messages(&self, endpoint: EndpointId) -> u64 {
        self.usage(endpoint).messages
    }

    pub(crate) fn usage(&self, endpoint: EndpointId) -> weir_store::QueueUsage {
        let all = self.store.usage().queues;
        all.into_iter().find(|queue| queue.endpoint == endpoint).unwrap()
    }
}

fn fault_points() -> impl Iterator<Item = (&'static str, &'static str)> {
    let tables = ["slot", "segment", "cursor", "owed", "dead_letter", "module_state", "document"];
    let events = ["INSERT", "UPDATE", "DELETE"];
    tables.into_iter().flat_map(move |table| events.map(|event| (table, event)))
}

pub(crate) async fn next(reader: &Reader, max: usize) -> Vec<Entry> {
    tokio::time::timeout(SOON, reader.next(max, usize::MAX)).await.expect("something is due")
}

/// True when a short while passes without anything being handed out.
pub(crate) async fn nothing_is_due(reader: &Reader) -> bool {
    let short = Duration::from_millis(20);
    tokio::time::timeout(short, reader.next(usize::MAX, usize::MAX)).await.is_err()
}

pub(crate) fn ids(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.record.message.id().0).collect()
}

pub(crate) fn sequences(entries: &[Entry]) -> Vec<Sequence> {
    entries.iter().map(|entry| entry.sequence).collect()
}

pub(crate) fn message(id: u64) -> StampedMessage {
    message_of("d", id, 40)
}

pub(crate) fn message_of(device: &str, id: u64, bytes: usize) -> StampedMessage {
    let sender = Identity::device(device.parse().unwrap());
    let body = vec![id.to_le_bytes()[0]; bytes].into();
    let message = Message { body, ..Message::default() };
    message.stamp(&sender, MessageId(id), Timestamp::from_secs(999))
}

pub(crate) fn target(endpoint: EndpointId) -> Target {
    Target { endpoint, priority: 0, expires: Timestamp::NEVER, route: RouteNumber(1) }
}

pub(crate) fn append(message: StampedMessage, targets: &[Target]) -> Append {
    Append { message, table: 1, targets: targets.iter().copied().collect() }
}
