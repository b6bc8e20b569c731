//! How an identity proves who it is, and the form in which a caller of the control plane says it.

use super::key::{Key, Thumbprint};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// How an identity proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AuthenticationBody", into = "AuthenticationBody")]
pub enum Authentication {
    /// By a token signed with one of two keys.
    Sas {
        /// Tried first.
        primary: Key,
        /// So that keys can be exchanged one after the other.
        secondary: Key,
    },
    /// By a certificate with one of two thumbprints.
    SelfSigned {
        /// One.
        primary: Thumbprint,
        /// Another, while certificates are exchanged.
        secondary: Option<Thumbprint>,
    },
    /// By a certificate that names the device and chains to the trust bundle.
    CertificateAuthority,
    /// Not at all: it cannot connect.
    None,
}

impl Authentication {
    /// Two keys out of 64 random bytes.
    #[must_use]
    pub fn sas(primary: [u8; 32], secondary: [u8; 32]) -> Self {
        Self::Sas { primary: Key::generate(primary), secondary: Key::generate(secondary) }
    }

    /// The kind, as IoT Hub names it.
    #[must_use]
    pub fn kind(&self) -> AuthenticationType {
        match self {
            Self::Sas { .. } => AuthenticationType::Sas,
            Self::SelfSigned { .. } => AuthenticationType::SelfSigned,
            Self::CertificateAuthority => AuthenticationType::CertificateAuthority,
            Self::None => AuthenticationType::None,
        }
    }
}

/// `authentication.type` of IoT Hub's identities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthenticationType {
    /// [`Authentication::Sas`].
    #[default]
    Sas,
    /// [`Authentication::SelfSigned`].
    SelfSigned,
    /// [`Authentication::CertificateAuthority`].
    CertificateAuthority,
    /// [`Authentication::None`].
    None,
}

/// `authentication` as a caller of the control plane writes it: keys may be missing, null or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AuthenticationBody {
    /// `sas` when it is left out.
    #[serde(rename = "type")]
    pub kind: AuthenticationType,
    /// Keys of `sas`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKeyBody>,
    /// Thumbprints of `selfSigned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub x509_thumbprint: Option<ThumbprintBody>,
}

/// `symmetricKey` of IoT Hub's identities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SymmetricKeyBody {
    /// Made by the hub when it is missing.
    #[serde(deserialize_with = "empty_is_none")]
    pub primary_key: Option<Key>,
    /// Made by the hub when it is missing.
    #[serde(deserialize_with = "empty_is_none")]
    pub secondary_key: Option<Key>,
}

/// `x509Thumbprint` of IoT Hub's identities.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ThumbprintBody {
    /// Needed for `selfSigned`.
    #[serde(deserialize_with = "empty_is_none")]
    pub primary_thumbprint: Option<Thumbprint>,
    /// May be missing.
    #[serde(deserialize_with = "empty_is_none")]
    pub secondary_thumbprint: Option<Thumbprint>,
}

fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = Option::<String>::deserialize(deserializer)?.map(Zeroizing::new);
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// An `authentication` that contradicts itself or lacks something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthenticationError {
    /// A stored record without its keys.
    #[error("symmetricKey lacks a key")]
    NoKey,
    /// `selfSigned` without thumbprint.
    #[error("type selfSigned needs x509Thumbprint.primaryThumbprint")]
    NoThumbprint,
    /// Keys beside another type than `sas`.
    #[error("symmetricKey is for type sas only")]
    StrayKey,
    /// Thumbprints beside another type than `selfSigned`.
    #[error("x509Thumbprint is for type selfSigned only")]
    StrayThumbprint,
}

impl AuthenticationBody {
    /// The whole authentication; a missing key is made from what `random` gives.
    ///
    /// # Errors
    /// [`AuthenticationError`].
    pub fn complete(
        self,
        mut random: impl FnMut() -> [u8; 32],
    ) -> Result<Authentication, AuthenticationError> {
        self.resolve(|| Some(Key::generate(random())))
    }

