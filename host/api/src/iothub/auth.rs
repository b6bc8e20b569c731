//! The gate of the service paths: a token of a shared access policy, and the rights of that policy.

use super::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use weir_hub::authorize::{Operation, Protocol};
use weir_hub::{Hub, ServicePolicy};

/// What a path asks of its callers.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) hub: Hub,
    /// What the caller's policy must allow; none: any policy will do.
    pub(super) needs: Option<Operation>,
}

/// Who calls; in the request's extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller(&'static ServicePolicy);

impl Caller {
    /// His name in the history of what he changes.
    pub(super) fn author(self) -> String {
        format!("service policy {}", self.0.name)
    }
}

/// Lets a request in whose token proves a policy that allows it.
pub(super) async fn guard(
    State(guard): State<Guard>,
    mut request: Request,
    next: Next,
) -> Response {
    match judge(&guard, &request) {
        Ok(policy) => {
            request.extensions_mut().insert(Caller(policy));
            next.run(request).await
        }
        Err(refusal) => {
            let path = request.uri().path();
            tracing::info!(method = %request.method(), path, why = refusal.text,
                "a service client is refused");
            refusal.into_response()
        }
    }
}

fn judge(guard: &Guard, request: &Request) -> Result<&'static ServicePolicy, Refusal> {
    let mut tokens = request.headers().get_all(header::AUTHORIZATION).iter();
    let (Some(token), None) = (tokens.next(), tokens.next()) else {
        return Err(Refusal::unauthorized("one Authorization header is needed"));
    };
    let token = token.to_str().unwrap_or_default();
    let path = request.uri().path();
    let policy = guard
        .hub
        .authenticate_service(token, path)
        .map_err(|refusal| Refusal::unauthorized(refusal.to_string()))?;
    match guard.needs {
        Some(needs) if !policy.may(needs, Protocol::Https) => {
            let name = policy.name;
            Err(Refusal::unauthorized(format!(
                "authorization rule '{name}' does not allow access for {} {path}; it may not {}",
                request.method(),
                needs.name()
            )))
        }
        _ => Ok(policy),
    }
}
