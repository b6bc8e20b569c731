//! Cloud-to-device messages as far as IoT Hub has them over REST: the purge of a queue. They are sent,
//! and their feedback is received, over AMQP.

use super::json::{Json, Path};
use super::refusal::Refusal;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use weir_core::id::{DeviceId, Identity};
use weir_hub::{CommandError, Hub};

/// Removes what waits for a device.
pub(super) async fn purge(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
) -> Result<Json<Value>, Refusal> {
    let target = Identity::device(id);
    let purged = hub.commands().purge(&hub, &target).await?;
    Ok(Json(json!({
        "totalMessagesPurged": purged, "deviceId": target.device, "moduleId": null,
    })))
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        if let CommandError::Unknown(identity) = &error {
            return Self::unknown(identity);
        }
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
        let (code, _) = error.iothub_code();
        Self::new(status, code, error.to_string())
    }
}
