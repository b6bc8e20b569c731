//! Opening a store: lock, look, check, and when the file is damaged save what can be read.
//!
//! Invariants:
//! 1. A file of a newer schema is not written to.
//! 2. A damaged file is moved to `quarantine/`, never repaired in place, and the report says what was
//!    taken over and what is lost. A start never says that all is well when rows are missing: the
//!    note beside the database, the checksums and the counts in the directories must all agree.
//! 3. The note says which schema the file may have: it is raised before the file is migrated, so that a
//!    crash in between leaves a file that is believed.
//! 4. At any instant of a crash the next start finds either the old file or the finished new one.

mod check;
mod files;
mod header;
mod load;
mod salvage;
pub(crate) mod schema;

pub(crate) use files::Files;

use crate::Error;
use crate::segment::Seed;
use crate::shared::Shared;
use crate::sqlite::{self, Database, Failure, Readers};
use crate::store::{Opened, Options, Store};
use crate::view::{Count, Damage, Health, OpenReport};
use crate::writer::reserve::Reserve;
use crate::writer::{Start, Writer};
use files::Note;
use header::Look;
use load::{Fault, Loaded};
use sqlx::sqlite::{SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor, Row};
use std::sync::Arc;
use tokio::sync::mpsc;
use weir_core::limits;

/// For the test that prepares every statement.
#[cfg(test)]
pub(crate) const STATEMENTS: &[&str] = &[load::CURSORS, load::OWED, load::ENDPOINTS, load::ROUTES];

/// A file that is believed.
#[derive(Debug)]
struct Sound {
    connection: SqliteConnection,
    seed: Seed,
    starts: u32,
    loaded: Loaded,
    checked_whole: bool,
}

/// See [`Store::open`].
pub(crate) async fn open(options: Options) -> Result<Opened, Error> {
    let files = Files::lock(&options.dir)?;
    files.finish_exchange()?;
    let note = files.note();
    let (sound, created, damage) = match examine(&files, &options, note).await? {
        Verdict::Sound(sound) => (*sound, false, None),
        Verdict::Absent => {
            let seed = note.map_or_else(|| fastrand::u32(..), |note| note.seed);
            build(&files, seed, 0, async |_| Ok(())).await?;
            files.begin()?;
            (reopen(&files, &options).await?, true, None)
        }
        Verdict::Damaged { what, countable } => {
            tracing::error!(what, "the store is damaged, what can be read is taken over");
            let damage = save(&files, &options, note, what, countable).await?;
            tracing::error!(
                quarantined = damage.quarantined,
                salvaged = damage.salvaged_messages,
                lost = ?damage.lost_messages,
                "the damaged store was put aside"
            );
            (reopen(&files, &options).await?, false, Some(damage))
        }
    };
    let report = OpenReport {
        created,
        damage,
        checked_whole: sound.checked_whole,
        entries: sound.loaded.entries,
    };
    finish(files, options, sound, report).await
}

enum Verdict {
    Absent,
    Sound(Box<Sound>),
    Damaged {
        what: String,
        /// What is missing can be told by what is there.
        countable: bool,
    },
}

/// Something is missing, and nobody knows how much.
fn exchanged(what: &str) -> Verdict {
    Verdict::Damaged { what: what.to_owned(), countable: false }
}

/// Parts of the file are bad.
fn damaged(what: impl Into<String>) -> Verdict {
    Verdict::Damaged { what: what.into(), countable: true }
}

async fn examine(files: &Files, options: &Options, note: Option<Note>) -> Result<Verdict, Error> {
    let look = header::look(&files.database(), &files.log());
    match look.map_err(Error::directory("read the database"))? {
        Look::Absent if note.is_some_and(|note| note.starts > 0) => {
            Ok(exchanged("the database is gone"))
        }
        Look::Absent => Ok(Verdict::Absent),
        Look::Damaged(what) => Ok(exchanged(what)),
        // A bit that flipped looks like another schema; the note knows better.
        Look::Store(schema) if note.is_some_and(|note| note.schema < schema) => {
            Ok(damaged("the schema is not the one that was written"))
        }
        Look::Store(found) if found > schema::newest() => {
            Err(Error::NewerSchema { found, known: schema::newest() })
        }
        Look::Store(schema) => match believe(files, options, note, schema).await {
            Ok(sound) => Ok(Verdict::Sound(Box::new(sound))),
            Err(Fault::Damaged(what)) => Ok(damaged(what)),
            Err(Fault::Exchanged(what)) => Ok(exchanged(what)),
            Err(Fault::Database(error)) => match sqlite::failure(&error) {
                Failure::Damaged => Ok(damaged("SQLite cannot read it")),
                Failure::Other if matches!(error, sqlx::Error::Database(_)) => {
                    Ok(damaged("a table is not as it should be"))
                }
                Failure::Other if sqlite::is_of_the_statement(&error) => {
                    Ok(damaged("a row is not as it should be"))
                }
                Failure::Full | Failure::ReadOnly | Failure::Disk | Failure::Other => {
                    Err(Error::database("open")(error))
                }
            },
        },
    }
}

