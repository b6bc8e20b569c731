//! The hub's promises about modules and clients, with guests that a test writes as closures: no Wasm,
//! a real store in a temporary folder.
#![expect(clippy::unwrap_used, reason = "this file is tests and their helpers")]

mod authorisation;
mod clients;
mod commands;
mod faults;
mod history;
mod holding;
mod hub;
mod methods;
mod methods_of_modules;
mod presence;
mod retrying;
mod state;
mod swapping;
mod twins;
mod twins_of_modules;
