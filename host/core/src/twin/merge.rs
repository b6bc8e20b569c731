//! Merging and comparing JSON objects, as twins do it.
//!
//! A patch is a JSON merge patch: an object goes into an object, recursively; anything else, an array
//! too, takes the place of what was there; null deletes. Laws (tested): merging twice is merging once;
//! the difference of two objects merged into the first gives the second.

use serde_json::{Map, Value};

/// Merges `patch` into `base`. A null inside a subtree that was not there before deletes nothing and
/// does not stay (IoT Edge keeps it).
pub fn merge(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(base.remove(key)),
            Value::Object(patch) => match base.get_mut(key) {
                Some(Value::Object(base)) => merge(base, patch),
                _ => {
                    let mut new = Map::new();
                    merge(&mut new, patch);
                    base.insert(key.clone(), Value::Object(new));
                }
            },
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The patch that leads from one object to the other.
#[must_use]
pub fn diff(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, new) in to {
        match (from.get(key), new) {
            (Some(old), new) if old == new => {}
            (Some(Value::Object(old)), Value::Object(new)) => {
                patch.insert(key.clone(), Value::Object(diff(old, new)));
            }
            _ => {
                patch.insert(key.clone(), new.clone());
            }
        }
    }
    patch
}
