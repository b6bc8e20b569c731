//! `/api/v1/artifacts`: components, by their digest.

use crate::extract::Path;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use crate::{Api, body};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::digest::Digest;
use weir_core::error_code::ErrorCode;
use weir_hub::Hub;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}

/// A component that was uploaded.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "digest": "sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
    "at": "2026-05-04T10:00:00Z", "bytes": 98304,
    "imports": ["weir:module/hub@0.1.0"], "exports": ["weir:module/processor@0.1.0"]
}))]
struct Artifact {
    /// SHA-256 of its bytes.
    digest: String,
    /// When it came.
    at: String,
    /// Its size.
    bytes: u64,
    /// Interfaces that it needs.
    imports: Vec<String>,
    /// Interfaces that it offers.
    exports: Vec<String>,
}

impl From<weir_hub::Artifact> for Artifact {
    fn from(artifact: weir_hub::Artifact) -> Self {
        Self {
            digest: artifact.digest.to_string(),
            at: artifact.at.to_string(),
            bytes: artifact.facts.bytes,
            imports: artifact.facts.imports,
            exports: artifact.facts.exports,
        }
    }
}

/// Lists the artifacts.
#[utoipa::path(get, path = "/artifacts", operation_id = "listArtifacts", tag = "artifacts",
    security(("token" = ["artifacts:read"])), params(PageQuery),
    responses((status = 200, description = "A page of artifacts", body = Page<Artifact>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<Artifact>, Problem> {
    let wanted = query.0.wanted()?;
    let found = hub.artifacts().list(&hub, wanted.after.as_deref(), wanted.and_one()).await?;
    Ok(wanted.page(found, |artifact| artifact.digest.hex(), Artifact::from))
}

/// Shows what is known of an artifact.
#[utoipa::path(get, path = "/artifacts/{digest}", operation_id = "getArtifact", tag = "artifacts",
    security(("token" = ["artifacts:read"])),
    params(("digest" = String, Path, description = "SHA-256, with or without `sha256:`")),
    responses((status = 200, description = "The artifact", body = Artifact)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(
    State(hub): State<Hub>,
    Path(digest): Path<Digest>,
) -> Result<Json<Artifact>, Problem> {
    let unknown = || Problem::new(ErrorCode::NotFound, format!("there is no artifact {digest}"));
    Ok(Json(hub.artifacts().find(&hub, &digest).await?.ok_or_else(unknown)?.into()))
}

/// Uploads a component.
///
/// It is checked and compiled; when it is refused, nothing of it is kept.
#[utoipa::path(put, path = "/artifacts/{digest}", operation_id = "putArtifact", tag = "artifacts",
    security(("token" = ["artifacts:write"])),
    params(("digest" = String, Path, description = "SHA-256 of the bytes")),
    request_body(content((Vec<u8> = "application/wasm"), (Vec<u8> = "application/octet-stream")),
        description = "A WebAssembly component"),
    responses((status = 200, description = "It was there already", body = Artifact),
              (status = 201, description = "It is new", body = Artifact)),
    extensions(("x-errors" = json!(["digest-mismatch", "component-refused"]))))]
async fn put(
    State(api): State<Api>,
    Path(digest): Path<Digest>,
    request: Request,
) -> Result<Response, Problem> {
    if !is_component(request.headers()) {
        let detail = "a component has the content type application/wasm";
        let problem = Problem::new(ErrorCode::UnsupportedMediaType, detail);
        return Err(problem.parameter("content-type"));
    }
    let hub = api.hub().clone();
    let ceiling = usize::try_from(hub.ceilings().component.0).unwrap_or(usize::MAX);
    // A component is in memory whole while it is taken in.
    let _place = api.uploads().acquire().await.map_err(|error| Problem::fault(&error))?;
    let bytes = body::read(request.into_body(), ceiling).await?;
    let (artifact, new) = hub.artifacts().put(&hub, digest, bytes).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Artifact::from(artifact))).into_response())
}

fn is_component(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    ["application/wasm", "application/octet-stream"]
        .iter()
        .any(|kind| essence.eq_ignore_ascii_case(kind))
}

/// Deletes an artifact that no module needs.
#[utoipa::path(delete, path = "/artifacts/{digest}", operation_id = "deleteArtifact",
    tag = "artifacts", security(("token" = ["artifacts:write"])),
    params(("digest" = String, Path, description = "SHA-256, with or without `sha256:`")),
    responses((status = 204, description = "It is gone")),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn delete(State(hub): State<Hub>, Path(digest): Path<Digest>) -> Result<StatusCode, Problem> {
    hub.artifacts().delete(&hub, &digest).await?;
    Ok(StatusCode::NO_CONTENT)
}
