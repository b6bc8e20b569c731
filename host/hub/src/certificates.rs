//! When the hub's certificates end: told by whoever keeps them, shown in health and metrics.

use crate::sync::lock;
use std::sync::Mutex;
use weir_core::clock::Timestamp;

/// One certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CertificateEnd {
    /// `server` or `edge_ca`.
    pub name: &'static str,
    /// When it ends.
    pub expires: Timestamp,
}

/// All that are watched.
#[derive(Debug, Default)]
pub struct Certificates(Mutex<Vec<CertificateEnd>>);

impl Certificates {
    /// From now on these are the ones in force.
    pub fn set(&self, ends: Vec<CertificateEnd>) {
        *lock(&self.0) = ends;
    }

    /// Those in force.
    #[must_use]
    pub fn ends(&self) -> Vec<CertificateEnd> {
        lock(&self.0).clone()
    }
}
