//! What a caller gets when something goes wrong: `application/problem+json` (RFC 9457).
//!
//! Every error of the hub becomes a [`Problem`] here, in one place. A problem is written out by
//! [`crate::finish`], which knows the request's path and trace id. Faults of the hub itself are logged with
//! their causes and shown without.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::error::Error;
use utoipa::ToSchema;
use weir_core::error_code::ErrorCode;
use weir_core::method::MethodProblem;
use weir_hub::{
    ArtifactError, CommandError, IdentityError, MethodError, ModuleError, ReplayError, RouteError,
    ServicePolicyError, StoreError, TokenError,
};

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Detail {
    /// JSON Pointer into the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pointer: Option<String>,
    /// Name of a query parameter, path segment or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parameter: Option<String>,
    /// Column in a text, from 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u32>,
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

/// A problem as it goes out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "/docs/errors/route-syntax", "title": "Route cannot be read", "status": 422,
    "detail": "route to-cloud: expected INTO at column 31", "code": "route-syntax",
    "instance": "/api/v1/routes/to-cloud", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "column": 31, "errors": [{"pointer": "/route", "column": 31, "message": "expected INTO"}]
}))]
pub(crate) struct Body {
    /// Page that explains the code; relative to the hub.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// Short and the same for each code.
    pub(crate) title: &'static str,
    /// HTTP status.
    pub(crate) status: u16,
    /// What is wrong this time.
    pub(crate) detail: String,
    /// Stable name.
    #[schema(value_type = String)]
    pub(crate) code: ErrorCode,
    /// Path of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) instance: Option<String>,
    /// Finds the request in the hub's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    /// Column of the first fault in a route or condition, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u32>,
    /// Everything that is wrong, where it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) errors: Vec<Detail>,
}

/// A refusal or failure on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<(Body, HeaderMap)>);

impl Problem {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let body = Body {
            kind: format!("/docs/errors/{code}"),
            title: code.title(),
            status: code.status(),
            detail: detail.into(),
            code,
            instance: None,
            trace_id: None,
            column: None,
            errors: Vec::new(),
        };
        let problem = Self(Box::new((body, HeaderMap::new())));
        match code {
            ErrorCode::Unauthorized => {
                problem.header(header::WWW_AUTHENTICATE, "Bearer realm=\"weir\"")
            }
            ErrorCode::NotReady => problem.header(header::RETRY_AFTER, "1"),
            ErrorCode::QueueFull | ErrorCode::StoreUnavailable => {
                problem.header(header::RETRY_AFTER, "5")
            }
            _ => problem,
        }
    }

    /// The request is not of the documented form.
    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    /// A fault of the hub; its causes go to the log.
    pub(crate) fn fault(error: &dyn Error) -> Self {
        tracing::error!(error = %Chain(error), "a request failed");
        Self::new(ErrorCode::Internal, "the hub failed; its log has the cause under the trace id")
    }

    pub(crate) fn code(&self) -> ErrorCode {
        self.0.0.code
    }

    pub(crate) fn body(&self) -> &Body {
        &self.0.0
    }

    pub(crate) fn with(mut self, detail: Detail) -> Self {
        self.0.0.column = self.0.0.column.or(detail.column);
        self.0.0.errors.push(detail);
        self
    }

    /// Names the place of the fault in the body.
    pub(crate) fn at(self, pointer: impl Into<String>) -> Self {
        let (pointer, message) = (Some(pointer.into()), self.0.0.detail.clone());
        self.with(Detail { pointer, message, ..Detail::default() })
    }

    /// Names the parameter that is at fault.
    pub(crate) fn parameter(self, name: impl Into<String>) -> Self {
        let (parameter, message) = (Some(name.into()), self.0.0.detail.clone());
        self.with(Detail { parameter, message, ..Detail::default() })
    }

    /// Adds a header; a value that cannot stand in one is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.0.1.insert(name, value);
        }
        self
    }

    /// A problem that was kept for a repeated request: the same, with the repeat's own place and trace.
    pub(crate) fn kept(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Kept {
            code: ErrorCode,
            detail: String,
            #[serde(default)]
            errors: Vec<Detail>,
        }
        let kept: Kept = serde_json::from_str(text).ok()?;
        Some(kept.errors.into_iter().fold(Self::new(kept.code, kept.detail), Self::with))
    }

    fn present(self, revision: Option<u64>) -> Self {
        match revision {
            Some(revision) => self.header(header::ETAG, crate::etag::of_revision(revision)),
            None => self,
        }
    }

    /// Writes it out, with what the request knows.
    pub(crate) fn write(mut self, instance: &str, trace_id: &str) -> Response {
        self.0.0.instance = Some(instance.to_owned());
        self.0.0.trace_id = Some(trace_id.to_owned());
        self.into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (body, headers) = &*self.0;
        let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_vec(body).unwrap_or_default();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response();
        response.headers_mut().extend(headers.clone());
        response.extensions_mut().insert(self);
        response
    }
}

