//! Direct methods: from whoever calls to the client that answers, with nothing stored in between.
//!
//! [`Hub::invoke`] waits until the target has taken methods, hands the request over once, and waits
//! for the answer. Invariants:
//!
//! 1. A request is handed over at most once. When the client that has it leaves, the call fails at
//!    once, even if the client comes back: it may have done half of the work already.
//! 2. An answer counts only when it names an open call and comes from the session that got it.
//! 3. What waits is bounded, for each target and each caller in calls, for all together in bytes.

use crate::Hub;
use crate::metrics::MethodLabel;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use weir_core::error_code::ErrorCode;
use weir_core::id::{Identity, ModuleId};
use weir_core::limits;
use weir_core::method::{MethodAnswer, MethodCall, MethodId, MethodProblem, MethodRequest};

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// There is no such identity, or it is disabled.
    #[error("there is no enabled identity {0}")]
    NotFound(Identity),
    /// It was not connected, or did not take methods, in the time given; or it left with the call.
    #[error("{0} is not connected, or takes no method calls")]
    NotConnected(Identity),
    /// The client did not answer in time.
    #[error("there was no answer within {0:?}")]
    TimedOut(Duration),
    /// Too many calls wait already.
    #[error("too many method calls wait already")]
    Busy,
    /// The client answered with something that is not passed on.
    #[error("the answer of {target} is not passed on: {problem}")]
    Answer {
        /// Who answered.
        target: Identity,
        /// What is wrong with it.
        problem: MethodProblem,
    },
    /// The module failed in the call.
    #[error("{target} failed in the call: {reason}")]
    Failed {
        /// The module.
        target: Identity,
        /// How.
        reason: String,
    },
    /// The caller may not call this target.
    #[error("{caller} may not call methods of {target}")]
    Denied {
        /// Who called.
        caller: Identity,
        /// Whom.
        target: Identity,
    },
    /// The hub is stopping.
    #[error("the hub is stopping")]
    Stopping,
    /// No randomness to name the call with.
    #[error("the system gives no random bytes")]
    Random,
}

impl MethodError {
    /// HTTP status for clients of the IoT Hub paths.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFound(_) | Self::NotConnected(_) => 404,
            Self::TimedOut(_) => 504,
            Self::Busy => 429,
            Self::Answer { .. } | Self::Failed { .. } => 502,
            Self::Denied { .. } => 401,
            Self::Random => 500,
            Self::Stopping => 503,
        }
    }

    /// IoT Hub's name for it and the number that goes with the name.
    #[must_use]
    pub fn iothub_code(&self) -> (&'static str, u32) {
        match self {
            Self::NotFound(identity) => match identity.module {
                Some(_) => ("ModuleNotFound", 404_010),
                None => ("DeviceNotFound", 404_001),
            },
            Self::NotConnected(_) => ("DeviceNotOnline", 404_103),
            Self::TimedOut(_) => ("GatewayTimeout", 504_101),
            Self::Busy => ("ThrottlingException", 429_001),
            Self::Answer { .. } | Self::Failed { .. } | Self::Random => ("ServerError", 500_001),
            Self::Stopping => ("ServiceUnavailable", 503_001),
            Self::Denied { .. } => ("IotHubUnauthorizedAccess", 401_002),
        }
    }

    /// Its stable name in the native API.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::NotFound,
            Self::NotConnected(_) => ErrorCode::NotConnected,
            Self::TimedOut(_) => ErrorCode::MethodTimeout,
            Self::Busy => ErrorCode::TooManyRequests,
            Self::Answer { .. } | Self::Failed { .. } => ErrorCode::MethodFailed,
            Self::Denied { .. } => ErrorCode::Forbidden,
            Self::Random => ErrorCode::Internal,
            Self::Stopping => ErrorCode::NotReady,
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not_found",
            Self::NotConnected(_) => "not_connected",
            Self::TimedOut(_) => "timed_out",
            Self::Busy => "busy",
            Self::Answer { .. } | Self::Failed { .. } | Self::Random => "failed",
            Self::Stopping => "stopping",
            Self::Denied { .. } => "denied",
        }
    }
}

/// What is open with every target.
#[derive(Debug)]
pub(crate) struct Methods {
    /// Targets that take methods or are waited for.
    targets: Mutex<HashMap<Identity, Target>>,
    open: Mutex<HashMap<MethodId, Open>>,
    /// Calls that each module has open.
    callers: Mutex<HashMap<Identity, usize>>,
    /// Bytes of all calls.
    room: Semaphore,
    /// Counts subscriptions, to know a later one of the same session.
    subscriptions: AtomicU64,
}

impl Default for Methods {
    fn default() -> Self {
        Self {
            targets: Mutex::default(),
            open: Mutex::default(),
            callers: Mutex::default(),
            room: Semaphore::new(limits::METHOD_BYTES),
            subscriptions: AtomicU64::new(0),
        }
    }
}

