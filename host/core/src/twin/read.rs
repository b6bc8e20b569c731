//! Reads JSON into a section, checking every rule on the way, so that a problem is named where it is.
//!
//! serde's errors carry no place in the document; the reader keeps the path itself. Its recursion is
//! bounded by [`MAX_DEPTH`], whatever the document says.

use super::patch::{Problem, TwinProblem, check_key, check_text};
use super::{MAX_DEPTH, MAX_INTEGER, MIN_INTEGER};
use crate::limits;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use std::fmt;

/// Bytes of a name that a pointer shows.
const SHOWN_BYTES: usize = 64;
/// Whole numbers from here on are read as floating-point, whether they were written so or not.
const BEYOND_INTEGERS: f64 = 9_223_372_036_854_775_808.0;

/// Where the reader is.
#[derive(Debug, Default)]
pub(super) struct Path(Vec<String>);

impl Path {
    pub(super) fn push(&mut self, step: &str) {
        let end = step.floor_char_boundary(SHOWN_BYTES);
        let mut shown = step[..end].replace('~', "~0").replace('/', "~1");
        if end < step.len() {
            shown.push('…');
        }
        self.0.push(shown);
    }

    pub(super) fn pop(&mut self) {
        self.0.pop();
    }

    pub(super) fn pointer(&self) -> String {
        self.0.iter().flat_map(|step| ["/", step]).collect()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t [u8],
    pub(super) path: Path,
    /// What was found to be wrong.
    problem: Option<TwinProblem>,
    /// Numbers met so far, in order of the text.
    numbers: usize,
}

pub(super) type Parser<'t> = serde_json::Deserializer<serde_json::de::SliceRead<'t>>;

/// Reads a whole document with `read`.
pub(super) fn document<'t, T>(
    text: &'t [u8],
    read: impl FnOnce(&mut Reader<'t>, &mut Parser<'t>) -> Result<T, serde_json::Error>,
) -> Result<T, TwinProblem> {
    let mut reader = Reader { text, path: Path::default(), problem: None, numbers: 0 };
    if text.len() > limits::MAX_MESSAGE_BYTES {
        return Err(reader.path.problem(Problem::Document));
    }
    let mut parser = serde_json::Deserializer::from_slice(text);
    let result = read(&mut reader, &mut parser).and_then(|value| {
        parser.end()?;
        Ok(value)
    });
    result.map_err(|error| {
        let problem = match error.is_data() {
            true => Problem::NotAnObject,
            false => Problem::Json { line: error.line(), column: error.column() },
        };
        reader.problem.take().unwrap_or_else(|| reader.path.problem(problem))
    })
}

impl<'t> Reader<'t> {
    /// A whole section: an object whose `$version` and `$metadata` are ignored.
    pub(super) fn section<'de, D: Deserializer<'de>>(
        &mut self,
        parser: D,
    ) -> Result<Map<String, Value>, D::Error> {
        match self.section_or_null(parser)? {
            Some(map) => Ok(map),
            None => Err(self.refuse(Problem::NotAnObject)),
        }
    }

    /// As [`Reader::section`]; none for null.
    pub(super) fn section_or_null<'de, D: Deserializer<'de>>(
        &mut self,
        parser: D,
    ) -> Result<Option<Map<String, Value>>, D::Error> {
        match (Node { reader: self, depth: 0, in_array: false }).deserialize(parser)? {
            Value::Object(map) => Ok(Some(map)),
            Value::Null => Ok(None),
            _ => Err(self.refuse(Problem::NotAnObject)),
        }
    }

    /// Notes what is wrong here; the parser stops at the error that is given back.
    pub(super) fn refuse<E: serde::de::Error>(&mut self, problem: Problem) -> E {
        self.problem.get_or_insert_with(|| self.path.problem(problem));
        E::custom("refused")
    }

    pub(super) fn check<E: serde::de::Error>(
        &mut self,
        rule: Result<(), Problem>,
    ) -> Result<(), E> {
        rule.map_err(|problem| self.refuse(problem))
    }

