//! The AMQP 1.0 head: the listener, and every link of IoT Hub's clients.
//!
//! [`Server::listen`] serves a port, [`Server::serve`] a stream that is open already (a WebSocket).
//! `fe2o3-amqp` (patched, see `third_party`) does connections, sessions and links; what it gets to read
//! has passed the `gate`, and what is in a message is read and written here (`codec`, `message`).
//! The path of a message in: `gate` checks whole frames → the library → `telemetry` assembles
//! deliveries, `message` makes messages of them → the hub's intake → one disposition for a run of
//! deliveries, after the commit. Out: the hub's dispatcher → `outbound` → the library; the client's
//! disposition settles. Invariants:
//!
//! 1. `accepted` means on disk.
//! 2. A link acts as the identity in its address, which a token or certificate of this connection has
//!    proven; several identities may share a connection, and each has one session with the hub.
//! 3. Nothing that a client sends, or does not read, costs more than a bounded part of memory and time:
//!    sizes that it declares are never trusted, nor is the depth of its values.
//! 4. What is refused is answered: a link with a detach that names the reason, a connection with a
//!    close; nothing is left hanging.
#![forbid(unsafe_code)]

mod address;
mod cbs;
mod codec;
mod context;
mod deliveries;
mod frames;
mod gate;
mod link;
mod listener;
mod member;
mod message;
mod methods;
mod outbound;
mod refusal;
mod sasl;
mod service;
mod session;
mod telemetry;
mod tokens;
mod twin;

pub use listener::Server;
pub use weir_hub::door::{Peer, Security};
