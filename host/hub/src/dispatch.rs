//! Delivery to whoever sits at an endpoint: a connected client or the upstream.
//!
//! One task per endpoint moves messages from the queue to its consumer. Nobody calls it: it wakes on
//! new rows. (Wasm modules have their own loop, `module/runner.rs`, because their answers carry
//! effects.) Invariants:
//!
//! 1. A message is settled only after its consumer answered.
//! 2. Within one priority, delivery follows `Sequence`; several batches may be under way, but they
//!    settle in order.
//! 3. What was handed out and not settled goes back to the front, in order.

use crate::Hub;
use crate::explain::Fate;
use futures::stream::{FuturesOrdered, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{debug, warn};
use weir_core::backoff::Backoff;
use weir_core::id::{InputName, Sequence};
use weir_core::limits;
use weir_core::port::{Answer, Batch, BoxFuture, Consumer, Delivery, Fault, Outcome, Upstream};
use weir_store::{Change, CommitError, Committed, Disposition, EndpointId, Entry, Reader};

/// How an endpoint is served.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Messages in a batch.
    pub(crate) messages: usize,
    /// Batches under way at once.
    pub(crate) ahead: usize,
    /// Deliveries of one message before it is a dead letter; none for a client, which gets it until
    /// it takes it.
    pub(crate) max_attempts: Option<u32>,
}

/// The task of one endpoint.
pub(crate) struct Dispatcher {
    pub(crate) hub: Hub,
    pub(crate) endpoint: EndpointId,
    pub(crate) name: String,
    /// Set for the upstream: its link may be up again before the wait after a failure is over.
    pub(crate) upstream: Option<Arc<dyn Upstream>>,
    /// Set for a module's input.
    pub(crate) input: Option<InputName>,
    pub(crate) reader: Reader,
    pub(crate) seat: watch::Receiver<Option<Arc<dyn Consumer>>>,
    pub(crate) manner: Manner,
    pub(crate) backoff: Backoff,
    /// What is under way with the consumer, batch by batch.
    pub(crate) in_hand: VecDeque<Vec<Sequence>>,
}

type Flight = FuturesOrdered<BoxFuture<'static, (Vec<Entry>, Result<Answer, Fault>)>>;
/// Entries and what becomes of them with the commit.
type Settled = Vec<(Entry, Fate)>;
type Commits = FuturesOrdered<BoxFuture<'static, (Settled, Result<Committed, CommitError>)>>;

/// Why serving a consumer ended.
enum End {
    /// Another consumer, or none, sits there now.
    Changed,
    /// The consumer cannot take messages; try again after a while, and not before what it asked for.
    Refused(Option<Duration>),
    /// The store cannot settle what was delivered; try again after a while.
    Unsettled,
}

impl Dispatcher {
    /// Runs until asked to stop.
    pub(crate) async fn run(mut self, stop: crate::tasks::Stop) {
        loop {
            let consumer = tokio::select! {
                () = stop.draining() => return,
                seated = self.seat.wait_for(Option::is_some) => match seated {
                    Ok(seated) => seated.clone(),
                    Err(_) => return,
                },
            };
            let Some(consumer) = consumer else { continue };
            self.seat.mark_unchanged();
            match self.serve(&consumer, &stop).await {
                End::Changed => self.backoff.reset(),
                End::Refused(asked) => self.pause(asked.unwrap_or_default(), true, &stop).await,
                End::Unsettled => self.pause(Duration::ZERO, false, &stop).await,
            }
        }
    }

    /// Waits for its time, or for what makes waiting pointless; `for_link` where the consumer failed.
    async fn pause(&mut self, at_least: Duration, for_link: bool, stop: &crate::tasks::Stop) {
        let wait = self.backoff.next_wait(fastrand::f64()).max(at_least);
        debug!(endpoint = self.name, retry_in = ?wait, "delivery pauses");
        let upstream = self.upstream.clone().filter(|_| for_link);
        let link = async {
            let Some(upstream) = &upstream else { return std::future::pending().await };
            // It may be up although the delivery failed: never more often than this.
            tokio::time::sleep(limits::UPSTREAM_BACKOFF).await;
            upstream.is_up().await;
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = link => {}
            _ = self.seat.changed() => {}
            () = stop.draining() => {}
        }
    }

    async fn serve(&mut self, consumer: &Arc<dyn Consumer>, stop: &crate::tasks::Stop) -> End {
        let mut flight = Flight::new();
        let mut commits = Commits::new();
        let mut failed = false;
        let end = loop {
            tokio::select! {
                biased;
                () = stop.draining() => break End::Changed,
                // The same one again has nothing new for an endpoint that is being served.
                changed = self.seat.changed() => match changed.is_ok() && self.is_seated(consumer) {
                    true => {}
                    false => break End::Changed,
                },
                Some((settled, result)) = commits.next() => {
                    if let Err(end) = self.committed(settled, result) {
                        break end;
                    }
                }
                Some((entries, result)) = flight.next(), if commits.len() < limits::BATCHES_AHEAD => {
                    self.in_hand.pop_front();
                    match result {
                        Ok(answer) => self.settle(entries, answer, &mut commits),
                        Err(fault) => {
                            self.put_back(&entries, false);
                            failed = true;
                            break refused(&fault);
                        }
                    }
                }
                entries = self.reader.next(self.manner.messages, limits::BATCH_BYTES),
                    if flight.len() < self.manner.ahead =>
                {
                    self.in_hand.push_back(entries.iter().map(|entry| entry.sequence).collect());
                    flight.push_back(hand_out(consumer, entries, self.input.as_ref()));
                }
            }
        };
        self.finish(flight, commits, failed).await;
        end
    }