    /// Passes over the value of a member that says nothing here.
    pub(super) fn skip<'de, A: MapAccess<'de>>(&mut self, members: &mut A) -> Result<(), A::Error> {
        let skipped: &RawValue = members.next_value()?;
        self.numbers += literals(skipped.get().as_bytes()).count();
        Ok(())
    }

    /// Whether the number that was read last is written as an integer.
    fn is_integer_literal(&self) -> bool {
        literals(self.text)
            .nth(self.numbers - 1)
            .is_none_or(|literal| !literal.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')))
    }
}

/// The numbers of a JSON text, as they are written.
fn literals(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    std::iter::from_fn(move || next_literal(text, &mut from))
}

fn next_literal<'t>(text: &'t [u8], at: &mut usize) -> Option<&'t [u8]> {
    let mut from = *at;
    while let Some(&byte) = text.get(from) {
        match byte {
            b'"' => {
                from += 1;
                while text.get(from).is_some_and(|byte| *byte != b'"') {
                    from += if text[from] == b'\\' { 2 } else { 1 };
                }
                from += 1;
            }
            b'-' | b'0'..=b'9' => {
                let rest = &text[from..];
                let in_number = |byte: &u8| {
                    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
                };
                let length = rest.iter().position(|byte| !in_number(byte)).unwrap_or(rest.len());
                *at = from + length;
                return Some(&rest[..length]);
            }
            _ => from += 1,
        }
    }
    None
}

/// One value.
struct Node<'r, 't> {
    reader: &'r mut Reader<'t>,
    /// How many objects and arrays it is in.
    depth: usize,
    in_array: bool,
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Value, D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'t> Node<'_, 't> {
    fn inner(&mut self, in_array: bool) -> Node<'_, 't> {
        Node { reader: self.reader, depth: self.depth + 1, in_array: self.in_array || in_array }
    }

    fn check_depth<E: serde::de::Error>(&mut self) -> Result<(), E> {
        match self.depth > MAX_DEPTH {
            true => Err(self.reader.refuse(Problem::Depth)),
            false => Ok(()),
        }
    }

    fn integer<E: serde::de::Error>(self, value: Option<i64>) -> Result<Value, E> {
        self.reader.numbers += 1;
        match value.filter(|value| (MIN_INTEGER..=MAX_INTEGER).contains(value)) {
            Some(value) => Ok(value.into()),
            None => Err(self.reader.refuse(Problem::Integer)),
        }
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        match self.in_array {
            true => Err(self.reader.refuse(Problem::NullInArray)),
            false => Ok(Value::Null),
        }
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.integer(Some(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.integer(i64::try_from(value).ok())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.reader.numbers += 1;
        if value.abs() >= BEYOND_INTEGERS && self.reader.is_integer_literal() {
            return Err(self.reader.refuse(Problem::Integer));
        }
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.reader.check(check_text(text))?;
        Ok(text.into())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        self.reader.check(check_text(&text))?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut list = Vec::new();
        loop {
            self.reader.path.push(&list.len().to_string());
            let Some(item) = items.next_element_seed(self.inner(true))? else { break };
            self.reader.path.pop();
            list.push(item);
        }
        self.reader.path.pop();
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        self.check_depth()?;
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.reader.path.push(&key);
            if self.depth == 0 && matches!(key.as_str(), "$version" | "$metadata") {
                self.reader.skip(&mut members)?;
                self.reader.path.pop();
                continue;
            }
            self.reader.check(check_key(&key))?;
            if map.contains_key(&key) {
                return Err(self.reader.refuse(Problem::DuplicateKey));
            }
            let value = members.next_value_seed(self.inner(false))?;
            self.reader.path.pop();
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_outside_of_texts() {
        let text = br#"{"a1": "2\"3", "b": [-4.5, 6e+2], "c": 789}"#;
        let found: Vec<&[u8]> = literals(text).collect();
        assert_eq!(found, [&b"-4.5"[..], b"6e+2", b"789"]);
    }
}
