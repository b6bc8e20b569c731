//! What a guest may import: one file for each interface, and the linker that offers them all.
//!
//! Granted or not, an interface of `wit/` is always linked; without the grant it answers `denied`.
//! What is not in this list is refused by name before anything is compiled (`component`).

mod calls;
mod hub;
pub(crate) mod payload;
mod state;
mod telemetry;
mod timers;
mod twin;
pub(crate) mod wasi_cli;
mod wasi_clocks;
mod wasi_filesystem;
pub(crate) mod wasi_io;
mod wasi_random;

use crate::bindings;
use crate::guest::Guest;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Engine, Result};

/// A linker with everything that is offered.
pub(crate) fn linker(engine: &Engine) -> Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    bindings::Guest::add_to_linker::<Guest, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    wasi_filesystem::add_to_linker(&mut linker)?;
    Ok(linker)
}
