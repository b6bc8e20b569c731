//! The store: the durable queue and everything else the hub keeps, in one SQLite file.
//!
//! The only crate that knows SQL. [`Store::open`] gives a cheap handle and a [`Writer`] that the
//! caller runs as a task; the writer owns the only writing connection and commits whatever waits as
//! one transaction. The promise of the crate: an append or a change is answered after its commit
//! (`synchronous=FULL`), and what was answered is handed out again until it is settled.
#![forbid(unsafe_code)]

mod chain;
mod dead_letter;
mod document;
mod error;
mod look;
mod message;
mod open;
#[cfg(test)]
mod plans;
mod queue;
mod read;
mod reader;
mod segment;
mod shared;
mod sqlite;
mod store;
mod view;
mod writer;

pub use chain::{Chain, ChangeReceipt, Receipt, Slot};
pub use document::{Document, Expect, Write, WriteError};
pub use error::Error;
pub use message::{
    Append, Appended, Change, CommitError, Committed, DeadLetterId, Disposition, EndpointId, Entry,
    Refused, RouteNumber, Target, Why,
};
pub use reader::Reader;
pub use store::{Durability, Opened, Options, Store};
pub use view::{
    Count, Damage, DeadLetter, ENTRY_OVERHEAD_BYTES, EntryState, Found, Health, OpenReport, Peeked,
    Place, QueueLimit, QueueUsage, Usage, WhenFull,
};
pub use writer::Writer;
