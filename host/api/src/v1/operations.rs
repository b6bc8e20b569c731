//! `/api/v1/operations`: work that outlives the request that began it.

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
use weir_core::error_code::ErrorCode;
use weir_hub::{Hub, Operation, Progress};

use super::time;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get))
}

/// Work that outlives its request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Operation, example = json!({
    "id": "000000000001", "kind": "swap", "target": "/api/v1/modules/filter",
    "state": "succeeded", "began": "2026-05-04T10:00:00Z", "ended": "2026-05-04T10:00:25Z",
    "result": "switched to version 3"
}))]
pub(super) struct OperationView {
    /// Grows.
    id: String,
    /// `swap`.
    kind: String,
    /// Path of what it works on.
    target: String,
    /// `running`, `succeeded` or `failed`.
    state: &'static str,
    began: Option<String>,
    ended: Option<String>,
    /// What came of it, when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Failure>,
}

/// Why an operation failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OperationFailure)]
struct Failure {
    /// Stable name, as in a problem.
    #[schema(value_type = String)]
    code: ErrorCode,
    /// What is wrong.
    detail: String,
}

impl From<Operation> for OperationView {
    fn from(operation: Operation) -> Self {
        let (state, result, problem) = match operation.progress {
            Progress::Running => ("running", None, None),
            Progress::Succeeded { result } => ("succeeded", Some(result), None),
            Progress::Failed { code, detail } => ("failed", None, Some(Failure { code, detail })),
        };
        Self {
            id: operation.id,
            kind: operation.kind,
            target: operation.target,
            state,
            began: time(operation.began),
            ended: operation.ended.and_then(time),
            result,
            problem,
        }
    }
}

/// Lists the last operations, oldest first.
#[utoipa::path(get, path = "/operations", operation_id = "listOperations", tag = "modules",
    security(("token" = ["modules:read"])), params(PageQuery),
    responses((status = 200, description = "A page of operations", body = Page<OperationView>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<OperationView>, Problem> {
    let wanted = query.0.wanted()?;
    let found = hub.operations().list(&hub, wanted.after.as_deref(), wanted.and_one()).await?;
    Ok(wanted.page(found, |operation| operation.id.clone(), OperationView::from))
}

/// Shows how an operation stands.
#[utoipa::path(get, path = "/operations/{id}", operation_id = "getOperation", tag = "modules",
    security(("token" = ["modules:read"])),
    params(("id" = String, Path, description = "Id of the operation")),
    responses((status = 200, description = "The operation", body = OperationView)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path(id): Path<String>,
) -> Result<Json<OperationView>, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, "there is no such operation");
    let found = hub.operations().get(&hub, &id).await?;
    Ok(Json(found.ok_or_else(unknown)?.into()))
}
