//! What an operator changes: desired properties and tags, in IoT Hub's form
//! `{"tags": {…}, "properties": {"desired": {…}}}`. Everything else in the body is ignored, because
//! tools send back the whole twin that they have read.

use super::patch::check_size;
use super::read::{self, Reader};
use super::{Patch, Problem, Section, TwinProblem};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Whether what is sent is merged in or takes the place of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// PATCH.
    Merge,
    /// PUT; a section that is not named stays as it is.
    Replace,
}

/// An operator's change; a section that is not named, or is null, stays as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TwinChange {
    /// How.
    pub mode: Mode,
    /// To the desired properties.
    pub desired: Option<Patch>,
    /// To the tags.
    pub tags: Option<Patch>,
}

/// The sections that were met.
#[derive(Default)]
struct Found {
    desired: Option<Map<String, Value>>,
    tags: Option<Map<String, Value>>,
}

impl TwinChange {
    /// Reads and validates a change.
    ///
    /// # Errors
    /// The first thing that is wrong with it; pointers begin at the body.
    pub fn parse(mode: Mode, json: &[u8]) -> Result<Self, TwinProblem> {
        let found = read::document(json, |reader, parser| {
            let mut found = Found::default();
            Body { reader, found: &mut found, in_properties: false }.deserialize(parser)?;
            Ok(found)
        })?;
        let patch = |section, pointer: &str, map: Option<Map<String, Value>>| {
            let Some(map) = map else { return Ok(None) };
            let checked = check_size(section, &map);
            checked.map_err(|problem| problem.below(pointer))?;
            Ok(Some(Patch(map)))
        };
        let desired = patch(Section::Desired, "/properties/desired", found.desired)?;
        let tags = patch(Section::Tags, "/tags", found.tags)?;
        if desired.is_none() && tags.is_none() {
            return Err(TwinProblem { pointer: String::new(), problem: Problem::Nothing });
        }
        Ok(Self { mode, desired, tags })
    }
}

/// The body, or its member `properties`.
struct Body<'r, 't> {
    reader: &'r mut Reader<'t>,
    found: &'r mut Found,
    in_properties: bool,
}

impl<'de> DeserializeSeed<'de> for Body<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<(), D::Error> {
        parser.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Body<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        match self.in_properties {
            true => Ok(()),
            false => Err(self.reader.refuse(Problem::NotAnObject)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Body { reader, found, in_properties } = self;
        let mut properties = false;
        while let Some(key) = members.next_key::<String>()? {
            reader.path.push(&key);
            let section = match (in_properties, key.as_str()) {
                (false, "tags") => Some(&mut found.tags),
                (true, "desired") => Some(&mut found.desired),
                (false, "properties") if !std::mem::replace(&mut properties, true) => {
                    let (reader, found) = (&mut *reader, &mut *found);
                    members.next_value_seed(Body { reader, found, in_properties: true })?;
                    reader.path.pop();
                    continue;
                }
                (false, "properties") => return Err(reader.refuse(Problem::DuplicateKey)),
                _ => None,
            };
            match section {
                None => reader.skip(&mut members)?,
                Some(Some(_)) => return Err(reader.refuse(Problem::DuplicateKey)),
                Some(section) => *section = members.next_value_seed(Whole { reader })?,
            }
            reader.path.pop();
        }
        Ok(())
    }
}

/// A section, or null.
struct Whole<'r, 't> {
    reader: &'r mut Reader<'t>,
}

impl<'de> DeserializeSeed<'de> for Whole<'_, '_> {
    type Value = Option<Map<String, Value>>;
    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        self.reader.section_or_null(parser)
    }
}
