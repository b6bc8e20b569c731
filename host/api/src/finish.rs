//! What every request gets, whatever its handler does: a trace id, a time limit, an end without a
//! panic, problems with their place, and the headers that browsers must see.

use crate::problem::Problem;
use crate::{Api, etag};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::Instrument;
use weir_core::error_code::ErrorCode;
use weir_core::limits;
use weir_hub::tasks::TaskKind;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer.
pub(crate) async fn finish(request: Request, next: Next) -> Response {
    let trace_id = trace_id(request.headers());
    let instance: String = request.uri().path().chars().take(512).collect();
    let span = tracing::debug_span!("request", trace_id, method = %request.method());
    let limit = time_limit(&request);
    let answered = AssertUnwindSafe(tokio::time::timeout(limit, next.run(request)))
        .catch_unwind()
        .instrument(span)
        .await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => late(limit).into_response(),
        Err(_) => panicked().into_response(),
    };
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let written = problem.write(&instance, &trace_id);
        // What the way out has added stays; the body is another one.
        let mut headers = std::mem::take(response.headers_mut());
        headers.remove(header::CONTENT_LENGTH);
        response = written;
        for (name, value) in &headers {
            response.headers_mut().entry(name).or_insert_with(|| value.clone());
        }
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&trace_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn time_limit(request: &Request) -> Duration {
    let uploads =
        request.method() == Method::PUT && request.uri().path().starts_with("/api/v1/artifacts/");
    // A call waits for its target, and then for the answer.
    let calls = request.uri().path() == "/api/v1/method-calls";
    match (uploads, calls) {
        (true, _) => limits::API_UPLOAD_LIMIT,
        (false, true) => 2 * limits::METHOD_TIMEOUT_MAX + limits::API_REQUEST_LIMIT,
        (false, false) => limits::API_REQUEST_LIMIT,
    }
}

fn late(limit: Duration) -> Problem {
    Problem::new(
        ErrorCode::NotReady,
        format!("the hub did not finish in {} s; the work may go on", limit.as_secs()),
    )
}

fn panicked() -> Problem {
    Problem::fault(&std::io::Error::other("a handler panicked"))
}

/// The trace id of a W3C `traceparent`, or a new one.
pub(crate) fn trace_id(headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let given = given.and_then(|text| text.split('-').nth(1)).filter(|id| {
        id.len() == 32
            && id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|c| c != b'0')
    });
    if let Some(id) = given {
        return id.to_owned();
    }
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // The id is for the log only: requests may share one.
        bytes = [1; 16];
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A change that has begun is brought to its end, also when its caller goes away or its time is over.
pub(crate) async fn detach(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (done, answer) = oneshot::channel();
    let work = async move { drop(done.send(next.run(request).await)) };
    let work = work.instrument(tracing::Span::current());
    api.hub().tasks().spawn(TaskKind::PerClient, "api-change", move |_| work);
    match answer.await {
        Ok(response) => response,
        Err(_) => unfinished(&api).into_response(),
    }
}

/// A task that was not started, or that panicked.
pub(crate) fn unfinished(api: &Api) -> Problem {
    match api.hub().tasks().stop().is_draining() {
        true => Problem::new(ErrorCode::NotReady, "the hub is stopping"),
        false => panicked(),
    }
}

/// Tags answers to GET and answers 304 to whoever has them.
pub(crate) async fn revalidate(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let known = request.headers().clone();
    let mut response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    if response.extensions_mut().remove::<etag::Volatile>().is_some() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return panicked().into_response();
    };
    if !parts.headers.contains_key(header::ETAG)
        && let Ok(tag) = HeaderValue::from_str(&etag::of_bytes(&bytes))
    {
        parts.headers.insert(header::ETAG, tag);
    }
    let tag = parts.headers.get(header::ETAG).cloned();
    match tag.filter(|tag| etag::is_known(&known, tag)) {
        Some(tag) => (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response(),
        None => Response::from_parts(parts, Body::from(bytes)),
    }
}

/// What is nowhere in the table.
pub(crate) async fn not_found(request: Request) -> Problem {
    let path: String = request.uri().path().chars().take(256).collect();
    Problem::new(ErrorCode::NotFound, format!("there is nothing at {path}; see /docs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_and_a_made_up_one_does_not() {
        let id = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", value.parse().unwrap());
            trace_id(&headers)
        };
        let given = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(id(&format!("00-{given}-00f067aa0ba902b7-01")), given);
        for value in ["00-1234-5-01", "", "00-00000000000000000000000000000000-1-01", "<script>"] {
            let made = id(value);
            assert_eq!(made.len(), 32);
            assert_ne!(made, given);
        }
    }

    async fn answer(router: axum::Router) -> (u16, serde_json::Value) {
        use tower::ServiceExt;
        let request = Request::builder().uri("/x").body(Body::empty()).unwrap();
        let response = router.layer(axum::middleware::from_fn(finish)).oneshot(request).await;
        let response = response.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_handler_that_panics_is_a_problem_and_no_broken_connection() {
        async fn broken() -> &'static str {
            panic!("a secret of the hub")
        }
        let router = axum::Router::new().route("/x", axum::routing::get(broken));
        let (status, problem) = answer(router).await;
        assert_eq!((status, &problem["code"]), (500, &"internal".into()));
        assert_eq!(problem["instance"], "/x");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_handler_that_does_not_end_is_answered_for() {
        let stuck = || std::future::pending::<()>();
        let router = axum::Router::new().route("/x", axum::routing::get(stuck));
        let (status, problem) = answer(router).await;
        assert_eq!((status, &problem["code"]), (503, &"not-ready".into()));
    }
}