    fn resolve(
        self,
        mut make: impl FnMut() -> Option<Key>,
    ) -> Result<Authentication, AuthenticationError> {
        let keys = self.symmetric_key.unwrap_or_default();
        let thumbprints = self.x509_thumbprint.unwrap_or_default();
        let no_keys = keys == SymmetricKeyBody::default();
        let no_thumbprints = thumbprints == ThumbprintBody::default();
        if self.kind != AuthenticationType::Sas && !no_keys {
            return Err(AuthenticationError::StrayKey);
        }
        if self.kind != AuthenticationType::SelfSigned && !no_thumbprints {
            return Err(AuthenticationError::StrayThumbprint);
        }
        match self.kind {
            AuthenticationType::Sas => {
                let mut or_made = |key: Option<Key>| key.or_else(&mut make);
                let primary = or_made(keys.primary_key).ok_or(AuthenticationError::NoKey)?;
                let secondary = or_made(keys.secondary_key).ok_or(AuthenticationError::NoKey)?;
                Ok(Authentication::Sas { primary, secondary })
            }
            AuthenticationType::SelfSigned => {
                let primary = thumbprints.primary_thumbprint;
                let primary = primary.ok_or(AuthenticationError::NoThumbprint)?;
                let secondary = thumbprints.secondary_thumbprint;
                Ok(Authentication::SelfSigned { primary, secondary })
            }
            AuthenticationType::CertificateAuthority => Ok(Authentication::CertificateAuthority),
            AuthenticationType::None => Ok(Authentication::None),
        }
    }
}

impl TryFrom<AuthenticationBody> for Authentication {
    type Error = AuthenticationError;
    fn try_from(body: AuthenticationBody) -> Result<Self, AuthenticationError> {
        body.resolve(|| None)
    }
}

impl From<Authentication> for AuthenticationBody {
    fn from(authentication: Authentication) -> Self {
        let kind = authentication.kind();
        let mut body = Self { kind, ..Self::default() };
        match authentication {
            Authentication::Sas { primary, secondary } => {
                let (primary_key, secondary_key) = (Some(primary), Some(secondary));
                body.symmetric_key = Some(SymmetricKeyBody { primary_key, secondary_key });
            }
            Authentication::SelfSigned { primary, secondary } => {
                let primary_thumbprint = Some(primary);
                let secondary_thumbprint = secondary;
                body.x509_thumbprint =
                    Some(ThumbprintBody { primary_thumbprint, secondary_thumbprint });
            }
            Authentication::CertificateAuthority | Authentication::None => {}
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn body(json: serde_json::Value) -> AuthenticationBody {
        serde_json::from_value(json).unwrap()
    }

    fn sas() -> Authentication {
        Authentication::Sas { primary: KEY.parse().unwrap(), secondary: Key::generate([7; 32]) }
    }

    #[test]
    fn missing_null_and_empty_keys_are_made() {
        for json in [
            json!({}),
            json!({"type": "sas"}),
            json!({"type": "sas", "symmetricKey": null}),
            json!({"type": "sas", "symmetricKey": {"primaryKey": null, "secondaryKey": ""},
                   "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": ""}}),
        ] {
            let mut number = 0;
            let made = body(json).complete(|| {
                number += 1;
                [number; 32]
            });
            assert_eq!(made, Ok(Authentication::sas([1; 32], [2; 32])));
        }
    }

    #[test]
    fn a_given_key_is_kept_and_the_missing_one_is_made() {
        let given = body(json!({"symmetricKey": {"primaryKey": KEY}}));
        assert_eq!(given.complete(|| [7; 32]), Ok(sas()));
    }

    #[test]
    fn an_authentication_that_contradicts_itself_is_refused() {
        for (json, expected) in [
            (json!({"type": "selfSigned"}), AuthenticationError::NoThumbprint),
            (
                json!({"type": "none", "symmetricKey": {"primaryKey": KEY}}),
                AuthenticationError::StrayKey,
            ),
            (
                json!({"type": "sas", "x509Thumbprint": {"primaryThumbprint": "a".repeat(40)}}),
                AuthenticationError::StrayThumbprint,
            ),
        ] {
            assert_eq!(body(json).complete(|| [0; 32]), Err(expected));
        }
        for json in [
            json!({"type": "password"}),
            json!({"kind": "sas"}),
            json!({"symmetricKey": {"primaryKey": "short"}}),
            json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "abc"}}),
        ] {
            assert!(serde_json::from_value::<AuthenticationBody>(json).is_err());
        }
    }

    #[test]
    fn a_stored_record_without_its_keys_is_damaged() {
        assert!(serde_json::from_value::<Authentication>(json!({"type": "sas"})).is_err());
    }
}
