//! Reading the queue's tables.

use crate::message::EndpointId;
use crate::queue::lane::Waiting;
use crate::segment::Seed;
use crate::segment::body::Loaded;
use crate::segment::directory::Directory;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Executor, Row};
use std::collections::BTreeMap;

pub(crate) const SEGMENT_OF: &str =
    "SELECT first, directory FROM segment WHERE first <= ? ORDER BY first DESC LIMIT 1";
pub(crate) const SEGMENTS_FROM: &str =
    "SELECT first, directory FROM segment WHERE first >= ? ORDER BY first LIMIT ?";

/// Directory rows read at once.
const ROWS: i64 = 64;

/// Where a lane is to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) endpoint: EndpointId,
    pub(crate) priority: u32,
    /// First sequence wanted.
    pub(crate) from: u64,
}

/// What was read of a lane.
#[derive(Debug)]
pub(crate) struct LaneRead {
    pub(crate) entries: Vec<Waiting>,
    /// There are no more.
    pub(crate) complete: bool,
}

/// The key and the directory of a row; the directory is none when it is damaged.
pub(crate) fn directory_row(row: &SqliteRow, seed: Seed) -> (u64, Option<Directory>) {
    // In a damaged file a column may hold anything.
    let first = row.try_get::<i64, _>(0).unwrap_or_default().cast_unsigned();
    let directory = row.try_get::<&[u8], _>(1).ok();
    (first, directory.and_then(|directory| Directory::decode(first, directory, seed)))
}

/// Reads the segment that holds a message, directory and body, as of one moment.
pub(crate) async fn segment_of(
    connection: &mut SqliteConnection,
    sequence: u64,
    seed: Seed,
) -> Result<Option<Loaded>, sqlx::Error> {
    connection.execute("BEGIN").await?;
    let row = sqlx::query(SEGMENT_OF)
        .bind(sequence.cast_signed())
        .fetch_optional(&mut *connection)
        .await?;
    let loaded = match row.and_then(|row| directory_row(&row, seed).1) {
        Some(directory) => {
            let slots = slots(connection, &directory.slots).await?;
            Some(Loaded::new(directory, &slots, seed))
        }
        None => None,
    };
    connection.execute("COMMIT").await?;
    Ok(loaded)
}

/// Reads the segment that holds a message, or the next one after it.
pub(crate) async fn segment_from(
    connection: &mut SqliteConnection,
    sequence: u64,
    seed: Seed,
) -> Result<Option<Loaded>, sqlx::Error> {
    let segment = segment_of(connection, sequence, seed).await?;
    if segment.as_ref().is_some_and(|segment| segment.directory.last() >= sequence) {
        return Ok(segment);
    }
    let next = sqlx::query(SEGMENTS_FROM)
        .bind(sequence.cast_signed())
        .bind(1)
        .fetch_optional(&mut *connection)
        .await?;
    match next.map(|row| directory_row(&row, seed).0) {
        Some(first) => segment_of(connection, first, seed).await,
        None => Ok(None),
    }
}

/// The text that reads so many slots.
pub(crate) fn slots_sql(count: usize) -> String {
    let mut sql = String::from("SELECT id, body FROM slot WHERE id IN (?");
    for _ in 1..count {
        sql.push_str(",?");
    }
    sql.push(')');
    sql
}

/// Bodies of slots, in the order of `ids`.
pub(crate) async fn slots(
    connection: &mut SqliteConnection,
    ids: &[u32],
) -> Result<Vec<Option<Vec<u8>>>, sqlx::Error> {
    let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    for ids in ids.chunks(32) {
        let padded = ids.len().next_power_of_two();
        let mut query = sqlx::query(AssertSqlSafe(slots_sql(padded)));
        for id in ids {
            query = query.bind(i64::from(*id));
        }
        for _ in ids.len()..padded {
            query = query.bind(None::<i64>);
        }
        for row in query.fetch_all(&mut *connection).await? {
            let id = row.try_get::<i64, _>(0).ok().and_then(|id| u32::try_from(id).ok());
            if let (Some(id), Ok(body)) = (id, row.try_get(1)) {
                found.insert(id, body);
            }
        }
    }
    Ok(ids.iter().map(|id| found.remove(id)).collect())
}

/// Reads the next `wanted` entries of a lane.
pub(crate) async fn lane(
    connection: &mut SqliteConnection,
    lane: Lane,
    wanted: usize,
    seed: Seed,
) -> Result<LaneRead, sqlx::Error> {
    let start = sqlx::query(SEGMENT_OF)
        .bind(lane.from.cast_signed())
        .fetch_optional(&mut *connection)
        .await?;
    let mut key = start.map_or(lane.from, |row| directory_row(&row, seed).0).cast_signed();
    let mut entries = Vec::new();
    loop {
        let rows =
            sqlx::query(SEGMENTS_FROM).bind(key).bind(ROWS).fetch_all(&mut *connection).await?;
        let complete = rows.len() < usize::try_from(ROWS).unwrap_or(usize::MAX);
        for row in &rows {
            let (first, directory) = directory_row(row, seed);
            key = first.cast_signed() + 1;
            if let Some(directory) = directory {
                lane_entries(&directory, lane, &mut entries);
            }
        }
        if entries.len() > wanted {
            entries.truncate(wanted);
            return Ok(LaneRead { entries, complete: false });
        }
        if complete {
            return Ok(LaneRead { entries, complete });
        }
    }
}

/// Entries of a lane in one segment.
pub(crate) fn lane_entries(directory: &Directory, lane: Lane, entries: &mut Vec<Waiting>) {
    let lists = directory
        .lanes
        .iter()
        .filter(|items| items.endpoint == lane.endpoint && items.priority == lane.priority);
    for item in lists.flat_map(|items| &items.items) {
        let sequence = directory.sequence(item.index);
        if sequence >= lane.from {
            entries.push(Waiting {
                sequence,
                expires: item.expires,
                bytes: directory.items[item.index as usize].bytes,
                route: item.route,
            });
        }
    }
}
