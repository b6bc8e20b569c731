//! What the hub does.
#![forbid(unsafe_code)]

pub mod authenticate;
