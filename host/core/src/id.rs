//! Checked names. A value of these types is always well-formed; there is no other constructor.
//!
//! Texts are kept in 24 bytes without a heap allocation (`CompactString`), because a sender's id
//! travels with every message. Comparison is exact, as in IoT Hub, where ids are case-sensitive.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Longest id, in bytes (IoT Hub's limit for device and module ids).
pub const MAX_ID_BYTES: usize = 128;

/// A text that is not a well-formed id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{kind} is empty")]
    Empty {
        /// What the text should have been.
        kind: &'static str,
    },
    /// Longer than [`MAX_ID_BYTES`].
    #[error("{kind} has {bytes} bytes; {MAX_ID_BYTES} are allowed")]
    TooLong {
        /// What the text should have been.
        kind: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A character outside the alphabet.
    #[error("{kind} may not contain {character:?} (character {column})")]
    Character {
        /// What the text should have been.
        kind: &'static str,
        /// The character.
        character: char,
        /// Its place, 1-based.
        column: usize,
    },
}

/// IoT Hub's alphabet for ids, less `+`, `#` and `/`, which have a meaning in MQTT topics.
fn id_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._%*?!(),:=@$'".contains(c)
}

/// What may stand in one segment of an endpoint's address.
fn segment_character(c: char) -> bool {
    id_character(c) || matches!(c, ' ' | '~' | ';' | '&' | '|' | '<' | '>' | '[' | ']' | '{' | '}')
}

fn name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._".contains(c)
}

fn check(kind: &'static str, text: &str, allowed: fn(char) -> bool) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong { kind, bytes: text.len() });
    }
    match text.chars().enumerate().find(|(_, c)| !allowed(*c)) {
        Some((at, character)) => Err(IdError::Character { kind, character, column: at + 1 }),
        None => Ok(()),
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "CompactString", into = "CompactString")]
        pub struct $name(CompactString);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<CompactString> for $name {
            type Error = IdError;
            fn try_from(text: CompactString) -> Result<Self, IdError> {
                check($kind, &text, $allowed)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check($kind, text, $allowed)?;
                Ok(Self(text.into()))
            }
        }

        impl From<$name> for CompactString {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0.as_str())
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_text!(
    /// A device: 1 to 128 characters of IoT Hub's alphabet.
    DeviceId, "device id", id_character
);
checked_text!(
    /// A module of a device: 1 to 128 characters of IoT Hub's alphabet.
    ModuleId, "module id", id_character
);
checked_text!(
    /// A route's name.
    RouteName, "route name", name_character
);
checked_text!(
    /// A module's input, as in `/modules/{m}/inputs/{i}`.
    InputName, "input name", segment_character
);
checked_text!(
    /// A module's output, as in `/messages/modules/{m}/outputs/{o}`.
    OutputName, "output name", segment_character
);

/// Who a connection has proven to be, and so who sent a message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// The device, or the device that the module belongs to.
    pub device: DeviceId,
    /// Set for a module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleId>,
}

impl Identity {
    /// A device's own identity.
    #[must_use]
    pub fn device(device: DeviceId) -> Self {
        Self { device, module: None }
    }

    /// A module's identity.
    #[must_use]
    pub fn module(device: DeviceId, module: ModuleId) -> Self {
        Self { device, module: Some(module) }
    }
}

impl fmt::Display for Identity {
    /// `device` or `device/module`: also the MQTT client id.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "{}/{module}", self.device),
            None => write!(f, "{}", self.device),
        }
    }
}

/// Number of an accepted message, unique in the life of a hub's store, growing with acceptance.
///
/// The upper 24 bits count the hub's starts, the lower 40 the messages of that start, so that no
/// number is given twice although none is written down before its message is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The first number of a start.
    #[must_use]
    pub fn first_of_start(start: u32) -> Self {
        Self(u64::from(start) << 40)
    }
}

impl fmt::Display for MessageId {
    /// 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Place of a stored message in the hub's one order of acceptance; given by the store's writer.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Sequence(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_with_a_topic_separator_is_refused_with_its_column() {
        let error = "pump/1".parse::<DeviceId>().unwrap_err();
        assert_eq!(error.to_string(), "device id may not contain '/' (character 5)");
    }

    #[test]
    fn the_longest_id_is_128_bytes() {
        assert!("a".repeat(128).parse::<ModuleId>().is_ok());
        assert!("a".repeat(129).parse::<ModuleId>().is_err());
        assert!("".parse::<ModuleId>().is_err());
    }

    #[test]
    fn json_cannot_bypass_the_check() {
        assert!(serde_json::from_str::<DeviceId>("\"a#\"").is_err());
        assert_eq!(serde_json::from_str::<DeviceId>("\"a1\"").unwrap().as_str(), "a1");
    }

    #[test]
    fn system_modules_are_names_like_others() {
        assert!("$edgeHub".parse::<ModuleId>().is_ok());
    }
}
