//! Reading the queues' indexes from the file, believing nothing.

use crate::message::{EndpointId, RouteNumber};
use crate::queue::Queue;
use crate::queue::lane::Waiting;
use crate::queue::owed::{Owed, State};
use crate::read;
use crate::segment::Seed;
use crate::segment::directory::Directory;
use crate::writer::segments::Segments;
use crate::writer::state_code;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Executor, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use weir_core::clock::Timestamp;

/// Why the file is not believed.
#[derive(Debug)]
pub(super) enum Fault {
    /// It contradicts itself.
    Damaged(String),
    /// It is sound, but not the one that was written last: what is missing cannot be counted.
    Exchanged(&'static str),
    /// A statement failed; the caller decides what that says.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

pub(super) fn damaged(what: impl Into<String>) -> Fault {
    Fault::Damaged(what.into())
}

/// Everything in memory that the file decides.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) queues: BTreeMap<EndpointId, Arc<Queue>>,
    pub(super) routes: BTreeMap<RouteNumber, String>,
    pub(super) segments: Segments,
    pub(super) entries: u64,
}

/// A row of `owed` with its key.
pub(super) type OwedRow = (EndpointId, u64, Owed);

/// Names by number.
pub(super) async fn names(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<Vec<(u32, String)>, Fault> {
    let mut names = Vec::new();
    for row in connection.fetch_all(sql).await? {
        let id: i64 = row.try_get(0)?;
        let id = u32::try_from(id).map_err(|_| damaged("a name has no number"))?;
        names.push((id, row.try_get(1)?));
    }
    Ok(names)
}

/// A cursor, if its row is sound.
pub(super) fn cursor(row: &SqliteRow, seed: Seed) -> Option<((EndpointId, u32), u64)> {
    let numbers = numbers::<3>(row, seed)?;
    let endpoint = EndpointId(u32::try_from(numbers[0]).ok()?);
    Some(((endpoint, u32::try_from(numbers[1]).ok()?), numbers[2].cast_unsigned()))
}

fn numbers<const N: usize>(row: &SqliteRow, seed: Seed) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = row.try_get(at).ok()?;
    }
    (row.try_get::<i64, _>(N).ok()? == seed.checksum_of_row(&numbers)).then_some(numbers)
}

/// An owed entry, if its row is sound. What was in flight or held when the hub ended is due again.
pub(super) fn owed(row: &SqliteRow, seed: Seed) -> Option<OwedRow> {
    let [endpoint, sequence, priority, route, expires, bytes, attempt, code, not_before, sender] =
        numbers::<10>(row, seed)?;
    let attempt = u32::try_from(attempt).ok()?;
    let flags = state_code::HOLDS_SENDER | state_code::HANDED_OUT;
    let (state, attempt) = match code & !flags {
        // Nothing failed while it was held.
        state_code::DUE | state_code::HELD => (State::Due, attempt),
        state_code::IN_FLIGHT => (State::Due, attempt.saturating_add(1)),
        state_code::RETRY => (State::Retry(Timestamp::from_micros(not_before)), attempt),
        _ => return None,
    };
    let owed = Owed {
        priority: u32::try_from(priority).ok()?,
        route: RouteNumber(u32::try_from(route).ok()?),
        expires: Timestamp::from_micros(expires),
        bytes: u32::try_from(bytes).ok()?,
        attempt,
        state,
        holds_sender: code & state_code::HOLDS_SENDER != 0,
        sender: sender.cast_unsigned(),
        handed_out: code & state_code::HANDED_OUT != 0,
        seen_before: false,
        row: true,
        reader: 0,
    };
    Some((EndpointId(u32::try_from(endpoint).ok()?), sequence.cast_unsigned(), owed))
}

pub(super) const CURSORS: &str = "SELECT endpoint, priority, next, checksum FROM cursor";
pub(super) const OWED: &str = "SELECT endpoint, sequence, priority, route, expires, bytes, attempt, \
                               state, not_before, sender, checksum FROM owed";
pub(super) const ENDPOINTS: &str = "SELECT id, name FROM endpoint";
pub(super) const ROUTES: &str = "SELECT id, name FROM route_name";

