//! `GET /modules`: the modules of the edge device, with their type and whether they run.

use super::Workload;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use weir_core::limits;

pub(super) async fn list(State(workload): State<Workload>) -> Json<Value> {
    let hub = workload.hub();
    let mut found = BTreeMap::new();
    for module in hub.identities().modules(hub.edge_device(), None, limits::PAGE_ITEMS) {
        let identity = module.record.identity.clone();
        let is_connected = hub.clients().iter().any(|client| client.identity == identity);
        let status = if is_connected { "running" } else { "unknown" };
        found.insert(identity.module, ("docker", status));
    }
    for module in hub.modules().list(hub).await.unwrap_or_default() {
        found.insert(Some(module.name), ("wasm", "running"));
    }
    let modules: Vec<Value> = found
        .into_iter()
        .filter_map(|(name, (kind, status))| {
            let status = json!({ "runtimeStatus": { "status": status } });
            Some(json!({ "name": name?, "type": kind, "status": status }))
        })
        .collect();
    Json(json!({ "modules": modules }))
}
