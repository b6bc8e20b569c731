//! `/api/v1/dead-letters`: messages that could not be delivered.

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
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, delete))
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
