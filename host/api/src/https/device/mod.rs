//! Devices that speak HTTP: telemetry, and cloud-to-device messages by polling.
//!
//! The original edgeHub offers neither; IoT Hub does, and the SDK for Node uses it. Uploading files is
//! refused at once, because SDKs wait for an answer.

mod commands;
mod headers;
mod telemetry;

use super::Https;
use super::client::Client;
use super::error::Refusal;
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{any, delete, get, post};
use weir_core::id::{DeviceId, Identity};
use weir_hub::Visitor;

pub(super) fn routes() -> Router<Https> {
    Router::new()
        .route("/devices/{device}/messages/events", post(telemetry::send))
        .route("/devices/{device}/messages/devicebound", get(commands::receive))
        .route("/devices/{device}/messages/devicebound/{lock}", delete(commands::complete))
        .route("/devices/{device}/messages/devicebound/{lock}/abandon", post(commands::abandon))
        .route("/devices/{device}/files", any(no_files))
        .route("/devices/{device}/files/{*rest}", any(no_files))
}

async fn no_files() -> Refusal {
    let text = "this hub keeps no files";
    Refusal::new(axum::http::StatusCode::NOT_FOUND, "NotFound", text)
}

/// The device of the path, which has to prove that it is this one.
async fn visitor(
    https: &Https,
    client: &Client,
    headers: &HeaderMap,
    device: &str,
) -> Result<Visitor, Refusal> {
    let device: DeviceId = device.parse().map_err(|_| Refusal::unauthorized())?;
    https.visitor(client, headers, &Identity::device(device)).await
}
