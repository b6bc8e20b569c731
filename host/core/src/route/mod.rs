//! The route language.
pub mod facts;
