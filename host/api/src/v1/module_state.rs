//! `/api/v1/modules/{name}/state`: a module's key-value state, as it is on disk.

use super::time;
use crate::Api;
use crate::extract::Path;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::ModuleId;
use weir_hub::Hub;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A key of a module's state. Values stay with the module.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModuleStateKey, example = json!({"key": "window/7", "bytes": 48, "expires": null}))]
struct Key {
    key: String,
    /// Size of the value.
    bytes: usize,
    /// When it ends; null: never.
    expires: Option<String>,
}

/// Lists the keys of a module's state.
#[utoipa::path(get, path = "/modules/{name}/state", operation_id = "listModuleState",
    tag = "modules", security(("token" = ["modules:read"])),
    params(("name" = String, Path, description = "Name of the module"), PageQuery),
    responses((status = 200, description = "A page of keys", body = Page<Key>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn list(
    State(hub): State<Hub>,
    Path(name): Path<ModuleId>,
    query: PageOf,
) -> Result<Page<Key>, Problem> {
    let wanted = query.0.wanted()?;
    hub.modules().versions(&hub, &name).await?;
    let after = wanted.after.as_deref();
    let values = hub.store().module_state(name.as_str()).await?;
    let found =
        values.into_iter().filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
    let found = found.take(wanted.and_one()).collect();
    Ok(wanted.page(
        found,
        |(key, _)| key.clone(),
        |(key, held)| Key { key, bytes: held.value.len(), expires: time(held.expires) },
    ))
}
