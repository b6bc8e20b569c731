//! `/api/v1/modules/{name}/logs`: the last lines that a module wrote.

use crate::Api;
use crate::extract::{Path, Query};
use crate::page::{Page, PageQuery};
use crate::problem::Problem;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::ModuleId;
use weir_hub::LogLine;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A line of a module's log.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ModuleLogLine, example = json!({
    "number": 17, "at": "2026-05-04T10:00:00Z", "level": "info", "message": "threshold=25"
}))]
struct Line {
    /// Grows with every line of any module since the hub started; from 1.
    number: u64,
    at: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    level: &'static str,
    /// What the module said, on one line; control characters are escaped.
    message: String,
}

impl From<LogLine> for Line {
    fn from(line: LogLine) -> Self {
        let LogLine { number, at, level, message } = line;
        Self { number, at: at.to_string(), level, message }
    }
}

/// Which part of the log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LogsQuery {
    /// Most items of the page: 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only lines after the one of this number.
    after: Option<u64>,
}

/// Lists the last log lines of a module, oldest first.
///
/// They are in memory only; the hub's own log is the record.
#[utoipa::path(get, path = "/modules/{name}/logs", operation_id = "listModuleLogs",
    tag = "modules", security(("token" = ["modules:read"])),
    params(("name" = String, Path, description = "Name of the module"), LogsQuery),
    responses((status = 200, description = "A page of lines", body = Page<Line>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn list(
    State(api): State<Api>,
    Path(name): Path<ModuleId>,
    Query(query): Query<LogsQuery>,
) -> Result<Page<Line>, Problem> {
    let LogsQuery { limit, cursor, after } = query;
    let wanted = PageQuery { limit, cursor }.wanted()?;
    api.hub().modules().versions(api.hub(), &name).await?;
    let after = wanted.after_as()?.or(after).unwrap_or(0);
    let found = api.options().logs.after(name.as_str(), after, wanted.and_one());
    Ok(wanted.page(found, |line| line.number.to_string(), Line::from))
}
