//! The API against a real hub on a temporary folder; only the Wasm engine is a stand-in.

mod conventions;
mod doors;
mod hostile;
mod identities;
mod messages;
mod modules;
mod routes;
mod runtime;
mod server;
mod support;
mod tokens;
