//! Secrets and hashes that an identity is known by.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// A symmetric key: 16 to 64 bytes, written as base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<Vec<u8>>);

/// A text that is no key. It is not repeated: it may be a mistyped secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is the base64 of 16 to 64 bytes")]
pub struct KeyError;

impl Key {
    /// From 32 random bytes.
    #[must_use]
    pub fn generate(random: [u8; 32]) -> Self {
        let random = Zeroizing::new(random);
        Self(Zeroizing::new(random.to_vec()))
    }

    /// The bytes to sign with.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The base64 text, as in a connection string.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&*self.0))
    }
}

impl FromStr for Key {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| KeyError)?);
        match bytes.len() {
            16..=64 => Ok(Self(bytes)),
            _ => Err(KeyError),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

/// Hash of a certificate's DER: SHA-1 (40 hexadecimal digits) or SHA-256 (64), in any case.
#[derive(Clone, PartialEq, Eq)]
pub struct Thumbprint(Box<[u8]>);

/// A text that is no thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint is 40 (SHA-1) or 64 (SHA-256) hexadecimal digits")]
pub struct ThumbprintError;

impl Thumbprint {
    /// The hash: 20 or 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for Thumbprint {
    type Err = ThumbprintError;
    fn from_str(text: &str) -> Result<Self, ThumbprintError> {
        if text.len() != 40 && text.len() != 64 {
            return Err(ThumbprintError);
        }
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        let pairs = text.as_bytes().chunks_exact(2);
        let bytes = pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?));
        bytes.collect::<Option<Box<[u8]>>>().map(Self).ok_or(ThumbprintError)
    }
}

impl fmt::Display for Thumbprint {
    /// Upper case, as IoT Hub writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Thumbprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    #[test]
    fn a_key_is_the_base64_of_16_to_64_bytes() {
        for bytes in [15, 16, 64, 65] {
            let text = STANDARD.encode(vec![1; bytes]);
            assert_eq!(text.parse::<Key>().is_ok(), (16..=64).contains(&bytes), "{bytes}");
        }
        for text in ["", "not base64!", "MDEyMzQ1Njc4OWFiY2RlZg", "MDEyMzQ1Njc4OWFiY2RlZh=="] {
            assert_eq!(text.parse::<Key>(), Err(KeyError), "{text}");
        }
        assert_eq!(*KEY.parse::<Key>().unwrap().text(), KEY);
    }

    #[test]
    fn a_thumbprint_is_the_same_in_any_case() {
        let lower = "0a".repeat(20).parse::<Thumbprint>().unwrap();
        assert_eq!(lower, "0A".repeat(20).parse().unwrap());
        assert_eq!(lower.to_string(), "0A".repeat(20));
        assert_eq!("0a".repeat(32).parse::<Thumbprint>().unwrap().as_bytes().len(), 32);
        assert!("0g".repeat(20).parse::<Thumbprint>().is_err());
        assert!("é".repeat(20).parse::<Thumbprint>().is_err());
    }
}
