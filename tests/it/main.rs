//! End-to-end tests: the real binary as a process, over its sockets, its REST API and its command line.
//!
//! One test binary, so that everything is linked once. Each test has a hub of its own in a folder of
//! its own on free ports.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod crash;
mod full_disk;
mod guests;
mod pipeline;
mod support;
mod swap;
