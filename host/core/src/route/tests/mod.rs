//! Behaviour of the route language as a whole.

mod conditions;
