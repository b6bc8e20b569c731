//! `POST /devices/{id}/applyConfigurationContent`: a deployment's content for one edge device, applied
//! now. Answered with 204 when all of it is in force, and with 400 when none of it is.

use super::auth::Caller;
use super::json::{Path, Raw, parse};
use super::refusal::Refusal;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;
use weir_core::id::{DeviceId, Identity};
use weir_hub::{ConfigurationError, Hub, Manifest};

/// Applies the content.
pub(super) async fn apply(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Extension(caller): Extension<Caller>,
    Raw(body): Raw,
) -> Result<StatusCode, Refusal> {
    let identity = Identity::device(id);
    if hub.identities().get(&identity).is_none() {
        return Err(Refusal::unknown(&identity));
    }
    if identity.device != *hub.edge_device() {
        let own = hub.edge_device();
        return Err(invalid(format!("this hub can configure its own edge device {own} only")));
    }
    let content: Value = parse(&body)?;
    let manifest = Manifest::parse(&content).map_err(ConfigurationError::Refused)?;
    hub.apply_configuration(manifest, &caller.author()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn invalid(text: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "InvalidConfigurationContent", text)
}

impl From<ConfigurationError> for Refusal {
    fn from(error: ConfigurationError) -> Self {
        match error {
            ConfigurationError::Refused(_) => invalid(error.to_string()),
            ConfigurationError::Twin(cause) => cause.into(),
            ConfigurationError::Identity(cause) => cause.into(),
            ConfigurationError::Routes(weir_hub::RouteError::Store(cause)) => Self::store(&cause),
            ConfigurationError::Routes(_) => invalid(error.to_string()),
            ConfigurationError::Unanswered => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
            }
        }
    }
}
