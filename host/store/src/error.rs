//! What can go wrong in the store. The texts are safe to show; SQL and paths stand only in causes.

use std::io;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the directory open.
    #[error("the store is in use by another process")]
    InUse,
    /// The file was written by a later version; it was not touched.
    #[error("the store has schema {found}; this version knows schemas up to {known}")]
    NewerSchema {
        /// Schema of the file.
        found: u32,
        /// Newest schema of this version.
        known: u32,
    },
    /// The directory or a file in it cannot be used.
    #[error("could not {what} in the store's directory")]
    Directory {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// A statement failed.
    #[error("the store could not {what}")]
    Database {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        cause: sqlx::Error,
    },
    /// The file contradicts itself while the hub runs: the next start salvages it.
    #[error("the store is damaged: {what}")]
    Damaged {
        /// Where the damage was met.
        what: &'static str,
    },
    /// The disk is full, read-only or failing; the writer tries again by itself.
    #[error("the store cannot be written: {reason}")]
    Unavailable {
        /// For people.
        reason: String,
    },
    /// The endpoint has a reader already.
    #[error("the queue has a reader already")]
    ReaderTaken,
    /// No endpoint has this number.
    #[error("there is no such queue")]
    UnknownEndpoint,
    /// The writer has ended.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    pub(crate) fn database(what: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |cause| Self::Database { what, cause }
    }

    pub(crate) fn directory(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Directory { what, cause }
    }
}
