//! A guest that has been instantiated: its store and its exports, used by the instance's own thread.
//!
//! A call either gives a whole [`Answer`] or a [`Fault`]; after a fault the state is as it was before
//! the call and the guest is never entered again.

use crate::bindings::exports::weir::module::lifecycle::{Configuration, StartReason as Reason};
use crate::bindings::methods::exports::weir::module::methods::Response;
use crate::capability::payload::Payload;
use crate::failure::{fault, not_instantiated};
use crate::guest::{Guest, Phase};
use crate::lift::{self, Budget};
use crate::linked::{Exports, Linked};
use crate::lower::Plan;
use crate::ticker::Ticker;
use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::Resource;
use weir_core::id::ModuleId;
use weir_core::limits::EPOCH_TICK;
use weir_core::method::MethodAnswer;
use weir_core::module_state::{ModuleState, StateChange};
use weir_core::module_twin::ModuleTwin;
use weir_core::port::{
    Answer, Batch, Called, DesiredChange, Fault, Handlers, ModuleStart, RuntimeError, StartReason,
};
use weir_core::twin::Patch;

/// Time of instantiation and `init` together, when the limit of a call is shorter: reading settings is
/// work of another size than handling a batch.
const INIT_TIME: Duration = Duration::from_secs(1);

/// Bytes that may come out of the guest beside its messages and its state (lists of outcomes, names).
const OVERHEAD_BYTES: u64 = 1024 * 1024;

pub(crate) struct Running {
    store: Store<Guest>,
    exports: Exports,
    plan: Plan,
    ticker: Arc<Ticker>,
    state: Arc<Mutex<ModuleState>>,
    twin: Arc<Mutex<ModuleTwin>>,
    call_time: Duration,
}

/// Undoes the call's changes of state and twin unless it went well.
struct Journal {
    state: Arc<Mutex<ModuleState>>,
    twin: Arc<Mutex<ModuleTwin>>,
    kept: bool,
}

impl Journal {
    fn keep(mut self) -> (Vec<StateChange>, Vec<Patch>) {
        self.kept = true;
        (lock(&self.state).commit(), lock(&self.twin).commit())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if !self.kept {
            lock(&self.state).rollback();
            lock(&self.twin).rollback();
        }
    }
}

impl Running {
    /// Instantiates the component and runs its `init`.
    pub(crate) fn start(
        linked: &Linked,
        guest: Guest,
        start: &ModuleStart,
        module: &ModuleId,
    ) -> Result<Self, RuntimeError> {
        let ticker = Arc::clone(&guest.ticker);
        let plan = Plan::new(&start.spec, guest.limits.body_inline.0);
        let call_time = guest.limits.call();
        let out = guest.limits.bytes_per_call.0.max(guest.limits.state.0) + OVERHEAD_BYTES;
        let mut store = Store::new(linked.engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(usize::try_from(out).unwrap_or(usize::MAX));
        let under_way = ticker.call();
        let time = call_time.max(INIT_TIME);
        begin(&mut store, Phase::Init, time);
        let exports = linked
            .instantiate(&mut store)
            .map_err(|error| not_instantiated(&mut store, &error, time))?;
        let configuration = Settings::new(start, module);
        match exports.module.weir_module_lifecycle().call_init(&mut store, configuration.borrow()) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(RuntimeError::Init(crate::log::escaped(&why, &[]))),
            Err(error) => {
                return Err(RuntimeError::Init(fault(&mut store, &error, time).to_string()));
            }
        }
        drop(under_way);
        let (state, twin) = (Arc::clone(&start.state), Arc::clone(&start.twin));
        Ok(Self { store, exports, plan, ticker, state, twin, call_time })
    }

    /// What the component can be called with beside batches.
    pub(crate) fn handlers(&self) -> Handlers {
        Handlers {
            methods: self.exports.callee.is_some(),
            desired: self.exports.configured.is_some(),
        }
    }

    /// Gives the guest a batch, with less than a call's time where `time` says so. `wanted` is asked
    /// before the effects are kept: when nobody waits for the answer any more, they are undone. After
    /// an error the guest is spent.
    pub(crate) fn process(
        &mut self,
        batch: &Batch,
        time: Option<Duration>,
        wanted: impl Fn() -> bool,
    ) -> Result<Answer, Fault> {
        let journal = self.journal();
        let ticker = Arc::clone(&self.ticker);
        let under_way = ticker.call();
        let time = time.unwrap_or(self.call_time).min(self.call_time);
        begin(&mut self.store, Phase::Effects, time);
        let mut payloads = self.push_payloads(batch)?;
        let mut handles = payloads.iter().map(|rep| Resource::new_own(*rep));
        let parts = self.plan.gather(batch);
        let processor = self.exports.module.weir_module_processor();
        let found = self.plan.lower(
            batch,
            &parts,
            || handles.next().expect("one handle was made for each large body"),
            |messages, fields| processor.call_process(&mut self.store, messages, fields),
        );
        drop(under_way);
        let found = found.map_err(|error| fault(&mut self.store, &error, time))?;
        self.empty_payloads(&mut payloads);
        let guest = self.store.data();
        let budget = Budget::after(&guest.limits, guest.call.sends.len(), guest.call.sent_bytes);
        let outcomes =
            lift::outcomes(&guest.spec, &budget, batch, found).map_err(Fault::Contract)?;
        let effects = self.keep(journal, wanted)?;
        Ok(Answer { outcomes, ..effects })
    }

