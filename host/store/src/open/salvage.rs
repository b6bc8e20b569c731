//! Taking over what can be read of a damaged file, row by row.
//!
//! The damaged file is only read. Directories are looked for from both ends of their table and around
//! unreadable stretches; of each segment the entries with a right checksum are written anew. Cursors
//! and owed entries count only with theirs: without its cursor a lane begins at its first entry, so
//! that messages come twice rather than never. Other tables are copied as far as they can be read.

use super::files::Note;
use super::load::{self, OwedRow};
use crate::message::EndpointId;
use crate::read;
use crate::segment::Seed;
use crate::segment::body::Loaded;
use crate::segment::build::rebuild;
use crate::segment::directory::{Directory, Item, LaneItem};
use crate::sqlite;
use crate::writer::{cursor_numbers, owed_numbers};
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Column, ConnectOptions, Connection, Executor};
use sqlx::{Row, TypeInfo, ValueRef};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use weir_core::clock::{Clock, Timestamp};

/// A start takes ten seconds at most; checking comes before and loading after.
const TIME: Duration = Duration::from_secs(4);
/// Tables that are read here by their meaning; all others are copied.
const QUEUE_TABLES: [&str; 5] = ["store", "slot", "segment", "cursor", "owed"];

/// What was saved and what was not.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) messages: u64,
    pub(super) lost: u64,
    /// False when something was lost that could not even be counted.
    pub(super) all_counted: bool,
    pub(super) rows: u64,
    pub(super) damaged_tables: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Salvage {
    from: Option<SqliteConnection>,
    pub(super) seed: Option<Seed>,
    pub(super) starts: u32,
    outcome: Outcome,
    clock: Clock,
    begun: Timestamp,
    next_slot: u32,
}

/// What the queue's small tables say.
#[derive(Debug, Default)]
struct Places {
    endpoints: BTreeSet<EndpointId>,
    cursors: BTreeMap<(EndpointId, u32), u64>,
    owed: BTreeMap<(EndpointId, u64), OwedRow>,
}

impl Places {
    fn wants(&self, endpoint: EndpointId, priority: u32, sequence: u64) -> bool {
        let cursor = self.cursors.get(&(endpoint, priority)).copied().unwrap_or(0);
        self.endpoints.contains(&endpoint)
            && (sequence >= cursor || self.owed.contains_key(&(endpoint, sequence)))
    }
}

impl Salvage {
    /// Opens the damaged file, if it can be opened.
    pub(super) async fn begin(path: &Path, note: Option<Note>, clock: &Clock) -> Self {
        let mut from = sqlite::reader_options(path).connect().await.ok();
        let mut own = None;
        if let Some(connection) = &mut from {
            own = super::identity(connection).await.ok();
        }
        let seed = match (note, own) {
            // Rows of another store fail their checksums.
            (Some(note), _) => Some(Seed(note.seed)),
            (None, own) => own.map(|(seed, _)| seed),
        };
        let starts = note.map_or(0, |note| note.starts).max(own.map_or(0, |(_, starts)| starts));
        let outcome = Outcome { all_counted: from.is_some(), ..Outcome::default() };
        let begun = clock.now();
        Self { from, seed, starts, outcome, clock: clock.clone(), begun, next_slot: 0 }
    }

    pub(super) async fn end(self) -> Outcome {
        if let Some(connection) = self.from {
            drop(connection.close().await);
        }
        self.outcome
    }

    /// Copies into the new database.
    pub(super) async fn take_over(&mut self, to: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let (Some(mut from), Some(seed)) = (self.from.take(), self.seed) else {
            self.outcome.all_counted = false;
            return Ok(());
        };
        self.copy_tables(&mut from, to).await?;
        let mut places = self.places(&mut from, to, seed).await?;
        let found = self.directories(&mut from, seed).await;
        for directory in found.into_values() {
            match self.is_late() {
                // The rest stays in quarantine.
                true => self.outcome.all_counted = false,
                false => self.segment(&mut from, to, directory, &mut places, seed).await?,
            }
        }
        // What is owed and was not met has lost its message.
        self.outcome.lost += places.owed.len() as u64;
        self.from = Some(from);
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.clock.now().since(self.begun) > TIME
    }

    /// Reads rows from the front and, when that breaks off, from the back.
    async fn rows(
        &mut self,
        from: &mut SqliteConnection,
        table: &str,
        sql: (String, String),
    ) -> Vec<SqliteRow> {
        let (mut rows, broken) = until_error(from, sql.0).await;
        if broken {
            rows.extend(until_error(from, sql.1).await.0);
            self.damaged(table);
        }
        rows
    }

