//! The MQTT 3.1.1 head: the listener and the session layer for every MQTT client.
//!
//! [`Server::listen`] serves a port, [`Server::serve`] a stream that is open already (a WebSocket).
//! The path of a message in: `wire` reads → the codec decodes → `inbound` and `translate` make messages
//! → the hub's intake (`connection` waits for its commit) → `acks` → one write. Out: the hub's dispatcher
//! → its `parcels` → `outbound`, `sending` and its `window` → `wire`; the client's PUBACK settles. What
//! else a client takes is in `features`, its requests about its twin in `twin`. Invariants:
//!
//! 1. PUBACK means on disk.
//! 2. A client acts as itself: topics and filters of another identity are refused.
//! 3. Nothing that a client sends, or does not read, costs more than a bounded part of memory and time.
#![forbid(unsafe_code)]

mod acks;
mod connection;
mod deadlines;
mod error;
mod features;
mod feed;
mod handshake;
mod inbound;
mod listener;
mod outbound;
mod resending;
mod sending;
mod subscriptions;
mod translate;
mod twin;
mod window;
mod wire;

pub use listener::Server;
pub use weir_hub::door::{Peer, Security};