#[derive(Debug, Default)]
struct Target {
    /// The way to the client, while it takes methods.
    line: watch::Sender<Option<Line>>,
    calls: usize,
}

#[derive(Debug, Clone)]
struct Line {
    session: u64,
    subscription: u64,
    requests: mpsc::Sender<MethodRequest>,
}

/// A call that waits for its answer. Dropping it fails the call as not connected.
#[derive(Debug)]
struct Open {
    session: u64,
    answer: oneshot::Sender<Result<MethodAnswer, MethodProblem>>,
}

impl Methods {
    /// The client of `identity` takes methods from now on.
    pub(crate) fn take(&self, hub: &Hub, identity: &Identity, session: u64) -> MethodRequests {
        let (requests, receiver) = mpsc::channel(limits::METHOD_CALLS_PER_TARGET);
        let subscription = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let line = Line { session, subscription, requests };
        let mut targets = lock(&self.targets);
        let target = targets.entry(identity.clone()).or_default();
        target.line.send_if_modified(|present| {
            // Of two sessions of one identity the newer one counts, in whatever order they come here.
            let newer = present.as_ref().is_none_or(|present| present.session <= session);
            if newer {
                *present = Some(line);
            }
            newer
        });
        drop(targets);
        let (hub, identity) = (hub.clone(), identity.clone());
        MethodRequests { hub, identity, session, subscription, receiver }
    }

    /// The session has ended: what it has not answered fails.
    pub(crate) fn leave(&self, identity: &Identity, session: u64) {
        self.hang_up(identity, |line| line.session == session);
        lock(&self.open).retain(|_, open| open.session != session);
    }

    fn hang_up(&self, identity: &Identity, is_mine: impl Fn(&Line) -> bool) {
        let mut targets = lock(&self.targets);
        let Some(target) = targets.get(identity) else { return };
        target.line.send_if_modified(|line| {
            let mine = line.as_ref().is_some_and(&is_mine);
            if mine {
                *line = None;
            }
            mine
        });
        forget_idle(&mut targets, identity);
    }

    /// True when a call waited for this answer.
    pub(crate) fn answer(&self, session: u64, id: MethodId, answer: MethodAnswer) -> bool {
        let waiting = {
            let mut open = lock(&self.open);
            match open.get(&id) {
                Some(waiting) if waiting.session == session => open.remove(&id),
                Some(_) | None => None,
            }
        };
        waiting.is_some_and(|waiting| waiting.answer.send(answer.checked()).is_ok())
    }

    fn begin(&self, identity: &Identity) -> Result<Waiting<'_>, MethodError> {
        let mut targets = lock(&self.targets);
        let target = targets.entry(identity.clone()).or_default();
        if target.calls >= limits::METHOD_CALLS_PER_TARGET {
            return Err(MethodError::Busy);
        }
        target.calls += 1;
        let line = target.line.subscribe();
        Ok(Waiting { methods: self, identity: identity.clone(), line })
    }

    fn room(&self, call: &MethodCall) -> Result<SemaphorePermit<'_>, MethodError> {
        let bytes = call.payload.len() + CALL_OVERHEAD;
        let bytes = u32::try_from(bytes).map_err(|_| MethodError::Busy)?;
        self.room.try_acquire_many(bytes).map_err(|_| MethodError::Busy)
    }

    /// One more call of a caller; the place is given back when the value is dropped.
    pub(crate) fn caller(&self, caller: &Identity) -> Result<Calling<'_>, MethodError> {
        let mut callers = lock(&self.callers);
        let calls = callers.entry(caller.clone()).or_default();
        if *calls >= limits::METHOD_CALLS_PER_CALLER {
            return Err(MethodError::Busy);
        }
        *calls += 1;
        Ok(Calling { methods: self, caller: caller.clone() })
    }
}

/// Memory of a call beside its payload.
const CALL_OVERHEAD: usize = 1024;

fn forget_idle(targets: &mut HashMap<Identity, Target>, identity: &Identity) {
    let idle = targets.get(identity).is_some_and(|t| t.calls == 0 && t.line.borrow().is_none());
    if idle {
        targets.remove(identity);
    }
}

/// A call's share of its caller.
pub(crate) struct Calling<'a> {
    methods: &'a Methods,
    caller: Identity,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        let mut callers = lock(&self.methods.callers);
        if let Some(calls) = callers.get_mut(&self.caller) {
            *calls -= 1;
            if *calls == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

/// A call's place at its target.
struct Waiting<'a> {
    methods: &'a Methods,
    identity: Identity,
    line: watch::Receiver<Option<Line>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut targets = lock(&self.methods.targets);
        if let Some(target) = targets.get_mut(&self.identity) {
            target.calls -= 1;
        }
        forget_idle(&mut targets, &self.identity);
    }
}

/// The entry of a call in `open`; taken out when the caller no longer waits.
struct Named<'a> {
    methods: &'a Methods,
    id: MethodId,
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        lock(&self.methods.open).remove(&self.id);
    }
}

