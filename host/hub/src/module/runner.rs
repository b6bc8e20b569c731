//! The loop of one Wasm module: batches from its inputs through its instance into the store.
//!
//! Its parts by subject: `starting` (and resting, and ending), `settling` (answers to the disk),
//! `faults`, `holding` (and retries), `swap`. Invariants of them all:
//!
//! 1. Calls happen in order, one at a time; their changes go to the store in the same order on one
//!    chain, at most [`limits::BATCHES_AHEAD`] ahead of the last commit.
//! 2. A fault undoes its batch only: fresh instance, the batch halved until the poison message
//!    stands alone, then the others go on. The fresh instance starts when all that its predecessor
//!    did is on disk, and is given first what that one held.
//! 3. A change that the store refuses undoes itself and every batch behind it: the instance and the
//!    state in memory go, all come again in order, no attempt is counted.
//! 4. A version on probation that faults is replaced by the one before it; nothing is dead-lettered
//!    by a version on probation.

use super::calls::{Answered, Call};
use super::circuit::Circuit;
use super::desired::{self, Desired};
use super::effects::{Held, number};
use super::holding::Holding;
use super::parts::{Input, Part, next_part};
use super::version::{Probation, Version};
use super::{Control, CounterView, Counters, Report, State};
use crate::Hub;
use crate::events::Topic;
use crate::routes::InForce;
use crate::tasks::Stop;
use crate::twins::DesiredPatches;
use futures::stream::{FuturesOrdered, StreamExt};
use serde_json::json;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use weir_core::backoff::Backoff;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::module_state::ModuleState;
use weir_core::module_twin::ModuleTwin;
use weir_core::port::{Batch, BoxFuture, Delivery, Instance, StartReason};
use weir_store::{Chain, CommitError};

/// What was handed to the store.
pub(super) struct Submitted {
    /// Come again when it is refused.
    pub(super) entries: Vec<Held>,
    /// Whoever waits for it to be on disk.
    pub(super) answered: Option<Answered>,
}

impl Submitted {
    /// Tells whoever waits for it.
    pub(super) fn told(self, module: &Identity, stored: bool) -> Vec<Held> {
        match self.answered {
            Some(answered) if stored => answered.give(),
            Some(answered) => answered.undo(module),
            None => {}
        }
        self.entries
    }
}

pub(super) type Commits = FuturesOrdered<BoxFuture<'static, (Submitted, Result<(), CommitError>)>>;

/// The task of one module.
pub(crate) struct Runner {
    pub(super) hub: Hub,
    pub(super) identity: Identity,
    pub(super) version: Version,
    pub(super) previous: Option<Version>,
    pub(super) probation: Option<Probation>,
    pub(super) state: Arc<Mutex<ModuleState>>,
    pub(super) twin: Arc<Mutex<ModuleTwin>>,
    pub(super) desired: Desired,
    /// Comes when the desired properties have changed.
    news: mpsc::Receiver<()>,
    /// While it lives the hub keeps the twin in memory, and with it reports that are not committed.
    _twin: DesiredPatches,
    calls: mpsc::Receiver<Call>,
    /// A call that goes to the old version because the new one failed on it.
    pub(super) again: Option<Call>,
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) report: watch::Sender<Report>,
    pub(super) counters: Arc<Counters>,
    pub(super) instance: Option<Arc<dyn Instance>>,
    pub(super) readers: Vec<Input>,
    pub(super) turn: usize,
    pub(super) parts: VecDeque<Part>,
    pub(super) holding: Holding,
    pub(super) commits: Commits,
    pub(super) chain: Chain,
    pub(super) circuit: Circuit,
    pub(super) restart: Backoff,
    pub(super) reason: StartReason,
    /// It has ended in good order.
    pub(super) stopped: bool,
    /// The state in memory may hold what was never committed; nothing starts before it is read anew.
    pub(super) stale: bool,
}

pub(super) enum Event {
    Drain,
    Control(Option<Control>),
    Committed(Submitted, Result<(), CommitError>),
    /// The desired properties are to be looked at.
    Desired,
    Call(Call),
    Part(Part),
}

impl Runner {
    pub(super) fn new(
        hub: Hub,
        identity: Identity,
        version: Version,
        state: Arc<Mutex<ModuleState>>,
        channels: (mpsc::Receiver<Control>, mpsc::Receiver<Call>, watch::Sender<Report>),
        counters: Arc<Counters>,
    ) -> Self {
        let circuit = Circuit::new(version.spec.errors.open_after.0);
        let chain = hub.store().chain();
        // Until it runs nobody listens.
        let news = mpsc::channel(1).1;
        let watched = hub.twins().watch(&hub, &identity);
        Self {
            hub,
            identity,
            version,
            previous: None,
            probation: None,
            state,
            twin: Arc::default(),
            desired: Desired::default(),
            news,
            _twin: watched,
            calls: channels.1,
            again: None,
            control: channels.0,
            report: channels.2,
            counters,
            instance: None,
            readers: Vec::new(),
            turn: 0,
            parts: VecDeque::new(),
            holding: Holding::default(),
            commits: Commits::new(),
            chain,
            circuit,
            restart: Backoff::new(Duration::from_secs(1), Duration::from_secs(300)),
            reason: StartReason::Cold,
            stopped: false,
            stale: false,
        }
    }

