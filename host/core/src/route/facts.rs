//! What a condition may ask of a message.
use std::borrow::Cow;

/// View of a message that routing needs.
pub trait Facts {
    /// Where the message comes from.
    fn source(&self) -> Source<'_>;
    /// Application property; the name is compared without regard to case.
    fn property(&self, name: &str) -> Lookup<'_>;
    /// System property by its routing name.
    fn system_property(&self, name: &str) -> Lookup<'_>;
    /// The payload.
    fn body(&self) -> &[u8];
}

/// Result of looking a property up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// Not there.
    Absent,
    /// There, without a value.
    Null,
    /// Its text.
    Text(Cow<'a, str>),
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A change of reported properties.
    TwinChange,
    /// A leaf device.
    Device,
    /// A module.
    Module {
        /// Its name.
        module: &'a str,
        /// The output it named.
        output: Option<&'a str>,
    },
}
