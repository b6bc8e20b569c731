//! Values that conditions ask of a JSON body, read in one pass.
//!
//! Only the values of the plan's paths are kept; the rest is skipped. The body must be one JSON
//! object in strict syntax, nested at most 128 levels where a path leads into it (the reader's
//! limit; what is skipped costs no stack).

use std::borrow::Cow;
use std::fmt;

use compact_str::CompactString;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::facts::{Facts, Lookup};
use super::json_path::BodyPlan;

/// Why a body cannot be queried; every query of it is then undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BodyProblem {
    /// `contentType` is absent or not `application/json`.
    ContentType,
    /// `contentEncoding` is absent or not one of `utf-8`, `utf-16`, `utf-32`.
    ContentEncoding,
    /// The body is not one JSON object.
    NotJson,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BodyValue {
    /// Nothing: null in a condition.
    Missing,
    Null,
    Bool(bool),
    Number(f64),
    Text(CompactString),
    /// An object or a list: undefined in a condition.
    Structure,
    /// A text that the original's reader takes for a date: undefined in a condition.
    Date,
}

pub(crate) type BodyValues = SmallVec<[BodyValue; 4]>;

/// Read the values of the plan's paths.
pub(crate) fn read<F: Facts + ?Sized>(
    facts: &F,
    plan: &BodyPlan,
) -> Result<BodyValues, BodyProblem> {
    let json = |text: &str| text.eq_ignore_ascii_case("application/json");
    if !text_of(&facts.system_property("contentType")).is_some_and(json) {
        return Err(BodyProblem::ContentType);
    }
    let encoding = facts.system_property("contentEncoding");
    let encoding = text_of(&encoding).unwrap_or_default();
    let body = facts.body();
    let text = match () {
        () if encoding.eq_ignore_ascii_case("utf-8") => String::from_utf8_lossy(body),
        () if encoding.eq_ignore_ascii_case("utf-16") => Cow::Owned(utf16(body)),
        () if encoding.eq_ignore_ascii_case("utf-32") => Cow::Owned(utf32(body)),
        () => return Err(BodyProblem::ContentEncoding),
    };
    read_text(&text, plan).ok_or(BodyProblem::NotJson)
}

fn text_of<'a>(lookup: &'a Lookup<'_>) -> Option<&'a str> {
    match lookup {
        Lookup::Text(text) => Some(text),
        Lookup::Absent | Lookup::Null => None,
    }
}

fn read_text(text: &str, plan: &BodyPlan) -> Option<BodyValues> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut values: BodyValues = SmallVec::from_elem(BodyValue::Missing, plan.slots());
    let mut reader = serde_json::Deserializer::from_str(text);
    Walk { plan, node: BodyPlan::ROOT, values: &mut values }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(values)
}

/// Little-endian, as the original's `utf-16`; bad units become U+FFFD.
fn utf16(body: &[u8]) -> String {
    let units: Vec<u16> = body
        .chunks(2)
        .map(|unit| u16::from_le_bytes([unit[0], *unit.get(1).unwrap_or(&0)]))
        .collect();
    String::from_utf16_lossy(&units)
}

