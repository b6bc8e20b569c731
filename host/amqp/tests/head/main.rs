//! The head as clients meet it: real sockets, a real hub and its store, a client library and raw bytes.
#![expect(clippy::unwrap_used, reason = "this file is tests and their helpers")]

mod client;
mod commands;
mod connecting;
mod delivering;
mod hostile;
mod hub;
mod sending;
mod tokens;
mod twins;

use weir_core::id::Identity;

/// A module of the edge device.
fn module() -> Identity {
    Identity::module("E".parse().unwrap(), "M".parse().unwrap())
}

/// Another one.
fn sender() -> Identity {
    Identity::module("E".parse().unwrap(), "sender".parse().unwrap())
}

/// A leaf device.
fn leaf() -> Identity {
    Identity::device("leaf".parse().unwrap())
}

const INPUTS: &str = "/devices/E/modules/M/messages/events";
const SENDER_EVENTS: &str = "/devices/E/modules/sender/messages/events";
const LEAF_EVENTS: &str = "/devices/leaf/messages/events";
