//! `/api/v1/queues`: what waits for whom.
//!
//! A queue's name has slashes (`edge/filter/in`); in a path they are written `%2F`. The upstream's queue
//! is `iothub`, as in IoT Edge; `$upstream` leads there too.

use super::message::{self, MessageView};
use super::time;
use crate::Api;
use crate::extract::Path;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::id::Sequence;
use weir_core::limits;
use weir_hub::{
    Caller, EndpointId, EntryState, Hub, Peeked, QueueUsage, RouteNumber, UPSTREAM_QUEUE, WhenFull,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(messages))
        .routes(routes!(purge))
}

/// A queue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "name": "iothub", "messages": 120, "bytes": 40960, "maxBytes": 536870912,
    "whenFull": "drop-oldest", "held": 0, "retrying": 0, "inFlight": 12,
    "oldest": "2026-05-04T10:00:00Z", "expired": {"to-cloud": 3}, "dropped": 0, "damaged": 0
}))]
struct Queue {
    /// `iothub`, or `device/module/input`.
    name: String,
    /// Entries that have not left, those in flight included.
    messages: u64,
    /// Their size.
    bytes: u64,
    /// Its limit; null: only the limit of the whole store.
    max_bytes: Option<u64>,
    /// `reject` or `drop-oldest`.
    #[schema(value_type = String)]
    when_full: WhenFull,
    /// Entries held by the consumer.
    held: u64,
    /// Entries that wait for their next attempt.
    retrying: u64,
    /// Entries handed out and not settled.
    in_flight: u64,
    /// When the oldest waiting entry was taken in, as far as it is known in memory.
    oldest: Option<String>,
    /// Entries that expired since the start, by route.
    expired: BTreeMap<String, u64>,
    /// Entries dropped since the start because the queue was full.
    dropped: u64,
    /// Entries lost since the start because the file is damaged.
    damaged: u64,
}

/// Names of routes by their numbers.
pub(super) struct RouteNames(BTreeMap<RouteNumber, String>);

impl RouteNames {
    pub(super) fn of(hub: &Hub) -> Self {
        Self(hub.store().route_names().into_iter().collect())
    }

    pub(super) fn name(&self, number: RouteNumber) -> String {
        self.0.get(&number).cloned().unwrap_or_default()
    }
}

fn view(queue: QueueUsage, routes: &RouteNames) -> Queue {
    let expired = queue.expired.iter();
    Queue {
        expired: expired.map(|(route, count)| (routes.name(*route), *count)).collect(),
        name: queue.name,
        messages: queue.messages,
        bytes: queue.bytes,
        max_bytes: queue.limit.max_bytes,
        when_full: queue.limit.when_full,
        held: queue.held,
        retrying: queue.retrying,
        in_flight: queue.in_flight,
        oldest: queue.oldest.and_then(time),
        dropped: queue.dropped,
        damaged: queue.damaged,
    }
}

/// An entry of a queue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "sequence": 17, "priority": 2000000000, "expires": null, "route": "to-cloud",
    "state": "waiting", "attempts": 0,
    "message": {"id": "0000010000000011", "enqueued": "2026-05-04T10:00:00Z", "sender": "sensor-1",
        "hops": 0, "bodyBytes": 18}
}))]
struct QueueEntry {
    /// Place in the order of acceptance.
    sequence: u64,
    /// Lower ones are delivered first.
    priority: u32,
    /// When it expires; null: never.
    expires: Option<String>,
    /// The route that sent it here.
    route: String,
    /// `waiting`, `in-flight`, `held` or `retrying`.
    #[schema(value_type = String)]
    state: EntryState,
    /// Deliveries so far.
    attempts: u32,
    /// The message.
    message: MessageView,
}

/// What a purge removed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"removed": 120}))]
struct Purge {
    /// Entries that were removed; those in flight stay.
    removed: u64,
}

/// The queue of this name.
pub(super) fn endpoint(hub: &Hub, name: &str) -> Result<EndpointId, Problem> {
    let name = if name == "$upstream" { UPSTREAM_QUEUE } else { name };
    let known = hub.store().endpoint_names();
    let found = known.into_iter().find(|(_, known)| known == name).map(|(id, _)| id);
    found.ok_or_else(|| {
        let shown: String = name.chars().take(128).collect();
        Problem::new(ErrorCode::NotFound, format!("there is no queue {shown:?}"))
    })
}