/// An error with its causes, on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// From an error that has a code: what is the hub's own fault is logged, the rest is said.
fn from_error(code: ErrorCode, error: &dyn Error) -> Problem {
    match code {
        ErrorCode::Internal => Problem::fault(error),
        ErrorCode::StoreUnavailable => {
            tracing::warn!(error = %Chain(error), "the store refused a request");
            Problem::new(code, error.to_string())
        }
        _ => Problem::new(code, error.to_string()),
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable { .. } => ErrorCode::StoreUnavailable,
            StoreError::UnknownEndpoint => ErrorCode::NotFound,
            StoreError::Closed => ErrorCode::NotReady,
            StoreError::InUse
            | StoreError::NewerSchema { .. }
            | StoreError::Directory { .. }
            | StoreError::Database { .. }
            | StoreError::Damaged { .. }
            | StoreError::ReaderTaken => ErrorCode::Internal,
        };
        from_error(code, &error)
    }
}

impl From<IdentityError> for Problem {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(cause) => cause.into(),
            IdentityError::Mismatch { present, .. } => {
                from_error(error.code(), &error).present(present)
            }
            IdentityError::Authentication(_) => {
                from_error(error.code(), &error).at("/authentication")
            }
            IdentityError::Unknown(_)
            | IdentityError::NoDevice(_)
            | IdentityError::HasModules(_)
            | IdentityError::IsEdge(_)
            | IdentityError::IsWasm(_)
            | IdentityError::IsSystem(_)
            | IdentityError::NoKeys(_)
            | IdentityError::Random => from_error(error.code(), &error),
        }
    }
}

impl From<ModuleError> for Problem {
    fn from(error: ModuleError) -> Self {
        match error {
            ModuleError::Store(cause) => cause.into(),
            ModuleError::Mismatch { present, .. } => {
                from_error(error.code(), &error).present(present)
            }
            ModuleError::Spec(problems) => {
                let code = ModuleError::Spec(problems.clone()).code();
                let detail = problems.first().map(|first| {
                    format!("{} {}", first.pointer, first.message).trim_start().to_owned()
                });
                let problem = Problem::new(code, detail.unwrap_or_default());
                problems.into_iter().fold(problem, |problem, one| {
                    problem.with(Detail {
                        pointer: Some(one.pointer),
                        message: one.message,
                        ..Detail::default()
                    })
                })
            }
            ModuleError::Component(_)
            | ModuleError::Start(_)
            | ModuleError::Unknown(_)
            | ModuleError::TooMany
            | ModuleError::Stopping(_) => from_error(error.code(), &error),
        }
    }
}

