//! Behaviour of the route language as a whole.

mod conditions;
mod hub_config;
mod laws;
mod tables;
