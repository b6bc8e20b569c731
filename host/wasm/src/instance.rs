//! The handle of a running guest and the thread behind it.
//!
//! Invariants:
//!
//! 1. Batches are handled one at a time, in the order in which `deliver` was called, as long as no
//!    more than [`BATCHES_AHEAD`] wait.
//! 2. After a fault, or when a call's future is dropped before it gave its answer, the thread ends;
//!    batches behind it, and later ones, get [`Fault::Unavailable`]. A batch that was given up may
//!    have changed the state in memory: whoever gives one up loads the state anew before the next
//!    instance starts, as after a failed commit.
//! 3. The thread ends when the last handle is dropped; a guest in an endless loop is ended by the
//!    epoch first. Nobody waits for it but `stop`.

use crate::running::Running;
use crate::stopwatch::Stopwatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use weir_core::id::{ModuleId, OutputName};
use weir_core::limits::BATCHES_AHEAD;
use weir_core::port::{
    Answer, Batch, BoxFuture, Consumer, Fault, Instance, InstanceUsage, RuntimeError,
};

/// Stack of an instance's thread: the guest's own and room for the host's side of a call.
const THREAD_STACK_BYTES: usize = 2 * 1024 * 1024;

type Reply = oneshot::Sender<Result<Answer, Fault>>;

enum Job {
    /// With the time that the call may take, where that is less than the limit.
    Deliver(Batch, Option<Duration>, Reply),
    Stop(Reply),
}

/// A warm instance; see the file's invariants.
pub(crate) struct WasmInstance {
    jobs: mpsc::Sender<Job>,
    usage: Arc<Usage>,
    given_up: Arc<AtomicBool>,
    outputs: Vec<OutputName>,
}

/// Waits for an answer; dropped before it came, it ends the instance.
struct Waiting {
    answer: oneshot::Receiver<Result<Answer, Fault>>,
    given_up: Arc<AtomicBool>,
    answered: bool,
}

impl Waiting {
    async fn answer(mut self) -> Result<Answer, Fault> {
        let answer = (&mut self.answer).await;
        self.answered = true;
        answer.unwrap_or_else(|_| Err(ended()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.answered {
            self.given_up.store(true, Ordering::Release);
        }
    }
}

#[derive(Default)]
struct Usage {
    calls: AtomicU64,
    messages: AtomicU64,
    busy_nanos: AtomicU64,
    memory_bytes: AtomicU64,
    log_lines: AtomicU64,
    log_dropped: AtomicU64,
}

impl WasmInstance {
    /// Starts the thread; `start` runs on it, and its result is awaited.
    pub(crate) async fn spawn(
        module: &ModuleId,
        outputs: Vec<OutputName>,
        start: impl FnOnce() -> Result<Running, RuntimeError> + Send + 'static,
    ) -> Result<Self, RuntimeError> {
        let (jobs, waiting) = mpsc::channel(BATCHES_AHEAD);
        let (ready, started) = oneshot::channel();
        let usage = Arc::new(Usage::default());
        let given_up = Arc::new(AtomicBool::new(false));
        let (own, gone) = (Arc::clone(&usage), Arc::clone(&given_up));
        let run = move || match start() {
            Ok(running) => {
                own.observe(&running);
                // An instance that nobody waits for any more has no handle and ends here.
                if ready.send(Ok(())).is_ok() {
                    work(running, waiting, &own, &gone);
                }
            }
            // Nobody may be waiting for the reason either.
            Err(error) => drop(ready.send(Err(error))),
        };
        std::thread::Builder::new()
            .name(format!("wasm-{module}"))
            .stack_size(THREAD_STACK_BYTES)
            .spawn(run)
            .map_err(|error| RuntimeError::Host(format!("no thread for a module: {error}")))?;
        started.await.map_err(|_| RuntimeError::Host("the module's thread ended".to_owned()))??;
        Ok(Self { jobs, usage, given_up, outputs })
    }

    /// Sends a job at once when there is room, so that the order of calls is the order of handling.
    fn send(&self, job: impl FnOnce(Reply) -> Job) -> BoxFuture<'_, Result<Answer, Fault>> {
        let (reply, answer) = oneshot::channel();
        let given_up = Arc::clone(&self.given_up);
        let waiting = Waiting { answer, given_up, answered: false };
        let sent = self.jobs.try_send(job(reply));
        Box::pin(async move {
            match sent {
                Ok(()) => {}
                Err(TrySendError::Full(job)) => self.jobs.send(job).await.map_err(|_| ended())?,
                Err(TrySendError::Closed(_)) => return Err(ended()),
            }
            waiting.answer().await
        })
    }
}

fn ended() -> Fault {
    Fault::Unavailable { reason: "the module's instance has ended".to_owned(), retry_after: None }
}

impl Consumer for WasmInstance {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        self.send(|reply| Job::Deliver(batch, None, reply))
    }
}

impl Instance for WasmInstance {
    fn deliver_within(&self, batch: Batch, time: Duration) -> BoxFuture<'_, Result<Answer, Fault>> {
        self.send(|reply| Job::Deliver(batch, Some(time), reply))
    }

    fn stop(&self) -> BoxFuture<'_, Result<Answer, Fault>> {
        self.send(Job::Stop)
    }

    fn usage(&self) -> InstanceUsage {
        self.usage.read()
    }

    fn outputs(&self) -> &[OutputName] {
        &self.outputs
    }
}

/// The thread: handles jobs until there is no handle, a fault, a call given up, or `stop`.
fn work(mut running: Running, mut jobs: mpsc::Receiver<Job>, usage: &Usage, given_up: &AtomicBool) {
    let wanted = || !given_up.load(Ordering::Acquire);
    while let Some(job) = jobs.blocking_recv().filter(|_| wanted()) {
        let (result, reply, last) = match job {
            Job::Deliver(batch, time, reply) => {
                let watch = Stopwatch::start();
                let result = running.process(&batch, time, wanted);
                usage.count(&batch, &watch);
                (result, reply, false)
            }
            Job::Stop(reply) => (running.stop(), reply, true),
        };
        usage.observe(&running);
        let failed = result.is_err();
        if reply.send(result).is_err() || failed || last {
            return;
        }
    }
}

impl Usage {
    fn count(&self, batch: &Batch, watch: &Stopwatch) {
        let nanos = u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(batch.deliveries.len() as u64, Ordering::Relaxed);
        self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn observe(&self, running: &Running) {
        let guest = running.guest();
        let (written, dropped) = guest.log.counts();
        self.memory_bytes.store(guest.limiter.memory() as u64, Ordering::Relaxed);
        self.log_lines.store(written, Ordering::Relaxed);
        self.log_dropped.store(dropped, Ordering::Relaxed);
    }

    fn read(&self) -> InstanceUsage {
        InstanceUsage {
            calls: self.calls.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
            busy_micros: self.busy_nanos.load(Ordering::Relaxed) / 1_000,
            memory_bytes: self.memory_bytes.load(Ordering::Relaxed),
            log_lines: self.log_lines.load(Ordering::Relaxed),
            log_dropped: self.log_dropped.load(Ordering::Relaxed),
        }
    }
}
