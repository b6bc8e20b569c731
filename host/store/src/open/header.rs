//! What the bytes of the files say before SQLite is asked: whether the file is ours, which schema it
//! has, and whether its log has a hole.
//!
//! SQLite stops at the first frame of the log whose checksum is wrong and takes what follows for the
//! rest of a transaction that was never committed. But a commit is synced before the next one is
//! written: a commit after a broken frame means that the frame was once sound and what it held is
//! gone. Only the last commit may be torn. (SQLite file format, "WAL File Format".)

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// `application_id` of a store: "WEIR".
pub(super) const APPLICATION: u32 = 0x5745_4952;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const LOG_HEAD: usize = 32;
const FRAME_HEAD: usize = 24;

/// What the files look like.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There is no file.
    Absent,
    /// A store of this schema.
    Store(u32),
    /// Not a store, or not a whole one.
    Damaged(&'static str),
}

/// Looks at the database and its log without touching them.
pub(super) fn look(database: &Path, log: &Path) -> io::Result<Look> {
    let mut head = Vec::new();
    match File::open(database) {
        Ok(file) => file.take(100).read_to_end(&mut head)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(match log.exists() {
                true => Look::Damaged("there is a log without a database"),
                false => Look::Absent,
            });
        }
        Err(error) => return Err(error),
    };
    if head.is_empty() {
        return Ok(Look::Damaged("the file is empty"));
    }
    if head.len() < 100 || !head.starts_with(MAGIC) {
        return Ok(Look::Damaged("the file is no database"));
    }
    let log = match std::fs::read(log) {
        Ok(bytes) => read_log(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Log::default(),
        Err(error) => return Err(error),
    };
    if log.has_hole {
        return Ok(Look::Damaged("committed pages in the log are damaged"));
    }
    let head = log.first_page.as_deref().unwrap_or(&head);
    match (number(head, 68), number(head, 60)) {
        (Some(APPLICATION), Some(schema)) => Ok(Look::Store(schema)),
        (_, _) => Ok(Look::Damaged("the file is another program's")),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[derive(Debug, Default)]
struct Log {
    /// The newest committed first page.
    first_page: Option<Vec<u8>>,
    has_hole: bool,
}

fn read_log(bytes: &[u8]) -> Log {
    let Some((page, big_endian, salts)) = log_head(bytes) else {
        // Not a log that SQLite would look at; a log of zeros is what a reset leaves.
        let has_hole = bytes.iter().any(|byte| *byte != 0);
        return Log { has_hole, ..Log::default() };
    };
    let mut sum = checksum((0, 0), &bytes[..24], big_endian);
    let (mut log, mut uncommitted, mut sound, mut commits_behind) = (Log::default(), None, true, 0);
    for frame in bytes[LOG_HEAD..].chunks_exact(FRAME_HEAD + page) {
        let (head, body) = frame.split_at(FRAME_HEAD);
        if head[8..16] != salts {
            // Left from before the log was begun anew.
            break;
        }
        let is_commit = number(head, 4) != Some(0);
        if sound {
            sum = checksum(checksum(sum, &head[..8], big_endian), body, big_endian);
            sound = number(head, 16) == Some(sum.0) && number(head, 20) == Some(sum.1);
        }
        if !sound {
            commits_behind += u32::from(is_commit);
            continue;
        }
        if number(head, 0) == Some(1) {
            uncommitted = Some(body[..100.min(body.len())].to_vec());
        }
        if is_commit && let Some(first) = uncommitted.take() {
            log.first_page = Some(first);
        }
    }
    log.has_hole = commits_behind > 1;
    log
}

/// Page size, byte order of the checksums, and salts.
fn log_head(bytes: &[u8]) -> Option<(usize, bool, [u8; 8])> {
    let magic = number(bytes, 0)?;
    if magic & !1 != 0x377f_0682 || bytes.len() < LOG_HEAD {
        return None;
    }
    let page = number(bytes, 8)? as usize;
    let big_endian = magic & 1 == 1;
    let sum = checksum((0, 0), &bytes[..24], big_endian);
    let sound = number(bytes, 24) == Some(sum.0) && number(bytes, 28) == Some(sum.1);
    let salts = bytes[16..24].try_into().ok()?;
    (sound && page.is_power_of_two() && (512..=65_536).contains(&page))
        .then_some((page, big_endian, salts))
}

fn checksum(start: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    let word = |word: &[u8]| {
        let word = word.try_into().expect("eight bytes are two words");
        if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    bytes.chunks_exact(8).fold(start, |(a, b), pair| {
        let a = a.wrapping_add(word(&pair[..4])).wrapping_add(b);
        (a, b.wrapping_add(word(&pair[4..])).wrapping_add(a))
    })
}
