//! Who may do what: every request passes here before its handler.
//!
//! Which scope an operation needs stands in its `security` attribute, and so in the OpenAPI document;
//! [`Access`] is read out of that document, so that the two cannot differ. Invariant: an operation that
//! is not in the table is not reached.

use crate::Api;
use crate::problem::Problem;
use crate::rate::Quota;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use weir_core::error_code::ErrorCode;
use weir_hub::{Caller, Hub, Scope, Topic};

/// Name of the security scheme in the OpenAPI document.
pub(crate) const SCHEME: &str = "token";

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Nothing: it is open.
    Nothing,
    /// A token with this scope.
    Scope(Scope),
}

/// The table of operations and what they need.
#[derive(Debug, Default)]
pub(crate) struct Access(HashMap<String, Vec<(Method, Needed)>>);

impl Access {
    /// Reads the table out of an OpenAPI document.
    ///
    /// # Panics
    /// When an operation does not say what it needs: a fault of the source that every test meets.
    pub(crate) fn of(document: &Value) -> Self {
        let mut table = HashMap::<String, Vec<(Method, Needed)>>::new();
        for (path, method, operation) in crate::openapi::operations(document) {
            let method = Method::from_bytes(method.to_uppercase().as_bytes());
            let method = method.expect("the document has HTTP methods");
            let needed = needed(operation).expect("every operation names its scope");
            table.entry(path.to_owned()).or_default().push((method, needed));
        }
        Self(table)
    }

    fn needed(&self, path: &str, method: &Method) -> Option<Needed> {
        // Whoever may GET may ask for the head alone.
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let methods = self.0.get(path)?;
        methods.iter().find(|(known, _)| known == method).map(|(_, needed)| *needed)
    }

    fn allowed(&self, path: &str) -> String {
        let methods = self.0.get(path).map(Vec::as_slice).unwrap_or_default();
        let mut names: Vec<&str> = methods.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.sort_unstable();
        names.join(", ")
    }
}

fn needed(operation: &Value) -> Option<Needed> {
    let security = operation.get("security")?.as_array()?;
    let Some(requirement) = security.first() else { return Some(Needed::Nothing) };
    let scope = requirement.get(SCHEME)?.as_array()?.first()?.as_str()?;
    Some(Needed::Scope(scope.parse().ok()?))
}

/// Lets a request through to its handler, with its [`Caller`], or answers why not.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    let needed = match api.access().needed(path.as_str(), request.method()) {
        Some(needed) => needed,
        None => return method_not_allowed(api.access(), path.as_str()).into_response(),
    };
    if let Needed::Scope(scope) = needed {
        let caller = match authenticate(api.hub(), request.headers()) {
            Ok(caller) => caller,
            Err(problem) => return problem.into_response(),
        };
        let quota = api.rates().take(&caller.token);
        let deed = Deed::of(&request, &caller);
        let mut response = match admit(&caller, quota, scope) {
            Ok(()) => {
                request.extensions_mut().insert(caller);
                next.run(request).await
            }
            Err(problem) => problem.into_response(),
        };
        if let Some(deed) = deed {
            deed.tell(api.hub(), response.status());
        }
        quota.write(response.headers_mut());
        return response;
    }
    next.run(request).await
}

/// A change that somebody wants, for those who look on.
struct Deed {
    what: &'static str,
    path: String,
    token: String,
}

impl Deed {
    fn of(request: &Request, caller: &Caller) -> Option<Self> {
        let what = match *request.method() {
            Method::PUT => "put",
            Method::POST => "post",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return None,
        };
        let path = request.uri().path().chars().take(512).collect();
        Some(Self { what, path, token: caller.token.clone() })
    }

    fn tell(self, hub: &Hub, status: StatusCode) {
        let data = json!({"token": self.token, "status": status.as_u16()});
        hub.tell(Topic::Audit, self.what, self.path, data);
    }
}

fn method_not_allowed(access: &Access, path: &str) -> Problem {
    let allowed = access.allowed(path);
    Problem::new(ErrorCode::MethodNotAllowed, format!("the path has the methods {allowed}"))
        .header(header::ALLOW, allowed)
}

fn admit(caller: &Caller, quota: Quota, scope: Scope) -> Result<(), Problem> {
    if let Some(wait) = quota.wait {
        return Err(Problem::new(ErrorCode::TooManyRequests, "the token is used too often")
            .header(header::RETRY_AFTER, wait.as_secs().max(1).to_string()));
    }
    match caller.may(scope) {
        true => Ok(()),
        false => Err(Problem::new(
            ErrorCode::Forbidden,
            format!("this needs a token with the scope {scope}"),
        )),
    }
}

fn authenticate(hub: &Hub, headers: &HeaderMap) -> Result<Caller, Problem> {
    let refused = |why: String| Problem::new(ErrorCode::Unauthorized, why);
    let token = bearer(headers).ok_or_else(|| {
        refused("send the header Authorization: Bearer weir_<id>_<secret>".to_owned())
    })?;
    hub.tokens().verify(hub, token).map_err(|why| refused(why.to_string()))
}

/// The token of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_one_bearer_token_in_one_header_counts() {
        let token = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(token(&["Bearer weir_a_b"]).as_deref(), Some("weir_a_b"));
        assert_eq!(token(&["bearer  weir_a_b "]).as_deref(), Some("weir_a_b"));
        for values in [
            &[][..],
            &["weir_a_b"],
            &["Basic weir_a_b"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a", "Bearer b"],
        ] {
            assert_eq!(token(values), None, "{values:?}");
        }
    }

    #[test]
    fn the_table_says_what_the_document_says() {
        let access = Access::of(&json!({"paths": {
            "/open": {"get": {"security": []}},
            "/x/{id}": {"parameters": [], "put": {"security": [{"token": ["devices:write"]}]}},
        }}));
        let write = Needed::Scope("devices:write".parse().unwrap());
        assert_eq!(access.needed("/open", &Method::HEAD), Some(Needed::Nothing));
        assert_eq!(access.needed("/x/{id}", &Method::PUT), Some(write));
        assert_eq!(access.needed("/x/{id}", &Method::GET), None);
        assert_eq!(access.needed("/other", &Method::GET), None);
        assert_eq!(access.allowed("/open"), "GET, HEAD");
    }

    #[test]
    #[should_panic(expected = "names its scope")]
    fn an_operation_without_a_scope_is_a_fault() {
        Access::of(&json!({"paths": {"/x": {"get": {}}}}));
    }
}