    fn damaged(&mut self, table: &str) {
        if !self.outcome.damaged_tables.iter().any(|known| known == table) {
            self.outcome.damaged_tables.push(table.to_owned());
        }
        if QUEUE_TABLES.contains(&table) || table == "endpoint" {
            self.outcome.all_counted = false;
        }
    }

    /// Copies the tables that are not the queue's.
    async fn copy_tables(
        &mut self,
        from: &mut SqliteConnection,
        to: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let sql =
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let tables: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *to).await?;
        for table in tables.iter().filter(|table| !QUEUE_TABLES.contains(&table.as_str())) {
            let keys = key_columns(to, table).await?;
            let forward = format!("SELECT * FROM {table} ORDER BY {}", keys.join(", "));
            let backward = format!("SELECT * FROM {table} ORDER BY {} DESC", keys.join(" DESC, "));
            for row in self.rows(from, table, (forward, backward)).await {
                match copy_row(to, table, &row).await {
                    Ok(copied) => self.outcome.rows += copied,
                    Err(_) => self.damaged(table),
                }
            }
        }
        Ok(())
    }

    async fn places(
        &mut self,
        from: &mut SqliteConnection,
        to: &mut SqliteConnection,
        seed: Seed,
    ) -> Result<Places, sqlx::Error> {
        let mut places = Places::default();
        let endpoints: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM endpoint").fetch_all(&mut *to).await?;
        places.endpoints =
            endpoints.iter().filter_map(|id| u32::try_from(*id).ok()).map(EndpointId).collect();
        let order = |by: &str| format!("{} ORDER BY endpoint{by}", load::CURSORS);
        for row in self.rows(from, "cursor", (order(""), order(" DESC"))).await {
            match load::cursor(&row, seed) {
                Some((lane, next)) => drop(places.cursors.insert(lane, next)),
                None => self.damaged("cursor"),
            }
        }
        let order = |by: &str| format!("{} ORDER BY endpoint{by}, sequence{by}", load::OWED);
        for row in self.rows(from, "owed", (order(""), order(" DESC"))).await {
            match load::owed(&row, seed) {
                Some(owed) => drop(places.owed.insert((owed.0, owed.1), owed)),
                None => self.damaged("owed"),
            }
        }
        for ((endpoint, priority), next) in &places.cursors {
            if places.endpoints.contains(endpoint) {
                let numbers = cursor_numbers(endpoint.0, *priority, *next);
                insert_numbers(to, "INSERT INTO cursor VALUES (?,?,?,?)", &numbers, seed).await?;
            }
        }
        places.owed.retain(|(endpoint, _), _| places.endpoints.contains(endpoint));
        Ok(places)
    }

    /// Every directory that can be read, by its key.
    async fn directories(
        &mut self,
        from: &mut SqliteConnection,
        seed: Seed,
    ) -> BTreeMap<u64, Directory> {
        let order = |by: &str| format!("SELECT first, directory FROM segment ORDER BY first{by}");
        let rows = self.rows(from, "segment", (order(""), order(" DESC"))).await;
        let mut found = BTreeMap::new();
        for row in rows {
            match read::directory_row(&row, seed) {
                (first, Some(directory)) => drop(found.insert(first, directory)),
                (_, None) => self.damaged("segment"),
            }
        }
        found
    }

    /// Writes anew what a segment still holds.
    async fn segment(
        &mut self,
        from: &mut SqliteConnection,
        to: &mut SqliteConnection,
        directory: Directory,
        places: &mut Places,
        seed: Seed,
    ) -> Result<(), sqlx::Error> {
        let mut slots = Vec::new();
        for slot in &directory.slots {
            let body = read::slots(from, &[*slot]).await.unwrap_or_else(|_| vec![None]);
            slots.extend(body);
        }
        let old = Loaded::new(directory, &slots, seed);
        let mut new = Directory::new(old.directory.first);
        let mut entries = Vec::new();
        for (index, item) in old.directory.items.iter().enumerate() {
            let sequence = old.directory.first + u64::from(item.offset);
            let wanted = wanted(&old.directory, index, sequence, places);
            if wanted.is_empty() {
                continue;
            }
            for (endpoint, _, _) in &wanted {
                if let Some(row) = places.owed.remove(&(*endpoint, sequence))
                    && old.entry(sequence).is_some()
                {
                    let numbers = owed_numbers(endpoint.0, sequence, &row.2);
                    let sql = "INSERT INTO owed VALUES (?,?,?,?,?,?,?,?,?,?,?)";
                    insert_numbers(to, sql, &numbers, seed).await?;
                }
            }
            let Some(entry) = old.entry(sequence) else {
                self.outcome.lost += 1;
                self.damaged_bodies();
                continue;
            };
            let at = u32::try_from(new.items.len()).unwrap_or(u32::MAX);
            new.items.push(Item { offset: item.offset, bytes: item.bytes });
            for (endpoint, priority, lane) in wanted {
                new.lane(endpoint, priority).push(LaneItem { index: at, ..lane });
            }
            entries.push(entry);
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.outcome.messages += entries.len() as u64;
        new.ids = old.directory.ids;
        for body in rebuild(&new, entries.into_iter(), seed) {
            new.slots.push(self.next_slot);
            sqlx::query("INSERT INTO slot VALUES (?, ?)")
                .bind(i64::from(self.next_slot))
                .bind(body)
                .execute(&mut *to)
                .await?;
            self.next_slot += 1;
        }
        sqlx::query("INSERT INTO segment VALUES (?, ?)")
            .bind(new.first.cast_signed())
            .bind(new.encode(seed))
            .execute(to)
            .await?;
        Ok(())
    }

    fn damaged_bodies(&mut self) {
        if !self.outcome.damaged_tables.iter().any(|known| known == "slot") {
            self.outcome.damaged_tables.push("slot".to_owned());
        }
    }
}