    /// Runs until asked to stop; the inputs' queues stay.
    pub(super) async fn run(mut self, stop: Stop, _routes: InForce) {
        self.news = desired::news(&self.hub, &self.identity);
        self.open_inputs().await;
        while !self.stopped {
            if self.instance.is_none() && !self.start(&stop).await {
                if stop.is_draining() {
                    break;
                }
                continue;
            }
            match self.event(&stop, true).await {
                Event::Drain | Event::Control(None) => break,
                Event::Control(Some(control)) => self.control(control).await,
                Event::Committed(submitted, result) => self.committed(submitted, result).await,
                Event::Desired => self.offer_desired().await,
                Event::Call(call) => self.call(call).await,
                Event::Part(part) => self.handle(part).await,
            }
        }
        if !self.stopped {
            self.finish().await;
        }
    }

    /// What is to be done next; messages only with `parts`.
    pub(super) async fn event(&mut self, stop: &Stop, parts: bool) -> Event {
        let room = self.commits.len() < limits::BATCHES_AHEAD;
        let works = self.instance.is_some() && room;
        if let Some(call) = self.again.take_if(|_| works) {
            return Event::Call(call);
        }
        let next = next_part(
            &mut self.parts,
            &mut self.readers,
            &mut self.turn,
            self.hub.clock(),
            usize::from(self.version.spec.batch.messages),
            usize::try_from(self.version.spec.batch.bytes.0).unwrap_or(limits::BATCH_BYTES),
        );
        let (news, calls, due) = (&mut self.news, &mut self.calls, self.desired.due);
        let desired = async move {
            if !due && news.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        };
        // Neither messages nor calls starve the others.
        let work = async {
            tokio::select! {
                part = next, if parts && room => Event::Part(part),
                Some(call) = calls.recv(), if room => Event::Call(call),
                else => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.draining() => Event::Drain,
            control = self.control.recv() => Event::Control(control),
            Some((submitted, result)) = self.commits.next() => Event::Committed(submitted, result),
            () = desired, if works => Event::Desired,
            work = work => work,
        }
    }

    async fn handle(&mut self, part: Part) {
        let Some(instance) = self.instance.clone() else {
            self.parts.push_front(part);
            return;
        };
        let Some(part) = self.end_loops(part).await else { return };
        let deliveries = part.entries.iter().map(delivery).collect();
        let batch = Batch { deliveries };
        let called = match self.search_time(&part) {
            Some(time) => instance.deliver_within(batch, time),
            None => instance.deliver(batch),
        };
        match called.await {
            Ok(mut answer) => {
                self.circuit.success(part.suspect);
                self.keep_quota(&part.entries, &mut answer);
                let (entries, waits) = self.keep_order(part.entries, &mut answer);
                let tally = CounterView::of_call(entries.len(), &answer);
                self.settle(entries, answer, tally).await;
                if waits {
                    // What waits behind a retry is known when the retry is on disk.
                    self.flush().await;
                }
                self.on_probation_success().await;
            }
            Err(fault) => self.fault(part, fault).await,
        }
    }

    pub(super) fn set_state(&self, state: State) {
        let usage = self.instance.as_ref().map(|instance| instance.usage());
        let (version, on_probation) = (self.version.number, self.probation.is_some());
        let mut news = None;
        self.report.send_modify(|report| {
            let same = (report.version, report.on_probation) == (version, on_probation);
            if !same || report.state != state {
                let what = if report.version == version { "state-changed" } else { "switched" };
                news = Some((what, state.clone()));
            }
            report.state = state;
            report.version = version;
            report.component = Some(self.version.spec.component);
            report.on_probation = on_probation;
            report.usage = usage.or(report.usage);
        });
        if let Some((what, state)) = news {
            let data = json!({"state": state, "version": version, "onProbation": on_probation});
            self.hub.tell(Topic::Module, what, self.module_name(), data);
        }
    }

    pub(super) fn note(&self, fault: &str) {
        let at = self.hub.clock().now();
        self.report.send_modify(|report| report.last_fault = Some((at, fault.to_owned())));
    }
}

fn delivery(held: &Held) -> Delivery {
    Delivery {
        number: number(held.entry.sequence, held.input),
        attempt: held.entry.attempt,
        input: held.input,
        input_name: None,
        message: held.entry.record.message.clone(),
    }
}
