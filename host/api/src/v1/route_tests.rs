//! `/api/v1/route-tests`: what routes or a condition would do with a message; nothing is stored.

use super::routes::Body as RouteBody;
use super::verdict::{ReasonForm, VerdictForm};
use crate::Api;
use crate::json::Json;
use crate::problem::{Detail, Problem};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::id::RouteName;
use weir_core::limits;
use weir_core::route::sample::Sample;
use weir_core::route::{
    CompileOptions, Condition, Facts, ParseError, Reason, RouteTable, RouteVerdict, Trace, Truth,
};
use weir_hub::{Hub, RouteError, RouteSpec, compile_routes};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create))
}

/// A test: of a condition, of the routes that are given, or of the routes in force.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteTestBody, example = json!({
    "condition": "$body.temperature > 25 AND site = 'north'",
    "message": {"source": "/messages/modules/sensor/outputs/out", "body": {"temperature": 30},
        "properties": {"site": "north"},
        "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"}}
}))]
struct Body {
    /// A condition alone. Body queries and `twin_change_includes` are on.
    #[serde(default)]
    condition: Option<String>,
    /// Routes by name, as texts or as they are put; left out: the routes in force.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, TestedRoute>>)]
    routes: Option<BTreeMap<RouteName, TestedRoute>>,
    /// The message.
    #[schema(value_type = SampleForm)]
    message: Sample,
}

/// A route: its text, or an object as in `PUT /routes/{name}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "a route is a text or an object with route, priority, timeToLiveSecs"
)]
enum TestedRoute {
    Text(String),
    Object(RouteBody),
}

impl From<TestedRoute> for RouteSpec {
    fn from(route: TestedRoute) -> Self {
        match route {
            TestedRoute::Text(route) => Self { route, priority: None, time_to_live_secs: None },
            TestedRoute::Object(body) => body.into(),
        }
    }
}

/// A message of a test.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RouteTestMessage)]
struct SampleForm {
    /// Where it comes from, such as `/messages/modules/m/outputs/o`; left out: `/messages`.
    source: Option<String>,
    /// JSON, or text as it stands.
    #[schema(value_type = Option<Object>)]
    body: Option<serde_json::Value>,
    /// Application properties; a value may be null.
    properties: Option<BTreeMap<String, Option<String>>>,
    /// System properties of any names, such as `contentType`.
    system_properties: Option<BTreeMap<String, Option<String>>>,
}

/// What would become of the message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RouteTest, example = json!({
    "result": "true", "routes": [],
    "reason": {"kind": "condition", "expression": "$body.temperature > 25", "column": 1,
        "length": 22, "seen": [{"expression": "$body.temperature", "state": "value", "value": 30}]},
    "text": "$body.temperature > 25 is true: $body.temperature is 30", "endpoints": []
}))]
struct View {
    /// `true`, `false` or `undefined`: of the condition, or whether any route takes the message.
    #[schema(value_type = String)]
    result: Truth,
    /// What each route does; empty for a condition.
    #[schema(value_type = Vec<VerdictForm>)]
    routes: Vec<RouteVerdict>,
    /// What decided: of the condition, or of the first route that takes the message; null when no
    /// route is there.
    #[schema(value_type = Option<ReasonForm>)]
    reason: Option<Reason>,
    /// The reason in words.
    text: String,
    /// Where copies of the message would go.
    endpoints: Vec<String>,
}

/// Tests a condition or routes on a message.
///
/// Nothing is stored. A text that cannot be compiled is 422 `route-syntax` with its column.
#[utoipa::path(post, path = "/route-tests", operation_id = "testRoute", tag = "routes",
    security(("token" = ["routes:read"])), request_body = Body,
    responses((status = 200, description = "What would become of the message", body = View)),
    extensions(("x-errors" = json!(["route-syntax"]))))]
async fn create(State(hub): State<Hub>, Json(body): Json<Body>) -> Result<Json<View>, Problem> {
    let Body { condition, routes, message } = body;
    match (condition, routes) {
        (Some(_), Some(_)) => {
            Err(Problem::invalid("a test has a condition or routes, not both").at("/condition"))
        }
        (Some(condition), None) => test_condition(&condition, &message).map(Json),
        (None, Some(routes)) => {
            if routes.len() > limits::ROUTES {
                return Err(Problem::invalid("too many routes").at("/routes"));
            }
            let specs: BTreeMap<RouteName, RouteSpec> =
                routes.into_iter().map(|(name, route)| (name, route.into())).collect();
            let table = compile_routes(&specs).map_err(in_routes)?;
            test_table(&table, &message).map(Json)
        }
        (None, None) => {
            let views = hub.routes().list(&hub).await?;
            let specs = views.into_iter().map(|view| (view.name, view.spec)).collect();
            test_table(&compile_routes(&specs)?, &message).map(Json)
        }
    }
}

fn test_condition(text: &str, message: &Sample) -> Result<View, Problem> {
    let options = CompileOptions::for_message(message.source());
    let condition = Condition::compile(text, options)
        .map_err(|error| syntax(format!("condition: {error}"), "/condition".to_owned(), &error))?;
    let verdict = condition.explain(message);
    Ok(View {
        result: verdict.result,
        routes: Vec::new(),
        reason: Some(verdict.reason),
        text: verdict.text,
        endpoints: Vec::new(),
    })
}

fn test_table(table: &RouteTable, message: &Sample) -> Result<View, Problem> {
    let mut trace = Trace::default();
    let chosen = table.select_traced(message, &mut trace);
    let endpoints = chosen.iter().filter_map(|target| table.sink(target.sink));
    let endpoints = endpoints.map(ToString::to_string).collect();
    let routes = table.explain(&trace).unwrap_or_default();
    let has = |truth: Truth| routes.iter().find(|verdict| verdict.matched == truth);
    let decisive = has(Truth::True).or_else(|| has(Truth::Undefined)).or(routes.first());
    Ok(View {
        result: decisive.map_or(Truth::False, |verdict| verdict.matched),
        reason: decisive.map(|verdict| verdict.reason.clone()),
        text: decisive.map_or_else(
            || "there are no routes".to_owned(),
            |verdict| format!("{}: {}", verdict.name, verdict.text),
        ),
        endpoints,
        routes,
    })
}

fn syntax(detail: String, pointer: String, error: &ParseError) -> Problem {
    Problem::new(ErrorCode::RouteSyntax, detail).with(Detail {
        pointer: Some(pointer),
        column: Some(error.column()),
        message: error.caret(),
        help: error.help().map(str::to_owned),
        ..Detail::default()
    })
}

/// The place of a fault is in `routes` here, not in the route that is put.
fn in_routes(error: RouteError) -> Problem {
    match &error {
        RouteError::Syntax { name, cause, .. } => {
            syntax(error.to_string(), format!("/routes/{name}"), cause)
        }
        RouteError::Priority { name, .. } => {
            Problem::new(error.code(), error.to_string()).at(format!("/routes/{name}/priority"))
        }
        _ => error.into(),
    }
}
