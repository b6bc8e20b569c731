//! `Idempotency-Key`: a POST that is sent again gets the first answer and does nothing.
//!
//! A key belongs to a token. What counts as the same request: method, path with query, content type
//! and body. Answers with a status of 500 and above and 429 are not kept: the same request may do better.

use crate::problem::Problem;
use crate::{Api, body};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use weir_core::digest::Digest;
use weir_core::error_code::ErrorCode;
use weir_core::limits;
use weir_hub::{Caller, Doing, Hub, KeptAnswer, Repeat, digest_of};

/// The request's header.
pub(crate) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Set on an answer that was kept.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const KEPT_HEADERS: [HeaderName; 4] =
    [header::CONTENT_TYPE, header::LOCATION, header::ETAG, header::RETRY_AFTER];

/// What is kept of an answer in the place of its body: the answer has a secret, which is shown once.
#[derive(Debug, Clone)]
pub(crate) struct WithoutSecret(pub(crate) String);

/// Answers a repeated POST, or lets the first one through.
pub(crate) async fn once(State(api): State<Api>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    match begin(&api, request).await {
        Ok(Begun::Answered(response)) => response,
        Ok(Begun::New(request, doing)) => {
            let response = next.run(request).await;
            keep(api.hub(), doing, response).await
        }
        Err(problem) => problem.into_response(),
    }
}

enum Begun {
    Answered(Response),
    New(Request, Doing),
}

async fn begin(api: &Api, request: Request) -> Result<Begun, Problem> {
    let (parts, body) = request.into_parts();
    let key = key(&parts)?;
    let bytes = body::read(body, limits::API_BODY_BYTES).await?;
    let asked = fingerprint(&parts, &bytes);
    Ok(match api.hub().idempotency().begin(api.hub(), key, asked).await? {
        Repeat::New(doing) => Begun::New(Request::from_parts(parts, Body::from(bytes)), doing),
        Repeat::Done(answer) => Begun::Answered(replay(answer)),
        Repeat::Other => {
            return Err(Problem::new(
                ErrorCode::IdempotencyMismatch,
                "the key was used for another request in the last 24 hours",
            )
            .parameter(KEY.as_str()));
        }
        Repeat::UnderWay => {
            return Err(Problem::new(
                ErrorCode::Conflict,
                "the first request with this key is still under way",
            )
            .header(header::RETRY_AFTER, "1"));
        }
    })
}

fn key(parts: &Parts) -> Result<Digest, Problem> {
    let mut values = parts.headers.get_all(KEY).iter();
    let text = values.next().and_then(|value| value.to_str().ok());
    let text = text.filter(|text| (1..=255).contains(&text.len()) && values.next().is_none());
    let text = text.ok_or_else(|| {
        Problem::invalid("Idempotency-Key must be 1 to 255 printable characters")
            .parameter(KEY.as_str())
    })?;
    let token = parts.extensions.get::<Caller>().map_or("", |caller| &caller.token);
    Ok(digest_of(format!("{token} {text}").as_bytes()))
}

fn fingerprint(parts: &Parts, body: &[u8]) -> Digest {
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let head = format!("{} {}\n", parts.method, parts.uri);
    let whole = [head.as_bytes(), kind, b"\n", body].concat();
    digest_of(&whole)
}

fn replay(answer: KeptAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    if let Some(problem) = Problem::kept(&answer.body).filter(|_| answer.status >= 400) {
        return problem.header(REPLAYED, "true").into_response();
    }
    let mut response = (status, answer.body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
        {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

async fn keep(hub: &Hub, doing: Doing, response: Response) -> Response {
    let status = response.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return response;
    }
    let (parts, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return Problem::fault(&std::io::Error::other("an answer broke off")).into_response();
    };
    let secretless = parts.extensions.get::<WithoutSecret>().map(|kept| kept.0.clone());
    if let Some(body) = secretless.or_else(|| text(&bytes)) {
        let headers = KEPT_HEADERS
            .iter()
            .filter_map(|name| {
                let value = parts.headers.get(name)?.to_str().ok()?;
                Some((name.to_string(), value.to_owned()))
            })
            .collect();
        doing.done(hub, KeptAnswer { status: status.as_u16(), headers, body }).await;
    }
    Response::from_parts(parts, Body::from(bytes))
}

fn text(bytes: &Bytes) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
