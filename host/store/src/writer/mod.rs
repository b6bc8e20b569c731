//! The writer: the one task that changes the file.
//!
//! A group is whatever waits when the last commit ends: a lone message is committed at once and a crowd
//! shares a commit. Only what nobody waits for has a timer ([`company`]). Invariants:
//!
//! 1. Nobody is answered before the commit of what he asked for.
//! 2. A group is in the file whole or not at all; after a failed commit the indexes in memory are as
//!    they were, everyone gets his messages back, and the connection is opened anew.
//! 3. Jobs commit in the order in which they came.
//! 4. A full or failing disk is waited out ([`outage`]); a file that contradicts itself ends the task.

mod checkpoint;
mod commit;
mod company;
mod documents;
mod group;
mod outage;
mod plan;
mod purge;
pub(crate) mod reserve;
pub(crate) mod script;
pub(crate) mod segments;
mod tidy;

pub(crate) use commit::{cursor_numbers, owed_numbers, state_code};
pub(crate) use script::Script;

use crate::Error;
use crate::chain::Chain;
use crate::message::{Append, Appended, Change, CommitError, Committed, EndpointId, Refused, Why};
use crate::open::Files;
use crate::segment::body::{Encoded, SLOT_BYTES};
use crate::segment::build::Builder;
use crate::shared::Shared;
use crate::sqlite::Database;
use checkpoint::Checkpoint;
use group::Group;
use outage::Outage;
use reserve::Reserve;
use segments::Segments;
use sqlx::sqlite::SqliteConnection;
use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use weir_core::id::MessageId;

/// Between two rounds of the work in the background, and between two looks at a failing disk.
const TICK: Duration = Duration::from_secs(1);

/// A batch to append.
#[derive(Debug)]
pub(crate) struct AppendJob {
    pub(crate) batch: Vec<Append>,
    pub(crate) encoded: Encoded,
    pub(crate) chain: Chain,
    pub(crate) reply: oneshot::Sender<Appended>,
}

/// A change to commit.
#[derive(Debug)]
pub(crate) struct ChangeJob {
    pub(crate) change: Box<Change>,
    pub(crate) encoded: Encoded,
    pub(crate) chain: Chain,
    pub(crate) reply: oneshot::Sender<Result<Committed, CommitError>>,
}

/// A future on the writer's connection.
pub(crate) type OnConnection<'c, T> =
    Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

/// Work of a transaction of its own: everything that is not the queue.
pub(crate) trait Config: Send {
    /// Runs the statements.
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> OnConnection<'c, ()>;
    /// Says how it ended, after the commit.
    fn done(self: Box<Self>, result: Result<(), Error>);
}

/// What the writer can be asked to do.
pub(crate) enum Job {
    Append(AppendJob),
    Change(ChangeJob),
    Config(Box<dyn Config>),
    Purge(EndpointId, oneshot::Sender<Result<u64, Error>>),
    /// Which segments may hold a message.
    Find(MessageId, oneshot::Sender<Vec<u64>>),
    /// The work in the background, now.
    Tidy(oneshot::Sender<()>),
    Close,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append(_) => "Append",
            Self::Change(_) => "Change",
            Self::Config(_) => "Config",
            Self::Purge(..) => "Purge",
            Self::Find(..) => "Find",
            Self::Tidy(_) => "Tidy",
            Self::Close => "Close",
        })
    }
}

/// What the writer begins with, as found in the file.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) segments: Segments,
    pub(crate) next_sequence: u64,
}

