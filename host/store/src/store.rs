//! The handle that everyone holds.
use crate::message::{
    Append, Appended, Change, CommitError, Committed, DeadLetterId, EndpointId, RouteNumber,
};
use crate::view::{DeadLetter, Found, Health, OpenReport, Peeked, QueueLimit, Usage};
use crate::{Error, Reader, Writer};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use tokio::sync::watch;
use weir_core::clock::Clock;
use weir_core::id::{MessageId, Sequence};
use weir_core::module_state::StateValue;

/// What survives what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// What was acknowledged survives a power cut (`synchronous=FULL`).
    #[default]
    Power,
    /// What was acknowledged survives the end of the process, not a power cut (`NORMAL`).
    Process,
}

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its directory; created with mode 0700.
    pub dir: PathBuf,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Limit of the database file; `None`: 1 GiB or 80 % of the partition, whichever is less.
    pub total_bytes: Option<u64>,
    /// The hub's clock.
    pub clock: Clock,
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub store: Store,
    /// The task that commits; nothing is written before it runs.
    pub writer: Writer,
    /// What was found.
    pub report: OpenReport,
    /// How often this store was opened, this time included.
    pub start: u32,
}

/// A handle to the store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {}

impl Store {
    /// Opens the store in `options.dir`, or makes one. A damaged file is put aside and what can be
    /// read of it is taken over; see [`OpenReport`].
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NewerSchema`], and failures of the file system.
    pub async fn open(options: Options) -> Result<Opened, Error> {
        let _ = options;
        todo!()
    }

    /// Ends the writer when the jobs that wait are done; resolves when it has ended.
    pub async fn close(&self) {
        todo!()
    }

    /// The queue of this name; made if there is none.
    ///
    /// # Errors
    /// When the name cannot be stored.
    pub async fn endpoint(&self, name: &str) -> Result<EndpointId, Error> {
        let _ = name;
        todo!()
    }

    /// The number of a route's name; given if it has none.
    ///
    /// # Errors
    /// When the name cannot be stored.
    pub async fn route_number(&self, name: &str) -> Result<RouteNumber, Error> {
        let _ = name;
        todo!()
    }

    /// All queues.
    #[must_use]
    pub fn endpoint_names(&self) -> Vec<(EndpointId, String)> {
        todo!()
    }

    /// All routes that ever had a number.
    #[must_use]
    pub fn route_names(&self) -> Vec<(RouteNumber, String)> {
        todo!()
    }

    /// Sets a queue's limit until the store is closed.
    pub fn set_limit(&self, endpoint: EndpointId, limit: QueueLimit) {
        let _ = (endpoint, limit);
        todo!()
    }

    /// Stores a batch and resolves after its commit. Waits for a place at the writer; a batch
    /// whose future is dropped before that is not stored, one that is dropped later may be.
    pub fn append(&self, batch: Vec<Append>) -> impl Future<Output = Appended> + Send + use<> {
        let _ = batch;
        async { todo!() }
    }

    /// Commits a change, in one transaction with whatever else waits. Changes of one caller commit
    /// in the order of the calls (the place is taken when the future is first polled).
    pub fn commit(
        &self,
        change: Change,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + use<> {
        let _ = change;
        async { todo!() }
    }

    /// The reader of a queue.
    ///
    /// # Errors
    /// [`Error::ReaderTaken`], [`Error::UnknownEndpoint`].
    pub fn reader(&self, endpoint: EndpointId) -> Result<Reader, Error> {
        let _ = endpoint;
        todo!()
    }

    /// Waits until room was made in some queue since the call, or a second has passed.
    pub async fn room(&self) {
        todo!()
    }

    /// Figures of all queues, from memory.
    #[must_use]
    pub fn usage(&self) -> Usage {
        todo!()
    }

    /// Entries of a queue in the order of their sequence.
    ///
    /// # Errors
    /// [`Error::UnknownEndpoint`], or when the file cannot be read.
    pub async fn peek(
        &self,
        endpoint: EndpointId,
        after: Option<Sequence>,
        limit: usize,
    ) -> Result<Vec<Peeked>, Error> {
        let _ = (endpoint, after, limit);
        todo!()
    }

    /// Removes everything from a queue that is not in flight; gives the number of entries.
    ///
    /// # Errors
    /// [`Error::UnknownEndpoint`], or when the change cannot be committed.
    pub async fn purge(&self, endpoint: EndpointId) -> Result<u64, Error> {
        let _ = endpoint;
        todo!()
    }

    /// Looks for a stored message.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn find(&self, id: MessageId) -> Result<Option<Found>, Error> {
        let _ = id;
        todo!()
    }

    /// Dead letters in order of their number, after `after`, of one queue or of all.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        limit: usize,
        endpoint: Option<EndpointId>,
    ) -> Result<Vec<DeadLetter>, Error> {
        let _ = (after, limit, endpoint);
        todo!()
    }

    /// One dead letter.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn dead_letter(&self, id: DeadLetterId) -> Result<Option<DeadLetter>, Error> {
        let _ = id;
        todo!()
    }

    /// Deletes a dead letter; false when there is none.
    ///
    /// # Errors
    /// When the change cannot be committed.
    pub async fn delete_dead_letter(&self, id: DeadLetterId) -> Result<bool, Error> {
        let _ = id;
        todo!()
    }

    /// The committed state of a module; empty when there is none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn module_state(&self, module: &str) -> Result<BTreeMap<String, StateValue>, Error> {
        let _ = module;
        todo!()
    }

    /// Deletes the state of a module.
    ///
    /// # Errors
    /// When the change cannot be committed.
    pub async fn delete_module_state(&self, module: &str) -> Result<(), Error> {
        let _ = module;
        todo!()
    }

    /// Whether messages can be taken in.
    #[must_use]
    pub fn health(&self) -> Health {
        todo!()
    }

    /// Changes of [`Store::health`].
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        todo!()
    }
}
