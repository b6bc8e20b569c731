//! Words and rules of the hub: ids, messages, routes, limits, error codes, the four ports.
//!
//! No I/O, no SQL, no async runtime: everything here is a value or a pure function, so that every
//! other crate may depend on it and a rule can be tested without a hub. Arrows never leave this crate.
#![forbid(unsafe_code)]

pub mod backoff;
pub mod clock;
pub mod command;
pub mod digest;
pub mod error_code;
pub mod id;
pub mod identity;
pub mod limits;
pub mod message;
pub mod method;
pub mod module;
pub mod module_state;
pub mod module_twin;
pub mod port;
pub mod properties;
pub mod record;
pub mod route;
pub mod sas;
pub mod topic;
pub mod twin;
pub mod user_name;
