//! What a service client gets when something goes wrong: IoT Hub's error body.
//!
//! `{"Message":"ErrorCode:<name>;<text>","ExceptionMessage":"Tracking ID:…-TimeStamp:…"}`. The SDKs
//! read the status, and Node the name of a 404. A [`Refusal`] is written out by [`super::finish`], which
//! knows the time and the trace id.

use crate::problem::Problem;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use weir_core::error_code::ErrorCode;
use weir_core::id::Identity;
use weir_hub::{IdentityError, StoreError};

/// A refusal or failure on its way out.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// IoT Hub's name of the error.
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into() }
    }

    /// The request is not of the documented form.
    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "ArgumentInvalid", text)
    }

    /// No or a wrong token, or one whose policy does not allow the operation. IoT Hub makes no
    /// difference of these, and its SDKs take 403 for a quota.
    pub(super) fn unauthorized(text: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "IotHubUnauthorizedAccess", text)
    }

    /// There is no such device or module.
    pub(super) fn unknown(identity: &Identity) -> Self {
        let code = if identity.module.is_some() { "ModuleNotFound" } else { "DeviceNotFound" };
        Self::new(StatusCode::NOT_FOUND, code, format!("{identity} is not registered"))
    }

    /// What is to be made is there already.
    pub(super) fn exists(identity: &Identity) -> Self {
        let code = match identity.module {
            Some(_) => "ModuleAlreadyExistsOnDevice",
            None => "DeviceAlreadyExists",
        };
        Self::new(StatusCode::CONFLICT, code, format!("{identity} is already registered"))
    }

    /// `If-Match` names another version.
    pub(super) fn stale(what: impl std::fmt::Display) -> Self {
        let text = format!("the version of {what} is another one than If-Match names");
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", text)
    }

    /// The present state does not allow it.
    pub(super) fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "OperationNotAllowedInCurrentState", text)
    }

    /// Weir has no such function.
    pub(super) fn absent(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", text)
    }

    /// A fault of the hub; its causes go to the log.
    pub(super) fn fault(error: &dyn std::error::Error) -> Self {
        Problem::fault(error).into()
    }

    pub(super) fn store(error: &StoreError) -> Self {
        tracing::warn!(%error, "the store did not serve a service client");
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            "the store cannot be used at present",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Problem> for Refusal {
    /// The native API's words with IoT Hub's names.
    fn from(problem: Problem) -> Self {
        let body = problem.body();
        let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::BAD_REQUEST);
        let place = body.errors.first().and_then(|error| error.pointer.as_deref());
        let text = match place {
            Some(pointer) if !pointer.is_empty() => format!("{pointer}: {}", body.detail),
            _ => body.detail.clone(),
        };
        match body.code {
            ErrorCode::TooLarge => Self::new(status, "MessageTooLarge", text),
            ErrorCode::Internal => Self::new(status, "ServerError", text),
            ErrorCode::StoreUnavailable | ErrorCode::QueueFull | ErrorCode::NotReady => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text)
            }
            ErrorCode::Conflict => Self::conflict(text),
            _ => Self::invalid(text),
        }
    }
}

impl From<IdentityError> for Refusal {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Unknown(identity) => Self::unknown(&identity),
            IdentityError::NoDevice(device) => Self::unknown(&Identity::device(device)),
            IdentityError::Mismatch { identity, .. } => Self::stale(identity),
            IdentityError::Authentication(_) => Self::invalid(error.to_string()),
            IdentityError::HasModules(_)
            | IdentityError::IsEdge(_)
            | IdentityError::IsWasm(_)
            | IdentityError::NoKeys(_)
            | IdentityError::IsSystem(_) => Self::conflict(error.to_string()),
            IdentityError::Random => Self::fault(&error),
            IdentityError::Store(cause) => Self::store(&cause),
        }
    }
}
