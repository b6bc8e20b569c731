//! Errors as IoT Hub writes them: what service and device SDKs read.

use crate::problem::Problem;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::borrow::Cow;
use weir_core::error_code::ErrorCode;
use weir_core::method::MethodProblem;
use weir_hub::{CommandError, ConnectError, MethodError};

/// An answer that says no: `{"Message":"ErrorCode:<name>;<text>"}`.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    code: &'static str,
    text: Cow<'static, str>,
}

impl Refusal {
    /// `code` is a name of IoT Hub's, such as `DeviceNotFound`; SDKs look at it for some of them.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, code, text: text.into() }
    }

    /// 400.
    pub(crate) fn invalid(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ArgumentInvalid", text)
    }

    /// 401. The log knows why.
    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "IotHubUnauthorizedAccess", "Unauthorized")
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// 413.
    pub(crate) fn too_large(text: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "MessageTooLarge", text)
    }
}

impl From<MethodProblem> for Refusal {
    fn from(problem: MethodProblem) -> Self {
        Self::invalid(problem.to_string())
    }
}

impl From<MethodError> for Refusal {
    fn from(error: MethodError) -> Self {
        Self::new(status_of(error.status()), error.iothub_code().0, error.to_string())
    }
}

impl From<CommandError> for Refusal {
    fn from(error: CommandError) -> Self {
        Self::new(status_of(error.status()), error.iothub_code().0, error.to_string())
    }
}

impl From<ConnectError> for Refusal {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Full | ConnectError::NotReady => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string())
            }
            ConnectError::WasmModule => Self::unauthorized(),
        }
    }
}

impl From<Problem> for Refusal {
    /// Of a body that could not be read.
    fn from(problem: Problem) -> Self {
        match problem.code() {
            ErrorCode::TooLarge => Self::too_large(problem.body().detail.clone()),
            _ => Self::invalid(problem.body().detail.clone()),
        }
    }
}

fn status_of(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = format!("ErrorCode:{};{}", self.code, self.text);
        (self.status, Json(json!({ "Message": message, "ExceptionMessage": "" }))).into_response()
    }
}
