//! The handle of a running guest and the thread behind it.
//!
//! Invariants:
//!
//! 1. Batches and other calls are handled one at a time, in the order in which they were made, as long
//!    as no more than [`BATCHES_AHEAD`] wait.
//! 2. After a fault, or when a call's future is dropped before it gave its answer, the thread ends;
//!    batches behind it, and later ones, get [`Fault::Unavailable`]. A batch that was given up may
//!    have changed the state in memory: whoever gives one up loads the state anew before the next
//!    instance starts, as after a failed commit.
//! 3. The thread ends when the last handle is dropped; a guest in an endless loop is ended by the
//!    epoch first. Nobody waits for it but `stop`.

use crate::running::Running;
use crate::stopwatch::Stopwatch;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use weir_core::id::{ModuleId, OutputName};
use weir_core::limits::BATCHES_AHEAD;
use weir_core::method::MethodAnswer;
use weir_core::port::{
    Answer, Batch, BoxFuture, Called, Consumer, DesiredChange, Fault, Handlers, Instance,
    InstanceUsage, RuntimeError,
};

/// Stack of an instance's thread: the guest's own and room for the host's side of a call.
const THREAD_STACK_BYTES: usize = 2 * 1024 * 1024;

type Reply<T> = oneshot::Sender<Result<T, Fault>>;

enum Job {
    /// With the time that the call may take, where that is less than the limit.
    Deliver(Batch, Option<Duration>, Reply<Answer>),
    Method(String, Bytes, Reply<Called<MethodAnswer>>),
    Desired(DesiredChange, Reply<Called<Result<(), String>>>),
    Stop(Reply<Answer>),
}

/// A warm instance; see the file's invariants.
pub(crate) struct WasmInstance {
    jobs: mpsc::Sender<Job>,
    usage: Arc<Usage>,
    given_up: Arc<AtomicBool>,
    outputs: Vec<OutputName>,
    handlers: Handlers,
}

/// Waits for an answer; dropped before it came, it ends the instance.
struct Waiting<T> {
    answer: oneshot::Receiver<Result<T, Fault>>,
    given_up: Arc<AtomicBool>,
    answered: bool,
}

impl<T> Waiting<T> {
    async fn answer(mut self) -> Result<T, Fault> {
        let answer = (&mut self.answer).await;
        self.answered = true;
        answer.unwrap_or_else(|_| Err(ended()))
    }
}

impl<T> Drop for Waiting<T> {
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
                if ready.send(Ok(running.handlers())).is_ok() {
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
        let ended = |_| RuntimeError::Host("the module's thread ended".to_owned());
        let handlers = started.await.map_err(ended)??;
        Ok(Self { jobs, usage, given_up, outputs, handlers })
    }

    /// Sends a job at once when there is room, so that the order of calls is the order of handling.
    fn send<T: Send + 'static>(
        &self,
        job: impl FnOnce(Reply<T>) -> Job,
    ) -> BoxFuture<'_, Result<T, Fault>> {
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

    fn handlers(&self) -> Handlers {
        self.handlers
    }

    fn call_method(
        &self,
        name: &str,
        body: Bytes,
    ) -> BoxFuture<'_, Result<Called<MethodAnswer>, Fault>> {
        let name = name.to_owned();
        self.send(|reply| Job::Method(name, body, reply))
    }

    fn desired_changed(
        &self,
        change: DesiredChange,
    ) -> BoxFuture<'_, Result<Called<Result<(), String>>, Fault>> {
        self.send(|reply| Job::Desired(change, reply))
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
        let watch = Stopwatch::start();
        let goes_on = match job {
            Job::Deliver(batch, time, reply) => {
                let result = running.process(&batch, time, wanted);
                usage.count(batch.deliveries.len(), &watch);
                usage.answer(&running, reply, result)
            }
            Job::Method(name, body, reply) => {
                let result = running.method(&name, &body, wanted);
                usage.count(0, &watch);
                usage.answer(&running, reply, result)
            }
            Job::Desired(change, reply) => {
                let result = running.desired(&change, wanted);
                usage.count(0, &watch);
                usage.answer(&running, reply, result)
            }
            Job::Stop(reply) => {
                let result = running.stop();
                usage.answer(&running, reply, result);
                false
            }
        };
        if !goes_on {
            return;
        }
    }
}

impl Usage {
    /// Hands a result over; false when the guest is spent or nobody waits for it.
    fn answer<T>(&self, running: &Running, reply: Reply<T>, result: Result<T, Fault>) -> bool {
        self.observe(running);
        let failed = result.is_err();
        reply.send(result).is_ok() && !failed
    }

    fn count(&self, messages: usize, watch: &Stopwatch) {
        let nanos = u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(messages as u64, Ordering::Relaxed);
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
