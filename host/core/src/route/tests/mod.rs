//! Behaviour of the route language as a whole.

mod conditions;
mod laws;
mod tables;
