//! Desired properties: what the operator wants of the module.

use crate::Configuration;
use serde_json::{Map, Value};

/// Desired properties at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// Their version.
    pub version: u64,
    /// All of them.
    pub value: Map<String, Value>,
    /// What is new in them, as a JSON merge patch; all of them at the start.
    pub patch: Map<String, Value>,
}

/// A module that is asked about new desired properties before they hold. Export it with
/// `export!(MyModule, desired)`.
pub trait Configured: crate::Module {
    /// Puts new desired properties in force. Between batches; what is done here (reports, state, sends)
    /// is committed whatever the answer.
    ///
    /// # Errors
    /// Why they cannot hold, in words for the operator: the hub writes it to the reported properties, and
    /// the old ones stay in force.
    fn configure(&mut self, desired: &Desired) -> Result<(), String>;
}

impl Desired {
    #[doc(hidden)]
    pub fn new(version: u64, value: &str, patch: &str) -> Result<Self, String> {
        let read = |text| serde_json::from_str(text).map_err(|error| format!("desired: {error}"));
        Ok(Self { version, value: read(value)?, patch: read(patch)? })
    }

    /// A number among them.
    ///
    /// # Errors
    /// It is there and is no number.
    pub fn number(&self, name: &str) -> Result<Option<f64>, String> {
        self.property(name, "a number", Value::as_f64)
    }

    /// A text among them.
    ///
    /// # Errors
    /// It is there and is no text.
    pub fn text(&self, name: &str) -> Result<Option<&str>, String> {
        self.property(name, "a text", Value::as_str)
    }

    fn property<'a, T>(
        &'a self,
        name: &str,
        what: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.value.get(name) {
            None => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| format!("{name} is not {what}")),
        }
    }
}

impl Configuration {
    /// The desired properties in force when the module starts.
    ///
    /// # Errors
    /// They are no JSON object; the hub never sends such.
    pub fn desired(&self) -> Result<Desired, String> {
        Desired::new(self.desired_version, &self.desired, &self.desired)
    }
}
