//! `/statistics`: how many devices there are and how many are connected.

use super::identity::Presence;
use super::json::Json;
use axum::extract::State;
use serde_json::{Value, json};
use weir_core::identity::Status;
use weir_hub::Hub;

/// Devices by status.
pub(super) async fn devices(State(hub): State<Hub>) -> Json<Value> {
    let all = hub.identities().devices(None, usize::MAX);
    let disabled = all.iter().filter(|found| found.record.status == Status::Disabled).count();
    Json(json!({
        "totalDeviceCount": all.len(),
        "enabledDeviceCount": all.len() - disabled,
        "disabledDeviceCount": disabled,
    }))
}

/// Devices that are connected.
pub(super) async fn service(State(hub): State<Hub>) -> Json<Value> {
    Json(json!({ "connectedDeviceCount": Presence::of(&hub).devices() }))
}
