//! Parts of the binary that have tests of their own.

pub mod config;
