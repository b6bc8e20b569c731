//! Parts of the binary that have tests of their own.

pub mod pki;
pub mod tls;
