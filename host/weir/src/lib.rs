//! Parts of the binary that have tests of their own.

pub mod admin_token;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod compose;
pub mod config;
pub mod demo;
mod descriptors;
pub mod exit;
pub mod output;
pub mod pki;
pub mod ready;
pub mod run;
pub mod telemetry;
pub mod tls;
