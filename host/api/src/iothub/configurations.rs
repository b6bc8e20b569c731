//! `/configurations`: configurations at scale, kept and shown. Nothing is targeted and nothing applied;
//! the metrics say so with zeros.

use super::devices::Top;
use super::etag::{self, IfMatch};
use super::json::{self, Json, Path};
use super::refusal::Refusal;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use weir_hub::{Expect, Hub, StoredConfiguration, StoredConfigurationError};

/// Whether a value is of the right type.
type Check = fn(&Value) -> bool;

/// What a back end writes; everything else of a body is the hub's own, and is passed over.
const MEMBERS: [(&str, Check); 6] = [
    ("schemaVersion", Value::is_string),
    ("labels", Value::is_object),
    ("content", Value::is_object),
    ("targetCondition", Value::is_string),
    ("priority", Value::is_i64),
    ("metrics", Value::is_object),
];

/// All configurations.
pub(super) async fn list(
    State(hub): State<Hub>,
    Query(top): Query<Top>,
) -> Result<Response, Refusal> {
    let found = hub.stored_configurations(top.items()?).await?;
    Ok(Json(found.into_iter().map(view).collect::<Vec<_>>()).into_response())
}

/// One configuration.
pub(super) async fn get(
    State(hub): State<Hub>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    Ok(show(StatusCode::OK, hub.stored_configuration(&id).await?))
}

/// Makes (without `If-Match`) or replaces a configuration.
pub(super) async fn put(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    if_match: IfMatch,
    Json(body): Json<Map<String, Value>>,
) -> Result<Response, Refusal> {
    if let Some(given) = body.get("id").filter(|given| !given.is_null())
        && given.as_str() != Some(&id)
    {
        return Err(Refusal::invalid(format!("id: {given} is not the id in the path")));
    }
    let mut kept = Map::new();
    for (name, is_right) in MEMBERS {
        match body.get(name) {
            None | Some(Value::Null) => {}
            Some(value) if is_right(value) => {
                kept.insert(name.to_owned(), value.clone());
            }
            Some(_) => return Err(Refusal::invalid(format!("{name} is of another type"))),
        }
    }
    let expect = if_match.expect();
    match (expect, hub.stored_configuration(&id).await) {
        (Expect::Absent, Ok(_)) => return Err(exists(&id)),
        (Expect::Present | Expect::Revision(_), Err(error)) => return Err(error.into()),
        _ => {}
    }
    match hub.store_configuration(&id, kept, expect).await {
        Ok((made, true)) => Ok(show(StatusCode::CREATED, made)),
        Ok((made, false)) => Ok(show(StatusCode::OK, made)),
        // Somebody else was faster.
        Err(StoredConfigurationError::Mismatch(_)) if expect == Expect::Absent => Err(exists(&id)),
        Err(error) => Err(error.into()),
    }
}

/// Deletes a configuration; Node sends no `If-Match`.
pub(super) async fn delete(
    State(hub): State<Hub>,
    Path(id): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, Refusal> {
    hub.delete_configuration(&id, if_match.expect_present()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Conditions and metric queries are not evaluated here.
pub(super) async fn test_queries() -> Refusal {
    Refusal::absent("target conditions and metric queries are not evaluated here")
}

fn exists(id: &str) -> Refusal {
    let text = format!("configuration {id} exists already");
    Refusal::new(StatusCode::CONFLICT, "ConfigurationAlreadyExists", text)
}

fn show(status: StatusCode, configuration: StoredConfiguration) -> Response {
    let tag = etag::of_revision(configuration.revision);
    json::tagged(status, &tag, view(configuration))
}

fn view(configuration: StoredConfiguration) -> Value {
    let StoredConfiguration { id, body, created, updated, revision } = configuration;
    let mut view = json!({
        "id": id, "etag": etag::of_revision(revision),
        "schemaVersion": "1.0", "labels": {}, "content": {}, "targetCondition": "", "priority": 0,
        "createdTimeUtc": created.to_string(), "lastUpdatedTimeUtc": updated.to_string(),
        "systemMetrics": {"results": {"targetedCount": 0, "appliedCount": 0}, "queries": {}},
        "metrics": {"results": {}, "queries": {}},
    });
    if let Value::Object(view) = &mut view {
        view.extend(body);
    }
    view
}

impl From<StoredConfigurationError> for Refusal {
    fn from(error: StoredConfigurationError) -> Self {
        let text = error.to_string();
        match error {
            StoredConfigurationError::Unknown(_) => {
                Self::new(StatusCode::NOT_FOUND, "ConfigurationNotFound", text)
            }
            StoredConfigurationError::Id => Self::invalid(text),
            StoredConfigurationError::TooMany => {
                Self::new(StatusCode::FORBIDDEN, "ConfigurationCountLimitExceeded", text)
            }
            StoredConfigurationError::Mismatch(id) => Self::stale(format!("configuration {id}")),
            StoredConfigurationError::Store(cause) => Self::store(&cause),
        }
    }
}