/// The task that commits. The caller runs it as long as the hub runs.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    jobs: mpsc::Receiver<Job>,
    /// Taken out of `jobs` already; goes first.
    waiting: VecDeque<Job>,
    database: Database,
    /// Holds the lock.
    files: Files,
    segments: Segments,
    builder: Builder,
    next_sequence: u64,
    /// The revision that a document was given last; none when it must be read.
    last_revision: Option<u64>,
    dead_letters_grew: bool,
    /// Bytes of the file that hold no bodies, as measured last.
    other_bytes: u64,
    outage: Option<Outage>,
    reserve: Reserve,
    checkpoint: Checkpoint,
    empty_slot: Arc<Vec<u8>>,
    /// Groups since the last tidying.
    busy: bool,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        jobs: mpsc::Receiver<Job>,
        (database, files): (Database, Files),
        reserve: Reserve,
        start: Start,
    ) -> Self {
        let builder = Builder::new(shared.seed);
        let checkpoint = Checkpoint::new(database.options());
        Self {
            shared,
            jobs,
            waiting: VecDeque::new(),
            database,
            files,
            segments: start.segments,
            builder,
            next_sequence: start.next_sequence,
            last_revision: None,
            dead_letters_grew: true,
            other_bytes: 0,
            outage: None,
            reserve,
            checkpoint,
            empty_slot: Arc::new(vec![0; SLOT_BYTES]),
            busy: false,
        }
    }

    /// Commits what comes until every [`crate::Store`] is dropped or [`crate::Store::close`] is
    /// called; then finishes the jobs that wait and truncates the log.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file contradicts itself: the process should end, and its next
    /// start salvages what is there. A full or failing disk is no error; it is waited out.
    pub async fn run(mut self) -> Result<(), Error> {
        let result = self.serve().await;
        self.jobs.close();
        while let Some(job) = self.next_job() {
            refuse(job, &Arc::new(Error::Closed));
        }
        self.shared.close();
        let noted = result.is_ok() && self.write_handed_out().await;
        self.checkpoint.close().await;
        self.shared.readers.close().await;
        self.database.close(result.is_ok()).await;
        if noted && let Err(error) = self.files.note_clean() {
            tracing::warn!(%error, "it cannot be noted that the store was closed in order");
        }
        result
    }

    async fn serve(&mut self) -> Result<(), Error> {
        self.note_usage();
        self.check_reserve();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let job = match self.waiting.pop_front() {
                Some(job) => Some(job),
                // All branches are cancel-safe.
                None => tokio::select! {
                    biased;
                    job = self.jobs.recv() => match job {
                        Some(job) => Some(self.with_company(job).await),
                        None => None,
                    },
                    () = self.checkpoint.go_on() => {
                        self.checkpoint_last_piece().await?;
                        continue;
                    }
                    _ = tick.tick() => {
                        self.tick().await?;
                        continue;
                    }
                },
            };
            match job {
                Some(Job::Close) => self.jobs.close(),
                Some(job) => self.round(job).await?,
                None => return Ok(()),
            }
            self.checkpoint_last_piece().await?;
            // Under steady load no branch above ever waits.
            if tick_is_due(&mut tick) {
                self.tick().await?;
            }
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        self.waiting.pop_front().or_else(|| self.jobs.try_recv().ok())
    }

    /// One group: the job and whatever waits behind it.
    async fn round(&mut self, job: Job) -> Result<(), Error> {
        self.busy = true;
        let mut group = Group::default();
        let mut next = Some(job);
        while let Some(job) = next {
            let back = match job {
                Job::Append(job) if job.chain.is_broken() => {
                    refuse_behind(Job::Append(job));
                    None
                }
                Job::Change(job) if job.chain.is_broken() => {
                    refuse_behind(Job::Change(job));
                    None
                }
                Job::Append(job) => match self.outage.is_none() {
                    true => self.plan_append(&mut group, job).await,
                    false => {
                        refuse(Job::Append(job), &self.outage_error());
                        None
                    }
                },
                Job::Change(job) => match self.may_change(&job.change).await {
                    true => self.plan_change(&mut group, job).await,
                    false => {
                        refuse(Job::Change(job), &self.outage_error());
                        None
                    }
                },
                Job::Find(id, reply) => {
                    drop(reply.send(self.segments_with(id)));
                    None
                }
                Job::Config(_) | Job::Purge(..) | Job::Tidy(_) | Job::Close => {
                    match group.is_empty() {
                        true => {
                            self.alone(job).await?;
                            None
                        }
                        false => Some(job),
                    }
                }
            };
            if let Some(job) = back {
                self.waiting.push_front(job);
                break;
            }
            next = if group.is_full() { None } else { self.next_job() };
        }
        self.commit_group(group).await
    }

    /// Jobs that have a transaction of their own.
    async fn alone(&mut self, job: Job) -> Result<(), Error> {
        match job {
            Job::Config(mut config) => {
                if self.outage.is_some() {
                    config.done(Err(self.outage_copy()));
                    return Ok(());
                }
                // It may write documents.
                self.last_revision = None;
                let result = self.database.transaction(config.as_mut()).await;
                match result {
                    Ok(()) => config.done(Ok(())),
                    Err(cause) if crate::sqlite::is_of_the_statement(&cause) => {
                        config.done(Err(Error::database("change its settings")(cause)));
                    }
                    Err(cause) => {
                        self.begin_outage(&Error::database("change its settings")(cause));
                        config.done(Err(self.outage_copy()));
                        return self.leave_connection().await;
                    }
                }
            }
            Job::Purge(endpoint, reply) => {
                let result = self.purge(endpoint).await;
                drop(reply.send(result));
            }
            Job::Tidy(reply) => {
                self.tick().await?;
                reply.send(()).ok();
            }
            Job::Close => self.jobs.close(),
            Job::Append(_) | Job::Change(_) | Job::Find(..) => {
                unreachable!("the caller plans them")
            }
        }
        Ok(())
    }

    fn segments_with(&self, id: MessageId) -> Vec<u64> {
        self.segments
            .iter()
            .filter(|(_, segment)| segment.ids.0 <= id.0 && id.0 <= segment.ids.1)
            .map(|(first, _)| first)
            .collect()
    }

    /// Bytes of the file in use.
    pub(super) fn used_bytes(&self) -> u64 {
        self.segments.used_bytes() + self.other_bytes
    }

    fn note_usage(&self) {
        self.shared.set_used_bytes(self.used_bytes());
    }
}