impl Waiting<'_> {
    async fn call(&mut self, call: &MethodCall) -> Result<MethodAnswer, MethodError> {
        let until = Instant::now() + call.connect_timeout;
        loop {
            let line = self.connected(until).await?;
            let mut random = [0; 8];
            getrandom::fill(&mut random).map_err(|_| MethodError::Random)?;
            let id = MethodId::new(random);
            let (answer, answered) = oneshot::channel();
            let named = Named { methods: self.methods, id };
            lock(&self.methods.open).insert(id, Open { session: line.session, answer });
            let request =
                MethodRequest { id, name: call.name.clone(), payload: call.payload.clone() };
            match line.requests.try_send(request) {
                Ok(()) => return self.answer(answered, call.response_timeout).await,
                Err(mpsc::error::TrySendError::Full(_)) => return Err(MethodError::Busy),
                // The client stopped taking methods in this moment: nobody has seen the request.
                Err(mpsc::error::TrySendError::Closed(_)) => drop(named),
            }
        }
    }

    async fn connected(&mut self, until: Instant) -> Result<Line, MethodError> {
        let found = timeout_at(until, self.line.wait_for(Option::is_some)).await;
        let line = found.ok().and_then(|line| line.ok()?.clone());
        line.ok_or_else(|| MethodError::NotConnected(self.identity.clone()))
    }

    async fn answer(
        &self,
        answered: oneshot::Receiver<Result<MethodAnswer, MethodProblem>>,
        time: Duration,
    ) -> Result<MethodAnswer, MethodError> {
        match timeout(time, answered).await {
            Err(_) => Err(MethodError::TimedOut(time)),
            Ok(Err(_)) => Err(MethodError::NotConnected(self.identity.clone())),
            Ok(Ok(Err(problem))) => {
                Err(MethodError::Answer { target: self.identity.clone(), problem })
            }
            Ok(Ok(Ok(answer))) => Ok(answer),
        }
    }
}

/// The calls that come to one client. Dropping it ends them; what was not taken out fails as not
/// connected.
pub struct MethodRequests {
    hub: Hub,
    identity: Identity,
    session: u64,
    subscription: u64,
    receiver: mpsc::Receiver<MethodRequest>,
}

impl MethodRequests {
    /// The next call that still waits for an answer. Cancel-safe. Pending for ever once a later
    /// subscription has taken the place of this one.
    pub async fn next(&mut self) -> MethodRequest {
        loop {
            let Some(request) = self.receiver.recv().await else {
                return std::future::pending().await;
            };
            if lock(&self.hub.methods().open).contains_key(&request.id) {
                return request;
            }
        }
    }
}

impl Drop for MethodRequests {
    fn drop(&mut self) {
        let methods = self.hub.methods();
        let mine =
            |line: &Line| line.session == self.session && line.subscription == self.subscription;
        // Before the channel closes, so that a call that finds it closed finds the next line or none.
        methods.hang_up(&self.identity, mine);
        self.receiver.close();
        while let Ok(request) = self.receiver.try_recv() {
            lock(&methods.open).remove(&request.id);
        }
    }
}

impl Hub {
    /// Calls a method of a device or module and waits for its answer; for the time-outs see
    /// [`MethodCall`]. Dropping the future gives the call up.
    ///
    /// # Errors
    /// [`MethodError`].
    pub async fn invoke(
        &self,
        target: &Identity,
        call: MethodCall,
    ) -> Result<MethodAnswer, MethodError> {
        let started = Instant::now();
        let stop = self.tasks().stop();
        let result = tokio::select! {
            result = self.invoke_target(target, call) => result,
            () = stop.draining() => Err(MethodError::Stopping),
        };
        let outcome = result.as_ref().map_or_else(MethodError::label, |_| "answered");
        self.metrics().direct_methods.get_or_create(&MethodLabel { outcome }).inc();
        if result.is_ok() {
            self.metrics().direct_method_seconds.observe(started.elapsed().as_secs_f64());
        }
        result
    }

    async fn invoke_target(
        &self,
        target: &Identity,
        call: MethodCall,
    ) -> Result<MethodAnswer, MethodError> {
        if let Some(module) = &target.module
            && target.device == *self.edge_device()
            && self.modules().is_wasm(module)
        {
            return self.invoke_module(target, module, call).await;
        }
        if !self.identities().is_enabled(target) {
            return Err(MethodError::NotFound(target.clone()));
        }
        let _room = self.methods().room(&call)?;
        let mut waiting = self.methods().begin(target)?;
        waiting.call(&call).await
    }

    /// A Wasm module is connected while it runs.
    async fn invoke_module(
        &self,
        target: &Identity,
        module: &ModuleId,
        call: MethodCall,
    ) -> Result<MethodAnswer, MethodError> {
        let _room = self.methods().room(&call)?;
        self.modules().call(target, module, call).await
    }
}
