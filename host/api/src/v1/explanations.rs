//! `/api/v1/messages/{id}/explanation`: why a message went where it went.

use super::verdict::VerdictForm;
use crate::Api;
use crate::extract::Path;
use crate::json::Json;
use crate::problem::Problem;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_hub::{Explanation, Hub, MessageName};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// Why a message went where it went, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Explanation, example = json!({
    "id": "0000010000000001", "enqueued": "2026-05-04T10:00:00Z", "sender": "sensor-1",
    "table": 3, "routes": [], "places": [{"queue": "iothub", "priority": 2000000000, "state": "waiting"}],
    "fates": [], "summary": "taken by to-cloud; waits in iothub"
}))]
struct ExplanationForm {
    /// The hub's number of the message.
    id: String,
    /// When the hub took it in.
    enqueued: String,
    /// `device` or `device/module`.
    sender: String,
    /// Revision of the route table that routed it.
    table: u32,
    /// What every route did with it.
    routes: Vec<VerdictForm>,
    /// The queues in which it waits.
    places: Vec<PlaceForm>,
    /// What was done with it so far, as far as the hub remembers.
    fates: Vec<FateForm>,
    /// All of it in one sentence.
    summary: String,
}

/// A queue in which a message waits.
#[derive(Serialize, ToSchema)]
#[schema(as = Place)]
struct PlaceForm {
    queue: String,
    priority: u32,
    /// `waiting`, `in-flight`, `held` or `retrying`.
    state: String,
}

/// What a consumer did with a message.
#[derive(Serialize, ToSchema)]
#[schema(as = Fate)]
struct FateForm {
    /// Missing for a client or the upstream.
    module: Option<String>,
    /// `dropped`, `passed`, `replaced`, `held`, `retried`, `rejected` or `delivered`.
    fate: String,
}

/// Explains a message.
///
/// Exact for every message that is stored and for the last 10,000 that were accepted.
#[utoipa::path(get, path = "/messages/{id}/explanation", operation_id = "explainMessage",
    tag = "routes", security(("token" = ["messages:read"])),
    params(("id" = String, Path,
        description = "The hub's number, the id that the sender gave, or `last`", example = "last")),
    responses((status = 200, description = "The explanation", body = ExplanationForm)),
    extensions(("x-errors" = json!(["message-not-kept"]))))]
async fn get(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Json<Explanation>, Problem> {
    let gone = || {
        let shown: String = id.chars().take(128).collect();
        let detail = match id.as_str() {
            "last" => "no message has been accepted since the hub started".to_owned(),
            _ => format!("message {shown:?} is not kept"),
        };
        Problem::new(ErrorCode::MessageNotKept, detail)
    };
    let explanation = hub.explain(&MessageName::parse(&id)).await?;
    Ok(Json(explanation.ok_or_else(gone)?))
}
