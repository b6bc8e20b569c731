//! Where messages go that leave this hub: a file of JSON lines or an MQTT broker, each an
//! [`Upstream`].
//!
//! The binary calls [`open`] once with the `[upstream]` table; the hub's dispatcher delivers batches
//! and one of its tasks runs `run`. Invariants, the same for each kind (`tests/contract.rs`):
//!
//! 1. A message is answered `Accepted` only when the peer has acknowledged it (the file: when it is
//!    written and, as `fsync` says, on disk).
//! 2. A batch that fails leaves nothing behind that overtakes it: every batch that was handed over
//!    before its caller had seen the failure fails as well (`intake.rs`).
//! 3. Only `run` does I/O. A delivery whose future is dropped comes again; those behind it fail.
#![forbid(unsafe_code)]

mod config;
mod envelope;
mod file;
mod intake;
mod link;
mod mqtt;

use std::io;
use std::sync::Arc;

use weir_core::clock::Clock;
use weir_core::port::Upstream;

pub use config::{Config, FileConfig, Fsync, MqttConfig, PropertyForm};

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value outside what it may be, or keys that do not go together.
    #[error("upstream.{key}: {problem}")]
    Setting {
        /// The key in `[upstream]`.
        key: &'static str,
        /// What is wrong with its value.
        problem: String,
    },
    /// A file that the configuration names cannot be read.
    #[error("upstream.{key}: the file cannot be read")]
    Read {
        /// The key in `[upstream]`.
        key: &'static str,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A file that the configuration names does not hold what it should.
    #[error("upstream.{key}: the file is no PEM of the kind that is needed")]
    Pem {
        /// The key in `[upstream]`.
        key: &'static str,
        /// Why.
        #[source]
        cause: rustls_pki_types::pem::Error,
    },
    /// The TLS library refuses the certificates.
    #[error("upstream.{key}: the certificate or key cannot be used")]
    Tls {
        /// The key in `[upstream]`.
        key: &'static str,
        /// Why.
        #[source]
        cause: rustls::Error,
    },
}

impl Error {
    /// The key in `[upstream]` that is at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Setting { key, .. }
            | Self::Read { key, .. }
            | Self::Pem { key, .. }
            | Self::Tls { key, .. } => key,
        }
    }
}

/// Makes the configured upstream; `None` for `kind = "none"`.
///
/// Connects to nothing and writes nothing: that begins with `run`. `hub_name` fills the placeholder
/// `{hub}` and the default client id.
///
/// # Errors
/// [`Error`] when the configuration cannot work, whatever the peer does.
pub fn open(
    config: &Config,
    clock: &Clock,
    hub_name: &str,
) -> Result<Option<Arc<dyn Upstream>>, Error> {
    Ok(match config {
        Config::None {} => None,
        Config::File(config) => Some(Arc::new(file::FileUpstream::new(config, clock)?)),
        Config::Mqtt(config) => Some(Arc::new(mqtt::MqttUpstream::new(config, clock, hub_name)?)),
    })
}
