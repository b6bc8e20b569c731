//! A guest that has been instantiated: its store and its exports, used by the instance's own thread.
//!
//! A call either gives a whole [`Answer`] or a [`Fault`]; after a fault the state is as it was before
//! the call and the guest is never entered again.

use crate::bindings::exports::weir::module::lifecycle::{Configuration, StartReason as Reason};
use crate::bindings::{Guest as Exports, GuestPre};
use crate::capability::payload::Payload;
use crate::guest::{Guest, Phase, Stop};
use crate::lift::{self, Budget};
use crate::lower::Plan;
use crate::ticker::Ticker;
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wasmtime::component::Resource;
use wasmtime::{Store, Trap};
use weir_core::id::ModuleId;
use weir_core::limits::EPOCH_TICK;
use weir_core::module_state::ModuleState;
use weir_core::port::{Answer, Batch, Fault, ModuleStart, RuntimeError, StartReason};

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
    call_time: Duration,
}

/// Undoes the call's changes of the state unless it went well.
struct Journal<'a>(Option<&'a Mutex<ModuleState>>);

impl Journal<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Journal<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.0 {
            state.lock().unwrap_or_else(PoisonError::into_inner).rollback();
        }
    }
}

impl Running {
    /// Instantiates the component and runs its `init`.
    pub(crate) fn start(
        pre: &GuestPre<Guest>,
        guest: Guest,
        start: &ModuleStart,
        module: &ModuleId,
    ) -> Result<Self, RuntimeError> {
        let ticker = Arc::clone(&guest.ticker);
        let plan = Plan::new(&start.spec, guest.limits.body_inline.0);
        let call_time = guest.limits.call();
        let out = guest.limits.bytes_per_call.0.max(guest.limits.state.0) + OVERHEAD_BYTES;
        let mut store = Store::new(pre.engine(), guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(usize::try_from(out).unwrap_or(usize::MAX));
        let under_way = ticker.call();
        let time = call_time.max(INIT_TIME);
        begin(&mut store, Phase::Init, time);
        let exports = pre
            .instantiate(&mut store)
            .map_err(|error| not_instantiated(&mut store, &error, time))?;
        let configuration = Settings::new(start, module);
        match exports.weir_module_lifecycle().call_init(&mut store, configuration.borrow()) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(RuntimeError::Init(crate::log::escaped(&why, &[]))),
            Err(error) => {
                return Err(RuntimeError::Init(fault(&mut store, &error, time).to_string()));
            }
        }
        drop(under_way);
        let state = Arc::clone(&start.state);
        Ok(Self { store, exports, plan, ticker, state, call_time })
    }

    /// Gives the guest a batch, with less than a call's time where `time` says so. `wanted` is asked before the effects are kept: when nobody waits for
    /// the answer any more, they are undone. After an error the guest is spent.
    pub(crate) fn process(
        &mut self,
        batch: &Batch,
        time: Option<Duration>,
        wanted: impl Fn() -> bool,
    ) -> Result<Answer, Fault> {
        let state = Arc::clone(&self.state);
        let journal = Journal(Some(&state));
        let ticker = Arc::clone(&self.ticker);
        let under_way = ticker.call();
        let time = time.unwrap_or(self.call_time).min(self.call_time);
        begin(&mut self.store, Phase::Effects, time);
        let mut payloads = self.push_payloads(batch)?;
        let mut handles = payloads.iter().map(|rep| Resource::new_own(*rep));
        let parts = self.plan.gather(batch);
        let found = self.plan.lower(
            batch,
            &parts,
            || handles.next().expect("one handle was made for each large body"),
            |messages, fields| {
                self.exports.weir_module_processor().call_process(&mut self.store, messages, fields)
            },
        );
        drop(under_way);
        let found = found.map_err(|error| fault(&mut self.store, &error, time))?;
        self.empty_payloads(&mut payloads);
        let guest = self.store.data_mut();
        let sends = std::mem::take(&mut guest.call.sends);
        let budget = Budget::after(&guest.limits, sends.len(), guest.call.sent_bytes);
        let outcomes =
            lift::outcomes(&guest.spec, &budget, batch, found).map_err(Fault::Contract)?;
        if !wanted() {
            let reason = "the batch was given up".to_owned();
            return Err(Fault::Unavailable { reason, retry_after: None });
        }
        let releases = std::mem::take(&mut guest.call.releases);
        Ok(Answer { outcomes, sends, releases, state: commit(journal) })
    }