/// Lanes in which a message has not been settled.
fn wanted(
    directory: &Directory,
    index: usize,
    sequence: u64,
    places: &Places,
) -> Vec<(EndpointId, u32, LaneItem)> {
    let mut wanted = Vec::new();
    for lane in &directory.lanes {
        let found = lane.items.binary_search_by_key(&index, |item| item.index as usize);
        if let Ok(at) = found
            && places.wants(lane.endpoint, lane.priority, sequence)
        {
            wanted.push((lane.endpoint, lane.priority, lane.items[at]));
        }
    }
    wanted
}

/// Rows up to the first that cannot be read; true when there was one.
async fn until_error(from: &mut SqliteConnection, sql: String) -> (Vec<SqliteRow>, bool) {
    use futures::StreamExt;
    let mut rows = Vec::new();
    let mut stream = from.fetch(AssertSqlSafe(sql));
    while let Some(row) = stream.next().await {
        match row {
            Ok(row) => rows.push(row),
            Err(_) => return (rows, true),
        }
    }
    (rows, false)
}

async fn key_columns(to: &mut SqliteConnection, table: &str) -> Result<Vec<String>, sqlx::Error> {
    let sql = "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk";
    sqlx::query_scalar(sql).bind(table.to_owned()).fetch_all(to).await
}

async fn insert_numbers(
    to: &mut SqliteConnection,
    sql: &'static str,
    numbers: &[i64],
    seed: Seed,
) -> Result<(), sqlx::Error> {
    let mut query = sqlx::query(sql);
    for number in numbers {
        query = query.bind(*number);
    }
    query.bind(seed.checksum_of_row(numbers)).execute(to).await?;
    Ok(())
}

/// Copies a row whatever its columns are; gives the number of rows that it added.
async fn copy_row(
    to: &mut SqliteConnection,
    table: &str,
    row: &SqliteRow,
) -> Result<u64, sqlx::Error> {
    let names: Vec<&str> = row.columns().iter().map(Column::name).collect();
    let places = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT OR IGNORE INTO {table} ({}) VALUES ({places})", names.join(", "));
    let mut values = SqliteArguments::default();
    for at in 0..names.len() {
        let raw = row.try_get_raw(at)?;
        let added = match (raw.is_null(), raw.type_info().name()) {
            (true, _) => values.add(None::<i64>),
            (false, "INTEGER") => values.add(row.try_get::<i64, _>(at)?),
            (false, "REAL") => values.add(row.try_get::<f64, _>(at)?),
            (false, "TEXT") => values.add(row.try_get::<String, _>(at)?),
            (false, _) => values.add(row.try_get::<Vec<u8>, _>(at)?),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    let done = sqlx::query_with(AssertSqlSafe(sql), values).execute(to).await?;
    Ok(done.rows_affected())
}
