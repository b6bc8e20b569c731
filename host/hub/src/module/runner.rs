//! The loop of one Wasm module: batches from its inputs through its instance into the store.
//!
//! Invariants:
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

use super::circuit::Circuit;
use super::effects::{Effects, Emitted, Held, number};
use super::holding::Holding;
use super::parts::{Input, Part, next_part};
use super::version::{Probation, Version};
use super::{Control, CounterView, Counters, Report, State};
use crate::Hub;
use crate::explain::Fate;
use crate::routes::InForce;
use crate::tasks::Stop;
use futures::stream::{FuturesOrdered, StreamExt};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};
use weir_core::backoff::Backoff;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::module::{TrapPolicy, WhenOpen};
use weir_core::module_state::ModuleState;
use weir_core::port::{Answer, Batch, BoxFuture, Delivery, Fault, Instance, Outcome, StartReason};
use weir_store::{Chain, Change, CommitError, Committed, Disposition, EndpointId};

/// Least time between two attempts to store what did not fit.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

type Commits = FuturesOrdered<BoxFuture<'static, (Vec<Held>, Result<Committed, CommitError>)>>;

/// The task of one module.
pub(crate) struct Runner {
    pub(super) hub: Hub,
    pub(super) identity: Identity,
    pub(super) version: Version,
    pub(super) previous: Option<Version>,
    pub(super) probation: Option<Probation>,
    pub(super) state: Arc<Mutex<ModuleState>>,
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) report: watch::Sender<Report>,
    pub(super) counters: Arc<Counters>,
    instance: Option<Arc<dyn Instance>>,
    pub(super) readers: Vec<Input>,
    turn: usize,
    pub(super) parts: VecDeque<Part>,
    pub(super) holding: Holding,
    commits: Commits,
    chain: Chain,
    circuit: Circuit,
    restart: Backoff,
    reason: StartReason,
    /// It was told to stop and has.
    stopped: bool,
    /// The state in memory may hold what was never committed; nothing starts before it is read anew.
    stale: bool,
}

enum Event {
    Drain,
    Control(Option<Control>),
    Committed(Vec<Held>, Result<Committed, CommitError>),
    Part(Part),
}

