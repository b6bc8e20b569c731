//! `/api/v1/system`: what this hub is.

use crate::Api;
use crate::json::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// What this hub is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "version": "0.1.0", "edgeDevice": "edge", "hostname": "gw-017", "iothubHostname": "gw-017",
    "started": "2026-05-04T10:00:00Z", "now": "2026-05-04T12:00:00Z", "uptimeSecs": 7200,
    "listeners": [{"name": "mqtt", "address": "0.0.0.0:8883"}],
    "storeBytes": 4096, "storeMaxBytes": 1073741824, "clients": 3, "modules": 1
}))]
struct System {
    /// Version of the binary.
    version: String,
    /// Id of the edge device: the hub itself.
    edge_device: String,
    /// Name that clients dial.
    hostname: String,
    /// Name that identities and tokens of devices carry.
    iothub_hostname: String,
    /// When the hub started.
    started: String,
    /// The hub's clock.
    now: String,
    /// Seconds since the start.
    uptime_secs: u64,
    /// Where it listens.
    listeners: Vec<Listener>,
    /// Bytes of the store in use.
    store_bytes: u64,
    /// Their limit.
    store_max_bytes: u64,
    /// Connected clients.
    clients: usize,
    /// Wasm modules.
    modules: usize,
}

/// A listener.
#[derive(Debug, Serialize, ToSchema)]
struct Listener {
    /// `mqtt`, `api`, …
    name: String,
    /// Address and port.
    address: String,
}

/// Says what this hub is.
#[utoipa::path(get, path = "/system", operation_id = "getSystem", tag = "system",
    security(("token" = ["system:read"])),
    responses((status = 200, description = "The hub", body = System)))]
async fn get(State(api): State<Api>) -> Json<System> {
    let hub = api.hub();
    let (config, now, usage) = (hub.config(), hub.clock().now(), hub.store().usage());
    let listeners = api.options().listeners.iter();
    Json(System {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        edge_device: config.edge_device.to_string(),
        hostname: config.hostname.clone(),
        iothub_hostname: config.iothub_hostname.clone(),
        started: hub.started().to_string(),
        now: now.to_string(),
        uptime_secs: now.since(hub.started()).as_secs(),
        listeners: listeners
            .map(|(name, address)| Listener { name: name.clone(), address: address.clone() })
            .collect(),
        store_bytes: usage.bytes,
        store_max_bytes: usage.max_bytes,
        clients: hub.clients().len(),
        modules: hub.modules().count(),
    })
}
