//! The file itself: opened, appended to, synced, rotated. Blocking; called on blocking threads only.
//!
//! Invariants:
//!
//! 1. Between calls the file ends with a whole line. What a crash or a failed write left behind is cut
//!    off, by the same step or at the next opening; a file of others is refused, not cut.
//! 2. After an error of fsync the descriptor is dropped and never synced again: the kernel may have
//!    forgotten the failed pages and would report success.
//! 3. A file that was moved or deleted by others is noticed before each write, and a new one is begun.
//! 4. One writer: the file is locked, so that a second hub cannot tear lines.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tracing::{info, warn};
use weir_core::port::Delivery;

use crate::{FileConfig, Fsync, envelope};

/// Lines are handed to the system in pieces of about this size.
const WRITE_BYTES: usize = 1024 * 1024;
/// How much is read at a time to find the end of the last whole line.
const TAIL_BYTES: u64 = 64 * 1024;
/// No line is longer: a message of 256 KiB, each byte escaped, and room for the rest.
const MAX_LINE_BYTES: u64 = 4 * 1024 * 1024;
/// How every line begins.
const LINE_START: &[u8] = b"{\"id\":\"";

pub(super) struct Log {
    path: PathBuf,
    rotate_bytes: u64,
    keep_files: u32,
    fsync: Fsync,
    open: Option<Open>,
    lines: Vec<u8>,
}

struct Open {
    file: File,
    /// Bytes written.
    bytes: u64,
    /// Bytes of messages that were answered: what a failure may not take back.
    kept_bytes: u64,
    is_synced: bool,
}

impl Log {
    pub(super) fn new(config: &FileConfig) -> Self {
        Self {
            path: config.path.clone(),
            rotate_bytes: config.rotate_bytes,
            keep_files: config.keep_files,
            fsync: config.fsync,
            open: None,
            lines: Vec::new(),
        }
    }

    /// Opens the file unless it is open.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|open| !is_at(&open.file, &self.path)) {
            info!("the upstream file was moved or deleted; a new one is begun");
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(Open::at(&self.path)?);
            self.sync_folder()?;
        }
        Ok(())
    }

    /// Writes the messages of all batches. After an error nothing of them is left in the open file.
    pub(super) fn append(&mut self, batches: &[Vec<Delivery>]) -> io::Result<()> {
        self.ready()?;
        let result = self.append_lines(batches);
        self.lines.clear();
        self.lines.shrink_to(2 * WRITE_BYTES);
        match (&result, &mut self.open) {
            (Ok(()), Some(open)) => open.kept_bytes = open.bytes,
            (Err(_), _) => self.undo(),
            (Ok(()), None) => {}
        }
        result
    }

    fn append_lines(&mut self, batches: &[Vec<Delivery>]) -> io::Result<()> {
        for delivery in batches.iter().flatten() {
            let before = self.lines.len();
            envelope::put(&delivery.message, &mut self.lines);
            self.lines.push(b'\n');
            if self.bytes() + self.lines.len() as u64 > self.rotate_bytes
                && self.bytes() + before as u64 > 0
            {
                let line = self.lines.split_off(before);
                self.write()?;
                self.rotate()?;
                self.lines = line;
            }
            if self.lines.len() >= WRITE_BYTES {
                self.write()?;
            }
        }
        self.write()?;
        match self.fsync {
            Fsync::Always => self.sync(),
            Fsync::Interval | Fsync::Never => Ok(()),
        }
    }

    fn bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.bytes)
    }

    fn write(&mut self) -> io::Result<()> {
        let open = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        open.file.write_all(&self.lines)?;
        open.bytes += self.lines.len() as u64;
        open.is_synced &= self.lines.is_empty();
        self.lines.clear();
        Ok(())
    }

    /// Everything that was written is on disk afterwards.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        if !open.is_synced {
            if let Err(error) = open.file.sync_data() {
                self.undo();
                self.open = None;
                return Err(error);
            }
            open.is_synced = true;
        }
        Ok(())
    }

    /// After a failure: back to what was answered.
    fn undo(&mut self) {
        let Some(open) = &mut self.open else { return };
        match open.file.set_len(open.kept_bytes) {
            Ok(()) => open.bytes = open.kept_bytes,
            Err(_) => self.open = None,
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.fsync != Fsync::Never {
            self.sync()?;
        }
        let closed = self.closed_files()?;
        let next = closed.last().map_or(1, |(number, _)| number.saturating_add(1));
        std::fs::rename(&self.path, numbered(&self.path, next))?;
        self.open = None;
        self.open = Some(Open::at(&self.path)?);
        self.sync_folder()?;
        self.delete_oldest(&closed);
        Ok(())
    }

    /// The closed files with their numbers, oldest first.
    fn closed_files(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut closed = Vec::new();
        for entry in std::fs::read_dir(folder(&self.path))? {
            let path = entry?.path();
            let is_ours = path.file_stem() == self.path.file_name();
            let number = path.extension().and_then(|text| text.to_str()?.parse().ok());
            if let (true, Some(number)) = (is_ours, number) {
                closed.push((number, path));
            }
        }
        closed.sort_unstable();
        Ok(closed)
    }

    /// `closed` is what was there before the file that has just been closed.
    fn delete_oldest(&self, closed: &[(u64, PathBuf)]) {
        if self.keep_files == 0 {
            return;
        }
        let excess = (closed.len() + 1).saturating_sub(self.keep_files as usize);
        for (number, path) in closed.iter().take(excess) {
            match std::fs::remove_file(path) {
                Ok(()) => info!(number, "deleted the oldest upstream file"),
                Err(error) => warn!(number, %error, "could not delete an upstream file"),
            }
        }
    }

    fn sync_folder(&self) -> io::Result<()> {
        match self.fsync {
            Fsync::Never => Ok(()),
            Fsync::Always | Fsync::Interval => File::open(folder(&self.path))?.sync_all(),
        }
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process writes this file"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let length = file.metadata()?.len();
        let bytes = whole_lines(&mut file, length)?;
        if bytes < length {
            warn!(bytes = length - bytes, "cut off what a crash had left of unfinished lines");
            file.set_len(bytes)?;
        }
        Ok(Self { file, bytes, kept_bytes: bytes, is_synced: false })
    }
}

/// Length of the file without a torn last line, and without lines at its end whose blocks never
/// reached the disk and read as zeros.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = line_start(file, end - 1)?;
        file.seek(SeekFrom::Start(start))?;
        let mut line = Vec::new();
        io::Read::by_ref(file).take((end - start).min(MAX_LINE_BYTES)).read_to_end(&mut line)?;
        match judge(&line) {
            Tail::Whole => break,
            Tail::Torn => end = start,
            Tail::Foreign => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it ends with a line that is not a message",
                ));
            }
        }
    }
    Ok(end)
}

enum Tail {
    Whole,
    Torn,
    Foreign,
}

fn judge(line: &[u8]) -> Tail {
    let has_break = line.last() == Some(&b'\n');
    if has_break && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() {
        Tail::Whole
    } else if line.contains(&0) || !has_break && begins_like_a_line(line) {
        Tail::Torn
    } else {
        Tail::Foreign
    }
}

fn begins_like_a_line(text: &[u8]) -> bool {
    let shared = text.len().min(LINE_START.len());
    text[..shared] == LINE_START[..shared]
}

/// Where the line begins that the byte before `end` lies in.
fn line_start(file: &mut File, mut end: u64) -> io::Result<u64> {
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        io::Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:06}"));
    name.into()
}
