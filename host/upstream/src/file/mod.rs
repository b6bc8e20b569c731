//! `kind = "file"`: JSON lines in a local file, one for each message, in order.
//!
//! [`FileUpstream::run`] takes the batches that wait, has them written and synced in one go on a
//! blocking thread ([`log`]), and answers them. The form of a line is in [`envelope`](crate::envelope).

mod log;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use weir_core::clock::Clock;
use weir_core::port::{
    Answer, Batch, BoxFuture, Consumer, Delivery, Fault, Link, Outcome, Upstream,
};

use self::log::Log;
use crate::intake::{Inbox, Intake, Job};
use crate::link::LinkState;
use crate::{Error, FileConfig, Fsync};

/// Below this a few messages would fill a file.
const MIN_ROTATE_BYTES: u64 = 4 * 1024;

pub(crate) struct FileUpstream {
    target: String,
    sync_after: Option<Duration>,
    log: Arc<Mutex<Log>>,
    intake: Intake,
    link: LinkState,
}

impl FileUpstream {
    pub(crate) fn new(config: &FileConfig, clock: &Clock) -> Result<Self, Error> {
        let setting = |key, problem: String| Err(Error::Setting { key, problem });
        if config.path.file_name().is_none() {
            return setting("path", format!("{:?} does not name a file", config.path));
        }
        if config.path.is_dir() {
            return setting("path", "this is a folder, not a file".to_owned());
        }
        if config.rotate_bytes < MIN_ROTATE_BYTES {
            return setting("rotate_bytes", format!("must be at least {MIN_ROTATE_BYTES}"));
        }
        if config.fsync == Fsync::Interval && config.fsync_interval_ms == 0 {
            return setting("fsync_interval_ms", "must be at least 1".to_owned());
        }
        let sync_after = Duration::from_millis(config.fsync_interval_ms);
        Ok(Self {
            target: config.path.display().to_string(),
            sync_after: (config.fsync == Fsync::Interval).then_some(sync_after),
            log: Arc::new(Mutex::new(Log::new(config))),
            intake: Intake::new(),
            link: LinkState::new("file", clock),
        })
    }

    /// Runs `step` on a blocking thread. Steps exclude each other, also when a future that waited for
    /// one of them is gone.
    async fn blocking<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Log) -> io::Result<T> + Send + 'static,
    ) -> Result<T, String> {
        let log = self.log.clone();
        let step = move || step(&mut log.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(step).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(format!("the file cannot be written: {error}")),
            Err(_) => Err("the task that writes the file has ended".to_owned()),
        }
    }

    async fn work(&self) {
        let mut inbox = self.intake.inbox().await;
        self.report(self.blocking(Log::ready).await.err());
        let mut sync_at = None;
        loop {
            let job = tokio::select! {
                job = inbox.next() => Some(job),
                () = reached(sync_at) => None,
            };
            match job {
                Some(job) => {
                    self.write(job, &mut inbox).await;
                    sync_at = sync_at.or_else(|| Some(Instant::now() + self.sync_after?));
                }
                None => {
                    sync_at = None;
                    self.report(self.blocking(Log::sync).await.err());
                }
            }
        }
    }

    /// Writes this batch and those that wait behind it, with one fsync for all.
    async fn write(&self, first: Job, inbox: &mut Inbox<'_>) {
        let jobs = std::iter::once(first).chain(std::iter::from_fn(|| inbox.try_next()));
        let (batches, replies): (Vec<Vec<Delivery>>, Vec<_>) =
            jobs.map(|job| (job.deliveries, job.reply)).unzip();
        let counts: Vec<usize> = batches.iter().map(Vec::len).collect();
        let error = self.blocking(move |log| log.append(&batches)).await.err();
        self.report(error.clone());
        for (reply, count) in replies.into_iter().zip(counts) {
            match &error {
                None => reply.answer(vec![Outcome::Accepted; count]),
                Some(reason) => reply.fail(reason, None),
            }
        }
    }

    fn report(&self, error: Option<String>) {
        match error {
            None => self.link.up(),
            Some(reason) => self.link.down(&reason),
        }
    }
}

async fn reached(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

impl Consumer for FileUpstream {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        self.intake.deliver(batch)
    }
}

impl Upstream for FileUpstream {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn run(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.work())
    }

    fn link(&self) -> Link {
        self.link.get()
    }

    fn is_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.link.is_up())
    }
}
