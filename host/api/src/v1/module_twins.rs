//! `/api/v1/twins/{device}/modules/{module}`: twins of modules, Wasm modules among them.

use super::twins::{
    self, Body, DiffQuery, Difference, Expected, HistoryQuery, IfMatch, Item, RevertBody, Shown,
    Text, View,
};
use crate::Api;
use crate::extract::{Path, Query};
use crate::json::Json;
use crate::page::Page;
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::twin::Mode;
use weir_hub::{Caller, Hub};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get, patch, put))
        .routes(routes!(history))
        .routes(routes!(diff))
        .routes(routes!(revert))
}

/// Shows a module's twin.
#[utoipa::path(get, path = "/twins/{device}/modules/{module}", operation_id = "getModuleTwin", tag = "twins",
    security(("token" = ["twins:read"])),
    params(("device" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module")),
    responses((status = 200, description = "The twin", body = View)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path((device, module)): Path<(DeviceId, ModuleId)>,
) -> Result<Shown, Problem> {
    twins::show(&hub, &Identity::module(device, module)).await
}

/// Merges into a module's desired properties and tags; null deletes.
///
/// A connected client that has subscribed gets the patch at once, others when they come back.
#[utoipa::path(patch, path = "/twins/{device}/modules/{module}", operation_id = "patchModuleTwin", tag = "twins",
    security(("token" = ["twins:write"])), request_body = Body,
    params(("device" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 200, description = "The twin after it", body = View)),
    extensions(("x-errors" = json!(["not-found", "twin-refused"]))))]
async fn patch(
    State(hub): State<Hub>,
    Path((device, module)): Path<(DeviceId, ModuleId)>,
    expected: Expected,
    Extension(caller): Extension<Caller>,
    text: Text,
) -> Result<Shown, Problem> {
    twins::change(&hub, &Identity::module(device, module), (Mode::Merge, text), expected, &caller)
        .await
}

/// Replaces a module's desired properties and tags, each if it is named.
#[utoipa::path(put, path = "/twins/{device}/modules/{module}", operation_id = "putModuleTwin", tag = "twins",
    security(("token" = ["twins:write"])), request_body = Body,
    params(("device" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 200, description = "The twin after it", body = View)),
    extensions(("x-errors" = json!(["not-found", "twin-refused"]))))]
async fn put(
    State(hub): State<Hub>,
    Path((device, module)): Path<(DeviceId, ModuleId)>,
    expected: Expected,
    Extension(caller): Extension<Caller>,
    text: Text,
) -> Result<Shown, Problem> {
    twins::change(&hub, &Identity::module(device, module), (Mode::Replace, text), expected, &caller)
        .await
}

/// Lists the changes of a section of a module's twin, oldest first.
#[utoipa::path(get, path = "/twins/{device}/modules/{module}/history", operation_id = "getModuleTwinHistory", tag = "twins",
    security(("token" = ["twins:read"])),
    params(("device" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), HistoryQuery),
    responses((status = 200, description = "A page of changes", body = Page<Item>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn history(
    State(hub): State<Hub>,
    Path((device, module)): Path<(DeviceId, ModuleId)>,
    Query(query): Query<HistoryQuery>,
) -> Result<Page<Item>, Problem> {
    twins::list(&hub, &Identity::module(device, module), query).await
}

/// Compares two versions of a section of a module's twin.
#[utoipa::path(get, path = "/twins/{device}/modules/{module}/diff", operation_id = "diffModuleTwin", tag = "twins",
    security(("token" = ["twins:read"])),
    params(("device" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), DiffQuery),
    responses((status = 200, description = "The difference", body = Difference)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn diff(
    State(hub): State<Hub>,
    Path((device, module)): Path<(DeviceId, ModuleId)>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<Difference>, Problem> {
    twins::compare(&hub, &Identity::module(device, module), query).await
}

/// Puts an older version of a module's desired properties or tags in force again, as a new version.
#[utoipa::path(post, path = "/twins/{device}/modules/{module}/revert", operation_id = "revertModuleTwin", tag = "twins",
    security(("token" = ["twins:write"])), request_body = RevertBody,
    params(("device" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 200, description = "The twin after it", body = View)),
    extensions(("x-errors" = json!(["not-found", "twin-refused"]))))]
async fn revert(
    State(hub): State<Hub>,
    Path((device, module)): Path<(DeviceId, ModuleId)>,
    expected: Expected,
    Extension(caller): Extension<Caller>,
    Json(body): Json<RevertBody>,
) -> Result<Shown, Problem> {
    twins::go_back(&hub, &Identity::module(device, module), body, expected, &caller).await
}