/// True when the interval's time has come; does not wait.
fn tick_is_due(tick: &mut tokio::time::Interval) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    tick.poll_tick(&mut context).is_ready()
}

/// Answers work that stands on its chain behind something that was refused.
fn refuse_behind(job: Job) {
    match job {
        Job::Append(AppendJob { batch: rest, reply, .. }) => {
            let refused = Some(Refused { why: Why::Broken, rest });
            drop(reply.send(Appended { accepted: 0, first: None, refused }));
        }
        Job::Change(ChangeJob { change, reply, .. }) => {
            drop(reply.send(Err(CommitError::Broken { change })));
        }
        Job::Config(_) | Job::Purge(..) | Job::Find(..) | Job::Tidy(_) | Job::Close => {
            unreachable!("only messages stand on chains")
        }
    }
}

/// Answers a job that is not done.
fn refuse(job: Job, error: &Arc<Error>) {
    match job {
        Job::Append(AppendJob { batch: rest, chain, reply, .. }) => {
            chain.snap();
            let refused = Some(Refused { why: Why::Unavailable(Arc::clone(error)), rest });
            drop(reply.send(Appended { accepted: 0, first: None, refused }));
        }
        Job::Change(ChangeJob { change, chain, reply, .. }) => {
            chain.snap();
            let cause = Arc::clone(error);
            drop(reply.send(Err(CommitError::Unavailable { cause, change })));
        }
        Job::Config(config) => config.done(Err(Error::Closed)),
        Job::Purge(_, reply) => drop(reply.send(Err(Error::Closed))),
        Job::Find(_, reply) => drop(reply.send(Vec::new())),
        Job::Tidy(reply) => {
            reply.send(()).ok();
        }
        Job::Close => {}
    }
}
