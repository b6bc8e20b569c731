//! Identities as callers write and read them: the same for devices and modules, in IoT Hub's form.

use super::clients::PresenceView;
use crate::problem::Problem;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use weir_core::error_code::ErrorCode;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::identity::{AuthenticationBody, Status};
use weir_hub::{Caller, Expect, Hub, IdentitySpec, Registered, Scope};

use crate::etag::Tagged;
use crate::json::Json;

/// How an identity proves who it is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Authentication)]
pub(super) struct AuthenticationForm {
    /// `sas`, `selfSigned`, `certificateAuthority` or `none`.
    #[serde(rename = "type")]
    #[schema(example = "sas")]
    kind: String,
    /// Keys of `sas`, as base64 of 16 to 64 bytes; what is left out is made by the hub, or stays.
    #[schema(inline)]
    symmetric_key: Option<SymmetricKeyForm>,
    /// Thumbprints of `selfSigned`: 40 or 64 hexadecimal digits.
    #[schema(inline)]
    x509_thumbprint: Option<ThumbprintForm>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SymmetricKeyForm {
    /// One key.
    primary_key: Option<String>,
    /// Another, so that keys can be exchanged one after the other.
    secondary_key: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThumbprintForm {
    /// One certificate's.
    primary_thumbprint: Option<String>,
    /// Another's, while certificates are exchanged.
    secondary_thumbprint: Option<String>,
}

/// An identity that is wanted. The ids may be repeated from the path.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = IdentityBody, example = json!({
    "authentication": {"type": "sas"}, "status": "enabled"
}))]
pub(super) struct IdentityBody {
    /// As in the path.
    device_id: Option<String>,
    /// As in the path.
    module_id: Option<String>,
    /// `sas` with keys of the hub's when it is left out.
    #[schema(value_type = Option<AuthenticationForm>)]
    authentication: AuthenticationBody,
    /// `enabled` (also when it is left out) or `disabled`.
    #[schema(value_type = Option<String>, example = "enabled")]
    status: Status,
    /// The edge device above a leaf device.
    #[schema(value_type = Option<String>)]
    parent: Option<DeviceId>,
}

/// Members of an identity that are to change.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = IdentityPatch, example = json!({"status": "disabled"}))]
pub(super) struct IdentityPatch {
    /// In whole; keys that are left out stay.
    #[schema(value_type = Option<AuthenticationForm>)]
    authentication: Option<AuthenticationBody>,
    /// `enabled` or `disabled`.
    #[schema(value_type = Option<String>)]
    status: Option<Status>,
}

/// An identity.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Identity, example = json!({
    "deviceId": "sensor-1", "generationId": "1777888800000000", "etag": "12", "status": "enabled",
    "authentication": {"type": "sas"},
    "created": "2026-05-04T10:00:00Z", "updated": "2026-05-04T10:00:00Z",
    "presence": {"connected": true, "protocol": "mqtt", "since": "2026-05-04T10:00:00Z",
        "lastSeen": "2026-05-04T10:07:12Z", "left": null}
}))]
pub(super) struct IdentityView {
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_id: Option<String>,
    /// Another one when an identity is deleted and made again.
    generation_id: String,
    /// Changes with every change; also in the header.
    etag: String,
    /// `enabled` or `disabled`.
    #[schema(value_type = String)]
    status: Status,
    /// Keys are there at creation and when they are asked for.
    #[schema(value_type = AuthenticationForm)]
    authentication: AuthenticationBody,
    /// The edge device above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    created: String,
    updated: String,
    /// When it was there; null: never.
    presence: Option<PresenceView>,
}

/// Whether keys are shown.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct KeysQuery {
    /// Shows the symmetric keys; needs the scope `devices:admin`.
    pub(super) keys: bool,
}

/// A connection string.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "connectionString": "HostName=gw-017;DeviceId=sensor-1;SharedAccessKey=<key>"
}))]
pub(super) struct ConnectionString {
    /// What the client is configured with. It has a key in it.
    pub(super) connection_string: String,
}