/// Reads everything. After a stop that was not `clean`, what may have been handed out counts as
/// handed out: a client that gets a message again must be told so [MQTT-3.3.1-1].
pub(super) async fn load(
    connection: &mut SqliteConnection,
    seed: Seed,
    clean: bool,
) -> Result<Loaded, Fault> {
    let queues: BTreeMap<EndpointId, Arc<Queue>> = names(connection, ENDPOINTS)
        .await?
        .into_iter()
        .map(|(id, name)| (EndpointId(id), Arc::new(Queue::new(EndpointId(id), name))))
        .collect();
    let routes = names(connection, ROUTES).await?;
    for row in connection.fetch_all(CURSORS).await? {
        let ((endpoint, priority), next) =
            cursor(&row, seed).ok_or_else(|| damaged("a cursor is damaged"))?;
        let queue = queues.get(&endpoint).ok_or_else(|| damaged("a queue has no name"))?;
        queue.lock().lane(priority).cursor = next;
    }
    let mut owed_sequences = Vec::new();
    for row in connection.fetch_all(OWED).await? {
        let (endpoint, sequence, mut owed) =
            owed(&row, seed).ok_or_else(|| damaged("an owed entry is damaged"))?;
        owed.handed_out |= !clean;
        let queue = queues.get(&endpoint).ok_or_else(|| damaged("a queue has no name"))?;
        let mut index = queue.lock();
        index.lane(owed.priority);
        index.put(sequence, owed);
        owed_sequences.push(sequence);
    }
    owed_sequences.sort_unstable();
    let segments = load_segments(connection, seed, &queues, &owed_sequences).await?;
    if !clean {
        queues.values().for_each(|queue| queue.lock().suspect_front());
    }
    let entries = queues.values().map(|queue| queue.lock().messages).sum();
    let routes = routes.into_iter().map(|(id, name)| (RouteNumber(id), name)).collect();
    Ok(Loaded { queues, routes, segments, entries })
}

async fn load_segments(
    connection: &mut SqliteConnection,
    seed: Seed,
    queues: &BTreeMap<EndpointId, Arc<Queue>>,
    owed: &[u64],
) -> Result<Segments, Fault> {
    let end: Option<i64> =
        sqlx::query_scalar("SELECT max(id) FROM slot").fetch_one(&mut *connection).await?;
    let end = u32::try_from(end.map_or(0, |last| last + 1)).map_err(|_| damaged("a slot"))?;
    let mut all = Segments::default();
    let (mut used, mut found, mut last) = (BTreeSet::new(), 0, None);
    let mut key = i64::MIN;
    loop {
        let rows = sqlx::query(read::SEGMENTS_FROM)
            .bind(key)
            .bind(256)
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            let (first, directory) = read::directory_row(row, seed);
            let directory = directory.ok_or_else(|| damaged("a directory is damaged"))?;
            if last.is_some_and(|last| first <= last) {
                return Err(damaged("segments overlap"));
            }
            last = Some(directory.last());
            if !directory.slots.iter().all(|slot| *slot < end && used.insert(*slot)) {
                return Err(damaged("a slot is missing or used twice"));
            }
            let span = first..=directory.last();
            let from = owed.partition_point(|sequence| sequence < span.start());
            let to = owed.partition_point(|sequence| sequence <= span.end());
            found += to - from;
            let waiting = load_lanes(&directory, queues)?;
            let live = waiting + u32::try_from(to - from).unwrap_or(u32::MAX);
            all.load(&directory, live);
            key = first.cast_signed() + 1;
        }
        if rows.len() < 256 {
            break;
        }
    }
    if found < owed.len() {
        return Err(damaged("an owed entry has no message"));
    }
    all.loaded(end);
    Ok(all)
}

/// Puts a segment's entries into their lanes; gives the number of those that wait.
fn load_lanes(
    directory: &Directory,
    queues: &BTreeMap<EndpointId, Arc<Queue>>,
) -> Result<u32, Fault> {
    let mut waiting = 0;
    for lane in &directory.lanes {
        let queue = queues.get(&lane.endpoint).ok_or_else(|| damaged("a queue has no name"))?;
        let mut index = queue.lock();
        let cursor = index.lane(lane.priority).cursor;
        for item in &lane.items {
            let sequence = directory.sequence(item.index);
            if sequence < cursor || index.owed(sequence).is_some() {
                continue;
            }
            let bytes = directory.items[item.index as usize].bytes;
            let (expires, route) = (item.expires, item.route);
            index.bytes += crate::queue::cost(bytes);
            index.push(lane.priority, Waiting { sequence, expires, bytes, route });
            waiting += 1;
        }
    }
    Ok(waiting)
}
