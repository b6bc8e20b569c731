//! Parts of the binary that have tests of their own.

pub mod cli;
pub mod client;
pub mod config;
pub mod exit;
pub mod output;
