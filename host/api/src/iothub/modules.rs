//! `/devices/{id}/modules`: the registry of modules.
//!
//! A Wasm module of the hub is shown among them; it has no credentials, and is changed through
//! deployments and the native API only.

use super::etag::{self, IfMatch};
use super::identity::{self, Body, NEVER, Presence};
use super::json::{self, Json, Path};
use super::refusal::Refusal;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::limits;
use weir_hub::{Hub, ModuleView};

/// All modules of a device.
pub(super) async fn list(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
) -> Result<Response, Refusal> {
    let device = Identity::device(id);
    hub.identities().get(&device).ok_or_else(|| Refusal::unknown(&device))?;
    let presence = Presence::of(&hub);
    let found = hub.identities().modules(&device.device, None, limits::PAGE_ITEMS);
    let mut views: Vec<Value> =
        found.iter().map(|found| identity::view(&hub, &presence, found)).collect();
    if device.device == *hub.edge_device() {
        let wasm = hub.modules().list(&hub).await.map_err(|error| Refusal::fault(&error))?;
        views.extend(wasm.iter().map(|module| wasm_view(&hub, module)));
    }
    Ok(Json(views).into_response())
}

/// One module, with its keys.
pub(super) async fn get(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
) -> Result<Response, Refusal> {
    let identity = Identity::module(id, module);
    if let Some(found) = hub.identities().get(&identity) {
        return Ok(identity::show(&hub, StatusCode::OK, &found));
    }
    match wasm(&hub, &identity).await? {
        Some(found) => {
            let tag = etag::of_revision(found.revision);
            Ok(json::tagged(StatusCode::OK, &tag, wasm_view(&hub, &found)))
        }
        None => Err(unknown(&hub, &identity)),
    }
}

/// Creates (without `If-Match`) or changes a module.
pub(super) async fn put(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    if_match: IfMatch,
    Json(body): Json<Body>,
) -> Result<Response, Refusal> {
    let identity = Identity::module(id, module);
    if let Some(module) = wasm(&hub, &identity).await? {
        return Err(match if_match {
            IfMatch::Absent => Refusal::exists(&identity),
            IfMatch::Any | IfMatch::Tag(_) => is_wasm(&module),
        });
    }
    let (written, created) = identity::put(&hub, identity, body, &if_match).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(identity::show(&hub, status, &written))
}

/// Deletes a module.
pub(super) async fn delete(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    if_match: IfMatch,
) -> Result<StatusCode, Refusal> {
    let identity = Identity::module(id, module);
    if let Some(module) = wasm(&hub, &identity).await? {
        return Err(is_wasm(&module));
    }
    hub.identities().delete_whole(&hub, &identity, if_match.expect_present()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A module that is not there, or whose device is not.
pub(super) fn unknown(hub: &Hub, identity: &Identity) -> Refusal {
    let device = Identity::device(identity.device.clone());
    match hub.identities().get(&device) {
        Some(_) => Refusal::unknown(identity),
        None => Refusal::unknown(&device),
    }
}

/// The Wasm module of this name.
pub(super) async fn wasm(hub: &Hub, identity: &Identity) -> Result<Option<ModuleView>, Refusal> {
    let Some(module) = &identity.module else { return Ok(None) };
    if identity.device != *hub.edge_device() {
        return Ok(None);
    }
    match hub.modules().get(hub, module).await {
        Ok(view) => Ok(Some(view)),
        Err(weir_hub::ModuleError::Unknown(_)) => Ok(None),
        Err(error) => Err(Refusal::fault(&error)),
    }
}

fn is_wasm(module: &ModuleView) -> Refusal {
    Refusal::conflict(format!(
        "{} is a Wasm module of this hub and has no credentials",
        module.name
    ))
}

fn wasm_view(hub: &Hub, module: &ModuleView) -> Value {
    let running = module.state == weir_hub::State::Running;
    json!({
        "deviceId": hub.edge_device(),
        "moduleId": module.name,
        "managedBy": "iotEdge",
        "generationId": module.version.to_string(),
        "etag": etag::of_revision(module.revision),
        "connectionState": if running { "Connected" } else { "Disconnected" },
        "connectionStateUpdatedTime": NEVER,
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": 0,
        "authentication": {
            "type": "none",
            "symmetricKey": {"primaryKey": null, "secondaryKey": null},
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        },
    })
}
