//! `/api/v1/service-policies`: what service clients (back ends, scripts) are configured with.

use super::identity::ConnectionString;
use crate::Api;
use crate::extract::Path;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::identity::service_connection_string;
use weir_hub::{Hub, SERVICE_POLICIES};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(connection_string))
}

/// A policy that service clients sign their tokens for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ServicePolicy, example = json!({
    "name": "service", "rights": "ServiceConnect",
    "allows": "twins, direct methods and messages to devices"
}))]
struct PolicyView {
    /// As in IoT Hub.
    name: &'static str,
    /// IoT Hub's names of what it allows.
    rights: &'static str,
    /// The same for people.
    allows: &'static str,
}

/// Lists the service policies.
#[utoipa::path(get, path = "/service-policies", operation_id = "listServicePolicies",
    tag = "devices", security(("token" = ["service:read"])), params(PageQuery),
    responses((status = 200, description = "A page of policies", body = Page<PolicyView>)))]
async fn list(query: PageOf) -> Result<Page<PolicyView>, Problem> {
    let wanted = query.0.wanted()?;
    let after = wanted.after.as_deref();
    let found =
        SERVICE_POLICIES.iter().filter(|policy| after.is_none_or(|after| policy.name > after));
    let found = found.take(wanted.and_one()).collect();
    Ok(wanted.page(
        found,
        |policy| policy.name.to_owned(),
        |policy| PolicyView { name: policy.name, rights: policy.rights, allows: policy.allows },
    ))
}

/// Gives the connection string of a service policy.
///
/// Its key is made when it is asked for the first time.
#[utoipa::path(get, path = "/service-policies/{name}/connection-string",
    operation_id = "getServiceConnectionString", tag = "devices",
    security(("token" = ["service:admin"])),
    params(("name" = String, Path, description = "`iothubowner`, `service`, `registryRead`, `registryReadWrite` or `device`", example = "service")),
    responses((status = 200, description = "The connection string", body = ConnectionString)),
    extensions(("x-errors" = json!(["not-found", "store-unavailable"]))))]
async fn connection_string(
    State(hub): State<Hub>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionString>, Problem> {
    let key = hub.service_key(&name).await?;
    let text = service_connection_string(&hub.config().hostname, &name, &key);
    Ok(Json(ConnectionString { connection_string: text.to_string() }))
}
