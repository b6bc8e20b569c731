//! The handle that everyone holds.

use crate::message::{
    Append, Appended, Change, CommitError, Committed, EndpointId, Refused, RouteNumber, Why,
};
use crate::queue::Queue;
use crate::shared::Shared;
use crate::view::{Health, OpenReport, QueueLimit};
use crate::writer::{Config, Job, OnConnection};
use crate::{Chain, Error, Reader, Writer};
use sqlx::sqlite::SqliteConnection;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use weir_core::clock::Clock;

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
#[derive(Clone)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, jobs: mpsc::Sender<Job>) -> Self {
        Self { shared, jobs }
    }

    /// Opens the store in `options.dir`, or makes one. A damaged file is put aside and what can be
    /// read of it is taken over; see [`OpenReport`].
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NewerSchema`], and failures of the file system.
    pub async fn open(options: Options) -> Result<Opened, Error> {
        crate::open::open(options).await
    }

    /// Ends the writer when the jobs that wait are done; resolves when it takes no more.
    pub async fn close(&self) {
        if self.jobs.send(Job::Close).await.is_ok() {
            self.jobs.closed().await;
        }
    }

    /// The queue of this name; made if there is none.
    ///
    /// # Errors
    /// When the name cannot be stored.
    pub async fn endpoint(&self, name: &str) -> Result<EndpointId, Error> {
        let known = |store: &Self| {
            let queues = store.shared.queues();
            queues.values().find(|queue| queue.name == name).map(|queue| queue.id)
        };
        if let Some(id) = known(self) {
            return Ok(id);
        }
        let id = EndpointId(self.intern("endpoint", name).await?);
        let mut queues = self.shared.queues_mut();
        queues.entry(id).or_insert_with(|| Arc::new(Queue::new(id, name.to_owned())));
        Ok(id)
    }

    /// The number of a route's name; given if it has none.
    ///
    /// # Errors
    /// When the name cannot be stored.
    pub async fn route_number(&self, name: &str) -> Result<RouteNumber, Error> {
        let known = self.shared.routes().iter().find(|(_, n)| *n == name).map(|(id, _)| *id);
        if let Some(id) = known {
            return Ok(id);
        }
        let id = RouteNumber(self.intern("route_name", name).await?);
        self.shared.routes_mut().insert(id, name.to_owned());
        Ok(id)
    }

    async fn intern(&self, table: &'static str, name: &str) -> Result<u32, Error> {
        let (insert, select) = match table {
            "endpoint" => (
                "INSERT INTO endpoint (name) VALUES (?) ON CONFLICT (name) DO NOTHING",
                "SELECT id FROM endpoint WHERE name = ?",
            ),
            _ => (
                "INSERT INTO route_name (name) VALUES (?) ON CONFLICT (name) DO NOTHING",
                "SELECT id FROM route_name WHERE name = ?",
            ),
        };
        let name = name.to_owned();
        let id = self
            .change(move |connection| {
                Box::pin(async move {
                    sqlx::query(insert).bind(name.clone()).execute(&mut *connection).await?;
                    let query = sqlx::query_scalar::<_, i64>(select).bind(name);
                    query.fetch_one(connection).await
                })
            })
            .await?;
        Ok(u32::try_from(id).expect("nobody names four thousand million things"))
    }

    /// All queues.
    #[must_use]
    pub fn endpoint_names(&self) -> Vec<(EndpointId, String)> {
        self.shared.queues().values().map(|queue| (queue.id, queue.name.clone())).collect()
    }

    /// All routes that ever had a number.
    #[must_use]
    pub fn route_names(&self) -> Vec<(RouteNumber, String)> {
        self.shared.routes().iter().map(|(id, name)| (*id, name.clone())).collect()
    }

    /// Sets a queue's limit until the store is closed. Nothing happens for an unknown queue.
    pub fn set_limit(&self, endpoint: EndpointId, limit: QueueLimit) {
        if let Some(queue) = self.shared.queue(endpoint) {
            queue.lock().limit = limit;
        }
    }

    /// Sets how many entries of each of a queue's lanes are known in memory, instead of
    /// [`weir_core::limits::LANE_ENTRIES`], so that a test reaches the disk with few messages.
    #[doc(hidden)]
    pub fn set_window(&self, endpoint: EndpointId, entries: usize) {
        if let Some(queue) = self.shared.queue(endpoint) {
            queue.lock().set_window(entries);
        }
    }

    /// Stores a batch and resolves after its commit. Waits for a place at the writer; a batch
    /// whose future is dropped before that is not stored, one that is dropped later may be.
    pub fn append(&self, batch: Vec<Append>) -> impl Future<Output = Appended> + Send + use<> {
        let store = self.clone();
        async move {
            if batch.is_empty() {
                return Appended { accepted: 0, first: None, refused: None };
            }
            match store.slot().await {
                Ok(slot) => slot.append(batch, &Chain::default()).await,
                Err(closed) => {
                    let refused = Refused { why: Why::Unavailable(Arc::new(closed)), rest: batch };
                    Appended { accepted: 0, first: None, refused: Some(refused) }
                }
            }
        }
    }

    /// Commits a change, in one transaction with whatever else waits. Changes of one caller commit
    /// in the order of the calls (the place is taken when the future is first polled).
    pub fn commit(
        &self,
        change: Change,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + use<> {
        let store = self.clone();
        async move {
            match store.slot().await {
                Ok(slot) => slot.commit(change, &Chain::default()).await,
                Err(closed) => {
                    let change = Box::new(change);
                    Err(CommitError::Unavailable { cause: Arc::new(closed), change })
                }
            }
        }
    }

    /// The reader of a queue.
    ///
    /// # Errors
    /// [`Error::ReaderTaken`], [`Error::UnknownEndpoint`].
    pub fn reader(&self, endpoint: EndpointId) -> Result<Reader, Error> {
        let queue = self.shared.queue(endpoint).ok_or(Error::UnknownEndpoint)?;
        Reader::new(Arc::clone(&self.shared), queue)
    }

    /// Waits until room was made in some queue since the call, or a second has passed.
    pub async fn room(&self) {
        // Whichever comes first; both are cancel-safe.
        tokio::select! {
            () = self.shared.room.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }

    /// Removes everything from a queue that is not in flight; gives the number of entries.
    ///
    /// # Errors
    /// [`Error::UnknownEndpoint`], or when the change cannot be committed.
    pub async fn purge(&self, endpoint: EndpointId) -> Result<u64, Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Purge(endpoint, reply)).await?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Does now what the writer does each second in the background: expiry deep in the queues,
    /// writing together what is left of segments, shrinking. For tests and tools.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn tidy(&self) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Tidy(reply)).await?;
        answer.await.map_err(|_| Error::Closed)
    }

    /// Whether messages can be taken in.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health().borrow().clone()
    }

    /// Changes of [`Store::health`].
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.shared.health()
    }

    pub(crate) fn jobs(&self) -> &mpsc::Sender<Job> {
        &self.jobs
    }

    pub(crate) async fn send(&self, job: Job) -> Result<(), Error> {
        self.jobs.send(job).await.map_err(|_| Error::Closed)
    }

    /// Runs `work` in a transaction of its own on the writer's connection, in order with the groups:
    /// everything that is not the queue.
    pub(crate) async fn change<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> OnConnection<'c, T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Work { work: Some(work), outcome: None, reply };
        self.send(Job::Config(Box::new(work))).await?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

/// A [`Config`] made of a closure.
struct Work<T, F> {
    work: Option<F>,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Config for Work<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> OnConnection<'c, T> + Send,
{
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> OnConnection<'c, ()> {
        Box::pin(async move {
            let work = self.work.take().expect("the writer runs a job once");
            self.outcome = Some(work(connection).await?);
            Ok(())
        })
    }

    fn done(self: Box<Self>, result: Result<(), Error>) {
        let outcome = self.outcome;
        drop(self.reply.send(result.and_then(|()| outcome.ok_or(Error::Closed))));
    }
}