    /// Calls `stop`; its effects are the answer.
    pub(crate) fn stop(&mut self) -> Result<Answer, Fault> {
        let state = Arc::clone(&self.state);
        let journal = Journal(Some(&state));
        let ticker = Arc::clone(&self.ticker);
        let under_way = ticker.call();
        begin(&mut self.store, Phase::Effects, self.call_time);
        let called = self.exports.weir_module_lifecycle().call_stop(&mut self.store);
        drop(under_way);
        called.map_err(|error| fault(&mut self.store, &error, self.call_time))?;
        let call = &mut self.store.data_mut().call;
        let (sends, releases) =
            (std::mem::take(&mut call.sends), std::mem::take(&mut call.releases));
        Ok(Answer { outcomes: Vec::new(), sends, releases, state: commit(journal) })
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

fn commit(journal: Journal<'_>) -> Vec<weir_core::module_state::StateChange> {
    let changes = match journal.0 {
        Some(state) => state.lock().unwrap_or_else(PoisonError::into_inner).commit(),
        None => Vec::new(),
    };
    journal.keep();
    changes
}

fn begin(store: &mut Store<Guest>, phase: Phase, time: Duration) {
    let ticks = u64::try_from(time.as_millis() / EPOCH_TICK.as_millis()).unwrap_or(u64::MAX);
    // The first tick may come at once.
    let ticks = ticks.saturating_add(1);
    store.data_mut().begin(phase, ticks);
    store.set_epoch_deadline(ticks);
}

/// A component whose exports do not fit is refused; one that fails while it starts has failed.
fn not_instantiated(
    store: &mut Store<Guest>,
    error: &wasmtime::Error,
    time: Duration,
) -> RuntimeError {
    let started = error.is::<Trap>() || error.is::<Stop>();
    match started || store.data().limiter.has_refused() {
        true => RuntimeError::Init(fault(store, error, time).to_string()),
        false => RuntimeError::Refused(crate::log::escaped(&format!("{error:#}"), &[])),
    }
}

/// What ended the call, in one line.
fn fault(store: &mut Store<Guest>, error: &wasmtime::Error, time: Duration) -> Fault {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return match stop {
            Stop::Contract(what) => Fault::Contract(what.clone()),
            Stop::TimeOut => Fault::TimeOut(time),
            Stop::Exit => Fault::Trap(stop.to_string()),
        };
    }
    let guest = store.data_mut();
    let memory = guest.limiter.take_refused();
    let what = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => return Fault::TimeOut(time),
        Some(Trap::StackOverflow) => {
            format!("its stack of {} KiB is full", crate::engine::GUEST_STACK_BYTES / 1024)
        }
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    // The engine has no type for this one; `hostile` tests that the words are still its words.
    if what.contains("fuel allocated for hostcalls") {
        return Fault::Contract(
            "it gave the hub more bytes at once than a call may send (limits.bytes-per-call)"
                .to_owned(),
        );
    }
    let what = match memory {
        Some((asked, limit)) => format!(
            "out of memory: it asked for {} KiB in all and may have {} (limits.memory); then {what}",
            asked / 1024,
            weir_core::module::Size(limit as u64)
        ),
        None => what,
    };
    Fault::Trap(match guest.log.last_words() {
        Some(words) => format!("{}: {words}", crate::log::escaped(&what, &[])),
        None => crate::log::escaped(&what, &[]),
    })
}

/// The texts behind a [`Configuration`].
struct Settings<'a> {
    start: &'a ModuleStart,
    module: &'a ModuleId,
    inputs: Vec<&'a str>,
    outputs: Vec<&'a str>,
    settings: String,
}

impl<'a> Settings<'a> {
    fn new(start: &'a ModuleStart, module: &'a ModuleId) -> Self {
        let spec = &start.spec;
        Self {
            start,
            module,
            inputs: spec.inputs.iter().map(AsRef::as_ref).collect(),
            outputs: spec.outputs.iter().map(AsRef::as_ref).collect(),
            settings: serde_json::to_string(&spec.settings).expect("JSON can be written as JSON"),
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
            desired: "{}",
            desired_version: 0,
        }
    }
}
