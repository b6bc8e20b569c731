//! What a call that failed is called: from the engine's error to the hub's.

use crate::guest::{Guest, Stop};
use std::time::Duration;
use wasmtime::{Store, Trap};
use weir_core::port::{Fault, RuntimeError};

/// A component whose exports do not fit is refused; one that fails while it starts has failed.
pub(crate) fn not_instantiated(
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
pub(crate) fn fault(store: &mut Store<Guest>, error: &wasmtime::Error, time: Duration) -> Fault {
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