    /// Calls a method; otherwise as [`Running::process`].
    pub(crate) fn method(
        &mut self,
        name: &str,
        body: &[u8],
        wanted: impl Fn() -> bool,
    ) -> Result<Called<MethodAnswer>, Fault> {
        self.called(
            |exports, store| match &exports.callee {
                Some(callee) => {
                    callee.weir_module_methods().call_on_method(store, name, body).map(Some)
                }
                None => Ok(None),
            },
            |found| match found {
                Some(Response { status, body }) => lift::method_answer(status, body),
                None => Ok(MethodAnswer { status: 404, payload: Bytes::from_static(b"null") }),
            },
            wanted,
        )
    }

    /// Asks about new desired properties; otherwise as [`Running::process`].
    pub(crate) fn desired(
        &mut self,
        change: &DesiredChange,
        wanted: impl Fn() -> bool,
    ) -> Result<Called<Result<(), String>>, Fault> {
        let DesiredChange { version, patch, desired } = change;
        self.called(
            |exports, store| match &exports.configured {
                Some(configured) => configured
                    .weir_module_twin_handler()
                    .call_on_desired(store, patch, desired, *version),
                None => Ok(Ok(())),
            },
            |taken| Ok(taken.map_err(lift::reason)),
            wanted,
        )
    }

    /// Calls `stop`; its effects are the answer.
    pub(crate) fn stop(&mut self) -> Result<Answer, Fault> {
        let stop = |exports: &Exports, store: &mut Store<Guest>| {
            exports.module.weir_module_lifecycle().call_stop(store)
        };
        self.called(stop, Ok, || true).map(|called| called.effects)
    }

    /// A call beside the batches: `call` enters the guest, `check` looks at what came out.
    fn called<F, T>(
        &mut self,
        call: impl FnOnce(&Exports, &mut Store<Guest>) -> wasmtime::Result<F>,
        check: impl FnOnce(F) -> Result<T, String>,
        wanted: impl Fn() -> bool,
    ) -> Result<Called<T>, Fault> {
        let journal = self.journal();
        let ticker = Arc::clone(&self.ticker);
        let under_way = ticker.call();
        begin(&mut self.store, Phase::Effects, self.call_time);
        let found = call(&self.exports, &mut self.store);
        drop(under_way);
        let found = found.map_err(|error| fault(&mut self.store, &error, self.call_time))?;
        let answer = check(found).map_err(Fault::Contract)?;
        Ok(Called { answer, effects: self.keep(journal, wanted)? })
    }

    fn journal(&self) -> Journal {
        Journal { state: Arc::clone(&self.state), twin: Arc::clone(&self.twin), kept: false }
    }

    /// Ends a call that went well: what it did, without outcomes.
    fn keep(&mut self, journal: Journal, wanted: impl Fn() -> bool) -> Result<Answer, Fault> {
        if !wanted() {
            let reason = "the call was given up".to_owned();
            return Err(Fault::Unavailable { reason, retry_after: None });
        }
        let call = &mut self.store.data_mut().call;
        let (sends, releases) =
            (std::mem::take(&mut call.sends), std::mem::take(&mut call.releases));
        let (state, reports) = journal.keep();
        Ok(Answer { outcomes: Vec::new(), sends, releases, state, reports })
    }

    pub(crate) fn guest(&self) -> &Guest {
        self.store.data()
    }

    fn push_payloads(&mut self, batch: &Batch) -> Result<Vec<u32>, Fault> {
        let guest = self.store.data_mut();
        batch
            .deliveries
            .iter()
            .filter(|delivery| self.plan.is_large(delivery))
            .map(|delivery| {
                let payload = Payload(delivery.message.body().clone());
                guest.push(payload).map(|handle| handle.rep())
            })
            .collect::<Result<_, _>>()
            .map_err(|error| Fault::Contract(format!("{error:#}")))
    }

    /// A guest that keeps a handle beyond the call does not keep the body.
    fn empty_payloads(&mut self, payloads: &mut Vec<u32>) {
        let table = &mut self.store.data_mut().table;
        for rep in payloads.drain(..) {
            if let Ok(payload) = table.get_mut(&Resource::<Payload>::new_borrow(rep)) {
                payload.0 = Bytes::new();
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(store: &mut Store<Guest>, phase: Phase, time: Duration) {
    let ticks = u64::try_from(time.as_millis() / EPOCH_TICK.as_millis()).unwrap_or(u64::MAX);
    // The first tick may come at once.
    let ticks = ticks.saturating_add(1);
    store.data_mut().begin(phase, ticks);
    store.set_epoch_deadline(ticks);
}

/// The texts behind a [`Configuration`].
struct Settings<'a> {
    start: &'a ModuleStart,
    module: &'a ModuleId,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    settings: String,
    desired: String,
    desired_version: u64,
}

impl<'a> Settings<'a> {
    fn new(start: &'a ModuleStart, module: &'a ModuleId) -> Self {
        let spec = &start.spec;
        let twin = lock(&start.twin);
        Self {
            start,
            module,
            inputs: spec.inputs.iter().map(AsRef::as_ref).collect(),
            outputs: spec.outputs.iter().map(AsRef::as_ref).collect(),
            settings: serde_json::to_string(&spec.settings).expect("JSON can be written as JSON"),
            desired: twin.desired_json(),
            desired_version: twin.in_force().version,
        }
    }

    fn borrow(&self) -> Configuration<'_> {
        Configuration {
            module_id: self.module.as_str(),
            module_version: &self.start.spec.version,
            reason: match self.start.reason {
                StartReason::Cold => Reason::Cold,
                StartReason::Recover => Reason::Recover,
                StartReason::Upgrade => Reason::Upgrade,
            },
            partition: 0,
            partitions: 1,
            inputs: &self.inputs,
            outputs: &self.outputs,
            settings: &self.settings,
            desired: &self.desired,
            desired_version: self.desired_version,
        }
    }
}