impl From<ArtifactError> for Problem {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Store(cause) => cause.into(),
            ArtifactError::Digest { .. }
            | ArtifactError::TooLarge { .. }
            | ArtifactError::Refused(_)
            | ArtifactError::Unknown(_)
            | ArtifactError::InUse { .. } => from_error(error.code(), &error),
        }
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        match &error {
            RouteError::Syntax { cause, .. } => from_error(error.code(), &error).with(Detail {
                pointer: Some("/route".to_owned()),
                column: Some(cause.column()),
                message: cause.caret(),
                help: cause.help().map(str::to_owned),
                ..Detail::default()
            }),
            RouteError::Priority { .. } => from_error(error.code(), &error).at("/priority"),
            RouteError::Target { .. } => from_error(error.code(), &error).at("/route"),
            RouteError::Mismatch { present, .. } => {
                from_error(error.code(), &error).present(*present)
            }
            RouteError::Store(_) => match error {
                RouteError::Store(cause) => cause.into(),
                other => from_error(other.code(), &other),
            },
            RouteError::TooMany | RouteError::Unknown(_) => from_error(error.code(), &error),
        }
    }
}

impl From<TokenError> for Problem {
    fn from(error: TokenError) -> Self {
        let problem = |error: TokenError| from_error(error.code(), &error);
        match error {
            TokenError::Store(cause) => cause.into(),
            TokenError::Mismatch(present) => problem(error).present(present),
            TokenError::Name => problem(error).at("/name"),
            TokenError::Scopes | TokenError::Beyond(_) => problem(error).at("/scopes"),
            TokenError::Past => problem(error).at("/expiresInSecs"),
            TokenError::TooMany | TokenError::Unknown(_) | TokenError::Random => problem(error),
        }
    }
}

impl From<ServicePolicyError> for Problem {
    fn from(error: ServicePolicyError) -> Self {
        match error {
            ServicePolicyError::Store(cause) => cause.into(),
            ServicePolicyError::Unknown | ServicePolicyError::Random => {
                from_error(error.code(), &error)
            }
        }
    }
}

impl From<MethodError> for Problem {
    fn from(error: MethodError) -> Self {
        from_error(error.code(), &error)
    }
}

impl From<MethodProblem> for Problem {
    fn from(error: MethodProblem) -> Self {
        let pointer = match &error {
            MethodProblem::Body(_) => "",
            MethodProblem::NameLength { .. } | MethodProblem::NameCharacter => "/methodName",
            MethodProblem::PayloadSize { .. } | MethodProblem::PayloadForm => "/payload",
            MethodProblem::TimeOut { field: "connectTimeoutInSeconds", .. } => {
                "/connectTimeoutInSeconds"
            }
            MethodProblem::TimeOut { .. } => "/responseTimeoutInSeconds",
        };
        Self::invalid(error.to_string()).at(pointer)
    }
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Store(cause) => cause.into(),
            CommandError::Ack => from_error(error.code(), &error).at("/ack"),
            CommandError::Expiry => from_error(error.code(), &error).at("/expiresInSecs"),
            CommandError::Unknown(_)
            | CommandError::TooLarge { .. }
            | CommandError::QueueFull(_)
            | CommandError::LockLost
            | CommandError::StoreFull
            | CommandError::Unavailable => from_error(error.code(), &error),
        }
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Store(cause) => cause.into(),
            ReplayError::Unknown(_) | ReplayError::Full | ReplayError::Unavailable => {
                from_error(error.code(), &error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_has_the_documented_members_and_no_others() {
        let problem = Problem::new(ErrorCode::RouteSyntax, "route x: expected INTO at column 31")
            .with(Detail {
                pointer: Some("/route".to_owned()),
                column: Some(31),
                message: "expected INTO".to_owned(),
                ..Detail::default()
            });
        let json = serde_json::to_value(problem.body()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "type": "/docs/errors/route-syntax", "title": "Route cannot be read",
                "status": 422, "code": "route-syntax",
                "detail": "route x: expected INTO at column 31", "column": 31,
                "errors": [{"pointer": "/route", "column": 31, "message": "expected INTO"}],
            })
        );
    }

    #[test]
    fn a_fault_of_the_hub_shows_nothing_of_its_cause() {
        let cause = std::io::Error::other("/var/lib/weir/secret");
        let json = serde_json::to_string(Problem::fault(&cause).body()).unwrap();
        assert!(!json.contains("secret"), "{json}");
    }
}
