//! `/api/v1/devices`: identities of devices.

use super::identity::{
    self, ConnectionString, IdentityBody, IdentityPatch, IdentityView, KeysQuery,
};
use crate::Api;
use crate::etag::{IfMatch, Precondition, Tagged};
use crate::extract::{Path, Query};
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::{DeviceId, Identity};
use weir_hub::{Caller, Hub};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, put, patch, delete))
        .routes(routes!(connection_string))
}

/// Lists the devices.
#[utoipa::path(get, path = "/devices", operation_id = "listDevices", tag = "devices",
    security(("token" = ["devices:read"])), params(PageQuery),
    responses((status = 200, description = "A page of devices", body = Page<IdentityView>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<IdentityView>, Problem> {
    let wanted = query.0.wanted()?;
    let found = hub.identities().devices(wanted.after_as()?.as_ref(), wanted.and_one());
    let id = |found: &weir_hub::Registered| found.record.identity.device.to_string();
    Ok(wanted.page(found, id, |found| identity::view(&hub, &found, false)))
}

/// Shows a device.
#[utoipa::path(get, path = "/devices/{id}", operation_id = "getDevice", tag = "devices",
    security(("token" = ["devices:read"])),
    params(("id" = String, Path, description = "Id of the device"), KeysQuery),
    responses((status = 200, description = "The device", body = IdentityView)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Query(query): Query<KeysQuery>,
    Extension(caller): Extension<Caller>,
) -> Result<Tagged<Json<IdentityView>>, Problem> {
    identity::show(&hub, &Identity::device(id), query.keys, &caller)
}

/// Creates or replaces a device.
///
/// The keys are in the answer when it is new; a client whose keys changed is disconnected.
#[utoipa::path(put, path = "/devices/{id}", operation_id = "putDevice", tag = "devices",
    security(("token" = ["devices:write"])), request_body = IdentityBody,
    params(("id" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 200, description = "It was replaced", body = IdentityView),
              (status = 201, description = "It is new; with its keys", body = IdentityView)),
    extensions(("x-errors" = json!(["conflict"]))))]
async fn put(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Precondition(expect): Precondition,
    Json(body): Json<IdentityBody>,
) -> Result<Response, Problem> {
    identity::put(&hub, Identity::device(id), body, expect).await
}

/// Changes some members of a device.
#[utoipa::path(patch, path = "/devices/{id}", operation_id = "patchDevice", tag = "devices",
    security(("token" = ["devices:write"])), request_body = IdentityPatch,
    params(("id" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 200, description = "The device", body = IdentityView)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn patch(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Precondition(expect): Precondition,
    Json(body): Json<IdentityPatch>,
) -> Result<Tagged<Json<IdentityView>>, Problem> {
    identity::patch(&hub, Identity::device(id), body, expect).await
}

/// Deletes a device and disconnects it.
#[utoipa::path(delete, path = "/devices/{id}", operation_id = "deleteDevice", tag = "devices",
    security(("token" = ["devices:write"])),
    params(("id" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn delete(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Precondition(expect): Precondition,
) -> Result<StatusCode, Problem> {
    hub.identities().delete(&hub, &Identity::device(id), expect).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the device's connection string.
#[utoipa::path(get, path = "/devices/{id}/connection-string",
    operation_id = "getDeviceConnectionString", tag = "devices",
    security(("token" = ["devices:admin"])),
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 200, description = "The connection string", body = ConnectionString)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn connection_string(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
) -> Result<Json<ConnectionString>, Problem> {
    identity::connection_string(&hub, &Identity::device(id))
}
