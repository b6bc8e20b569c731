//! `$metadata`: when each node of a section was last written, and at which version.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The time and version of a node and of what is in it; arrays count as one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata(
    /// When it, or anything in it, was last written.
    pub Timestamp,
    /// The section's version then.
    pub u64,
    /// Of its members.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub BTreeMap<String, Metadata>,
);

/// What IoT Hub shows of a section that was never written.
const NEVER_WRITTEN: &str = "0001-01-01T00:00:00Z";

impl Default for Metadata {
    fn default() -> Self {
        Self(Timestamp::default(), 1, BTreeMap::new())
    }
}

impl Metadata {
    fn fresh(value: &Value, now: Timestamp, version: u64) -> Self {
        let members = match value {
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), Self::fresh(value, now, version)))
                .collect(),
            _ => BTreeMap::new(),
        };
        Self(now, version, members)
    }

    /// Notes that `patch` was merged, with the result `value`.
    pub(super) fn touch(
        &mut self,
        patch: &Map<String, Value>,
        value: &Map<String, Value>,
        now: Timestamp,
        version: u64,
    ) {
        (self.0, self.1) = (now, version);
        for (key, change) in patch {
            match (value.get(key), change, self.2.get_mut(key)) {
                (None, _, _) => drop(self.2.remove(key)),
                (Some(Value::Object(value)), Value::Object(change), Some(known)) => {
                    known.touch(change, value, now, version);
                }
                (Some(value), _, _) => {
                    self.2.insert(key.clone(), Self::fresh(value, now, version));
                }
            }
        }
    }

    /// As IoT Hub shows it.
    #[must_use]
    pub fn view(&self) -> Value {
        let Self(at, version, members) = self;
        let at = match *at == Timestamp::default() {
            true => NEVER_WRITTEN.to_owned(),
            false => at.to_string(),
        };
        let mut view = Map::new();
        view.insert("$lastUpdated".to_owned(), at.into());
        view.insert("$lastUpdatedVersion".to_owned(), (*version).into());
        view.extend(members.iter().map(|(key, member)| (key.clone(), member.view())));
        Value::Object(view)
    }
}
