//! A loopback address for each test, so that nobody takes the port of a broker that is stopped for a while.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};

static USED: AtomicU8 = AtomicU8::new(0);

/// An address that no test that runs now has, with port 0. All of 127/8 is loopback on Linux.
pub(crate) fn own() -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = match cfg!(target_os = "linux") {
        // The first byte counts within a process; 127.0.0.x is left to everyone else.
        true => Ipv4Addr::new(127, USED.fetch_add(1, Ordering::SeqCst) % 250 + 1, high, low),
        false => Ipv4Addr::LOCALHOST,
    };
    SocketAddr::from((ip, 0))
}
