//! A patch of a section: a JSON object that obeys the limits, and what is wrong with one that does not.

use super::read::{self, Path};
use super::{MAX_DEPTH, MAX_INTEGER, MAX_KEY_BYTES, MAX_TEXT_BYTES, MIN_INTEGER, Section, merge};
use crate::limits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io;

/// A validated object; null as a member means deletion.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patch(pub(super) Map<String, Value>);

/// Why properties are refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}", if .pointer.is_empty() { "the document" } else { .pointer })]
pub struct TwinProblem {
    /// JSON pointer (RFC 6901) of the value at fault; empty for the whole document. Long names are cut
    /// off.
    pub pointer: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON in UTF-8.
    #[error("it is not JSON (line {line}, column {column})")]
    Json {
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
    },
    /// A section is an object.
    #[error("it must be an object")]
    NotAnObject,
    /// A name stands twice in one object.
    #[error("the name stands twice in its object")]
    DuplicateKey,
    /// Nested too deep.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// A name is too long.
    #[error("the name has {bytes} bytes; {MAX_KEY_BYTES} are allowed")]
    KeyLength {
        /// Its length.
        bytes: usize,
    },
    /// A name has a control character, `.`, `$`, `#` or white space.
    #[error("the name may not contain {0:?}")]
    KeyCharacter(char),
    /// A text is too long.
    #[error("the text has {bytes} bytes; {MAX_TEXT_BYTES} are allowed")]
    TextLength {
        /// Its length.
        bytes: usize,
    },
    /// An integer is too large or too small.
    #[error("the integer is not between {MIN_INTEGER} and {MAX_INTEGER}")]
    Integer,
    /// A null in an array, or in an object in an array.
    #[error("null is not allowed in an array")]
    NullInArray,
    /// The section would be too large.
    #[error("the {section} properties would have {bytes} bytes; {} are allowed", .section.max_bytes())]
    Size {
        /// Which.
        section: Section,
        /// Size as JSON without white space.
        bytes: usize,
    },
    /// The text is larger than anything that could be meant.
    #[error("the document has more than {} bytes", limits::MAX_MESSAGE_BYTES)]
    Document,
    /// An operator's change names nothing to change.
    #[error("it names neither tags nor desired properties")]
    Nothing,
}

impl TwinProblem {
    /// The same in a larger document, of which this one stands at `pointer`.
    #[must_use]
    pub fn below(mut self, pointer: &str) -> Self {
        self.pointer.insert_str(0, pointer);
        self
    }
}

impl Patch {
    /// Reads and validates a patch. `$version` and `$metadata` at the top, which SDKs send along, are
    /// ignored.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(section: Section, json: &[u8]) -> Result<Self, TwinProblem> {
        let map = read::document(json, |reader, parser| reader.section(parser))?;
        check_size(section, &map)?;
        Ok(Self(map))
    }

    /// The patch that leads from one object to the other.
    #[must_use]
    pub fn between(from: &Map<String, Value>, to: &Map<String, Value>) -> Self {
        Self(merge::diff(from, to))
    }

    /// A section's value, which obeys the limits already, as a patch that says all of it.
    #[must_use]
    pub fn whole(value: Map<String, Value>) -> Self {
        Self(value)
    }

    /// The object.
    #[must_use]
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// True when it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("an object with text keys")
    }
}

/// Size as JSON without white space.
pub(super) fn size_of(map: &Map<String, Value>) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, map).expect("an object with text keys");
    count.0
}

pub(super) fn check_size(section: Section, map: &Map<String, Value>) -> Result<(), TwinProblem> {
    match size_of(map) {
        bytes if bytes > section.max_bytes() => {
            Err(TwinProblem { pointer: String::new(), problem: Problem::Size { section, bytes } })
        }
        _ => Ok(()),
    }
}

pub(super) fn check_key(key: &str) -> Result<(), Problem> {
    if key.len() > MAX_KEY_BYTES {
        return Err(Problem::KeyLength { bytes: key.len() });
    }
    let bad = |c: &char| c.is_control() || c.is_whitespace() || matches!(c, '.' | '$' | '#');
    key.chars().find(bad).map_or(Ok(()), |c| Err(Problem::KeyCharacter(c)))
}

pub(super) fn check_text(text: &str) -> Result<(), Problem> {
    match text.len() {
        bytes if bytes > MAX_TEXT_BYTES => Err(Problem::TextLength { bytes }),
        _ => Ok(()),
    }
}

impl Path {
    pub(super) fn problem(&self, problem: Problem) -> TwinProblem {
        TwinProblem { pointer: self.pointer(), problem }
    }
}
