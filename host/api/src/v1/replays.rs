//! `/api/v1/replays`: another chance for dead letters.

use super::queues::endpoint;
use crate::Api;
use crate::extract::Path;
use crate::json::Json;
use crate::page::PageQuery;
use crate::problem::Problem;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::limits;
use weir_hub::{DeadLetterId, Hub};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(replay)).routes(routes!(replay_many))
}

/// Dead letters to replay: those of `ids`, or the oldest of a queue, or the oldest of all.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = ReplayBody, example = json!({"queue": "edge/filter/in", "limit": 100}))]
struct ReplayBody {
    /// Exactly these, all or none; at most 100.
    ids: Option<Vec<u64>>,
    /// Only those of this queue.
    queue: Option<String>,
    /// How many of the oldest: 1 to 100; 100 when left out.
    limit: Option<u32>,
}

/// What was replayed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "replayed": [{"deadLetter": 7, "message": "0000010000000012"}], "more": false
}))]
struct Replay {
    /// In the order in which they were given up.
    replayed: Vec<ReplayedView>,
    /// There are more of what was asked for.
    more: bool,
}

/// A dead letter that is a message again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Replayed)]
struct ReplayedView {
    /// The number that is gone.
    dead_letter: u64,
    /// The new message.
    message: String,
}

/// Replays a dead letter.
///
/// It goes as a new message into the queue in which it was given up, and leaves the dead letters.
#[utoipa::path(post, path = "/dead-letters/{id}/replays", operation_id = "replayDeadLetter",
    tag = "queues", security(("token" = ["queues:write"])),
    params(("id" = u64, Path, description = "Number of the dead letter")),
    responses((status = 200, description = "It was replayed", body = Replay)),
    extensions(("x-errors" = json!(["not-found", "queue-full"]))))]
async fn replay(State(hub): State<Hub>, Path(id): Path<u64>) -> Result<Json<Replay>, Problem> {
    let replayed = hub.replay(&[DeadLetterId(id)]).await?;
    Ok(Json(Replay { replayed: views(replayed), more: false }))
}

/// Replays many dead letters, oldest first, all or none.
#[utoipa::path(post, path = "/replays", operation_id = "replayDeadLetters", tag = "queues",
    security(("token" = ["queues:write"])), request_body = ReplayBody,
    responses((status = 200, description = "They were replayed", body = Replay)),
    extensions(("x-errors" = json!(["not-found", "queue-full"]))))]
async fn replay_many(
    State(hub): State<Hub>,
    Json(body): Json<ReplayBody>,
) -> Result<Json<Replay>, Problem> {
    let ReplayBody { ids, queue, limit } = body;
    if let Some(mut ids) = ids {
        if queue.is_some() || limit.is_some() || ids.len() > limits::PAGE_MESSAGES {
            let detail = format!("ids names at most {} and stands alone", limits::PAGE_MESSAGES);
            return Err(Problem::invalid(detail).at("/ids"));
        }
        ids.sort_unstable();
        ids.dedup();
        let ids: Vec<DeadLetterId> = ids.into_iter().map(DeadLetterId).collect();
        let replayed = hub.replay(&ids).await?;
        return Ok(Json(Replay { replayed: views(replayed), more: false }));
    }
    let wanted = PageQuery { limit, cursor: None }.wanted_of(limits::PAGE_MESSAGES)?;
    let queue = queue.map(|name| endpoint(&hub, &name)).transpose()?;
    let mut letters = hub.store().dead_letters(None, wanted.and_one(), queue).await?;
    let more = letters.len() > wanted.limit;
    letters.truncate(wanted.limit);
    let replayed = match letters.is_empty() {
        true => Vec::new(),
        false => hub.replay_letters(&letters).await?,
    };
    Ok(Json(Replay { replayed: views(replayed), more }))
}

fn views(replayed: Vec<weir_hub::Replayed>) -> Vec<ReplayedView> {
    replayed
        .into_iter()
        .map(|one| ReplayedView {
            dead_letter: one.dead_letter.0,
            message: one.message.to_string(),
        })
        .collect()
}