/// What needs the keys of identities.
pub(super) const KEYS: &str = "devices:admin";

pub(super) fn view(hub: &Hub, registered: &Registered, keys: bool) -> IdentityView {
    let record = &*registered.record;
    let mut authentication = AuthenticationBody::from(record.authentication.clone());
    if !keys {
        authentication.symmetric_key = None;
    }
    IdentityView {
        device_id: record.identity.device.to_string(),
        module_id: record.identity.module.as_ref().map(ToString::to_string),
        generation_id: record.generation_id.clone(),
        etag: record.etag.clone(),
        status: record.status,
        authentication,
        parent: record.parent.as_ref().map(ToString::to_string),
        created: record.created.to_string(),
        updated: record.updated.to_string(),
        presence: hub.presence(&record.identity).map(PresenceView::from),
    }
}

pub(super) fn find(hub: &Hub, identity: &Identity) -> Result<Registered, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, format!("there is no identity {identity}"));
    hub.identities().get(identity).ok_or_else(unknown)
}

pub(super) fn show(
    hub: &Hub,
    identity: &Identity,
    keys: bool,
    caller: &Caller,
) -> Result<Tagged<Json<IdentityView>>, Problem> {
    let needed: Scope = KEYS.parse().expect("a scope");
    if keys && !caller.may(needed) {
        let detail = format!("keys are shown to a token with the scope {KEYS}");
        return Err(Problem::new(ErrorCode::Forbidden, detail).parameter("keys"));
    }
    let found = find(hub, identity)?;
    Ok(Tagged(found.revision, Json(view(hub, &found, keys))))
}

/// Creates or replaces; keys are shown of what is new.
pub(super) async fn put(
    hub: &Hub,
    identity: Identity,
    body: IdentityBody,
    expect: Expect,
) -> Result<Response, Problem> {
    let IdentityBody { device_id, module_id, authentication, status, parent } = body;
    let as_in_path = |given: Option<String>, path: Option<&str>, pointer: &str| match given {
        Some(given) if path != Some(given.as_str()) => {
            Err(Problem::invalid(format!("{given:?} is not the id in the path")).at(pointer))
        }
        _ => Ok(()),
    };
    as_in_path(device_id, Some(identity.device.as_str()), "/deviceId")?;
    as_in_path(module_id, identity.module.as_ref().map(ModuleId::as_str), "/moduleId")?;
    let spec = IdentitySpec { authentication, status, parent, notes: None };
    let (registered, created) = hub.identities().put(hub, identity, spec, expect).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let body = Json(view(hub, &registered, created));
    Ok((status, Tagged(registered.revision, body)).into_response())
}

/// Changes some members of what is there.
pub(super) async fn patch(
    hub: &Hub,
    identity: Identity,
    patch: IdentityPatch,
    expect: Expect,
) -> Result<Tagged<Json<IdentityView>>, Problem> {
    let present = find(hub, &identity)?;
    // Without If-Match too, nobody else's change between reading and writing is overwritten.
    let expect = if expect == Expect::Any { Expect::Revision(present.revision) } else { expect };
    let record = &*present.record;
    let spec = IdentitySpec {
        authentication: patch
            .authentication
            .unwrap_or_else(|| record.authentication.clone().into()),
        status: patch.status.unwrap_or(record.status),
        parent: record.parent.clone(),
        notes: None,
    };
    let (registered, _) = hub.identities().put(hub, identity, spec, expect).await?;
    Ok(Tagged(registered.revision, Json(view(hub, &registered, false))))
}

pub(super) fn connection_string(
    hub: &Hub,
    identity: &Identity,
) -> Result<Json<ConnectionString>, Problem> {
    let found = find(hub, identity)?;
    let config = hub.config();
    let text = found.record.connection_string(&config.iothub_hostname, Some(&config.hostname));
    let text = text.ok_or_else(|| {
        Problem::new(ErrorCode::Conflict, format!("{identity} has the authentication none"))
    })?;
    Ok(Json(ConnectionString { connection_string: text.to_string() }))
}
