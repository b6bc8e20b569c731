//! The route language: `FROM /messages/* WHERE temperature > '25' INTO $upstream`.
//!
//! A route is read by [`Route::parse`], a set of routes becomes a [`RouteTable`], and the table says
//! for each message which endpoints get it ([`RouteTable::select_traced`]) and why
//! ([`RouteTable::explain`]). [`Condition`] evaluates a condition alone, for route tests; [`hub_config`]
//! reads the `$edgeHub` part of a deployment. The language, with its oddities, is that of Azure IoT
//! Edge; where it differs is listed in `docs/compatibility.md`.
//!
//! Path of a text: `lexer` → `parse`, `statement` → [`ast`] → `compile` (types) → `program` → `eval`.
//! Whatever the text or the message, nothing here panics, and depth, length and number are bounded.

pub mod ast;
mod body;
mod compile;
mod condition;
mod date;
mod error;
mod eval;
mod explain;
pub mod facts;
mod functions;
pub mod hub_config;
mod json_path;
mod lexer;
mod parse;
mod print;
mod priority;
mod program;
pub mod sample;
mod sink;
mod source;
mod statement;
mod strings;
mod suggest;
mod table;
mod trace;
mod value;
mod warning;

#[cfg(test)]
mod tests;

pub use body::BodyProblem;
pub use condition::Condition;
pub use error::{ErrorKind, ParseError, Span};
pub use explain::{ConditionVerdict, Reason, RouteVerdict, SeenState, SeenValue};
pub use facts::{Facts, Lookup, Source};
pub use json_path::PathError;
pub use priority::{Priority, parse_queue_id, queue_id};
pub use program::CompileOptions;
pub use sink::{Sink, SinkError};
pub use source::SourcePattern;
pub use statement::Route;
pub use suggest::{SYSTEM_PROPERTIES, closest};
pub use table::{NamedRoute, RouteError, RouteTable, Selection, SinkIndex, TableError, Target};
pub use trace::Trace;
pub use value::Truth;
pub use warning::Warning;

/// Longest text of a route or condition. IoT Hub keeps at most 4 KiB in a value of a twin, so every
/// route of a manifest fits twice.
pub const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Deepest nesting of a condition: far above what people write, and small on any stack. Chains of
/// `AND` and `OR` are not deep.
pub const MAX_NESTING: u16 = 100;

/// Most routes of a table. The desired properties of `$edgeHub` are at most 32 KiB, which holds about
/// a thousand.
pub const MAX_ROUTES: usize = 4096;

/// Whether a path is one that `$body.` accepts.
///
/// # Errors
/// What is wrong with it.
pub fn check_body_path(path: &str) -> Result<(), PathError> {
    json_path::parse(path).map(|_| ())
}

/// Whether a path is one that `twin_change_includes` accepts.
///
/// # Errors
/// What is wrong with it.
pub fn check_twin_path(path: &str) -> Result<(), PathError> {
    json_path::parse_twin(path).map(|_| ())
}
