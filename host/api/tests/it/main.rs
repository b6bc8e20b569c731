//! The API against a real hub on a temporary folder; only the Wasm engine is a stand-in.
#![expect(clippy::unwrap_used, reason = "this file is tests and their helpers")]

mod calls;
mod conventions;
mod doors;
mod events;
mod hostile;
mod https;
mod identities;
mod iothub;
mod messages;
mod modules;
mod routes;
mod runtime;
mod server;
mod support;
mod tokens;
mod twins;
mod workload;
