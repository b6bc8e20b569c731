//! Health for supervisors and figures for monitoring.
//!
//! Ready means: the store can be written and the listeners are up. An upstream that is down is no
//! fault of a hub that is made to run without one; it is told, not judged.

use crate::json::Json;
use crate::problem::Problem;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use weir_core::limits;
use weir_hub::{Count, Hub};

/// A process that answers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "live"}))]
pub(crate) struct Live {
    /// Always `live`.
    status: &'static str,
}

/// How the hub is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "status": "degraded", "listening": true, "storeWritable": true,
    "fullQueues": [{"name": "iothub", "percent": 91}],
    "certificates": [{"name": "server", "expires": "2026-05-04T10:00:00Z", "days": 61}],
    "upstream": "down"
}))]
pub(crate) struct Ready {
    /// `ready`; `degraded`: ready, but something needs a look; `not-ready`.
    status: &'static str,
    /// The listeners are up and clients are let in.
    listening: bool,
    /// Messages can be taken in.
    store_writable: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_reason: Option<String>,
    /// What was found when a damaged store was opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    damage: Option<DamageView>,
    /// Entries lost since the start because the file is damaged.
    #[serde(skip_serializing_if = "is_zero")]
    damaged_entries: u64,
    /// Queues that are at 80 % of their limit and more.
    full_queues: Vec<FullQueue>,
    /// The certificates that clients see; one that ends within 30 days needs a look.
    certificates: Vec<CertificateView>,
    /// State of the link: `up`, `down`, `idle`, `paused` or `none`.
    upstream: &'static str,
}

/// A damaged store file that was put aside.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DamageView {
    /// What was wrong.
    what: String,
    /// Folder below `quarantine/` that holds the file.
    quarantined: String,
    /// Messages taken over.
    salvaged_messages: u64,
    /// Messages that are gone; a lower bound when `lostAtLeast`.
    lost_messages: u64,
    /// A part could not even be counted.
    lost_at_least: bool,
}

/// A queue that is nearly full.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FullQueue {
    /// Its name.
    name: String,
    /// Share of its limit.
    percent: u64,
}

/// A certificate of the hub.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CertificateView {
    /// `server`, or `edge_ca`, which has signed it.
    name: &'static str,
    /// When it ends.
    expires: String,
    /// Whole days until then; 0 when it has ended.
    days: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A queue that is this full makes the hub degraded.
const NEARLY_FULL_PERCENT: u64 = 80;

/// Says that the process answers.
#[utoipa::path(get, path = "/health/live", operation_id = "getLive", tag = "system", security(()),
    responses((status = 200, description = "It answers", body = Live)))]
pub(crate) async fn live() -> Json<Live> {
    Json(Live { status: "live" })
}

/// Says whether the hub takes messages, and what needs a look.
#[utoipa::path(get, path = "/health/ready", operation_id = "getReady", tag = "system", security(()),
    responses((status = 200, description = "It is ready", body = Ready),
              (status = 503, description = "It is not", body = Ready)))]
pub(crate) async fn ready(State(hub): State<Hub>) -> Response {
    let ready = judge(&hub);
    let status = match ready.status {
        "not-ready" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    (status, Json(ready)).into_response()
}

fn judge(hub: &Hub) -> Ready {
    let store = hub.store().health();
    let usage = hub.store().usage();
    let share = |bytes: u64, limit: u64| match limit {
        0 => 0,
        limit => u64::try_from(u128::from(bytes) * 100 / u128::from(limit)).unwrap_or(u64::MAX),
    };
    let queues = usage.queues.iter().filter_map(|queue| {
        let percent = share(queue.bytes, queue.limit.max_bytes?);
        Some(FullQueue { name: queue.name.clone(), percent })
    });
    let whole = FullQueue { name: "*".to_owned(), percent: share(usage.bytes, usage.max_bytes) };
    let full_queues: Vec<FullQueue> =
        queues.chain([whole]).filter(|queue| queue.percent >= NEARLY_FULL_PERCENT).collect();
    let damage = store.opened.damage.map(|damage| {
        let (lost_messages, lost_at_least) = match damage.lost_messages {
            Count::Known(count) => (count, false),
            Count::AtLeast(count) => (count, true),
        };
        DamageView {
            what: damage.what,
            quarantined: damage.quarantined,
            salvaged_messages: damage.salvaged_messages,
            lost_messages,
            lost_at_least,
        }
    });
    let listening = hub.is_ready();
    let now = hub.clock().now();
    let certificates = hub.certificates().ends().into_iter().map(|end| CertificateView {
        name: end.name,
        expires: end.expires.to_string(),
        days: end.expires.since(now).as_secs() / 86_400,
    });
    let certificates: Vec<CertificateView> = certificates.collect();
    let ending = certificates.iter().any(|end| end.days < limits::CERTIFICATE_WARNING_DAYS[0]);
    let degraded =
        !full_queues.is_empty() || damage.is_some() || store.damaged_entries > 0 || ending;
    Ready {
        status: match (listening && store.writable, degraded) {
            (false, _) => "not-ready",
            (true, true) => "degraded",
            (true, false) => "ready",
        },
        listening,
        store_writable: store.writable,
        store_reason: store.reason,
        damage,
        damaged_entries: store.damaged_entries,
        full_queues,
        certificates,
        upstream: hub.uplink().state,
    }
}

/// Gives all figures in OpenMetrics text.
///
/// Names that begin with `edgehub_` are IoT Edge's own.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "system",
    security(("token" = ["metrics:read"])),
    responses((status = 200, description = "OpenMetrics", body = String,
        content_type = "application/openmetrics-text",
        example = json!("weir_messages_accepted_total 12\n# EOF\n"))))]
pub(crate) async fn metrics(State(hub): State<Hub>) -> Result<Response, Problem> {
    let text = hub.metrics_text().map_err(|error| Problem::fault(&error))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
