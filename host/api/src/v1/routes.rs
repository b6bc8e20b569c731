//! `/api/v1/routes`: which messages go where.

use crate::Api;
use crate::etag::{IfMatch, Precondition, Tagged};
use crate::extract::Path;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::id::RouteName;
use weir_hub::{Expect, Hub, RouteError, RouteSpec, RouteView};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}

/// A route as it is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schema(as = RouteBody, example = json!({
    "route": "FROM /messages/* WHERE temperature > 25 INTO $upstream", "priority": 1,
    "timeToLiveSecs": 3600
}))]
pub(super) struct Body {
    /// `FROM … WHERE … INTO …`.
    route: String,
    /// 0 (first) to 9; left out: after all of them.
    #[serde(default)]
    priority: Option<u32>,
    /// Seconds that a message may wait; left out or 0: the hub's own setting.
    #[serde(default)]
    time_to_live_secs: Option<u64>,
}

impl From<Body> for RouteSpec {
    fn from(body: Body) -> Self {
        let Body { route, priority, time_to_live_secs } = body;
        Self { route, priority, time_to_live_secs }
    }
}

/// A route in force.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Route, example = json!({
    "name": "to-cloud", "route": "FROM /messages/* WHERE temperature > 25 INTO $upstream",
    "priority": 1, "timeToLiveSecs": 3600, "sink": "$upstream"
}))]
struct View {
    /// Its name.
    name: String,
    /// `FROM … WHERE … INTO …`.
    route: String,
    /// 0 to 9; missing: after all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    /// Seconds that a message may wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_to_live_secs: Option<u64>,
    /// Where it leads.
    sink: String,
}

impl From<RouteView> for View {
    fn from(view: RouteView) -> Self {
        Self {
            name: view.name.to_string(),
            route: view.spec.route,
            priority: view.spec.priority,
            time_to_live_secs: view.spec.time_to_live_secs,
            sink: view.sink,
        }
    }
}

/// Lists the routes.
#[utoipa::path(get, path = "/routes", operation_id = "listRoutes", tag = "routes",
    security(("token" = ["routes:read"])), params(PageQuery),
    responses((status = 200, description = "A page of routes", body = Page<View>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<View>, Problem> {
    let wanted = query.0.wanted()?;
    let after = wanted.after.as_deref();
    let mut found = hub.routes().list(&hub).await?;
    found.retain(|view| after.is_none_or(|after| view.name.as_str() > after));
    found.truncate(wanted.and_one());
    Ok(wanted.page(found, |view| view.name.to_string(), View::from))
}

/// Shows a route.
#[utoipa::path(get, path = "/routes/{name}", operation_id = "getRoute", tag = "routes",
    security(("token" = ["routes:read"])),
    params(("name" = String, Path, description = "Name of the route")),
    responses((status = 200, description = "The route", body = View)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path(name): Path<RouteName>,
) -> Result<Tagged<Json<View>>, Problem> {
    let view = hub.routes().get(&hub, &name).await?;
    Ok(Tagged(view.revision, Json(view.into())))
}

/// Replaces a route. Creates it if absent.
///
/// The whole set is checked and takes effect at once; when something is wrong, the routes in force stay.
#[utoipa::path(put, path = "/routes/{name}", operation_id = "putRoute", tag = "routes",
    security(("token" = ["routes:write"])), request_body = Body,
    params(("name" = String, Path, description = "Name of the route"), IfMatch),
    responses((status = 200, description = "It was replaced", body = View),
              (status = 201, description = "It is new", body = View)),
    extensions(("x-errors" = json!(["route-syntax", "route-target"]))))]
async fn put(
    State(hub): State<Hub>,
    Path(name): Path<RouteName>,
    Precondition(expect): Precondition,
    Json(body): Json<Body>,
) -> Result<Response, Problem> {
    let created = hub.routes().put(&hub, &name, body.into(), expect).await;
    let created = created.map_err(|error| absent(error, expect))?;
    let view = hub.routes().get(&hub, &name).await?;
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Tagged(view.revision, Json(View::from(view)))).into_response())
}

/// Deletes a route; what it has put into queues stays.
#[utoipa::path(delete, path = "/routes/{name}", operation_id = "deleteRoute", tag = "routes",
    security(("token" = ["routes:write"])),
    params(("name" = String, Path, description = "Name of the route"), IfMatch),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn delete(
    State(hub): State<Hub>,
    Path(name): Path<RouteName>,
    Precondition(expect): Precondition,
) -> Result<StatusCode, Problem> {
    hub.routes().delete(&hub, &name, expect).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A change of what is not there: `If-Match` is false then (RFC 9110, 13.1.1).
fn absent(error: RouteError, expect: Expect) -> Problem {
    match (&error, expect) {
        (RouteError::Unknown(_), Expect::Present | Expect::Revision(_)) => {
            Problem::new(ErrorCode::VersionMismatch, error.to_string())
        }
        _ => error.into(),
    }
}
