//! The head as clients meet it: real sockets, a real hub and its store, raw packets.
#![expect(clippy::unwrap_used, reason = "this file is tests and their helpers")]

mod client;
mod commands;
mod connecting;
mod delivering;
mod hub;
mod limits;
mod methods;
mod publishing;
mod subscribing;
mod tls;
mod twins;
mod wills;

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

const EVENTS: &str = "devices/E/modules/M/messages/events/";
const SENDER_EVENTS: &str = "devices/E/modules/sender/messages/events/%24.on=out1";
const LEAF_EVENTS: &str = "devices/leaf/messages/events/";
const METHODS: &str = "$iothub/methods/POST/#";
const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
const COMMANDS: &str = "devices/leaf/messages/devicebound/#";
const INPUTS: &str = "devices/E/modules/M/inputs/#";