/// Opens the file and reads everything; an error when it contradicts itself or the note.
async fn believe(
    files: &Files,
    options: &Options,
    note: Option<Note>,
    schema: u32,
) -> Result<Sound, Fault> {
    let writer = sqlite::writer_options(&files.database(), options.durability);
    let mut connection = writer.connect().await?;
    let result = match believe_open(&mut connection, options, note).await {
        Ok(sound) => migrate(&mut connection, files, note, schema).await.map(|()| sound),
        Err(fault) => Err(fault),
    };
    match result {
        Ok((seed, starts, loaded, checked_whole)) => {
            Ok(Sound { connection, seed, starts, loaded, checked_whole })
        }
        Err(fault) => {
            drop(connection.close().await);
            Err(fault)
        }
    }
}

async fn believe_open(
    connection: &mut SqliteConnection,
    options: &Options,
    note: Option<Note>,
) -> Result<(Seed, u32, Loaded, bool), Fault> {
    let (seed, starts) = identity(connection).await?;
    let clean = note.is_some_and(|note| note.clean && note.starts == starts);
    if note.is_some_and(|note| note.seed != seed.0) {
        return Err(Fault::Exchanged("the file belongs to another store"));
    }
    if note.is_some_and(|note| note.starts > starts) {
        return Err(Fault::Exchanged("the file is an older one"));
    }
    let checked_whole = check::check(connection, seed, &options.clock).await?;
    let loaded = load::load(connection, seed, clean).await?;
    Ok((seed, starts, loaded, checked_whole))
}

/// Brings a file that is believed up to date.
async fn migrate(
    connection: &mut SqliteConnection,
    files: &Files,
    note: Option<Note>,
    schema: u32,
) -> Result<(), Fault> {
    if let Some(note) = note.filter(|note| note.schema < schema::newest()) {
        let raised = Note { schema: schema::newest(), ..note };
        files.write_note(raised).map_err(sqlx::Error::Io)?;
    }
    Ok(schema::migrate(connection, schema).await?)
}

async fn identity(connection: &mut SqliteConnection) -> Result<(Seed, u32), Fault> {
    let row = connection.fetch_optional("SELECT seed, starts FROM store WHERE id = 1").await?;
    let row = row.ok_or_else(|| load::damaged("the store's own row is missing"))?;
    let (seed, starts): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    match (u32::try_from(seed), u32::try_from(starts)) {
        (Ok(seed), Ok(starts)) => Ok((Seed(seed), starts)),
        (_, _) => Err(load::damaged("the store's own row is damaged")),
    }
}

/// Builds a new database beside the old one; `fill` puts something into it.
async fn build(
    files: &Files,
    seed: u32,
    starts: u32,
    fill: impl AsyncFnOnce(&mut SqliteConnection) -> Result<(), sqlx::Error>,
) -> Result<(), Error> {
    let path = files.unfinished();
    files::private_file(&path).map_err(Error::directory("make the database"))?;
    // Nobody needs the half of it: no log, and one sync at the end.
    let options = sqlite::writer_options(&path, crate::Durability::Process)
        .journal_mode(SqliteJournalMode::Memory)
        .synchronous(SqliteSynchronous::Off);
    let built = async {
        let mut connection = options.connect().await?;
        schema::migrate(&mut connection, 0).await?;
        sqlx::query("INSERT INTO store (id, seed, starts) VALUES (1, ?, ?)")
            .bind(i64::from(seed))
            .bind(i64::from(starts))
            .execute(&mut connection)
            .await?;
        connection.execute("BEGIN").await?;
        fill(&mut connection).await?;
        connection.execute("COMMIT").await?;
        connection.close().await
    };
    built.await.map_err(Error::database("make the database"))
}

