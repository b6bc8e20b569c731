//! A message of a route test, made from JSON.
//!
//! Used by the REST and CLI route tests and by the golden tests:
//! `{source, body, properties, systemProperties}`; the body is JSON, or text as it stands; property
//! values are texts or null; system properties may have any names.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::facts::{Facts, Lookup, Source};

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    #[serde(default = "telemetry")]
    source: String,
    #[serde(default)]
    body: Value,
    #[serde(default)]
    properties: BTreeMap<String, Option<String>>,
    #[serde(default)]
    system_properties: BTreeMap<String, Option<String>>,
}

fn telemetry() -> String {
    "/messages".to_owned()
}

/// A message of a route test.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Raw")]
pub struct Sample {
    source: String,
    body: Vec<u8>,
    properties: BTreeMap<String, Option<String>>,
    system_properties: BTreeMap<String, Option<String>>,
}

impl Sample {
    /// # Errors
    /// The JSON has an unknown field, or a value of a wrong type.
    pub fn from_json(json: &Value) -> Result<Self, serde_json::Error> {
        Sample::deserialize(json)
    }
}

impl From<Raw> for Sample {
    fn from(raw: Raw) -> Self {
        let body = match raw.body {
            Value::Null => Vec::new(),
            Value::String(text) => text.into_bytes(),
            json => json.to_string().into_bytes(),
        };
        Self {
            source: raw.source,
            body,
            properties: raw.properties,
            system_properties: raw.system_properties,
        }
    }
}

impl Facts for Sample {
    fn source(&self) -> Source<'_> {
        Source::Path(&self.source)
    }

    fn property(&self, name: &str) -> Lookup<'_> {
        look_up(&self.properties, name)
    }

    fn system_property(&self, name: &str) -> Lookup<'_> {
        look_up(&self.system_properties, name)
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

fn look_up<'a>(properties: &'a BTreeMap<String, Option<String>>, name: &str) -> Lookup<'a> {
    match properties.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
        None => Lookup::Absent,
        Some((_, None)) => Lookup::Null,
        Some((_, Some(text))) => Lookup::Text(text.as_str().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_text_body_is_taken_as_it_stands_and_json_is_written_out() {
        let body = |json: Value| Sample::from_json(&json!({ "body": json })).unwrap().body;
        assert_eq!(body(json!("plain")), b"plain");
        assert_eq!(body(json!({"a": 1})), b"{\"a\":1}");
        assert_eq!(body(json!(null)), b"");
    }

    #[test]
    fn names_are_found_in_any_case_and_may_be_null() {
        let sample = Sample::from_json(&json!({
            "properties": {"Key": "v", "nothing": null},
            "systemProperties": {"contentType": "x"},
        }))
        .unwrap();
        assert_eq!(sample.source(), Source::Path("/messages"));
        assert_eq!(sample.property("kEY"), Lookup::Text("v".into()));
        assert_eq!(sample.property("nothing"), Lookup::Null);
        assert_eq!(sample.property("contentType"), Lookup::Absent);
        assert_eq!(sample.system_property("CONTENTTYPE"), Lookup::Text("x".into()));
    }

    #[test]
    fn unknown_fields_and_numbers_as_properties_are_refused() {
        assert!(Sample::from_json(&json!({"propertis": {}})).is_err());
        assert!(Sample::from_json(&json!({"properties": {"a": 1}})).is_err());
    }
}
