//! `/api/v1/events`: what happens in the hub, as Server-Sent Events.
//!
//! A stream lives as long as its token, which is looked at again with each event and sign of life.

use crate::Api;
use crate::etag::Volatile;
use crate::extract::Query;
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse;
use axum::response::{IntoResponse, Response, Sse};
use futures::stream::{self, Stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::limits;
use weir_hub::tasks::Stop;
use weir_hub::{Caller, Event, EventId, Followed, Follower, Hub, Topic};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(follow))
}

/// Something that has happened: the `data` of an event.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event, example = json!({
    "id": "7-123", "at": "2026-05-04T10:00:00Z", "topic": "client", "what": "connected",
    "subject": "gateway/filter", "data": {"protocol": "mqtt"}
}))]
struct View<'a> {
    /// For `Last-Event-ID`; also the `id` of the event.
    id: String,
    at: String,
    /// Also the `event` of the event.
    topic: &'static str,
    /// What happened, in one or two words.
    what: &'static str,
    /// Whom or what it happened to: an identity, a module, a queue, a path of this API.
    subject: &'a str,
    /// More, as the kind of event has it.
    #[serde(skip_serializing_if = "Value::is_null")]
    data: &'a Value,
}

/// Which events.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Only these, separated by commas: `twin`, `link`, `client`, `module`, `queue`, `audit`.
    #[param(example = "twin,link")]
    topics: Option<String>,
    /// As `Last-Event-ID`, for those who cannot set the header.
    after: Option<String>,
}

/// Follows what happens in the hub.
///
/// A stream of Server-Sent Events: `event` is the topic, `id` the event's name, `data` a JSON object.
/// With `Last-Event-ID` the stream goes on behind that event. The last 10,000 events are kept, in memory
/// only; an event named `lost` says that some before it are missing. A comment comes every 15 seconds.
#[utoipa::path(get, path = "/events", operation_id = "followEvents", tag = "events",
    security(("token" = ["events:read"])),
    params(EventsQuery,
        ("last-event-id" = Option<String>, Header, description = "Go on behind this event: `7-123`")),
    responses((status = 200, description = "Events, without an end", body = View<'_>,
        content_type = "text/event-stream")),
    extensions(("x-errors" = json!(["too-many-requests"]))))]
async fn follow(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let topics = topics(query.topics.as_deref().unwrap_or_default())?;
    let after = after(&headers, query.after.as_deref())?;
    let place = Arc::clone(api.event_streams()).try_acquire_owned().map_err(|_| {
        let most = limits::EVENT_STREAMS;
        let text = format!("the hub has as many streams of events as it takes: {most}");
        Problem::new(ErrorCode::TooManyRequests, text)
    })?;
    let hub = api.hub().clone();
    let stop = hub.tasks().stop();
    let follower = hub.follow_events(after, topics);
    let streaming = Streaming { follower, hub, token: caller.token, stop, _place: place };
    let mut response = Sse::new(events(streaming)).into_response();
    response.extensions_mut().insert(Volatile);
    Ok(response)
}

fn topics(text: &str) -> Result<Vec<Topic>, Problem> {
    let names = text.split(',').filter(|name| !name.is_empty());
    let parsed = names.map(|name| name.trim().parse::<Topic>());
    parsed
        .collect::<Result<_, _>>()
        .map_err(|wrong| Problem::invalid(wrong.to_string()).parameter("topics"))
}

fn after(headers: &HeaderMap, query: Option<&str>) -> Result<Option<EventId>, Problem> {
    let header = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().unwrap_or("?")),
        None => None,
    };
    let Some(text) = header.or(query) else { return Ok(None) };
    let wrong = |error: weir_hub::EventIdError| {
        let name = if header.is_some() { "last-event-id" } else { "after" };
        Problem::invalid(error.to_string()).parameter(name)
    };
    text.parse().map(Some).map_err(wrong)
}

struct Streaming {
    follower: Follower,
    hub: Hub,
    token: String,
    stop: Stop,
    _place: OwnedSemaphorePermit,
}

fn events(streaming: Streaming) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    // The head leaves at once, with a first sign of life.
    let first = stream::once(async { Ok(sse::Event::default().comment("weir")) });
    let rest = stream::unfold(streaming, |mut streaming| async {
        let event = streaming.next().await?;
        Some((Ok(event), streaming))
    });
    stream::StreamExt::chain(first, rest)
}

impl Streaming {
    /// None at the end: the hub stops, or the token is gone.
    async fn next(&mut self) -> Option<sse::Event> {
        let next = pin!(self.follower.next());
        let event = tokio::select! {
            () = self.stop.draining() => return None,
            followed = next => written(&followed),
            () = tokio::time::sleep(limits::EVENT_HEARTBEAT) => sse::Event::default().comment(""),
        };
        let token = self.hub.tokens().get(&self.token)?;
        let over = token.record.expires.is_some_and(|end| self.hub.clock().now() >= end);
        (!over).then_some(event)
    }
}

fn written(followed: &Followed) -> sse::Event {
    match followed {
        Followed::Event(event) => {
            let Event { id, at, topic, what, subject, data } = &**event;
            let (id, at) = (id.to_string(), at.to_string());
            let view = View { id: id.clone(), at, topic: topic.name(), what, subject, data };
            let json = serde_json::to_string(&view).expect("an event has only text keys");
            sse::Event::default().id(id).event(topic.name()).data(json)
        }
        Followed::Lost { until } => {
            let data = serde_json::json!({"until": until.to_string()}).to_string();
            sse::Event::default().id(until.to_string()).event("lost").data(data)
        }
    }
}
