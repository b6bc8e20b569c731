//! The way of a batch from `deliver` to `run`, and of its answer back. Both kinds use it.
//!
//! `deliver` puts its batch into a bounded queue when it is called, not when its future is polled, so
//! that batches keep the order of the calls. Order must also survive a failure: when batch 1 fails
//! while batch 2 is already handed over, the peer may be back before the caller has reacted, and batch
//! 2 would overtake batch 1. Therefore:
//!
//! * each failure raises the generation; a batch of an older generation fails when its turn comes;
//! * a failure that its caller has not read yet is *unseen*; as long as there is one, every new batch
//!   fails at once.
//!
//! So nothing is taken between a failure and the moment at which the caller knows of it. A future
//! that is dropped counts as a failure, before its batch is seen to be given up: callers drop several
//! futures one after the other, and the second batch must not go on without the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::timeout;
use weir_core::limits;
use weir_core::port::{Answer, Batch, BoxFuture, Delivery, Fault, Outcome};

/// How long a batch waits for `run` to begin; a hub that starts or stops needs no longer.
const RUN_LIMIT: Duration = Duration::from_secs(5);

pub(crate) const EARLIER_FAILED: &str = "an earlier batch failed";
const STOPPED: &str = "the upstream's task has stopped";
const NOT_RUNNING: &str = "the upstream's task is not running";
const TOO_MANY: &str = "too many batches are under way";

/// What `deliver` and `run` of one upstream share.
#[derive(Debug)]
pub(crate) struct Intake {
    gate: Arc<Gate>,
    jobs: mpsc::Sender<Job>,
    queue: Mutex<mpsc::Receiver<Job>>,
}

#[derive(Debug, Default)]
struct Gate {
    generation: AtomicU64,
    unseen: AtomicUsize,
    running: AtomicBool,
}

/// The receiving end, held by `run`.
#[derive(Debug)]
pub(crate) struct Inbox<'a> {
    gate: &'a Gate,
    queue: MutexGuard<'a, mpsc::Receiver<Job>>,
}

/// A batch that waits for its answer.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) reply: Reply,
}

/// Where the answer of a batch goes. Dropped without an answer, it says that the upstream stopped.
#[derive(Debug)]
pub(crate) struct Reply {
    gate: Arc<Gate>,
    generation: u64,
    answer: Option<oneshot::Sender<Result<Answer, Failure>>>,
}

#[derive(Debug)]
struct Failure {
    fault: Fault,
    _unseen: Unseen,
}

/// An answer that is waited for.
struct Pending<'a> {
    gate: &'a Gate,
    answer: oneshot::Receiver<Result<Answer, Failure>>,
    is_over: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // This runs before the receiver is dropped, which is what others see of it.
        if !self.is_over {
            self.gate.generation.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Counts a failure until its caller has read it or given up.
#[derive(Debug)]
struct Unseen(Arc<Gate>);

impl Drop for Unseen {
    fn drop(&mut self) {
        self.0.unseen.fetch_sub(1, Ordering::SeqCst);
    }
}

fn unavailable(reason: impl Into<String>) -> Fault {
    Fault::Unavailable { reason: reason.into(), retry_after: None }
}

impl Intake {
    pub(crate) fn new() -> Self {
        let (jobs, queue) = mpsc::channel(limits::BATCHES_AHEAD);
        Self { gate: Arc::default(), jobs, queue: Mutex::new(queue) }
    }

    /// Hands the batch over now; the future waits for the answer. Dropping it is safe.
    pub(crate) fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        if batch.deliveries.is_empty() {
            return Box::pin(async { Ok(Answer::default()) });
        }
        let answer = self.enqueue(batch);
        Box::pin(self.wait(Pending { gate: &self.gate, answer, is_over: false }))
    }

    fn enqueue(&self, batch: Batch) -> oneshot::Receiver<Result<Answer, Failure>> {
        // Read before the look at `unseen`: `Reply::fail` writes them in the other order, so that a
        // failure in between shows in one of the two.
        let generation = self.gate.generation.load(Ordering::SeqCst);
        let (sender, answer) = oneshot::channel();
        let reply = Reply { gate: self.gate.clone(), generation, answer: Some(sender) };
        if self.gate.unseen.load(Ordering::SeqCst) > 0 {
            reply.fail(EARLIER_FAILED, None);
            return answer;
        }
        match self.jobs.try_send(Job { deliveries: batch.deliveries, reply }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(job)) => job.reply.fail(TOO_MANY, None),
            Err(mpsc::error::TrySendError::Closed(job)) => job.reply.fail(STOPPED, None),
        }
        answer
    }

    async fn wait(&self, mut pending: Pending<'_>) -> Result<Answer, Fault> {
        loop {
            match timeout(RUN_LIMIT, &mut pending.answer).await {
                Ok(Ok(result)) => {
                    pending.is_over = true;
                    return result.map_err(|failure| failure.fault);
                }
                Ok(Err(_)) => return Err(unavailable(STOPPED)),
                // `run` has time-outs of its own for everything it does.
                Err(_) if self.gate.running.load(Ordering::SeqCst) => {}
                Err(_) => return Err(unavailable(NOT_RUNNING)),
            }
        }
    }

    /// The receiving end; a second `run` waits here until the first one ends.
    pub(crate) async fn inbox(&self) -> Inbox<'_> {
        let queue = self.queue.lock().await;
        self.gate.running.store(true, Ordering::SeqCst);
        Inbox { gate: &self.gate, queue }
    }
}

