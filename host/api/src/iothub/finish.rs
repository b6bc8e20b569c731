//! What every request gets, whatever its handler does: a time limit, an end without a panic, IoT Hub's
//! form of errors.

use super::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use serde_json::json;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::Instrument;
use weir_core::limits;
use weir_hub::Hub;
use weir_hub::tasks::TaskKind;

const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");

/// The outermost layer.
pub(super) async fn finish(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    let trace_id = crate::finish::trace_id(request.headers());
    let span = tracing::debug_span!("service", trace_id, method = %request.method());
    let limit = time_limit(request.uri().path());
    let answered = AssertUnwindSafe(tokio::time::timeout(limit, next.run(request)))
        .catch_unwind()
        .instrument(span)
        .await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => late(limit).into_response(),
        Err(_) => panicked().into_response(),
    };
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = write(&refusal, &trace_id, &hub);
    }
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&trace_id) {
        headers.insert("x-ms-request-id", id);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn write(refusal: &Refusal, trace_id: &str, hub: &Hub) -> Response {
    let Refusal { status, code, text } = refusal;
    let body = json!({
        "Message": format!("ErrorCode:{code};{text}"),
        "ExceptionMessage": format!("Tracking ID:{trace_id}-TimeStamp:{}", hub.clock().now()),
    });
    let headers = [(header::CONTENT_TYPE, "application/json; charset=utf-8"), (ERROR_CODE, *code)];
    (*status, headers, body.to_string()).into_response()
}

/// A direct method may take as long as its caller says; the call has limits of its own.
fn time_limit(path: &str) -> Duration {
    match path.ends_with("/methods") {
        true => limits::SERVICE_METHOD_LIMIT,
        false => limits::API_REQUEST_LIMIT,
    }
}

fn late(limit: Duration) -> Refusal {
    let text = format!("the hub did not finish in {} s; the work may go on", limit.as_secs());
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text)
}

fn panicked() -> Refusal {
    Refusal::fault(&std::io::Error::other("a handler panicked"))
}

/// A change that has begun is brought to its end, also when its caller goes away or its time is over.
pub(super) async fn detach(State(hub): State<Hub>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (done, answer) = oneshot::channel();
    let work = async move { drop(done.send(next.run(request).await)) };
    let work = work.instrument(tracing::Span::current());
    hub.tasks().spawn(TaskKind::PerClient, "service-change", move |_| work);
    match answer.await {
        Ok(response) => response,
        Err(_) if hub.tasks().stop().is_draining() => {
            let text = "the hub is stopping";
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text)
                .into_response()
        }
        Err(_) => panicked().into_response(),
    }
}

/// What is nowhere in the table.
pub(super) async fn not_found(request: Request) -> Refusal {
    let path: String = request.uri().path().chars().take(256).collect();
    let text = format!("there is nothing at {path}; docs/compatibility.md lists what there is");
    Refusal::new(StatusCode::NOT_FOUND, "NotFound", text)
}

/// A path of the table with another method.
pub(super) async fn method_not_allowed(request: Request) -> Refusal {
    let text = format!("{} is not an operation of this path", request.method());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", text)
}