fn utf32(body: &[u8]) -> String {
    let scalar = |unit: &[u8]| {
        let bytes: [u8; 4] = unit.try_into().ok()?;
        char::from_u32(u32::from_le_bytes(bytes))
    };
    body.chunks(4).map(|unit| scalar(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Reads the value at one node of the plan.
struct Walk<'a> {
    plan: &'a BodyPlan,
    node: usize,
    values: &'a mut BodyValues,
}

impl Walk<'_> {
    fn keep(&mut self, value: BodyValue) {
        if let Some(slot) = self.plan.node(self.node).slot {
            self.values[slot] = value;
        }
    }

    fn child(&mut self, node: usize) -> Walk<'_> {
        Walk { plan: self.plan, node, values: self.values }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        self.keep(BodyValue::Null);
        Ok(())
    }

    fn visit_bool<E>(mut self, value: bool) -> Result<(), E> {
        self.keep(BodyValue::Bool(value));
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of the language are doubles")]
    fn visit_i64<E>(mut self, value: i64) -> Result<(), E> {
        self.keep(BodyValue::Number(value as f64));
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers of the language are doubles")]
    fn visit_u64<E>(mut self, value: u64) -> Result<(), E> {
        self.keep(BodyValue::Number(value as f64));
        Ok(())
    }

    fn visit_f64<E>(mut self, value: f64) -> Result<(), E> {
        self.keep(BodyValue::Number(value));
        Ok(())
    }

    fn visit_str<E>(mut self, value: &str) -> Result<(), E> {
        let date = super::date::is_date(value);
        self.keep(if date { BodyValue::Date } else { BodyValue::Text(value.into()) });
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.keep(BodyValue::Structure);
        for index in 0.. {
            let more = match self.plan.child_index(self.node, index) {
                Some(node) => list.next_element_seed(self.child(node))?.is_some(),
                None => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.keep(BodyValue::Structure);
        while let Some(child) = map.next_key_seed(ChildOf { plan: self.plan, node: self.node })? {
            match child {
                Some(node) => {
                    // A name that comes twice counts the last time.
                    let plan = self.plan;
                    let values = &mut *self.values;
                    plan.for_each_slot(node, &mut |slot| values[slot] = BodyValue::Missing);
                    map.next_value_seed(self.child(node))?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Reads a name, and finds the plan's node for it without keeping the name.
struct ChildOf<'a> {
    plan: &'a BodyPlan,
    node: usize,
}

impl<'de> DeserializeSeed<'de> for ChildOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ChildOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.plan.child_name(self.node, name))
    }
}

#[cfg(test)]
mod tests {
    use super::super::json_path;
    use super::*;

    fn values(body: &str, paths: &[&str]) -> Option<Vec<BodyValue>> {
        let mut plan = BodyPlan::default();
        let slots: Vec<_> =
            paths.iter().map(|path| plan.add(&json_path::parse(path).unwrap())).collect();
        let values = read_text(body, &plan)?;
        Some(slots.into_iter().map(|slot| values[slot].clone()).collect())
    }

    #[test]
    fn one_pass_reads_all_paths() {
        let body = r#"{"a":{"b":[1,[2,"x"]],"c":null},"d":true,"t":"2017-03-09T00:00:00Z"}"#;
        let paths = ["a.b[0]", "a.b[1][1]", "a", "a.c", "d", "t", "a.x", "d.e", "a.b[9]"];
        assert_eq!(
            values(body, &paths).unwrap(),
            [
                BodyValue::Number(1.0),
                BodyValue::Text("x".into()),
                BodyValue::Structure,
                BodyValue::Null,
                BodyValue::Bool(true),
                BodyValue::Date,
                BodyValue::Missing,
                BodyValue::Missing,
                BodyValue::Missing,
            ]
        );
    }

    #[test]
    fn a_name_that_comes_twice_counts_the_last_time() {
        let body = r#"{"a":{"b":1,"c":2},"a":{"c":3}}"#;
        assert_eq!(
            values(body, &["a.b", "a.c"]).unwrap(),
            [BodyValue::Missing, BodyValue::Number(3.0)]
        );
    }

    #[test]
    fn only_one_whole_object_is_a_body() {
        for body in ["", "[1]", "\"a\"", "{", "{} x", "{'a':1}", "{\"a\":1,}", "\u{FEFF}{}"] {
            assert_eq!(values(body, &["a"]), None, "{body}");
        }
        assert!(values(" \n{} ", &["a"]).is_some());
    }

    #[test]
    fn depth_is_bounded_and_never_overflows() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(values(&deep, &["b"]).unwrap(), [BodyValue::Missing]);
        let path = format!("a{}", "[0]".repeat(127));
        assert_eq!(values(&deep, &[&path]), None);
    }

    #[test]
    fn utf_16_and_utf_32_are_little_endian() {
        let text = "{\"a\":\"é😀\"}";
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(utf16(&wide), text);
        let wider: Vec<u8> = text.chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
        assert_eq!(utf32(&wider), text);
        assert!(utf32(&wider[..7]).ends_with('\u{FFFD}'));
    }
}