impl Inbox<'_> {
    /// The next batch that may be sent. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Job {
        loop {
            match self.queue.recv().await {
                Some(job) => {
                    if let Some(job) = self.admit(job) {
                        return job;
                    }
                }
                // The sender lives beside the receiver; without it nobody could poll this.
                None => std::future::pending().await,
            }
        }
    }

    /// The next batch, if one waits.
    pub(crate) fn try_next(&mut self) -> Option<Job> {
        loop {
            let job = self.queue.try_recv().ok()?;
            if let Some(job) = self.admit(job) {
                return Some(job);
            }
        }
    }

    fn admit(&self, job: Job) -> Option<Job> {
        if job.reply.is_given_up() {
            return None;
        }
        if job.reply.is_stale() {
            job.reply.fail(EARLIER_FAILED, None);
            return None;
        }
        Some(job)
    }
}

impl Drop for Inbox<'_> {
    fn drop(&mut self) {
        self.gate.running.store(false, Ordering::SeqCst);
    }
}

impl Reply {
    /// True when nobody waits any more.
    pub(crate) fn is_given_up(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    /// True when a batch before this one has failed or was given up since it was handed over.
    pub(crate) fn is_stale(&self) -> bool {
        self.generation != self.gate.generation.load(Ordering::SeqCst)
    }

    /// One outcome for each delivery, in order.
    pub(crate) fn answer(mut self, outcomes: Vec<Outcome>) {
        if let Some(sender) = self.answer.take() {
            // Nobody may be waiting any more; then the batch comes again.
            drop(sender.send(Ok(Answer { outcomes, ..Answer::default() })));
        }
    }

    /// Nothing is known of the batch.
    pub(crate) fn fail(mut self, reason: &str, retry_after: Option<Duration>) {
        self.send_failure(reason, retry_after);
    }

    fn send_failure(&mut self, reason: &str, retry_after: Option<Duration>) {
        let Some(sender) = self.answer.take() else { return };
        if sender.is_closed() {
            return;
        }
        self.gate.unseen.fetch_add(1, Ordering::SeqCst);
        let unseen = Unseen(self.gate.clone());
        self.gate.generation.fetch_add(1, Ordering::SeqCst);
        let fault = Fault::Unavailable { reason: reason.to_owned(), retry_after };
        drop(sender.send(Err(Failure { fault, _unseen: unseen })));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.send_failure(STOPPED, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use by_hand::{poll_once, ready};
    use weir_core::clock::Timestamp;
    use weir_core::id::{Identity, MessageId};
    use weir_core::message::Message;

    /// Polling by hand, to stand between two steps of a future.
    mod by_hand {
        use std::future::Future;
        use std::pin::Pin;
        use std::task::{Context, Poll, Waker};

        pub(super) fn poll_once<F: Future + ?Sized>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
            future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        }

        pub(super) fn ready<F: Future + ?Sized>(mut future: Pin<Box<F>>) -> F::Output {
            match poll_once(&mut future) {
                Poll::Ready(output) => output,
                Poll::Pending => panic!("the future should be ready"),
            }
        }
    }

    fn batch(number: u64) -> Batch {
        let sender = Identity::device("d".parse().unwrap());
        let message = Message::default().stamp(&sender, MessageId(number), Timestamp::default());
        Batch {
            deliveries: vec![Delivery { number, attempt: 1, input: 0, input_name: None, message }],
        }
    }

    fn reason(result: Result<Answer, Fault>) -> String {
        match result {
            Err(Fault::Unavailable { reason, .. }) => reason,
            other => panic!("{other:?} instead of a failure"),
        }
    }

    #[tokio::test]
    async fn batches_arrive_in_the_order_of_the_calls_not_of_the_polls() {
        let intake = Intake::new();
        let first = intake.deliver(batch(1));
        let mut second = intake.deliver(batch(2));
        assert!(poll_once(&mut second).is_pending());
        let mut inbox = intake.inbox().await;
        let jobs = [inbox.next().await, inbox.next().await];
        assert_eq!(jobs.map(|job| job.deliveries[0].number), [1, 2]);
        drop(first);
    }

    #[tokio::test]
    async fn a_batch_behind_a_failed_one_fails_whenever_it_was_handed_over() {
        let intake = Intake::new();
        let mut inbox = intake.inbox().await;
        let failing = intake.deliver(batch(1));
        let before_the_failure = intake.deliver(batch(2));
        inbox.next().await.reply.fail("cut", None);
        let before_it_was_seen = intake.deliver(batch(3));
        assert_eq!(reason(ready(before_it_was_seen)), EARLIER_FAILED);
        assert_eq!(reason(ready(failing)), "cut");
        assert!(inbox.try_next().is_none());
        assert_eq!(reason(ready(before_the_failure)), EARLIER_FAILED);

        let again = intake.deliver(batch(1));
        inbox.next().await.reply.answer(vec![Outcome::Accepted]);
        assert_eq!(ready(again).unwrap().outcomes, [Outcome::Accepted]);
    }

    #[tokio::test]
    async fn a_dropped_delivery_is_skipped_and_does_not_fail_others() {
        let intake = Intake::new();
        let mut inbox = intake.inbox().await;
        drop(intake.deliver(batch(1)));
        let taken_and_dropped = intake.deliver(batch(2));
        let job = inbox.next().await;
        assert_eq!(job.deliveries[0].number, 2);
        drop(taken_and_dropped);
        job.reply.fail("cut", None);
        let next = intake.deliver(batch(3));
        inbox.next().await.reply.answer(vec![Outcome::Accepted]);
        assert!(ready(next).is_ok());
    }

    #[tokio::test]
    async fn a_batch_behind_a_dropped_one_fails_and_one_that_comes_later_does_not() {
        let intake = Intake::new();
        let mut inbox = intake.inbox().await;
        let (first, second) = (intake.deliver(batch(1)), intake.deliver(batch(2)));
        drop(first);
        assert!(inbox.try_next().is_none());
        assert_eq!(reason(ready(second)), EARLIER_FAILED);
        let _again = intake.deliver(batch(1));
        assert_eq!(inbox.next().await.deliveries[0].number, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_run_a_batch_fails_after_a_while() {
        let intake = Intake::new();
        assert_eq!(reason(intake.deliver(batch(1)).await), NOT_RUNNING);
    }

    #[tokio::test]
    async fn a_batch_that_run_drops_fails_and_takes_those_behind_it_along() {
        let intake = Intake::new();
        let (first, second) = (intake.deliver(batch(1)), intake.deliver(batch(2)));
        let mut inbox = intake.inbox().await;
        drop(inbox.next().await);
        drop(inbox);
        assert_eq!(reason(ready(first)), STOPPED);
        assert!(intake.inbox().await.try_next().is_none());
        assert_eq!(reason(ready(second)), EARLIER_FAILED);
    }

    #[tokio::test]
    async fn more_batches_than_the_queue_holds_are_sent_back() {
        let intake = Intake::new();
        let mut waiting: Vec<_> =
            (0..limits::BATCHES_AHEAD as u64).map(|n| intake.deliver(batch(n))).collect();
        assert_eq!(reason(ready(intake.deliver(batch(99)))), TOO_MANY);
        assert!(poll_once(&mut waiting[0]).is_pending());
    }
}
