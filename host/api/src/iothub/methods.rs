//! `/twins/{id}[/modules/{module}]/methods`: a back end calls a direct method.

use super::json::{Path, Raw};
use super::refusal::Refusal;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::method::MethodCall;
use weir_hub::{Hub, MethodError};

/// A method of a device.
pub(super) async fn device(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    body: Raw,
) -> Result<Response, Refusal> {
    invoke(&hub, Identity::device(id), body).await
}

/// A method of a module.
pub(super) async fn module(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    body: Raw,
) -> Result<Response, Refusal> {
    invoke(&hub, Identity::module(id, module), body).await
}

async fn invoke(hub: &Hub, target: Identity, Raw(body): Raw) -> Result<Response, Refusal> {
    let call = MethodCall::from_json(&body);
    let call = call.map_err(|problem| Refusal::invalid(problem.to_string()))?;
    let answer = hub.invoke(&target, call).await?;
    // Without this type the Node SDK gives its caller an empty text.
    let kind = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    Ok((kind, answer.to_json()).into_response())
}

impl From<MethodError> for Refusal {
    fn from(error: MethodError) -> Self {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let (code, _) = error.iothub_code();
        Self::new(status, code, error.to_string())
    }
}
