//! Errors as IoT Hub writes them: what service and device SDKs read.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::borrow::Cow;

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

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// 404 for a path that leads nowhere.
    pub(crate) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", "there is nothing at this path")
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let message = format!("ErrorCode:{};{}", self.code, self.text);
        (self.status, Json(json!({ "Message": message, "ExceptionMessage": "" }))).into_response()
    }
}
