//! What a condition may ask of a message, and nothing else of messages.
//!
//! The hub's message and [`super::sample::Sample`] implement [`Facts`]. Names are compared without
//! regard to case, as in IoT Edge; a property may be present and null.

use std::borrow::Cow;

/// The view of a message that routing needs.
pub trait Facts {
    /// Where the message came from.
    fn source(&self) -> Source<'_>;

    /// Application property; the name is compared without regard to case.
    fn property(&self, name: &str) -> Lookup<'_>;

    /// System property by its routing name (`connectionDeviceId`, `contentType`, ...), without `$`;
    /// the name is compared without regard to case.
    fn system_property(&self, name: &str) -> Lookup<'_>;

    /// The body as it was received. It is read only when a condition asks for it.
    fn body(&self) -> &[u8];
}

/// Answer to a question for a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// There is no such property: undefined in a condition.
    Absent,
    /// The property is there and has no value.
    Null,
    Text(Cow<'a, str>),
}

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A change of reported properties: `/twinChangeNotifications`.
    TwinChange,
    /// Telemetry of a leaf device: `/messages`.
    Device,
    /// Telemetry of a module: `/messages/modules/{m}` or `/messages/modules/{m}/outputs/{o}`.
    /// An empty output name counts as none.
    Module { module: &'a str, output: Option<&'a str> },
    /// Any source path as text, as a route test gives it.
    Path(&'a str),
}

impl Source<'_> {
    /// Whether this is the source of twin changes, in either form.
    pub fn is_twin_change(&self) -> bool {
        match self {
            Source::TwinChange => true,
            Source::Path(path) => {
                path.trim().trim_end_matches('/').eq_ignore_ascii_case(super::source::TWIN_CHANGE)
            }
            Source::Device | Source::Module { .. } => false,
        }
    }
}

impl std::fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::TwinChange => f.write_str(super::source::TWIN_CHANGE),
            Source::Device => f.write_str("/messages"),
            Source::Module { module, output: None | Some("") } => {
                write!(f, "/messages/modules/{module}")
            }
            Source::Module { module, output: Some(output) } => {
                write!(f, "/messages/modules/{module}/outputs/{output}")
            }
            Source::Path(path) => f.write_str(path),
        }
    }
}
