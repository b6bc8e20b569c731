//! The gate of the service paths: a token of a shared access policy, and the rights of that policy.

use super::refusal::Refusal;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use weir_hub::{Hub, Rights, ServicePolicy};

/// What a path asks of its callers.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) hub: Hub,
    /// None: any policy will do.
    pub(super) needs: Option<Rights>,
}

/// Lets a request in whose token proves a policy that allows it.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    match judge(&guard, &request) {
        Ok(_) => next.run(request).await,
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
        Some(needs) if !policy.rights.cover(needs) => {
            let name = policy.name;
            Err(Refusal::unauthorized(format!(
                "authorization rule '{name}' does not allow access for {} {path}; it needs {needs}",
                request.method()
            )))
        }
        _ => Ok(policy),
    }
}
