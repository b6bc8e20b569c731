//! The files of a store's directory.
//!
//! `weir.db` with its log (`-wal`) and the log's index (`-shm`); `weir.lock`, held while the store is
//! open; `weir.note`, the few facts that the database must not contradict: its own number, how often
//! it was opened and its schema, so that a file that was exchanged, emptied or set back is noticed, and
//! whether it was closed in order; `reserve`; `quarantine/<time>/` with damaged files.

use crate::Error;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use weir_core::clock::Timestamp;

/// What stands in `weir.note`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) seed: u32,
    pub(super) starts: u32,
    pub(super) schema: u32,
    /// Everything that a consumer had seen was written down when the store was closed.
    pub(super) clean: bool,
}

/// The directory, locked.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    /// Held as long as the store is open.
    _lock: File,
}

impl Files {
    /// Makes the directory if there is none, and locks it.
    pub(super) fn lock(dir: &Path) -> Result<Self, Error> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(Error::directory("make a folder"))?;
        // Also when it was there: what is in it is nobody else's business.
        drop(fs::set_permissions(dir, fs::Permissions::from_mode(0o700)));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(dir.join("weir.lock"))
            .map_err(Error::directory("open the lock"))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::InUse),
            Err(errno) => return Err(Error::directory("lock")(errno.into())),
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    pub(super) fn database(&self) -> PathBuf {
        self.dir.join("weir.db")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("weir.db-wal")
    }

    /// Where a new database is built before it takes its place.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.dir.join("weir.db.new")
    }

    fn finished(&self) -> PathBuf {
        self.dir.join("weir.db.ready")
    }

    pub(super) fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    /// Size of the partition in bytes.
    pub(super) fn partition_bytes(&self) -> Result<u64, Error> {
        let stat = rustix::fs::statvfs(&self.dir)
            .map_err(|errno| Error::directory("measure the partition")(errno.into()))?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    pub(super) fn note(&self) -> Option<Note> {
        let text = fs::read_to_string(self.dir.join("weir.note")).ok()?;
        let mut words = text.split_ascii_whitespace();
        let seed = words.next()?.parse().ok()?;
        let starts = words.next()?.parse().ok()?;
        let schema = words.next()?.parse().ok()?;
        let clean = words.next() == Some("clean");
        Some(Note { seed, starts, schema, clean })
    }

    /// Adds to the note that the store was closed in order.
    pub(crate) fn note_clean(&self) -> io::Result<()> {
        match self.note() {
            Some(note) => self.write_note(Note { clean: true, ..note }),
            None => Ok(()),
        }
    }

    pub(super) fn write_note(&self, note: Note) -> io::Result<()> {
        let new = self.dir.join("weir.note.new");
        let mut file = private_file(&new)?;
        let end = if note.clean { " clean" } else { "" };
        writeln!(file, "{} {} {}{end}", note.seed, note.starts, note.schema)?;
        file.sync_all()?;
        fs::rename(new, self.dir.join("weir.note"))?;
        self.sync()
    }

    /// Ends what a start before this one began and did not finish.
    pub(super) fn finish_exchange(&self) -> Result<(), Error> {
        remove(&self.unfinished());
        if !self.database().exists() && self.finished().exists() {
            self.take_over()?;
        }
        remove(&self.finished());
        Ok(())
    }

    /// The new database takes the place of the old one, which goes to quarantine: gives its folder.
    pub(super) fn exchange(&self, now: Timestamp) -> Result<String, Error> {
        let what = "exchange the damaged file";
        let sync = File::open(self.unfinished()).and_then(|file| file.sync_all());
        sync.map_err(Error::directory(what))?;
        fs::rename(self.unfinished(), self.finished()).map_err(Error::directory(what))?;
        let folder = self.quarantine(now)?;
        self.take_over()?;
        Ok(folder)
    }

    fn take_over(&self) -> Result<(), Error> {
        fs::rename(self.finished(), self.database())
            .and_then(|()| self.sync())
            .map_err(Error::directory("exchange the damaged file"))
    }

    /// A new database without a predecessor takes its place.
    pub(super) fn begin(&self) -> Result<(), Error> {
        let what = "make the database";
        let sync = File::open(self.unfinished()).and_then(|file| file.sync_all());
        sync.map_err(Error::directory(what))?;
        fs::rename(self.unfinished(), self.database())
            .and_then(|()| self.sync())
            .map_err(Error::directory(what))
    }

    /// Puts the database and its log aside.
    fn quarantine(&self, now: Timestamp) -> Result<String, Error> {
        let what = "put the damaged file aside";
        let time: String =
            now.to_string().chars().take(19).filter(|c| *c != '-' && *c != ':').collect();
        let (mut name, mut again) = (format!("{time}Z"), 0);
        let quarantine = self.dir.join("quarantine");
        while quarantine.join(&name).exists() {
            again += 1;
            name = format!("{time}Z-{again}");
        }
        let folder = quarantine.join(&name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(Error::directory(what))?;
        for file in ["weir.db", "weir.db-wal", "weir.db-shm"] {
            match fs::rename(self.dir.join(file), folder.join(file)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::directory(what)(error)),
            }
        }
        self.sync().map_err(Error::directory(what))?;
        Ok(name)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn remove(path: &Path) {
    for end in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        // Usually there is none.
        drop(fs::remove_file(name));
    }
}

/// Makes an empty file that only the owner reads.
pub(super) fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}
