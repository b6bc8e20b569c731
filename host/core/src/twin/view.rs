//! Twins as JSON: for the client, and for the operator in IoT Hub's form.

use super::{Properties, Twin};
use crate::id::Identity;
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Map, Value, json};

/// What IoT Hub shows beside a twin.
#[derive(Debug, Clone)]
pub struct TwinFacts<'a> {
    /// Whose twin.
    pub identity: &'a Identity,
    /// Whether the identity may connect.
    pub enabled: bool,
    /// Whether its client is connected.
    pub connected: bool,
    /// True for the edge device.
    pub is_edge: bool,
}

/// Members, then `$version`.
struct Versioned<'a>(&'a Map<String, Value>, u64);

impl Serialize for Versioned<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len() + 1))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, value)?;
        }
        map.serialize_entry("$version", &self.1)?;
        map.end()
    }
}

pub(super) fn with_version(map: &Map<String, Value>, version: u64) -> Vec<u8> {
    serde_json::to_vec(&Versioned(map, version)).expect("an object with text keys")
}

impl Properties {
    /// With `$metadata` and `$version`, as IoT Hub shows it to operators.
    #[must_use]
    pub fn service_view(&self) -> Value {
        let mut view = self.value.clone();
        view.insert("$metadata".to_owned(), self.metadata.view());
        view.insert("$version".to_owned(), self.version.into());
        Value::Object(view)
    }
}

impl Twin {
    /// What its client is given: `{"desired":{…,"$version":n},"reported":{…,"$version":n}}`, without
    /// `$metadata` and tags.
    #[must_use]
    pub fn client_view(&self) -> Vec<u8> {
        let of = |properties: &Properties| with_version(&properties.value, properties.version);
        let (desired, reported) = (of(&self.desired), of(&self.reported));
        [b"{\"desired\":", &desired[..], b",\"reported\":", &reported, b"}"].concat()
    }

    /// What an operator is given, in IoT Hub's form.
    #[must_use]
    pub fn service_view(&self, facts: &TwinFacts<'_>) -> Value {
        let connection = if facts.connected { "Connected" } else { "Disconnected" };
        let mut view = json!({
            "deviceId": facts.identity.device,
            "etag": self.etag().to_string(),
            "deviceEtag": self.etag().to_string(),
            "version": self.version(),
            "status": if facts.enabled { "enabled" } else { "disabled" },
            "connectionState": connection,
            "cloudToDeviceMessageCount": 0,
            "tags": self.tags.value,
            "properties": {
                "desired": self.desired.service_view(),
                "reported": self.reported.service_view(),
            },
        });
        match &facts.identity.module {
            Some(module) => view["moduleId"] = json!(module),
            None => view["capabilities"] = json!({ "iotEdge": facts.is_edge }),
        }
        view
    }
}
