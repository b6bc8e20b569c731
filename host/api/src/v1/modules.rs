//! `/api/v1/modules`: the Wasm modules of the hub.

use super::module::{Module, Version};
use super::module_spec::ModuleSpecForm;
use crate::Api;
use crate::etag::{IfMatch, Precondition, Tagged, Volatile};
use crate::extract::Path;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::ModuleId;
use weir_core::module::ModuleSpec;
use weir_hub::{Hub, ModuleChange};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, put, delete))
        .routes(routes!(versions))
}

/// Lists the modules.
#[utoipa::path(get, path = "/modules", operation_id = "listModules", tag = "modules",
    security(("token" = ["modules:read"])), params(PageQuery),
    responses((status = 200, description = "A page of modules", body = Page<Module>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<Module>, Problem> {
    let wanted = query.0.wanted()?;
    let after = wanted.after.as_deref();
    let mut found = hub.modules().list(&hub).await?;
    found.retain(|view| after.is_none_or(|after| view.name.as_str() > after));
    found.truncate(wanted.and_one());
    Ok(wanted.page(found, |view| view.name.to_string(), Module::from))
}

/// Shows a module: what it is, what it does, what it has done.
#[utoipa::path(get, path = "/modules/{name}", operation_id = "getModule", tag = "modules",
    security(("token" = ["modules:read"])),
    params(("name" = String, Path, description = "Name of the module")),
    responses((status = 200, description = "The module", body = Module)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(State(hub): State<Hub>, Path(name): Path<ModuleId>) -> Result<Response, Problem> {
    Ok(shown(&hub, &name).await?.into_response())
}

/// Its tag names the version of the specification; the counters change under it.
async fn shown(hub: &Hub, name: &ModuleId) -> Result<impl IntoResponse + use<>, Problem> {
    let view = hub.modules().get(hub, name).await?;
    Ok((Extension(Volatile), Tagged(view.revision, Json(Module::from(view)))))
}

/// Installs a module, or exchanges its version.
///
/// Another specification takes over between two batches and is on probation; when it does not start,
/// the old one goes on.
#[utoipa::path(put, path = "/modules/{name}", operation_id = "putModule", tag = "modules",
    security(("token" = ["modules:write"])), request_body = ModuleSpecForm,
    params(("name" = String, Path, description = "Name of the module"), IfMatch),
    responses((status = 200, description = "It was exchanged, or was so already", body = Module),
              (status = 201, description = "It is new", body = Module)),
    extensions(("x-errors" = json!(["module-spec", "policy-denied", "component-refused",
        "not-found", "swap-failed", "module-not-running"]))))]
async fn put(
    State(hub): State<Hub>,
    Path(name): Path<ModuleId>,
    Precondition(expect): Precondition,
    Json(spec): Json<ModuleSpec>,
) -> Result<Response, Problem> {
    let change = hub.modules().put(&hub, &name, spec, expect).await?;
    let status = match change {
        ModuleChange::Installed => StatusCode::CREATED,
        ModuleChange::Switched | ModuleChange::Unchanged => StatusCode::OK,
    };
    Ok((status, shown(&hub, &name).await?).into_response())
}

/// Stops and deletes a module, its history and its state.
///
/// Its queues stay.
#[utoipa::path(delete, path = "/modules/{name}", operation_id = "deleteModule", tag = "modules",
    security(("token" = ["modules:write"])),
    params(("name" = String, Path, description = "Name of the module"), IfMatch),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn delete(
    State(hub): State<Hub>,
    Path(name): Path<ModuleId>,
    Precondition(expect): Precondition,
) -> Result<StatusCode, Problem> {
    hub.modules().delete(&hub, &name, expect).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the versions of a module, oldest first.
#[utoipa::path(get, path = "/modules/{name}/versions", operation_id = "listModuleVersions",
    tag = "modules", security(("token" = ["modules:read"])),
    params(("name" = String, Path, description = "Name of the module"), PageQuery),
    responses((status = 200, description = "A page of versions", body = Page<Version>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn versions(
    State(hub): State<Hub>,
    Path(name): Path<ModuleId>,
    query: PageOf,
) -> Result<Page<Version>, Problem> {
    let wanted = query.0.wanted()?;
    let after: Option<u32> = wanted.after_as()?;
    let mut found = hub.modules().versions(&hub, &name).await?;
    found.retain(|row| after.is_none_or(|after| row.number > after));
    found.truncate(wanted.and_one());
    Ok(wanted.page(found, |row| row.number.to_string(), Version::from))
}
