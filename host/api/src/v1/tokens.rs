//! `/api/v1/tokens`: bearer tokens of this API.

use super::time;
use crate::Api;
use crate::etag::{Precondition, Tagged};
use crate::extract::Path;
use crate::idempotency::WithoutSecret;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_hub::{Caller, Hub, NewToken, Scope, TokenView};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, delete))
}

/// A token, without its secret.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "id": "3f9a0c1b7d2e4f60", "name": "ci", "scopes": ["modules:write", "artifacts:write"],
    "created": "2026-05-04T10:00:00Z", "expires": "2026-08-02T10:00:00Z", "lastUsed": null
}))]
struct Token {
    /// The part of the text between the underscores.
    id: String,
    /// For people.
    name: String,
    /// What it allows.
    scopes: Vec<String>,
    /// When it was made.
    created: String,
    /// When it ends; null: never.
    expires: Option<String>,
    /// When it was used last; exact to ten minutes after a restart of the hub.
    last_used: Option<String>,
}

impl From<TokenView> for Token {
    fn from(view: TokenView) -> Self {
        let record = view.record;
        Self {
            id: record.id,
            name: record.name,
            scopes: record.scopes.iter().map(Scope::to_string).collect(),
            created: record.created.to_string(),
            expires: record.expires.and_then(time),
            last_used: view.last_used.and_then(time),
        }
    }
}

/// A token that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({
    "name": "ci", "scopes": ["modules:write", "artifacts:write"], "expiresInSecs": 7776000
}))]
struct TokenRequest {
    /// For people; 1 to 128 characters.
    name: String,
    /// `<area>:<read|write|admin>`; none that the caller does not have himself.
    #[schema(value_type = Vec<String>)]
    scopes: Vec<Scope>,
    /// Seconds until it ends; left out: never.
    #[serde(default)]
    expires_in_secs: Option<u64>,
}

/// A new token with its text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": "3f9a0c1b7d2e4f60", "name": "ci", "scopes": ["modules:write"],
    "created": "2026-05-04T10:00:00Z", "expires": null, "lastUsed": null,
    "token": "weir_3f9a0c1b7d2e4f60_<secret>"
}))]
struct NewTokenView {
    #[serde(flatten)]
    view: Token,
    /// The text to send as `Authorization: Bearer …`. Shown this once and kept nowhere; missing in a
    /// repeated answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Lists the tokens.
#[utoipa::path(get, path = "/tokens", operation_id = "listTokens", tag = "tokens",
    security(("token" = ["tokens:read"])), params(PageQuery),
    responses((status = 200, description = "A page of tokens", body = Page<Token>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<Token>, Problem> {
    let wanted = query.0.wanted()?;
    let found = hub.tokens().list(wanted.after.as_deref(), wanted.and_one());
    Ok(wanted.page(found, |view| view.record.id.clone(), Token::from))
}

/// Makes a token.
///
/// Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/tokens", operation_id = "createToken", tag = "tokens",
    security(("token" = ["tokens:admin"])), request_body = TokenRequest,
    responses((status = 201, description = "The token", body = NewTokenView)))]
async fn create(
    State(hub): State<Hub>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<TokenRequest>,
) -> Result<Response, Problem> {
    let TokenRequest { name, scopes, expires_in_secs } = request;
    let expires = expires_in_secs.map(|secs| hub.clock().now().after(Duration::from_secs(secs)));
    let new = NewToken { name, scopes, expires };
    let (view, text) = hub.tokens().create(&hub, new, &caller).await?;
    let (revision, location) = (view.revision, format!("/api/v1/tokens/{}", view.record.id));
    let mut answer = NewTokenView { view: view.into(), token: None };
    let kept = serde_json::to_string(&answer).map_err(|error| Problem::fault(&error))?;
    answer.token = Some(text.to_string());
    let tagged = Tagged(revision, Json(answer));
    let headers = [(header::LOCATION, location)];
    Ok((StatusCode::CREATED, headers, Extension(WithoutSecret(kept)), tagged).into_response())
}

/// Shows a token, without its secret.
#[utoipa::path(get, path = "/tokens/{id}", operation_id = "getToken", tag = "tokens",
    security(("token" = ["tokens:read"])),
    params(("id" = String, Path, description = "Id of the token")),
    responses((status = 200, description = "The token", body = Token)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(State(hub): State<Hub>, Path(id): Path<String>) -> Result<Json<Token>, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, "there is no such token");
    Ok(Json(hub.tokens().get(&id).ok_or_else(unknown)?.into()))
}

/// Deletes a token.
///
/// It is refused from the next request on.
#[utoipa::path(delete, path = "/tokens/{id}", operation_id = "deleteToken", tag = "tokens",
    security(("token" = ["tokens:admin"])),
    params(("id" = String, Path, description = "Id of the token"), crate::etag::IfMatch),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn delete(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    Precondition(expect): Precondition,
) -> Result<StatusCode, Problem> {
    hub.tokens().delete(&hub, &id, expect).await?;
    Ok(StatusCode::NO_CONTENT)
}
