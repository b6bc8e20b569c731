//! The effective values, each with its origin.

use super::Config;
use super::load::{DEFAULT, FILE, Layers, Loaded};
use figment::value::{Empty, Value};
use serde::Serialize;

/// One key of the effective configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Such as `listen.mqtt`.
    pub key: String,
    /// As TOML writes it; empty where it is absent.
    pub value: String,
    /// `default`, `file`, `--data-dir`, or the environment variable.
    pub origin: String,
}

impl Loaded {
    /// Every key with its value and origin, in the order of the file's documentation.
    #[must_use]
    pub fn settings(&self) -> Vec<Setting> {
        let mut found = Vec::new();
        flatten(&tree(&self.config), &mut Vec::new(), &mut |path, value| {
            found.push(Setting {
                key: path.join("."),
                value: toml(value),
                origin: origin(&self.layers, path),
            });
        });
        found
    }

    /// The configuration file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&std::path::Path> {
        self.layers.file.as_ref().map(|(path, _)| path.as_path())
    }
}

/// Names of all keys of a configuration.
pub(super) fn keys(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    flatten(&tree(config), &mut Vec::new(), &mut |path, _| found.push(path.join(".")));
    found
}

fn tree(config: &Config) -> Value {
    Value::serialize(config).expect("a configuration can be written")
}

fn flatten(value: &Value, path: &mut Vec<String>, each: &mut impl FnMut(&[String], &Value)) {
    let Value::Dict(_, dict) = value else { return each(path, value) };
    // Plain keys before tables, as in a file.
    for tables in [false, true] {
        for (key, value) in dict.iter().filter(|(_, value)| value.as_dict().is_some() == tables) {
            path.push(key.clone());
            flatten(value, path, each);
            path.pop();
        }
    }
}

fn origin(layers: &Layers, path: &[String]) -> String {
    if layers.data_dir_given && path == ["data_dir"] {
        return "--data-dir".to_owned();
    }
    // Items of a list and keys that a table's type fills in have no origin of their own.
    match layers.origin(path) {
        Some(origin) if origin == FILE => FILE.to_owned(),
        Some(origin) => origin,
        None => DEFAULT.to_owned(),
    }
}

fn toml(value: &Value) -> String {
    match value {
        Value::Empty(_, Empty::None | Empty::Unit) => String::new(),
        other => match toml::Value::try_from(other) {
            Ok(value) => value.to_string(),
            Err(_) => String::new(),
        },
    }
}
