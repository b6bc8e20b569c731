//! The route language: `FROM /messages/* WHERE temperature > '25' INTO $upstream`.
//!
//! A route is read by [`Route::parse`]. The language, with its oddities, is that of Azure IoT Edge; where
//! it differs is listed in `docs/compatibility.md`.
//!
//! Whatever the text or the message, nothing here panics, and depth, length and number are bounded.

pub mod ast;
mod error;
mod facts;
mod lexer;
mod parse;
mod print;
mod priority;
mod sink;
mod source;
mod statement;
mod suggest;

pub use error::{ErrorKind, ParseError, Span};
pub use facts::{Facts, Lookup, Source};
pub use priority::{Priority, parse_queue_id, queue_id};
pub use sink::{Sink, SinkError};
pub use source::SourcePattern;
pub use statement::Route;
pub use suggest::{SYSTEM_PROPERTIES, closest};

/// Longest text of a route or condition. IoT Hub keeps at most 4 KiB in a value of a twin, so every
/// route of a manifest fits twice.
pub const MAX_TEXT_BYTES: usize = 8 * 1024;

/// Deepest nesting of a condition: far above what people write, and small on any stack. Chains of
/// `AND` and `OR` are not deep.
pub const MAX_NESTING: u16 = 100;