/// Lists the queues.
#[utoipa::path(get, path = "/queues", operation_id = "listQueues", tag = "queues",
    security(("token" = ["queues:read"])), params(PageQuery),
    responses((status = 200, description = "A page of queues", body = Page<Queue>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<Queue>, Problem> {
    let wanted = query.0.wanted()?;
    let after = wanted.after.as_deref();
    let mut found = hub.store().usage().queues;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found.retain(|queue| after.is_none_or(|after| queue.name.as_str() > after));
    found.truncate(wanted.and_one());
    let routes = RouteNames::of(&hub);
    Ok(wanted.page(found, |queue| queue.name.clone(), |queue| view(queue, &routes)))
}

/// Shows a queue.
#[utoipa::path(get, path = "/queues/{name}", operation_id = "getQueue", tag = "queues",
    security(("token" = ["queues:read"])),
    params(("name" = String, Path, description = "Name of the queue; `/` is written `%2F`")),
    responses((status = 200, description = "The queue", body = Queue)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Json<Queue>, Problem> {
    let endpoint = endpoint(&hub, &name)?;
    let found = hub.store().usage().queues.into_iter().find(|queue| queue.endpoint == endpoint);
    let unknown = || Problem::new(ErrorCode::NotFound, "there is no such queue");
    Ok(Json(view(found.ok_or_else(unknown)?, &RouteNames::of(&hub))))
}

/// Shows the messages of a queue without taking them.
///
/// What is in them is shown to a token with the scope `messages:read`; of bodies the first 4 KiB.
#[utoipa::path(get, path = "/queues/{name}/messages", operation_id = "listQueueMessages",
    tag = "queues", security(("token" = ["queues:read"])),
    params(("name" = String, Path, description = "Name of the queue; `/` is written `%2F`"),
           PageQuery),
    responses((status = 200, description = "A page of entries", body = Page<QueueEntry>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn messages(
    State(hub): State<Hub>,
    Path(name): Path<String>,
    Extension(caller): Extension<Caller>,
    query: PageOf,
) -> Result<Page<QueueEntry>, Problem> {
    let wanted = query.0.wanted_of(limits::PAGE_MESSAGES)?;
    let endpoint = endpoint(&hub, &name)?;
    let routes = RouteNames::of(&hub);
    let inside = message::may_read(&caller).then_some(limits::PAGE_BODY_BYTES);
    let mut found = Vec::with_capacity(wanted.and_one());
    let mut after = wanted.after_as()?.map(Sequence);
    // A few at a time, so that a page of the largest messages is never in memory whole.
    while found.len() < wanted.and_one() {
        let few = (wanted.and_one() - found.len()).min(8);
        let peeked = hub.store().peek(endpoint, after, few).await?;
        let Some(last) = peeked.last() else { break };
        after = Some(last.sequence);
        found.extend(peeked.into_iter().map(|peeked| entry(&peeked, &routes, inside)));
    }
    Ok(wanted.page(found, |entry| entry.sequence.to_string(), |entry| entry))
}

fn entry(peeked: &Peeked, routes: &RouteNames, inside: Option<usize>) -> QueueEntry {
    QueueEntry {
        sequence: peeked.sequence.0,
        priority: peeked.priority,
        expires: time(peeked.expires),
        route: routes.name(peeked.route),
        state: peeked.state,
        attempts: peeked.attempts,
        message: message::view(&peeked.record.message, inside),
    }
}

/// Removes everything from a queue that is not in flight.
#[utoipa::path(post, path = "/queues/{name}/purges", operation_id = "purgeQueue", tag = "queues",
    security(("token" = ["queues:write"])),
    params(("name" = String, Path, description = "Name of the queue; `/` is written `%2F`")),
    responses((status = 200, description = "It was purged", body = Purge)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn purge(State(hub): State<Hub>, Path(name): Path<String>) -> Result<Json<Purge>, Problem> {
    let removed = hub.store().purge(endpoint(&hub, &name)?).await?;
    Ok(Json(Purge { removed }))
}
