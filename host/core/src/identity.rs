//! An identity as the hub keeps it: who it is and how it proves it.
//!
//! Written by the control plane, kept by the store, judged by `weir_hub::authenticate`. The JSON forms
//! are those of IoT Hub. Invariant: a [`Key`] leaves memory only as a connection string or as the JSON
//! of a record; it is never printed and its memory is wiped.

use crate::clock::Timestamp;
use crate::id::{DeviceId, Identity};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

mod authentication;
mod key;

pub use authentication::{
    Authentication, AuthenticationBody, AuthenticationError, AuthenticationType, SymmetricKeyBody,
    ThumbprintBody,
};
pub use key::{Key, KeyError, Thumbprint, ThumbprintError};

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
    /// What back ends have written on it.
    #[serde(default, skip_serializing_if = "Notes::is_empty")]
    pub notes: Notes,
    /// When it was last enabled or disabled; none for one that is as it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_updated: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// What back ends write on an identity (IoT Hub's members of these names). The hub keeps it and shows it;
/// nothing that it does rests on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Notes {
    /// Why it is enabled or disabled; at most [`Notes::MAX_REASON`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// Who takes care of a module, `iotEdge` for one of a deployment; at most
    /// [`Notes::MAX_REASON`] characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// `capabilities.iotEdge`: another edge device. The hub's own is one without this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub edge: bool,
}

impl Notes {
    /// Longest text, in characters (IoT Hub's limit for `statusReason`).
    pub const MAX_REASON: usize = 128;

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn record(authentication: Authentication) -> IdentityRecord {
        IdentityRecord {
            identity: Identity::module("edge".parse().unwrap(), "filter".parse().unwrap()),
            generation_id: "g1".into(),
            etag: "1".into(),
            status: Status::Enabled,
            authentication,
            parent: None,
            notes: Notes::default(),
            status_updated: None,
            created: Timestamp::from_secs(1),
            updated: Timestamp::from_secs(2),
        }
    }

    fn sas() -> Authentication {
        Authentication::Sas { primary: KEY.parse().unwrap(), secondary: Key::generate([7; 32]) }
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
