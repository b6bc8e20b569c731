//! JSON in and out, as IoT Hub takes it: members that are not known are passed over, because an SDK
//! sends back everything that it was given.

use super::refusal::Refusal;
use crate::body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_core::limits;

/// A JSON object as body.
pub(super) struct Json<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = body::read(request.into_body(), limits::API_BODY_BYTES).await?;
        // A derived reader would take a list for an object, member by member.
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => parse(&bytes).map(Self),
            _ => Err(Refusal::invalid("the body must be a JSON object")),
        }
    }
}

/// The bytes of a body, bounded.
pub(super) struct Raw(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Raw {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        Ok(Self(body::read(request.into_body(), limits::API_BODY_BYTES).await?))
    }
}

/// Reads JSON; a repeated key, too deep a nesting and a wrong type are refused with their place.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    crate::json::check(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let text = crate::json::without_types(&crate::json::without_place(&error.into_inner()));
        match place.as_str() {
            "." => Refusal::invalid(text),
            place => Refusal::invalid(format!("{place}: {text}")),
        }
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            // Without this type the Node SDK gives its caller an empty text.
            Ok(text) => {
                ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response()
            }
            Err(error) => Refusal::fault(&error).into_response(),
        }
    }
}

/// A JSON answer with its `ETag`.
pub(super) fn tagged(status: StatusCode, tag: &str, body: impl Serialize) -> Response {
    let mut response = (status, Json(body)).into_response();
    if let Ok(tag) = format!("\"{tag}\"").parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// Names in the path, percent-decoded and checked.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let crate::extract::Path(value) =
            crate::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(value))
    }
}
