//! `/api/v1/devices/{id}/modules`: identities of modules.
//!
//! For modules that connect as clients; a Wasm module of the hub has no credentials.

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
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_hub::{Caller, Hub};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, put, patch, delete))
        .routes(routes!(connection_string))
}

/// Lists the modules of a device.
#[utoipa::path(get, path = "/devices/{id}/modules", operation_id = "listDeviceModules",
    tag = "devices", security(("token" = ["devices:read"])),
    params(("id" = String, Path, description = "Id of the device"), PageQuery),
    responses((status = 200, description = "A page of modules", body = Page<IdentityView>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn list(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    query: PageOf,
) -> Result<Page<IdentityView>, Problem> {
    let wanted = query.0.wanted()?;
    identity::find(&hub, &Identity::device(id.clone()))?;
    let found = hub.identities().modules(&id, wanted.after_as()?.as_ref(), wanted.and_one());
    let name = |found: &weir_hub::Registered| {
        found.record.identity.module.as_ref().map(ToString::to_string).unwrap_or_default()
    };
    Ok(wanted.page(found, name, |found| identity::view(&hub, &found, false)))
}

/// Shows a module's identity.
#[utoipa::path(get, path = "/devices/{id}/modules/{module}", operation_id = "getDeviceModule", tag = "devices",
    security(("token" = ["devices:read"])),
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), KeysQuery),
    responses((status = 200, description = "The module", body = IdentityView)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Query(query): Query<KeysQuery>,
    Extension(caller): Extension<Caller>,
) -> Result<Tagged<Json<IdentityView>>, Problem> {
    identity::show(&hub, &Identity::module(id, module), query.keys, &caller)
}

/// Creates or replaces a module's identity.
///
/// The keys are in the answer when it is new; a client whose keys changed is disconnected.
#[utoipa::path(put, path = "/devices/{id}/modules/{module}", operation_id = "putDeviceModule", tag = "devices",
    security(("token" = ["devices:write"])), request_body = IdentityBody,
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 200, description = "It was replaced", body = IdentityView),
              (status = 201, description = "It is new; with its keys", body = IdentityView)),
    extensions(("x-errors" = json!(["conflict", "not-found"]))))]
async fn put(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Precondition(expect): Precondition,
    Json(body): Json<IdentityBody>,
) -> Result<Response, Problem> {
    identity::put(&hub, Identity::module(id, module), body, expect).await
}

/// Changes some members of a module's identity.
#[utoipa::path(patch, path = "/devices/{id}/modules/{module}", operation_id = "patchDeviceModule", tag = "devices",
    security(("token" = ["devices:write"])), request_body = IdentityPatch,
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 200, description = "The module", body = IdentityView)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn patch(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Precondition(expect): Precondition,
    Json(body): Json<IdentityPatch>,
) -> Result<Tagged<Json<IdentityView>>, Problem> {
    identity::patch(&hub, Identity::module(id, module), body, expect).await
}

/// Deletes a module's identity and disconnects it.
#[utoipa::path(delete, path = "/devices/{id}/modules/{module}", operation_id = "deleteDeviceModule", tag = "devices",
    security(("token" = ["devices:write"])),
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn delete(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Precondition(expect): Precondition,
) -> Result<StatusCode, Problem> {
    hub.identities().delete(&hub, &Identity::module(id, module), expect).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the module's connection string.
#[utoipa::path(get, path = "/devices/{id}/modules/{module}/connection-string",
    operation_id = "getDeviceModuleConnectionString", tag = "devices",
    security(("token" = ["devices:admin"])),
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module")),
    responses((status = 200, description = "The connection string", body = ConnectionString)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn connection_string(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
) -> Result<Json<ConnectionString>, Problem> {
    identity::connection_string(&hub, &Identity::module(id, module))
}
