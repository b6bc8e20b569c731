//! Reading the module's settings.

use crate::Configuration;
use serde_json::{Map, Value};

impl Configuration {
    /// The settings as the specification has them.
    ///
    /// # Errors
    /// They are no JSON object; the hub never sends such settings.
    pub fn settings(&self) -> Result<Map<String, Value>, String> {
        serde_json::from_str(&self.settings).map_err(|error| format!("settings: {error}"))
    }

    /// A number among the settings.
    ///
    /// # Errors
    /// It is there and is no number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, String> {
        self.setting(name, "a number", |value| value.as_f64())
    }

    /// A text among the settings.
    ///
    /// # Errors
    /// It is there and is no text.
    pub fn text(&self, name: &str) -> Result<Option<String>, String> {
        self.setting(name, "a text", |value| value.as_str().map(str::to_owned))
    }

    /// Index of a declared output.
    ///
    /// # Errors
    /// The specification does not declare it.
    pub fn output(&self, name: &str) -> Result<u16, String> {
        self.outputs
            .iter()
            .position(|output| output == name)
            .and_then(|at| u16::try_from(at).ok())
            .ok_or_else(|| format!("the specification declares no output {name:?}"))
    }

    fn setting<T>(
        &self,
        name: &str,
        what: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.settings()?.get(name) {
            None => Ok(None),
            Some(value) => match read(value) {
                Some(value) => Ok(Some(value)),
                None => Err(format!("settings.{name} is not {what}")),
            },
        }
    }
}
