//! Checked text over shared bytes: client ids, user names, and the base of topics and filters.
//!
//! A [`Text`] is at most 65,535 bytes of UTF-8 without U+0000, so it can always be written to the wire.
//! Cloning counts a reference. The crate has no `unsafe`, so [`Text::as_str`] goes over the bytes
//! again (some nanoseconds); code that runs for every message works on [`Text::as_bytes`].

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::Error;

/// UTF-8 text of an MQTT packet (MQTT 3.1.1, section 1.5.3).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Bytes);

impl Text {
    /// Checks the bytes of a field that begins at byte `at` of its packet.
    pub(crate) fn from_field(field: Bytes, at: usize) -> Result<Self, Error> {
        check_utf8(&field, at)?;
        if let Some(place) = field.iter().position(|byte| *byte == 0) {
            return Err(Error::NullCharacter { at: at + place });
        }
        Ok(Self(field))
    }

    /// For callers that have checked more than a text needs.
    pub(crate) fn from_checked(field: Bytes) -> Self {
        Self(field)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a text is checked when it is made")
    }

    /// The bytes of the text: UTF-8, no zero byte.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes with shared ownership; slices of it keep the buffer they came from alive.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.0.clone()
    }
}

/// Checks UTF-8 and length, not zero bytes.
#[inline]
pub(crate) fn check_utf8(field: &[u8], at: usize) -> Result<(), Error> {
    if field.len() > usize::from(u16::MAX) {
        return Err(Error::FieldTooLong { bytes: field.len() });
    }
    match std::str::from_utf8(field) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::NotUtf8 { at: at + error.valid_up_to() }),
    }
}

impl TryFrom<Bytes> for Text {
    type Error = Error;

    fn try_from(bytes: Bytes) -> Result<Self, Error> {
        Self::from_field(bytes, 0)
    }
}

impl TryFrom<String> for Text {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        Self::from_field(Bytes::from(text), 0)
    }
}

impl FromStr for Text {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_field(Bytes::copy_from_slice(text.as_bytes()), 0)
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self == *other
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// What every text with a form of its own has, given its `from_field(Bytes, usize)`.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }

            /// The bytes: UTF-8, no zero byte. Costs nothing, unlike [`as_str`](Self::as_str).
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                self.0.as_bytes()
            }

            /// Without the form, sharing the bytes.
            #[must_use]
            pub fn as_text(&self) -> &$crate::Text {
                &self.0
            }
        }

        impl TryFrom<$crate::Text> for $name {
            type Error = $crate::Error;

            fn try_from(text: $crate::Text) -> Result<Self, $crate::Error> {
                Self::from_field(text.to_bytes(), 0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::Error;

            fn try_from(text: String) -> Result<Self, $crate::Error> {
                Self::from_field(text.into(), 0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::Error;

            fn from_str(text: &str) -> Result<Self, $crate::Error> {
                Self::from_field(bytes::Bytes::copy_from_slice(text.as_bytes()), 0)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                self.as_bytes()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}
pub(crate) use checked_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_65535_bytes_is_taken_and_one_more_is_refused() {
        assert!(Text::try_from("x".repeat(65_535)).is_ok());
        let error = Text::try_from("x".repeat(65_536)).unwrap_err();
        assert_eq!(error, Error::FieldTooLong { bytes: 65_536 });
    }

    #[test]
    fn byte_order_mark_is_kept() {
        // [MQTT-1.5.3-3]
        let text: Text = "\u{feff}a".parse().unwrap();
        assert_eq!(text.as_bytes(), b"\xef\xbb\xbfa");
    }

    #[test]
    fn surrogate_is_refused_where_it_stands() {
        let error = Text::try_from(Bytes::from_static(b"ab\xed\xa0\x80")).unwrap_err();
        assert_eq!(error, Error::NotUtf8 { at: 2 });
    }

    #[test]
    fn line_breaks_of_a_hostile_client_id_are_escaped_in_debug() {
        let text: Text = "a\nforged log line".parse().unwrap();
        assert_eq!(format!("{text:?}"), r#""a\nforged log line""#);
    }
}
