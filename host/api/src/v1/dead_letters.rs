//! `/api/v1/dead-letters` and `/api/v1/replays`: messages that could not be delivered, and their other
//! chance.

use super::message::{self, MessageView};
use super::queues::{RouteNames, endpoint};
use crate::Api;
use crate::extract::{Path, Query};
use crate::json::Json;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::limits;
use weir_hub::{Caller, DeadLetter, DeadLetterId, Hub};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get, delete))
        .routes(routes!(replay))
        .routes(routes!(replay_many))
}

/// A message that could not be delivered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeadLetter, example = json!({
    "id": 7, "queue": "edge/filter/in", "sequence": 17, "route": "to-filter",
    "at": "2026-05-04T10:00:00Z", "attempts": 5, "reason": "the module trapped: unreachable",
    "moduleDigest": "sha256:0f0f…",
    "message": {"id": "0000010000000011", "enqueued": "2026-05-04T09:59:00Z", "sender": "sensor-1",
        "hops": 0, "bodyBytes": 18}
}))]
struct View {
    /// Its number; never given twice.
    id: u64,
    /// The queue in which it was given up.
    queue: String,
    /// Its place in the order of acceptance.
    sequence: u64,
    /// The route that had sent it there.
    route: String,
    /// When it was given up.
    at: Option<String>,
    /// Deliveries before that.
    attempts: u32,
    /// For people.
    reason: String,
    /// For machines: the code that a module gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// The module version that failed on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    module_digest: Option<String>,
    /// The message.
    message: MessageView,
}

/// Which part of the dead letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Most items of the page: 1 to 100.
    #[param(minimum = 1, maximum = 100, example = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Only those of this queue.
    queue: Option<String>,
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

struct Names {
    queues: Vec<(weir_hub::EndpointId, String)>,
    routes: RouteNames,
}

impl Names {
    fn of(hub: &Hub) -> Self {
        Self { queues: hub.store().endpoint_names(), routes: RouteNames::of(hub) }
    }

    fn view(&self, letter: &DeadLetter, inside: Option<usize>) -> View {
        let queue = self.queues.iter().find(|(id, _)| *id == letter.endpoint);
        View {
            id: letter.id.0,
            queue: queue.map(|(_, name)| name.clone()).unwrap_or_default(),
            sequence: letter.sequence.0,
            route: self.routes.name(letter.route),
            at: super::time(letter.at),
            attempts: letter.attempts,
            reason: letter.reason.clone(),
            code: letter.code.clone(),
            module_digest: letter.module_digest.map(|digest| digest.to_string()),
            message: message::view(&letter.record.message, inside),
        }
    }
}

fn unknown(id: u64) -> Problem {
    Problem::new(ErrorCode::NotFound, format!("there is no dead letter {id}"))
}

/// Lists the dead letters, oldest first.
///
/// What is in them is shown to a token with the scope `messages:read`; of bodies the first 4 KiB.
#[utoipa::path(get, path = "/dead-letters", operation_id = "listDeadLetters", tag = "queues",
    security(("token" = ["queues:read"])), params(ListQuery),
    responses((status = 200, description = "A page of dead letters", body = Page<View>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn list(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Page<View>, Problem> {
    let ListQuery { limit, cursor, queue } = query;
    let wanted = PageQuery { limit, cursor }.wanted_of(limits::PAGE_MESSAGES)?;
    let queue = queue.map(|name| endpoint(&hub, &name)).transpose()?;
    let names = Names::of(&hub);
    let inside = message::may_read(&caller).then_some(limits::PAGE_BODY_BYTES);
    let mut found = Vec::with_capacity(wanted.and_one());
    let mut after = wanted.after_as()?.map(DeadLetterId);
    while found.len() < wanted.and_one() {
        let few = (wanted.and_one() - found.len()).min(8);
        let letters = hub.store().dead_letters(after, few, queue).await?;
        let Some(last) = letters.last() else { break };
        after = Some(last.id);
        found.extend(letters.iter().map(|letter| names.view(letter, inside)));
    }
    Ok(wanted.page(found, |letter| letter.id.to_string(), |letter| letter))
}

/// Shows a dead letter.
///
/// What is in it is shown, whole, to a token with the scope `messages:read`.
#[utoipa::path(get, path = "/dead-letters/{id}", operation_id = "getDeadLetter", tag = "queues",
    security(("token" = ["queues:read"])),
    params(("id" = u64, Path, description = "Number of the dead letter")),
    responses((status = 200, description = "The dead letter", body = View)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path(id): Path<u64>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<View>, Problem> {
    let letter = hub.store().dead_letter(DeadLetterId(id)).await?.ok_or_else(|| unknown(id))?;
    let inside = message::may_read(&caller).then_some(usize::MAX);
    Ok(Json(Names::of(&hub).view(&letter, inside)))
}

/// Deletes a dead letter.
#[utoipa::path(delete, path = "/dead-letters/{id}", operation_id = "deleteDeadLetter",
    tag = "queues", security(("token" = ["queues:write"])),
    params(("id" = u64, Path, description = "Number of the dead letter")),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn delete(State(hub): State<Hub>, Path(id): Path<u64>) -> Result<StatusCode, Problem> {
    match hub.store().delete_dead_letter(DeadLetterId(id)).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(unknown(id)),
    }
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
