//! `/api/v1/method-calls`: direct methods of devices and modules.

use crate::Api;
use crate::json::Json;
use crate::problem::Problem;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::method::{MethodCall, MethodProblem};
use weir_hub::Hub;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(call))
}

/// A call of a method.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = MethodCall, example = json!({
    "deviceId": "sensor-1", "methodName": "calibrate", "payload": {"zero": true},
    "connectTimeoutInSeconds": 10, "responseTimeoutInSeconds": 30
}))]
struct CallBody {
    /// The target's device.
    #[schema(value_type = String)]
    device_id: DeviceId,
    /// The target, where it is a module.
    #[schema(value_type = Option<String>)]
    module_id: Option<ModuleId>,
    /// Up to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    method_name: String,
    /// Any JSON of up to 128 KiB; null when it is left out.
    #[schema(value_type = Option<Object>)]
    payload: Option<Box<RawValue>>,
    /// How long the call waits for the answer; 30 when it is left out.
    #[schema(minimum = 5, maximum = 300)]
    response_timeout_in_seconds: Option<i64>,
    /// How long it waits before for the target to connect; 0 when it is left out.
    #[schema(minimum = 0, maximum = 300)]
    connect_timeout_in_seconds: Option<i64>,
}

/// What the client answered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MethodAnswer, example = json!({"status": 200, "payload": {"zero": 0.02}}))]
struct Answer {
    /// The client's own number, whatever it means by it.
    status: i32,
    /// Its JSON.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
}

/// Calls a method of a device or a module and waits for its answer.
///
/// The call is handed over once, to a client that is connected and takes methods; nothing is queued.
/// An answer of the client is 200 here, whatever its own status says.
#[utoipa::path(post, path = "/method-calls", operation_id = "callMethod", tag = "methods",
    security(("token" = ["methods:write"])), request_body = CallBody,
    responses((status = 200, description = "The client has answered", body = Answer)),
    extensions(("x-errors" = json!([
        "not-found", "not-connected", "method-timeout", "method-failed", "too-many-requests"
    ]))))]
async fn call(State(hub): State<Hub>, Json(body): Json<CallBody>) -> Result<Json<Answer>, Problem> {
    let payload = body.payload.as_deref().map_or("null", RawValue::get);
    let call = MethodCall::of(
        &body.method_name,
        payload.as_bytes(),
        body.connect_timeout_in_seconds,
        body.response_timeout_in_seconds,
    )?;
    let target = Identity { device: body.device_id, module: body.module_id };
    let answer = hub.invoke(&target, call).await?;
    let payload = std::str::from_utf8(&answer.payload).ok();
    let payload = payload.and_then(|text| RawValue::from_string(text.to_owned()).ok());
    // The hub has checked it.
    let payload = payload.ok_or(MethodProblem::PayloadForm)?;
    Ok(Json(Answer { status: answer.status, payload }))
}
