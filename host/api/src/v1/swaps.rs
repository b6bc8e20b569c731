//! `/api/v1/modules/{name}/swaps`: exchanging the version of a running module.
//!
//! The caller waits for the switch. When that takes longer than he wants to wait, the swap goes on as
//! an operation.

use super::module::Module;
use super::module_spec::ModuleSpecForm;
use super::operations::OperationView;
use crate::etag::{IfMatch, Precondition};
use crate::extract::{Path, Query};
use crate::json::Json;
use crate::problem::Problem;
use crate::{Api, finish};
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::error_code::ErrorCode;
use weir_core::id::ModuleId;
use weir_core::module::ModuleSpec;
use weir_hub::tasks::TaskKind;
use weir_hub::{Expect, Hub, ModuleChange, Operation, Progress};

const OPERATION_LOCATION: HeaderName = HeaderName::from_static("operation-location");
const DEFAULT_WAIT_SECS: u32 = 20;
/// Less than the time of a whole request.
const MAX_WAIT_SECS: u32 = 50;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create))
}

/// What is to take over: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SwapBody, example = json!({
    "component": "sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"
}))]
struct Body {
    /// Another component, the rest of the specification as it is.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    component: Option<Digest>,
    /// Another specification.
    #[serde(default)]
    #[schema(value_type = Option<ModuleSpecForm>)]
    spec: Option<ModuleSpec>,
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// Seconds to wait for the switch before the answer is 202: 0 to 50; 20 when left out.
    #[param(minimum = 0, maximum = 50)]
    wait: Option<u32>,
}

/// A swap that is done.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "module": "filter", "change": "switched", "version": 3, "onProbation": true,
    "component": "sha256:0f0f…"
}))]
struct Swap {
    /// The module.
    module: String,
    /// `switched`, or `unchanged`: it was exactly so already.
    change: &'static str,
    /// The version in force now.
    version: u32,
    /// A fault now brings the version before it back.
    on_probation: bool,
    /// The component in force now.
    component: String,
}

enum To {
    Component(Digest),
    Spec(Box<ModuleSpec>),
}

/// Exchanges the version of a module.
///
/// The new version is made aside; it takes over between two batches, in one transaction. Nothing is lost
/// and nothing doubled. When it does not start, the old one goes on and the answer says why.
#[utoipa::path(post, path = "/modules/{name}/swaps", operation_id = "swapModule", tag = "modules",
    security(("token" = ["modules:write"])), request_body = Body,
    params(("name" = String, Path, description = "Name of the module"), WaitQuery, IfMatch),
    responses((status = 200, description = "The switch is done", body = Swap),
              (status = 202, description = "It goes on as an operation", body = OperationView)),
    extensions(("x-errors" = json!(["module-spec", "policy-denied", "component-refused",
        "not-found", "swap-failed", "module-not-running"]))))]
async fn create(
    State(api): State<Api>,
    Path(name): Path<ModuleId>,
    Query(query): Query<WaitQuery>,
    Precondition(expect): Precondition,
    Json(body): Json<Body>,
) -> Result<Response, Problem> {
    let wait = query.wait.unwrap_or(DEFAULT_WAIT_SECS);
    if wait > MAX_WAIT_SECS {
        let detail = format!("wait must be 0 to {MAX_WAIT_SECS}");
        return Err(Problem::invalid(detail).parameter("wait"));
    }
    let to = match (body.component, body.spec) {
        (Some(component), None) => To::Component(component),
        (None, Some(spec)) => To::Spec(Box::new(spec)),
        _ => return Err(Problem::invalid("name either a component or a spec")),
    };
    let hub = api.hub().clone();
    // A swap never installs.
    hub.modules().get(&hub, &name).await?;
    let began = hub.clock().now();
    let (done, mut outcome) = oneshot::channel();
    let (working, module) = (hub.clone(), name.clone());
    hub.tasks().spawn(TaskKind::PerClient, "swap", move |_| async move {
        drop(done.send(swap(&working, &module, to, expect).await));
    });
    let patience = Duration::from_secs(u64::from(wait));
    match tokio::time::timeout(patience, &mut outcome).await {
        Ok(Ok(done)) => Ok(Json(done?).into_response()),
        Ok(Err(_)) => Err(finish::unfinished(&api)),
        Err(_) => go_on(&api, &name, began, outcome).await,
    }
}

async fn swap(hub: &Hub, name: &ModuleId, to: To, expect: Expect) -> Result<Swap, Problem> {
    let change = match to {
        To::Component(component) => hub.modules().swap(hub, name, component, expect).await?,
        To::Spec(spec) => hub.modules().put(hub, name, *spec, expect).await?,
    };
    let now = Module::from(hub.modules().get(hub, name).await?);
    Ok(Swap {
        module: now.name,
        change: match change {
            ModuleChange::Installed => "installed",
            ModuleChange::Switched => "switched",
            ModuleChange::Unchanged => "unchanged",
        },
        version: now.version,
        on_probation: now.on_probation,
        component: now.spec.component.to_string(),
    })
}

async fn go_on(
    api: &Api,
    name: &ModuleId,
    began: Timestamp,
    outcome: oneshot::Receiver<Result<Swap, Problem>>,
) -> Result<Response, Problem> {
    let hub = api.hub().clone();
    let target = format!("/api/v1/modules/{name}");
    let operation = hub.operations().begin(&hub, "swap", target, began).await?;
    let (working, running) = (api.clone(), operation.clone());
    hub.tasks().spawn(TaskKind::PerClient, "swap-operation", move |_| async move {
        record(&working, running, outcome).await;
    });
    let location = format!("/api/v1/operations/{}", operation.id);
    let headers = [
        (header::LOCATION, location.clone()),
        (OPERATION_LOCATION, location),
        (header::RETRY_AFTER, "1".to_owned()),
    ];
    let body = Json(OperationView::from(operation));
    Ok((StatusCode::ACCEPTED, headers, body).into_response())
}

async fn record(
    api: &Api,
    operation: Operation,
    outcome: oneshot::Receiver<Result<Swap, Problem>>,
) {
    let progress = match outcome.await {
        Ok(Ok(swap)) => {
            Progress::Succeeded { result: format!("{} to version {}", swap.change, swap.version) }
        }
        Ok(Err(problem)) => {
            let detail = problem.body().detail.clone();
            Progress::Failed { code: problem.code(), detail }
        }
        Err(_) => Progress::Failed {
            code: ErrorCode::Internal,
            detail: "the swap was cut off".to_owned(),
        },
    };
    if let Err(error) = api.hub().operations().end(api.hub(), operation, progress).await {
        tracing::warn!(%error, "the end of an operation could not be written");
    }
}