impl Runner {
    pub(super) fn new(
        hub: Hub,
        identity: Identity,
        version: Version,
        state: Arc<Mutex<ModuleState>>,
        channels: (mpsc::Receiver<Control>, watch::Sender<Report>),
        counters: Arc<Counters>,
    ) -> Self {
        let circuit = Circuit::new(version.spec.errors.open_after.0);
        let chain = hub.store().chain();
        Self {
            hub,
            identity,
            version,
            previous: None,
            probation: None,
            state,
            control: channels.0,
            report: channels.1,
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
        self.open_inputs().await;
        while !self.stopped {
            if self.instance.is_none() && !self.start(&stop).await {
                if stop.is_draining() {
                    break;
                }
                continue;
            }
            match self.event(&stop).await {
                Event::Drain | Event::Control(None) => break,
                Event::Control(Some(Control::Stop(done))) => {
                    self.finish().await;
                    done.send(()).ok();
                    return;
                }
                Event::Control(Some(control)) => self.control(control).await,
                Event::Committed(entries, result) => self.committed(entries, result).await,
                Event::Part(part) => self.handle(part, &stop).await,
            }
        }
        if !self.stopped {
            self.finish().await;
        }
    }

    async fn event(&mut self, stop: &Stop) -> Event {
        let room = self.commits.len() < limits::BATCHES_AHEAD;
        let next = next_part(
            &mut self.parts,
            &mut self.readers,
            &mut self.turn,
            self.hub.clock(),
            usize::from(self.version.spec.batch.messages),
            usize::try_from(self.version.spec.batch.bytes.0).unwrap_or(limits::BATCH_BYTES),
        );
        tokio::select! {
            biased;
            () = stop.draining() => Event::Drain,
            control = self.control.recv() => Event::Control(control),
            Some((entries, result)) = self.commits.next() => Event::Committed(entries, result),
            part = next, if room => Event::Part(part),
        }
    }

    /// Starts an instance of the present version; false when it did not, after a pause.
    async fn start(&mut self, stop: &Stop) -> bool {
        if let Some(rest) = self.circuit.rests(self.hub.clock().now()) {
            self.rest(rest, stop).await;
            return false;
        }
        // What the instance before this one held is known when its last batches are on disk.
        self.flush().await;
        if self.stale && !self.reload_state().await {
            let wait = self.restart.next_wait(fastrand::f64());
            self.set_state(State::BackingOff);
            self.rest(wait, stop).await;
            return false;
        }
        self.set_state(State::Starting);
        let start = self.version.start(&self.identity, self.reason, Arc::clone(&self.state));
        match self.hub.runtime().start(start).await {
            Ok(instance) => {
                self.restart.reset();
                self.replace_instance(Some(instance));
                self.set_state(State::Running);
                true
            }
            Err(cause) if self.previous.is_some() => {
                self.go_back(&cause.to_string()).await;
                false
            }
            Err(cause) => {
                let wait = self.restart.next_wait(fastrand::f64());
                error!(module = %self.identity, error = %cause, retry_in = ?wait, "module did not start");
                self.note(&cause.to_string());
                self.set_state(State::BackingOff);
                self.rest(wait, stop).await;
                false
            }
        }
    }

    /// Waits, but hears what it is told meanwhile.
    async fn rest(&mut self, wait: Duration, stop: &Stop) {
        let bypass = self.version.spec.errors.when_open == WhenOpen::Bypass;
        let until = tokio::time::sleep(wait);
        tokio::pin!(until);
        loop {
            let event = tokio::select! {
                () = &mut until => return,
                event = self.event(stop) => event,
            };
            match event {
                Event::Drain | Event::Control(None) => return,
                Event::Control(Some(Control::Stop(done))) => {
                    self.finish().await;
                    self.stopped = true;
                    done.send(()).ok();
                    return;
                }
                Event::Control(Some(control)) => {
                    self.control(control).await;
                    return;
                }
                Event::Committed(entries, result) => self.committed(entries, result).await,
                Event::Part(part) if bypass => {
                    let Some(part) = self.end_loops(part).await else { continue };
                    let answer = Answer {
                        outcomes: vec![Outcome::Pass { output: 0 }; part.entries.len()],
                        ..Answer::default()
                    };
                    self.settle(part.entries, answer, CounterView::default()).await;
                }
                Event::Part(part) => {
                    self.parts.push_front(part);
                    // Nothing is taken from the queues while the module rests.
                    tokio::select! {
                        () = &mut until => return,
                        () = stop.draining() => return,
                        control = self.control.recv() => match control {
                            Some(Control::Stop(done)) => {
                                self.finish().await;
                                self.stopped = true;
                                done.send(()).ok();
                                return;
                            }
                            Some(control) => { self.control(control).await; return; }
                            None => return,
                        },
                    }
                }
            }
        }
    }

    async fn handle(&mut self, part: Part, _stop: &Stop) {
        let Some(instance) = self.instance.clone() else {
            self.parts.push_front(part);
            return;
        };
        let Some(part) = self.end_loops(part).await else { return };
        let deliveries = part.entries.iter().map(delivery).collect();
        match instance.deliver(Batch { deliveries }).await {
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

    /// Hands what an answer says to the store; `tally` is counted when it is on disk.
    pub(super) async fn settle(&mut self, entries: Vec<Held>, answer: Answer, tally: CounterView) {
        let inputs: Vec<EndpointId> = self.readers.iter().map(|input| input.endpoint).collect();
        let effects = Effects {
            hub: &self.hub,
            identity: &self.identity,
            spec: &self.version.spec,
            component: self.version.spec.component,
            inputs: &inputs,
            on_probation: self.probation.is_some(),
        };
        let (change, emitted) = effects.change(&entries, answer);
        self.submit(entries, change, emitted, tally).await;
    }

    async fn submit(
        &mut self,
        entries: Vec<Held>,
        change: Change,
        emitted: Emitted,
        tally: CounterView,
    ) {
        match self.hub.store().slot().await {
            Ok(slot) => {
                let commit = slot.commit(change, &self.chain);
                let (hub, counters) = (self.hub.clone(), Arc::clone(&self.counters));
                self.commits.push_back(Box::pin(async move {
                    let result = commit.await;
                    // What the store refuses was not done.
                    if result.is_ok() {
                        emitted.note(&hub);
                        counters.add(&tally);
                    }
                    (entries, result)
                }));
            }
            Err(closed) => {
                let result = Err(CommitError::Unavailable {
                    cause: Arc::new(closed),
                    change: Box::new(change),
                });
                self.commits.push_back(Box::pin(async move { (entries, result) }));
            }
        }
    }

    async fn committed(&mut self, entries: Vec<Held>, result: Result<Committed, CommitError>) {
        let Err(error) = result else { return };
        // The store took nothing of this and of all behind it.
        warn!(module = %self.identity, error = %error, "what the module did could not be stored, it is undone");
        self.put_back(&entries);
        while let Some((entries, _)) = self.commits.next().await {
            self.put_back(&entries);
        }
        self.chain = self.hub.store().chain();
        self.instance = None;
        self.reason = StartReason::Recover;
        self.reload_state().await;
        let full = match &error {
            CommitError::Full { endpoint, .. } => *endpoint,
            CommitError::Unavailable { .. } | CommitError::Broken { .. } => None,
        };
        let on = full.and_then(|endpoint| self.hub.endpoint_name(endpoint));
        self.set_state(State::Paused { on });
        // Room anywhere wakes everyone who waits, so there is a floor.
        tokio::join!(self.hub.store().room(), tokio::time::sleep(ROOM_PAUSE));
    }

    /// The instance is spent and its batch undone. One that ended without an answer is met like a
    /// trap, so that a message which ends it each time does not hold up those behind it; but nobody
    /// undid what it did to the state.
    async fn fault(&mut self, part: Part, fault: Fault) {
        self.instance = None;
        self.reason = StartReason::Recover;
        self.answer_fault(part, &fault).await;
        if !fault.is_guest() {
            self.flush().await;
            self.reload_state().await;
        }
    }

    async fn answer_fault(&mut self, mut part: Part, fault: &Fault) {
        self.counters.fault();
        self.note(&fault.to_string());
        let now = self.hub.clock().now();
        if self.probation.is_some() {
            warn!(module = %self.identity, error = %fault, "a version on probation failed");
            self.parts.push_front(part);
            self.go_back(&fault.to_string()).await;
            return;
        }
        warn!(module = %self.identity, messages = part.entries.len(), error = %fault, "module call failed");
        // The attempts of a message that stands alone are one fault: they are meant to fail.
        if part.alone == 0 && self.circuit.fault(now, part.suspect) {
            error!(module = %self.identity, "the module failed too often and rests");
            self.set_state(State::CircuitOpen);
        }
        if part.entries.len() > 1 {
            let tail = part.entries.split_off(part.entries.len() / 2);
            self.parts.push_front(Part { entries: tail, alone: 0, suspect: true });
            self.parts.push_front(Part { entries: part.entries, alone: 0, suspect: true });
            return;
        }
        part.alone += 1;
        part.suspect = true;
        match part.alone >= self.version.spec.errors.retry.max_attempts {
            true => self.set_aside(part, fault).await,
            false => self.parts.push_front(part),
        }
    }

    /// Messages that have come through too many modules end here; gives the others.
    async fn end_loops(&mut self, mut part: Part) -> Option<Part> {
        if part.entries.iter().all(|held| held.entry.record.message.hops() < limits::MAX_HOPS) {
            return Some(part);
        }
        let (looped, others): (Vec<Held>, Vec<Held>) = part
            .entries
            .into_iter()
            .partition(|held| held.entry.record.message.hops() >= limits::MAX_HOPS);
        let reason = format!("came through {} modules: the routes form a loop", limits::MAX_HOPS);
        let code = Some("hop-limit".to_owned());
        self.end(looped, &Disposition::Dead { reason, code, module_digest: None }).await;
        part.entries = others;
        (!part.entries.is_empty()).then_some(part)
    }

    /// A message that the module cannot take, alone as it is.
    async fn set_aside(&mut self, part: Part, fault: &Fault) {
        let code = match fault {
            Fault::TimeOut(_) => "time-out",
            Fault::Trap(_) | Fault::Contract(_) | Fault::Unavailable { .. } => "trap",
        };
        let disposition = match self.version.spec.errors.trap {
            TrapPolicy::DeadLetter => Disposition::Dead {
                reason: fault.to_string(),
                code: Some(code.to_owned()),
                module_digest: Some(self.version.spec.component),
            },
            TrapPolicy::Drop => Disposition::Done,
        };
        self.end(part.entries, &disposition).await;
    }

    async fn end(&mut self, entries: Vec<Held>, disposition: &Disposition) {
        let tally = CounterView { dead: entries.len() as u64, ..CounterView::default() };
        let mut change = Change::default();
        let module = self.identity.module.as_ref();
        for held in &entries {
            let id = held.entry.record.message.id();
            self.hub.explanations().settle(id, module, Fate::Rejected);
            change.settle.push((held.endpoint, held.entry.sequence, disposition.clone()));
        }
        self.submit(entries, change, Emitted::default(), tally).await;
    }

    /// Reads the state anew when everything submitted is on disk or undone; false when it could not.
    pub(super) async fn reload_state(&mut self) -> bool {
        let module = self.identity.module.as_ref().map(ToString::to_string).unwrap_or_default();
        let quota = usize::try_from(self.version.spec.limits.state.0).unwrap_or(usize::MAX);
        match self.hub.store().module_state(&module).await {
            Ok(values) => {
                *crate::sync::lock(&self.state) = ModuleState::new(values, quota);
                self.stale = false;
            }
            Err(cause) => {
                error!(module, error = %cause, "the module's state could not be read");
                self.stale = true;
            }
        }
        !self.stale
    }

    /// Opens the readers of the present version's inputs; those that stay are kept. What waits to be
    /// handled again goes back, because its input may have another number now.
    pub(super) async fn open_inputs(&mut self) {
        for part in std::mem::take(&mut self.parts) {
            self.put_back(&part.entries);
        }
        let mut old = std::mem::take(&mut self.readers);
        for name in &self.version.spec.inputs {
            let endpoint = match self.hub.input_endpoint(&self.identity, name).await {
                Ok(endpoint) => endpoint,
                Err(cause) => {
                    error!(module = %self.identity, input = %name, error = %cause, "an input's queue could not be opened");
                    continue;
                }
            };
            if let Some(at) = old.iter().position(|input| input.endpoint == endpoint) {
                self.readers.push(old.swap_remove(at));
                continue;
            }
            match self.hub.store().reader(endpoint) {
                Ok(reader) => self.readers.push(Input { endpoint, reader }),
                Err(cause) => {
                    error!(module = %self.identity, input = %name, error = %cause, "an input's queue is in use");
                }
            }
        }
        self.turn = 0;
    }

    async fn finish(&mut self) {
        if let Some(instance) = self.instance.take()
            && let Ok(answer) = instance.stop().await
        {
            self.settle(Vec::new(), answer, CounterView::default()).await;
        }
        while let Some((_, result)) = self.commits.next().await {
            if let Err(error) = result {
                warn!(module = %self.identity, error = %error, "the module's last work was not stored, it will be done again");
                break;
            }
        }
        self.parts.clear();
        self.readers.clear();
        self.set_state(State::Stopped);
        info!(module = %self.identity, "module stopped");
    }

    pub(super) fn replace_instance(
        &mut self,
        instance: Option<Arc<dyn Instance>>,
    ) -> Option<Arc<dyn Instance>> {
        self.holding = Holding::default();
        for input in &self.readers {
            input.reader.redeliver_held();
        }
        std::mem::replace(&mut self.instance, instance)
    }

    pub(super) fn reset_circuit(&mut self) {
        self.circuit = Circuit::new(self.version.spec.errors.open_after.0);
        self.restart.reset();
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(super) fn set_reason(&mut self, reason: StartReason) {
        self.reason = reason;
    }

    /// Everything submitted so far is on disk, or undone.
    pub(super) async fn flush(&mut self) {
        while let Some((entries, result)) = self.commits.next().await {
            self.committed(entries, result).await;
        }
    }

    pub(super) fn set_state(&self, state: State) {
        let usage = self.instance.as_ref().map(|instance| instance.usage());
        self.report.send_modify(|report| {
            report.state = state;
            report.version = self.version.number;
            report.component = Some(self.version.spec.component);
            report.on_probation = self.probation.is_some();
            report.usage = usage.or(report.usage);
        });
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