/// Takes over what can be read of a damaged file, and puts the file aside.
async fn save(
    files: &Files,
    options: &Options,
    note: Option<Note>,
    what: String,
    countable: bool,
) -> Result<Damage, Error> {
    let mut salvage = salvage::Salvage::begin(&files.database(), note, &options.clock).await;
    let seed = salvage.seed.map_or_else(|| fastrand::u32(..), |seed| seed.0);
    let starts = salvage.starts;
    build(files, seed, starts, async |connection| salvage.take_over(connection).await).await?;
    let outcome = salvage.end().await;
    let quarantined = files.exchange(options.clock.now())?;
    Ok(Damage {
        quarantined,
        what,
        salvaged_messages: outcome.messages,
        lost_messages: match countable && outcome.all_counted {
            true => Count::Known(outcome.lost),
            false => Count::AtLeast(outcome.lost),
        },
        salvaged_rows: outcome.rows,
        damaged_tables: outcome.damaged_tables,
    })
}

/// Opens a file that was just built.
async fn reopen(files: &Files, options: &Options) -> Result<Sound, Error> {
    match believe(files, options, None, schema::newest()).await {
        Ok(sound) => Ok(sound),
        Err(Fault::Database(cause)) => Err(Error::database("open")(cause)),
        Err(Fault::Exchanged(_)) => unreachable!("there is no note to contradict"),
        Err(Fault::Damaged(what)) => {
            tracing::error!(what, "the new database is not as it was written");
            Err(Error::Damaged { what: "the new database is not as it was written" })
        }
    }
}

/// Counts the start and puts the parts together.
async fn finish(
    files: Files,
    options: Options,
    sound: Sound,
    report: OpenReport,
) -> Result<Opened, Error> {
    let Sound { mut connection, seed, starts, loaded, .. } = sound;
    let start = starts + 1;
    let counted = connection.execute("UPDATE store SET starts = starts + 1").await;
    if let Err(cause) = counted {
        return Err(Error::database("count the start")(cause));
    }
    let note = Note { seed: seed.0, starts: start, schema: schema::newest(), clean: false };
    files.write_note(note).map_err(Error::directory("write the note"))?;
    let readers = Readers::open(&files.database()).await?;
    let partition = files.partition_bytes()?;
    let max_bytes = options
        .total_bytes
        .unwrap_or_else(|| limits::STORE_BYTES.min(partition.saturating_mul(4) / 5));
    let health = Health {
        writable: true,
        reason: None,
        since: options.clock.now(),
        damaged_entries: 0,
        opened: report.clone(),
    };
    let shared = Arc::new(Shared::new(seed, options.clock, readers, max_bytes, health));
    *shared.queues_mut() = loaded.queues;
    *shared.routes_mut() = loaded.routes;
    let (jobs, waiting) = mpsc::channel(limits::WRITER_QUEUE);
    let database = Database::new(files.database(), options.durability, seed, connection);
    let reserve = Reserve::new(files.reserve(), limits::RESERVE_BYTES.min(partition / 16));
    let writer_start = Start {
        segments: loaded.segments,
        // As with message numbers: no sequence is ever given twice, although none is written down.
        next_sequence: u64::from(start) << 40,
    };
    let writer =
        Writer::new(Arc::clone(&shared), waiting, (database, files), reserve, writer_start);
    Ok(Opened { store: Store::new(shared, jobs), writer, report, start })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Durability;
    use weir_core::clock::Clock;

    /// Makes the file and its note what the version before the documents has left.
    async fn set_back(files: &Files, options: &Options) {
        let path = files.database();
        let mut connection =
            sqlite::writer_options(&path, options.durability).connect().await.unwrap();
        let sql = "DROP TABLE document; DROP TABLE document_revision; PRAGMA user_version = 1;";
        connection.execute(sql).await.unwrap();
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
        connection.close().await.unwrap();
        let note = files.note().unwrap();
        files.write_note(Note { schema: 1, ..note }).unwrap();
    }

    #[tokio::test]
    async fn a_crash_right_after_a_migration_leaves_a_file_that_is_believed() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            dir: folder.path().to_owned(),
            durability: Durability::Process,
            total_bytes: None,
            clock: Clock::system(),
        };
        drop(open(options.clone()).await.unwrap());
        let files = Files::lock(&options.dir).unwrap();
        set_back(&files, &options).await;
        let note = files.note();
        let Look::Store(schema) = header::look(&files.database(), &files.log()).unwrap() else {
            panic!("a store was made");
        };
        assert_eq!(schema, 1);
        // What a start does up to the migration, and nothing of what comes behind it.
        drop(believe(&files, &options, note, schema).await.unwrap_or_else(|_| panic!("sound")));
        drop(files);
        let opened = open(options).await.unwrap();
        assert!(opened.report.damage.is_none(), "{:?}", opened.report.damage);
        assert!(opened.store.document("route", "a").await.unwrap().is_none());
    }
}
