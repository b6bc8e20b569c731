//! An identity as the hub keeps it: who it is and how it proves it.
//!
//! Written by the control plane, kept by the store, judged by `weir_hub::authenticate`. The JSON forms
//! are those of IoT Hub. Invariant: a [`Key`] leaves memory only as a connection string or as the JSON
//! of a record; it is never printed and its memory is wiped.

use crate::clock::Timestamp;
use crate::id::{DeviceId, Identity};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// Everything the hub knows of a device or module, beside its twin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityRecord {
    /// Who it is: `deviceId`, and `moduleId` for a module.
    #[serde(flatten, with = "iot_hub_ids")]
    pub identity: Identity,
    /// Another one when an identity is deleted and made again under the same name.
    pub generation_id: String,
    /// Changes with every change of the record.
    pub etag: String,
    /// A disabled identity is refused, and so are the modules of a disabled device.
    pub status: Status,
    /// How it proves who it is.
    pub authentication: Authentication,
    /// The edge device above it, of nested hubs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<DeviceId>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// Whether an identity may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It may.
    #[default]
    Enabled,
    /// It may not.
    Disabled,
}

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

impl IdentityRecord {
    /// What a client of this identity is configured with: `hub` is the name that its tokens carry,
    /// `gateway` the name it dials, when that is another. None for an identity that cannot connect.
    #[must_use]
    pub fn connection_string(&self, hub: &str, gateway: Option<&str>) -> Option<Zeroizing<String>> {
        let mut text = Zeroizing::new(format!("HostName={hub};DeviceId={}", self.identity.device));
        if let Some(module) = &self.identity.module {
            text.push_str(";ModuleId=");
            text.push_str(module.as_str());
        }
        match &self.authentication {
            Authentication::Sas { primary, .. } => {
                text.push_str(";SharedAccessKey=");
                text.push_str(&primary.text());
            }
            Authentication::SelfSigned { .. } | Authentication::CertificateAuthority => {
                text.push_str(";x509=true");
            }
            Authentication::None => return None,
        }
        if let Some(gateway) = gateway.filter(|gateway| *gateway != hub) {
            text.push_str(";GatewayHostName=");
            text.push_str(gateway);
        }
        Some(text)
    }
}

/// What a service SDK is configured with. Such clients know no gateway: `host` is the name they dial.
#[must_use]
pub fn service_connection_string(host: &str, policy: &str, key: &Key) -> Zeroizing<String> {
    let key = key.text();
    Zeroizing::new(format!("HostName={host};SharedAccessKeyName={policy};SharedAccessKey={}", *key))
}

/// `deviceId` and `moduleId` beside the other fields.
mod iot_hub_ids {
    use super::{Deserialize, Deserializer, DeviceId, Identity, Serialize, Serializer};
    use crate::id::ModuleId;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Ids {
        device_id: DeviceId,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        module_id: Option<ModuleId>,
    }

    pub(super) fn serialize<S: Serializer>(
        id: &Identity,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Identity { device, module } = id.clone();
        Ids { device_id: device, module_id: module }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Identity, D::Error> {
        let Ids { device_id, module_id } = Ids::deserialize(deserializer)?;
        Ok(Identity { device: device_id, module: module_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn record(authentication: Authentication) -> IdentityRecord {
        IdentityRecord {
            identity: Identity::module("edge".parse().unwrap(), "filter".parse().unwrap()),
            generation_id: "g1".into(),
            etag: "1".into(),
            status: Status::Enabled,
            authentication,
            parent: None,
            created: Timestamp::from_secs(1),
            updated: Timestamp::from_secs(2),
        }
    }

    fn sas() -> Authentication {
        Authentication::Sas { primary: KEY.parse().unwrap(), secondary: Key::generate([7; 32]) }
    }

    fn body(json: serde_json::Value) -> AuthenticationBody {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_record_has_the_form_of_iot_hub_and_reads_back() {
        let json = serde_json::to_value(record(sas())).unwrap();
        assert_eq!(json["deviceId"], "edge");
        assert_eq!(json["moduleId"], "filter");
        assert_eq!(json["status"], "enabled");
        assert_eq!(json["authentication"]["type"], "sas");
        assert_eq!(json["authentication"]["symmetricKey"]["primaryKey"], KEY);
        assert_eq!(serde_json::from_value::<IdentityRecord>(json).unwrap(), record(sas()));
    }

    #[test]
    fn keys_are_never_printed() {
        let printed = format!("{:?}", record(sas()));
        assert!(printed.contains("Key(…)"), "{printed}");
        assert!(!printed.contains("MDEy"), "{printed}");
        assert!(!printed.contains("49, 50"), "{printed}");
    }

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

    #[test]
    fn a_thumbprint_is_the_same_in_any_case() {
        let lower = "0a".repeat(20).parse::<Thumbprint>().unwrap();
        assert_eq!(lower, "0A".repeat(20).parse().unwrap());
        assert_eq!(lower.to_string(), "0A".repeat(20));
        assert_eq!("0a".repeat(32).parse::<Thumbprint>().unwrap().as_bytes().len(), 32);
        assert!("0g".repeat(20).parse::<Thumbprint>().is_err());
        assert!("é".repeat(20).parse::<Thumbprint>().is_err());
    }

    #[test]
    fn connection_strings_are_those_of_the_sdks() {
        let text = record(sas()).connection_string("hub", Some("gateway")).unwrap();
        let expected = format!(
            "HostName=hub;DeviceId=edge;ModuleId=filter;SharedAccessKey={KEY};GatewayHostName=gateway"
        );
        assert_eq!(*text, expected);
        let device = IdentityRecord {
            identity: Identity::device("leaf".parse().unwrap()),
            ..record(Authentication::CertificateAuthority)
        };
        let text = device.connection_string("hub", Some("hub")).unwrap();
        assert_eq!(*text, "HostName=hub;DeviceId=leaf;x509=true");
        assert_eq!(record(Authentication::None).connection_string("hub", None), None);
        let service = service_connection_string("hub", "iothubowner", &KEY.parse().unwrap());
        assert_eq!(
            *service,
            format!("HostName=hub;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}")
        );
    }
}
