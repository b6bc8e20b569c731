//! Direct method calls of modules: `POST /twins/{device}[/modules/{module}]/methods`.
//!
//! As edgeHub answers them: the caller names itself in `x-ms-edge-moduleId` and proves it by its token;
//! there may be an `api-version` (Python) or none (Node).

use super::Https;
use super::client::Client;
use super::error::Refusal;
use crate::body;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Router};
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::method::MethodCall;

const CALLER: &str = "x-ms-edge-moduleid";

pub(super) fn routes() -> Router<Https> {
    Router::new()
        .route("/twins/{device}/methods", post(call_device))
        .route("/twins/{device}/modules/{module}/methods", post(call_module))
}

async fn call_device(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Path(device): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let target = device.parse().map(Identity::device);
    call(&https, &client, &headers, target.ok(), body).await
}

async fn call_module(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Path((device, module)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let target = device.parse().ok().zip(module.parse().ok());
    let target = target.map(|(device, module)| Identity::module(device, module));
    call(&https, &client, &headers, target, body).await
}

/// `target` is none when the path holds no well-formed id: nobody has that name.
async fn call(
    https: &Https,
    client: &Client,
    headers: &HeaderMap,
    target: Option<Identity>,
    body: Body,
) -> Result<Response, Refusal> {
    let caller = caller(headers)?;
    let visitor = https.visitor(client, headers, &caller).await?;
    let body = body::read(body, limits::METHOD_BODY_BYTES).await?;
    let call = MethodCall::from_json(&body)?;
    let target = target.ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, "DeviceNotFound", "there is no identity of this name")
    })?;
    let answer = visitor.invoke(&target, call).await?;
    // Without exactly this type the Node SDK gives its caller an empty text.
    Ok(([(header::CONTENT_TYPE, "application/json")], answer.to_json()).into_response())
}

/// Who the caller says it is: device and module.
fn caller(headers: &HeaderMap) -> Result<Identity, Refusal> {
    let named = headers.get(CALLER).and_then(|name| name.to_str().ok());
    let parts = named.and_then(|name| name.split_once('/'));
    let identity = parts.and_then(|(device, module)| {
        Some(Identity::module(device.parse().ok()?, module.parse().ok()?))
    });
    identity.ok_or_else(|| Refusal::invalid("x-ms-edge-moduleId has to be device/module"))
}
