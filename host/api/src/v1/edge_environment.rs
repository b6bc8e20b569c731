//! `/api/v1/edge-environment/{module}`: what IoT Edge would set for a module that it starts.
//!
//! Nothing in it is secret: the module's key stays in the hub and signs through the workload API.

use super::identity;
use crate::Api;
use crate::extract::{Path, Query};
use crate::json::Json;
use crate::problem::Problem;
use crate::workload::socket_path;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::id::{Identity, ModuleId};
use weir_core::identity::Authentication;

/// The latest that the workload API speaks.
const API_VERSION: &str = "2021-12-07";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get))
}

/// How the module reaches the workload API.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// By its own Unix socket.
    #[default]
    Unix,
    /// By the port for all modules.
    Http,
}

/// What is wished.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentQuery {
    /// `unix` (default) or `http`.
    #[serde(default)]
    #[param(inline)]
    transport: Transport,
}

/// Variables of the environment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"variables": {"IOTEDGE_MODULEID": "sender", "IOTEDGE_DEVICEID": "edge"}}))]
pub(crate) struct EdgeEnvironment {
    /// Names and values.
    variables: BTreeMap<&'static str, String>,
}

/// Gives the variables with which a module of the edge device starts without a connection string.
#[utoipa::path(get, path = "/edge-environment/{module}", operation_id = "getEdgeEnvironment",
    tag = "devices", security(("token" = ["devices:read"])),
    params(("module" = String, Path, description = "Id of the module"), EnvironmentQuery),
    responses((status = 200, description = "The variables", body = EdgeEnvironment)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn get(
    State(api): State<Api>,
    Path(module): Path<ModuleId>,
    Query(query): Query<EnvironmentQuery>,
) -> Result<Json<EdgeEnvironment>, Problem> {
    let hub = api.hub();
    let id = Identity::module(hub.edge_device().clone(), module.clone());
    let record = identity::find(hub, &id)?.record;
    if !matches!(record.authentication, Authentication::Sas { .. }) {
        let text = format!("{id} has no keys to sign with");
        return Err(Problem::new(ErrorCode::Conflict, text));
    }
    let workload = &api.options().workload;
    let uri = match query.transport {
        Transport::Unix => workload.sockets.as_ref().map(|folder| {
            let path = socket_path(folder, &module);
            format!("unix://{}", path.display())
        }),
        Transport::Http => workload.http.map(|address| format!("http://{address}/")),
    };
    let uri = uri.ok_or_else(|| {
        let text = "the workload API is not served in this way; see [workload] of the hub's file";
        Problem::new(ErrorCode::Conflict, text)
    })?;
    let config = hub.config();
    let variables = [
        ("IOTEDGE_APIVERSION", API_VERSION.to_owned()),
        ("IOTEDGE_AUTHSCHEME", "sasToken".to_owned()),
        ("IOTEDGE_DEVICEID", id.device.to_string()),
        ("IOTEDGE_GATEWAYHOSTNAME", config.hostname.clone()),
        ("IOTEDGE_IOTHUBHOSTNAME", config.iothub_hostname.clone()),
        ("IOTEDGE_MODULEGENERATIONID", record.generation_id.clone()),
        ("IOTEDGE_MODULEID", module.to_string()),
        ("IOTEDGE_WORKLOADURI", uri),
    ];
    Ok(Json(EdgeEnvironment { variables: BTreeMap::from(variables) }))
}
