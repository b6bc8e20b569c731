//! The process environment, as a value.
//!
//! Read once in `main`, the only place that does; everything below gets it by reference, so that a
//! test brings its own.

use super::load::Layer;
use figment::value::{Dict, Value};
use std::collections::BTreeMap;

/// Environment variables.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

/// What the names of the hub's own variables begin with.
const PREFIX: &str = "WEIR_";
/// Between a table and its key: `WEIR_LISTEN__MQTT` is `[listen] mqtt`.
const SEPARATOR: &str = "__";

impl Environment {
    /// That of this process. Names and values that are not UTF-8 are left out.
    #[must_use]
    pub fn of_process() -> Self {
        let all = std::env::vars_os();
        Self(
            all.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect(),
        )
    }

    /// The value of a variable; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The variables that set keys of the configuration: those with a table in their name, and those
    /// that name a key above all tables. Others, such as `WEIR_HOST`, are for other readers.
    pub(super) fn settings(&self, defaults: &Dict) -> Vec<Layer> {
        let mut found = Vec::new();
        for (name, text) in &self.0 {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            let path: Vec<String> = rest.split(SEPARATOR).map(str::to_lowercase).collect();
            let top = defaults.get(&path[0]).is_some_and(|value| value.as_dict().is_none());
            if path.len() > 1 || top {
                let value = typed(text, &path, defaults);
                let nest = |value, key: &String| Value::from(Dict::from([(key.clone(), value)]));
                let table = path.iter().rev().fold(value, nest).into_dict();
                let dict = table.expect("a path has at least one part");
                found.push(Layer { name: name.clone(), dict });
            }
        }
        found
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }
}

/// A TOML value where the text is one and a text is not wanted; else the text itself.
fn typed(text: &str, path: &[String], defaults: &Dict) -> Value {
    let (first, rest) = path.split_first().expect("splitting gives at least one part");
    let default = rest.iter().try_fold(defaults.get(first), |at, key| {
        at.map(|value| value.as_dict().and_then(|dict| dict.get(key)))
    });
    let wants_text = matches!(default.flatten(), Some(Value::String(..)));
    let parsed = if wants_text { None } else { text.parse::<toml::Value>().ok() };
    let value = parsed.and_then(|value| Value::serialize(value).ok());
    value.unwrap_or_else(|| Value::from(text))
}
