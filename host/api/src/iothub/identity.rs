//! Identities in IoT Hub's form: what a service client writes and what it gets.

use super::etag::{self, IfMatch};
use super::json;
use super::refusal::Refusal;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::HashMap;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::identity::{
    Authentication, AuthenticationBody, AuthenticationType, IdentityRecord, Notes, Status,
    SymmetricKeyBody, ThumbprintBody,
};
use weir_hub::{Expect, Hub, IdentitySpec, Registered};

/// IoT Hub's word for a time that never was.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";
const SCOPE: &str = "ms-azure-iot-edge://";

/// An identity that is wanted. Members that are not known are passed over: SDKs send back all that they
/// were given.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Body {
    device_id: Option<String>,
    module_id: Option<String>,
    authentication: Option<AuthenticationIn>,
    status: Option<Status>,
    status_reason: Option<String>,
    capabilities: Option<Capabilities>,
    device_scope: Option<String>,
    parent_scopes: Option<Vec<String>>,
    managed_by: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities {
    iot_edge: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AuthenticationIn {
    #[serde(rename = "type")]
    kind: Option<AuthenticationType>,
    symmetric_key: Option<KeysIn>,
    x509_thumbprint: Option<ThumbprintsIn>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct KeysIn {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ThumbprintsIn {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

/// A text that is there and not empty.
fn read<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: Option<String>,
    name: &str,
) -> Result<Option<T>, Refusal> {
    let text = text.filter(|text| !text.is_empty());
    let value = text.map(|text| text.parse()).transpose();
    value.map_err(|error| Refusal::invalid(format!("authentication: {name}: {error}")))
}

impl AuthenticationIn {
    /// Members of another type than the named one are passed over, as IoT Hub does.
    fn body(self) -> Result<AuthenticationBody, Refusal> {
        let thumbprints = self.x509_thumbprint.unwrap_or_default();
        let primary_thumbprint = read(thumbprints.primary_thumbprint, "primaryThumbprint")?;
        let secondary_thumbprint = read(thumbprints.secondary_thumbprint, "secondaryThumbprint")?;
        let by_thumbprint = primary_thumbprint.is_some() || secondary_thumbprint.is_some();
        let kind = self.kind.unwrap_or(match by_thumbprint {
            true => AuthenticationType::SelfSigned,
            false => AuthenticationType::Sas,
        });
        let mut body = AuthenticationBody { kind, ..AuthenticationBody::default() };
        match kind {
            AuthenticationType::Sas => {
                let keys = self.symmetric_key.unwrap_or_default();
                body.symmetric_key = Some(SymmetricKeyBody {
                    primary_key: read(keys.primary_key, "primaryKey")?,
                    secondary_key: read(keys.secondary_key, "secondaryKey")?,
                });
            }
            AuthenticationType::SelfSigned => {
                body.x509_thumbprint =
                    Some(ThumbprintBody { primary_thumbprint, secondary_thumbprint });
            }
            AuthenticationType::CertificateAuthority | AuthenticationType::None => {}
        }
        Ok(body)
    }
}

impl Body {
    /// What the registry is asked for; what the body leaves out stays as it is.
    fn spec(self, hub: &Hub, identity: &Identity) -> Result<IdentitySpec, Refusal> {
        self.check(identity)?;
        let present = hub.identities().get(identity);
        let before = present.as_ref().map(|present| &*present.record);
        let authentication = match self.authentication {
            Some(authentication) => authentication.body()?,
            None => before.map(|before| before.authentication.clone().into()).unwrap_or_default(),
        };
        let kept = before.map(|before| before.notes.clone()).unwrap_or_default();
        let edge = self.capabilities.and_then(|capabilities| capabilities.iot_edge);
        let own = *identity == Identity::device(hub.edge_device().clone());
        let edge = !own && identity.module.is_none() && edge.unwrap_or(kept.edge);
        let notes = Notes {
            status_reason: self.status_reason.filter(|_| identity.module.is_none()),
            managed_by: self.managed_by.filter(|_| identity.module.is_some()),
            edge,
        };
        let parent = match identity.module {
            Some(_) => None,
            // What is above the hub itself is not said here.
            None if own => before.and_then(|before| before.parent.clone()),
            None => {
                let scope = if edge { None } else { self.device_scope };
                let scope = scope.or_else(|| self.parent_scopes?.into_iter().next());
                parent(hub, identity, scope, before, edge)?
            }
        };
        let status = self.status.or(before.map(|before| before.status)).unwrap_or_default();
        Ok(IdentitySpec { authentication, status, parent, notes: Some(notes) })
    }

    fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        let as_in_path = |given: &Option<String>, path: Option<&str>, name: &str| match given {
            Some(given) if !given.is_empty() && path != Some(given.as_str()) => {
                Err(Refusal::invalid(format!("{name}: {given:?} is not the id in the path")))
            }
            _ => Ok(()),
        };
        as_in_path(&self.device_id, Some(identity.device.as_str()), "deviceId")?;
        as_in_path(&self.module_id, identity.module.as_ref().map(ModuleId::as_str), "moduleId")?;
        let texts = [("statusReason", &self.status_reason), ("managedBy", &self.managed_by)];
        for (name, text) in texts {
            if text.as_ref().is_some_and(|text| text.chars().count() > Notes::MAX_REASON) {
                let most = Notes::MAX_REASON;
                return Err(Refusal::invalid(format!("{name} has more than {most} characters")));
            }
        }
        Ok(())
    }
}

/// The edge device above a device. A leaf device that names none belongs to this hub's edge device: there
/// is no other hub that it could connect to. An empty scope is no parent.
fn parent(
    hub: &Hub,
    identity: &Identity,
    scope: Option<String>,
    before: Option<&IdentityRecord>,
    is_edge: bool,
) -> Result<Option<DeviceId>, Refusal> {
    match (scope, before) {
        (Some(scope), _) if scope.is_empty() => Ok(None),
        (Some(scope), _) => {
            let found = hub.identities().devices(None, usize::MAX).into_iter().find(|device| {
                is_edge_device(hub, &device.record)
                    && scope_of(&device.record) == scope
                    && device.record.identity != *identity
            });
            let found = found.map(|device| device.record.identity.device.clone());
            let unknown = || Refusal::invalid("deviceScope is that of no edge device of this hub");
            found.map(Some).ok_or_else(unknown)
        }
        (None, Some(before)) => Ok(before.parent.clone()),
        (None, None) if is_edge => Ok(None),
        (None, None) => Ok(Some(hub.edge_device().clone())),
    }
}

/// The hub's own device, and those that are said to be edge devices.
pub(super) fn is_edge_device(hub: &Hub, record: &IdentityRecord) -> bool {
    record.identity.module.is_none()
        && (record.identity.device == *hub.edge_device() || record.notes.edge)
}

/// The scope that an edge device is the root of.
fn scope_of(record: &IdentityRecord) -> String {
    format!("{SCOPE}{}-{}", record.identity.device, record.generation_id)
}

/// `deviceScope` and `parentScopes` of a device.
pub(super) fn scopes(hub: &Hub, record: &IdentityRecord) -> (Option<String>, Vec<String>) {
    let parent = record.parent.clone().map(Identity::device);
    let parent = parent.and_then(|parent| hub.identities().get(&parent));
    let parent = parent.map(|parent| scope_of(&parent.record));
    let own = is_edge_device(hub, record).then(|| scope_of(record));
    (own.or_else(|| parent.clone()), parent.into_iter().collect())
}

/// Who is connected and who was, read once for a whole answer.
pub(super) struct Presence(HashMap<Identity, weir_hub::Presence>);

impl Presence {
    pub(super) fn of(hub: &Hub) -> Self {
        Self(hub.presence_of_all().into_iter().collect())
    }

    /// `connectionState`, `connectionStateUpdatedTime` and `lastActivityTime`.
    pub(super) fn show(&self, identity: &Identity) -> (&'static str, String, String) {
        let Some(known) = self.0.get(identity) else {
            return ("Disconnected", NEVER.to_owned(), NEVER.to_owned());
        };
        let (state, updated) = match known.connected {
            true => ("Connected", known.since),
            false => ("Disconnected", known.left.unwrap_or(known.since)),
        };
        (state, updated.to_string(), known.last_seen.to_string())
    }

    /// Devices among those who are connected.
    pub(super) fn devices(&self) -> usize {
        let connected = self.0.iter().filter(|(_, known)| known.connected);
        connected.filter(|(identity, _)| identity.module.is_none()).count()
    }
}

fn authentication(authentication: &Authentication) -> Value {
    let body = AuthenticationBody::from(authentication.clone());
    let keys = body.symmetric_key.unwrap_or_default();
    let thumbprints = body.x509_thumbprint.unwrap_or_default();
    json!({
        "type": body.kind,
        "symmetricKey": keys,
        "x509Thumbprint": thumbprints,
    })
}

/// An identity as IoT Hub shows it, its keys included.
pub(super) fn view(hub: &Hub, presence: &Presence, registered: &Registered) -> Value {
    let record = &*registered.record;
    let (state, state_updated, activity) = presence.show(&record.identity);
    let mut view = json!({
        "deviceId": record.identity.device,
        "generationId": record.generation_id,
        "etag": etag::of_revision(registered.revision),
        "connectionState": state,
        "connectionStateUpdatedTime": state_updated,
        "lastActivityTime": activity,
        "cloudToDeviceMessageCount": hub.commands().count(&record.identity),
        "authentication": authentication(&record.authentication),
    });
    let more = match &record.identity.module {
        Some(module) => json!({ "moduleId": module, "managedBy": record.notes.managed_by }),
        None => {
            let (scope, parents) = scopes(hub, record);
            let updated = record.status_updated;
            json!({
                "status": record.status,
                "statusReason": record.notes.status_reason,
                "statusUpdatedTime": updated.map_or(NEVER.to_owned(), |time| time.to_string()),
                "capabilities": { "iotEdge": is_edge_device(hub, record) },
                "deviceScope": scope,
                "parentScopes": parents,
            })
        }
    };
    if let (Value::Object(view), Value::Object(more)) = (&mut view, more) {
        view.extend(more);
    }
    view
}

/// An identity as an answer.
pub(super) fn show(hub: &Hub, status: StatusCode, registered: &Registered) -> Response {
    let view = view(hub, &Presence::of(hub), registered);
    json::tagged(status, &etag::of_revision(registered.revision), view)
}

/// Creates (without `If-Match`) or changes an identity.
pub(super) async fn put(
    hub: &Hub,
    identity: Identity,
    body: Body,
    if_match: &IfMatch,
) -> Result<(Registered, bool), Refusal> {
    let expect = if_match.expect();
    match (expect, hub.identities().get(&identity).is_some()) {
        (Expect::Absent, true) => return Err(Refusal::exists(&identity)),
        (Expect::Present | Expect::Revision(_), false) => return Err(Refusal::unknown(&identity)),
        _ => {}
    }
    let spec = body.spec(hub, &identity)?;
    let written = hub.identities().put(hub, identity.clone(), spec, expect).await;
    written.map_err(|error| match (expect, error) {
        // Somebody else was faster.
        (Expect::Absent, weir_hub::IdentityError::Mismatch { .. }) => Refusal::exists(&identity),
        (_, error) => error.into(),
    })
}
