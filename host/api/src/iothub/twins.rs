//! `/twins/{id}[/modules/{module}]`: twins as a back end reads and changes them.

use super::auth::Caller;
use super::etag::IfMatch;
use super::identity::{self, NEVER, Presence};
use super::json::{self, Path, Raw};
use super::refusal::Refusal;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::identity::{AuthenticationBody, AuthenticationType};
use weir_core::twin::{Etag, Mode, Twin, TwinChange};
use weir_hub::{Hub, TwinError};

/// The twin of a device.
pub(super) async fn get_device(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
) -> Result<Response, Refusal> {
    get(&hub, &Identity::device(id)).await
}

/// The twin of a module.
pub(super) async fn get_module(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
) -> Result<Response, Refusal> {
    get(&hub, &Identity::module(id, module)).await
}

macro_rules! changes {
    ($($device:ident $module:ident $mode:expr;)*) => {$(
        pub(super) async fn $device(
            State(hub): State<Hub>,
            Path(id): Path<DeviceId>,
            if_match: IfMatch,
            Extension(caller): Extension<Caller>,
            Raw(body): Raw,
        ) -> Result<Response, Refusal> {
            change(&hub, &Identity::device(id), $mode, if_match, caller, &body).await
        }

        pub(super) async fn $module(
            State(hub): State<Hub>,
            Path((id, module)): Path<(DeviceId, ModuleId)>,
            if_match: IfMatch,
            Extension(caller): Extension<Caller>,
            Raw(body): Raw,
        ) -> Result<Response, Refusal> {
            change(&hub, &Identity::module(id, module), $mode, if_match, caller, &body).await
        }
    )*};
}

changes! {
    patch_device patch_module Mode::Merge;
    put_device put_module Mode::Replace;
}

async fn get(hub: &Hub, identity: &Identity) -> Result<Response, Refusal> {
    let twin = hub.twins().get(hub, identity).await?;
    Ok(show(hub, identity, &twin))
}

async fn change(
    hub: &Hub,
    identity: &Identity,
    mode: Mode,
    if_match: IfMatch,
    caller: Caller,
    body: &[u8],
) -> Result<Response, Refusal> {
    let change = TwinChange::parse(mode, body).map_err(TwinError::from)?;
    let expect = match if_match {
        IfMatch::Absent | IfMatch::Any => None,
        // A text that is no tag is that of no twin.
        IfMatch::Tag(tag) => Some(tag.parse().unwrap_or(Etag(0))),
    };
    let twin = hub.twins().change(hub, identity, change, expect, &caller.author()).await?;
    Ok(show(hub, identity, &twin))
}

fn show(hub: &Hub, identity: &Identity, twin: &Twin) -> Response {
    let view = view(hub, &Presence::of(hub), identity, twin);
    json::tagged(StatusCode::OK, &twin.etag().to_string(), view)
}

/// A twin with everything that IoT Hub shows beside it.
pub(super) fn view(hub: &Hub, presence: &Presence, identity: &Identity, twin: &Twin) -> Value {
    let mut view = hub.twins().view(hub, identity, twin);
    let (state, _, activity) = presence.show(identity);
    let registered = hub.identities().get(identity);
    let record = registered.as_ref().map(|registered| &*registered.record);
    let body = record.map(|record| AuthenticationBody::from(record.authentication.clone()));
    let thumbprint = body.as_ref().and_then(|body| body.x509_thumbprint.clone());
    let updated = record.and_then(|record| record.status_updated);
    view["connectionState"] = json!(state);
    view["lastActivityTime"] = json!(activity);
    view["statusUpdateTime"] = json!(updated.map_or(NEVER.to_owned(), |time| time.to_string()));
    view["cloudToDeviceMessageCount"] = json!(hub.commands().count(identity));
    view["authenticationType"] = json!(body.map_or(AuthenticationType::None, |body| body.kind));
    view["x509Thumbprint"] = json!(thumbprint.unwrap_or_default());
    if let Some(record) = record.filter(|record| record.identity.module.is_none()) {
        let (scope, parents) = identity::scopes(hub, record);
        view["capabilities"] = json!({ "iotEdge": identity::is_edge_device(hub, record) });
        view["statusReason"] = json!(record.notes.status_reason);
        view["deviceScope"] = json!(scope);
        view["parentScopes"] = json!(parents);
    }
    view
}

impl From<TwinError> for Refusal {
    fn from(error: TwinError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        Self::new(status, error.iothub_code(), error.to_string())
    }
}
