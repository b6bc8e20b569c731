//! `/api/v1/upstream`: the link to where messages leave the hub.

use crate::Api;
use crate::json::Json;
use crate::problem::Problem;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_hub::{Hub, UplinkView};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get, patch))
}

/// The upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Upstream, example = json!({
    "kind": "mqtt", "target": "mqtts://broker.example:8883", "state": "down",
    "since": "2026-05-04T10:00:00Z", "reason": "connection refused",
    "waiting": 120, "waitingBytes": 40960
}))]
struct View {
    /// `file`, `mqtt`, … or `none`.
    kind: &'static str,
    /// Where it leads.
    target: String,
    /// `up`, `down`, `idle` (not tried yet), `paused` or `none`.
    state: &'static str,
    /// Since when it is up or down.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Messages that wait for it.
    waiting: u64,
    /// Bytes that wait for it.
    waiting_bytes: u64,
}

impl From<UplinkView> for View {
    fn from(view: UplinkView) -> Self {
        let UplinkView { kind, target, state, since, reason, waiting, waiting_bytes } = view;
        Self { kind, target, state, since, reason, waiting, waiting_bytes }
    }
}

/// What is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = UpstreamPatch, example = json!({"paused": true}))]
struct Patch {
    /// True cuts the link: messages wait. It stays so over restarts.
    paused: bool,
}

/// Shows the upstream.
#[utoipa::path(get, path = "/upstream", operation_id = "getUpstream", tag = "upstream",
    security(("token" = ["upstream:read"])),
    responses((status = 200, description = "The upstream", body = View)))]
async fn get(State(hub): State<Hub>) -> Json<View> {
    Json(hub.uplink().into())
}

/// Cuts the link to the upstream, or mends it.
#[utoipa::path(patch, path = "/upstream", operation_id = "patchUpstream", tag = "upstream",
    security(("token" = ["upstream:write"])), request_body = Patch,
    responses((status = 200, description = "The upstream", body = View)))]
async fn patch(State(hub): State<Hub>, Json(patch): Json<Patch>) -> Result<Json<View>, Problem> {
    hub.keep_uplink_paused(patch.paused).await?;
    Ok(Json(hub.uplink().into()))
}
