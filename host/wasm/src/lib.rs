//! WebAssembly modules: the only crate that knows the engine.
//!
//! [`Runtime`] implements `weir_core::port::ModuleRuntime`: it checks and compiles components in a
//! child process, keeps the code, and starts instances. An instance is a guest on a thread of its own
//! that takes batches and answers with effects as a value; stamping, routing, settling, bisecting and
//! swapping are the hub's. What a guest may import is in `capability/`, one file for each interface of
//! `wit/` and of WASI; what it may use is limited by memory, time and counted budgets.
//!
//! Nothing that comes out of a guest is trusted: `lift` checks it, and a call that breaks a rule, traps
//! or runs out of time has not happened.

mod bindings;
mod cache;
mod capability;
mod child;
mod compile;
mod component;
mod engine;
mod failure;
mod fields;
mod guest;
mod instance;
mod json;
mod lift;
mod limiter;
mod linked;
mod log;
mod lower;
mod metrics;
mod running;
mod runtime;
mod stopwatch;
mod ticker;

pub use child::compile_child;
pub use compile::Compiler;
pub use metrics::{MetricKind, ModuleMetric};
pub use runtime::{Error, Options, Runtime};
