//! End-to-end tests: the real binary as a process, over its sockets, its REST API and its command line.
//!
//! One test binary, so that everything is linked once. Each test has a hub of its own in a folder of
//! its own on free ports.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod crash;
mod full_disk;
mod guests;
mod hostile;
#[path = "../../host/upstream/tests/support/loopback.rs"]
mod loopback;
mod module_calls;
mod module_reports;
#[expect(dead_code, reason = "the upstream's own tests use more of it")]
#[path = "../../host/upstream/tests/support/mosquitto.rs"]
mod mosquitto;
mod pipeline;
#[path = "../../host/upstream/tests/support/proxy.rs"]
mod proxy;
mod support;
mod swap;
mod upstream;
mod verbs;
mod x509;

use support::PATIENCE;
