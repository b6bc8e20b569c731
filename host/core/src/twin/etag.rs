//! The tag of a twin's state, as IoT Hub writes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::str::FromStr;

/// A number, written as base64 of its eight bytes (`AAAAAAAAAAE=` is 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Etag(pub u64);

/// A text that is no tag of a twin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is not the ETag of a twin")]
pub struct EtagError;

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.to_be_bytes()))
    }
}

impl FromStr for Etag {
    type Err = EtagError;
    /// Without the quotes of the HTTP header.
    fn from_str(text: &str) -> Result<Self, EtagError> {
        let bytes = STANDARD.decode(text).map_err(|_| EtagError)?;
        let bytes: [u8; 8] = bytes.try_into().map_err(|_| EtagError)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}