    fn is_seated(&self, consumer: &Arc<dyn Consumer>) -> bool {
        self.seat.borrow().as_ref().is_some_and(|seated| Arc::ptr_eq(seated, consumer))
    }

    /// Lets a consumer that leaves say what it took, then gives the rest back. After a failure all
    /// that was under way behind it comes again, so that the order holds.
    async fn finish(&mut self, mut flight: Flight, mut commits: Commits, failed: bool) {
        let mut back: Vec<Entry> = Vec::new();
        let settle = async {
            while let Some((entries, result)) = flight.next().await {
                self.in_hand.pop_front();
                match result {
                    Ok(answer) if !failed && back.is_empty() => {
                        self.settle(entries, answer, &mut commits);
                    }
                    Ok(_) | Err(_) => back.extend(entries),
                }
            }
        };
        if tokio::time::timeout(limits::FAREWELL, settle).await.is_err() {
            debug!(endpoint = self.name, "the consumer did not answer before it left");
        }
        self.put_back(&back, true);
        while let Some((settled, result)) = commits.next().await {
            if self.committed(settled, result).is_err() {
                warn!(
                    endpoint = self.name,
                    "what was delivered could not be settled, it will come again"
                );
            }
        }
        let cut_off: Vec<Sequence> = self.in_hand.drain(..).flatten().collect();
        self.reader.put_back(&cut_off, true);
    }

    /// Turns an answer into one change of the store.
    fn settle(&mut self, entries: Vec<Entry>, answer: Answer, commits: &mut Commits) {
        let mut change = Change::default();
        let (mut unsent, mut sent) = (Vec::new(), Vec::new());
        let mut settled = Vec::with_capacity(entries.len());
        for (entry, outcome) in entries.into_iter().zip(answer.outcomes) {
            let (disposition, fate) = match outcome {
                Outcome::Abandon { sent: false } => {
                    unsent.push(entry.sequence);
                    continue;
                }
                Outcome::Abandon { sent: true } => {
                    sent.push(entry.sequence);
                    continue;
                }
                outcome => self.disposition(&entry, outcome),
            };
            change.settle.push((self.endpoint, entry.sequence, disposition));
            settled.push((entry, fate));
        }
        self.reader.put_back(&sent, true);
        self.reader.put_back(&unsent, false);
        if change.settle.is_empty() {
            return;
        }
        let store = self.hub.store().clone();
        commits.push_back(Box::pin(async move {
            let result = store.commit(change).await;
            (settled, result)
        }));
    }

    fn disposition(&self, entry: &Entry, outcome: Outcome) -> (Disposition, Fate) {
        let dead = |reason, code| {
            (Disposition::Dead { reason, code, module_digest: None }, Fate::Rejected)
        };
        match outcome {
            Outcome::Retry { reason, after } => {
                match self.manner.max_attempts.is_some_and(|max| entry.attempt >= max) {
                    true => dead(reason, None),
                    false => {
                        let wait = after.unwrap_or(limits::UPSTREAM_BACKOFF);
                        let not_before = self.hub.clock().now().after(wait);
                        (Disposition::Retry { not_before, hold_sender: true }, Fate::Retried)
                    }
                }
            }
            Outcome::Reject { reason, code } => dead(reason, code),
            Outcome::Accepted
            | Outcome::Drop
            | Outcome::Pass { .. }
            | Outcome::Annotate { .. }
            | Outcome::Emit(_)
            | Outcome::Hold
            | Outcome::Abandon { .. } => (Disposition::Done, Fate::Delivered),
        }
    }

    fn committed(
        &mut self,
        settled: Settled,
        result: Result<Committed, CommitError>,
    ) -> Result<(), End> {
        match result {
            Ok(_) => {
                self.backoff.reset();
                self.hub.settled(&self.name, &settled);
                Ok(())
            }
            Err(error) => {
                warn!(endpoint = self.name, error = %error, "what was delivered could not be settled");
                let sequences: Vec<_> = settled.iter().map(|(entry, _)| entry.sequence).collect();
                self.reader.put_back(&sequences, true);
                Err(End::Unsettled)
            }
        }
    }

    fn put_back(&mut self, entries: &[Entry], counted: bool) {
        let sequences: Vec<_> = entries.iter().map(|entry| entry.sequence).collect();
        self.reader.put_back(&sequences, counted);
    }
}

fn refused(fault: &Fault) -> End {
    match fault {
        Fault::Unavailable { retry_after, .. } => End::Refused(*retry_after),
        Fault::Trap(_) | Fault::TimeOut(_) | Fault::Contract(_) => End::Refused(None),
    }
}

fn hand_out(
    consumer: &Arc<dyn Consumer>,
    entries: Vec<Entry>,
    input: Option<&InputName>,
) -> BoxFuture<'static, (Vec<Entry>, Result<Answer, Fault>)> {
    let consumer = Arc::clone(consumer);
    let deliveries = entries.iter().map(|entry| delivery(entry, input)).collect();
    Box::pin(async move {
        let answer = consumer.deliver(Batch { deliveries }).await;
        (entries, answer)
    })
}

fn delivery(entry: &Entry, input: Option<&InputName>) -> Delivery {
    Delivery {
        number: entry.sequence.0,
        attempt: if entry.redelivered { entry.attempt.max(2) } else { entry.attempt },
        input: 0,
        input_name: input.cloned(),
        message: entry.record.message.clone(),
    }
}
