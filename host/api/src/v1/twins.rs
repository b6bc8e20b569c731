//! `/api/v1/twins/{device}`: twins of devices, and what twins of modules have in common with them.
//!
//! Reported properties are the client's own and are only shown here.

use crate::Api;
use crate::etag::Volatile;
use crate::extract::{Path, Query};
use crate::json::{self, Json};
use crate::page::Page;
use crate::problem::{Detail, Problem};
use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;
use weir_core::id::{DeviceId, Identity};
use weir_core::limits;
use weir_core::twin::{Etag, Mode, Section, TwinChange};
use weir_hub::{Caller, ConfigurationError, HistoryRow, Hub, TwinError};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get, patch, put))
        .routes(routes!(history))
        .routes(routes!(diff))
        .routes(routes!(revert))
}

/// A change of a twin; everything else in it is ignored, so that a whole twin can be sent back.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; read by the twin's own rules")]
#[schema(as = TwinBody, example = json!({
    "tags": {"site": "north"}, "properties": {"desired": {"interval": 5, "old": null}}
}))]
pub(super) struct Body {
    /// The operator's notes, at most 8 KiB; null or left out: they stay.
    #[schema(value_type = Option<Object>)]
    tags: Option<Value>,
    /// Desired properties.
    #[schema(value_type = Option<DesiredBody>)]
    properties: Option<DesiredBody>,
}

/// What is wanted of a client.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; read by the twin's own rules")]
pub(super) struct DesiredBody {
    /// At most 32 KiB and 10 levels deep; null or left out: they stay.
    #[schema(value_type = Option<Object>)]
    desired: Option<Value>,
}

/// A twin in IoT Hub's form.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the twin writes itself")]
#[serde(rename_all = "camelCase")]
#[schema(as = Twin, example = json!({
    "deviceId": "pump-1", "etag": "AAAAAAAAAAI=", "version": 4, "status": "enabled",
    "connectionState": "Connected", "tags": {"site": "north"},
    "properties": {
        "desired": {"interval": 5, "$metadata": {
            "$lastUpdated": "2026-05-04T09:00:00Z", "$lastUpdatedVersion": 2,
            "interval": {"$lastUpdated": "2026-05-04T09:00:00Z", "$lastUpdatedVersion": 2}
        }, "$version": 2},
        "reported": {"$metadata": {"$lastUpdated": "0001-01-01T00:00:00Z",
            "$lastUpdatedVersion": 1}, "$version": 1}
    }
}))]
pub(super) struct View {
    /// Whose twin.
    device_id: String,
    /// Set for a module's.
    module_id: Option<String>,
    /// Changes with desired properties and tags, not with what the client reports.
    etag: String,
    /// Grows with every change.
    version: u64,
    /// `enabled` or `disabled`.
    status: String,
    /// `Connected` or `Disconnected`.
    connection_state: String,
    /// The operator's notes.
    #[schema(value_type = Object)]
    tags: Value,
    /// `desired` and `reported`, each with `$metadata` and `$version`.
    #[schema(value_type = Object)]
    properties: Value,
}

/// A twin with its tag, which says nothing of what the client reports.
pub(super) struct Shown {
    etag: Etag,
    view: Value,
}

impl IntoResponse for Shown {
    fn into_response(self) -> Response {
        let mut response = (Extension(Volatile), Json(self.view)).into_response();
        if let Ok(tag) = HeaderValue::from_str(&quoted(self.etag)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The entity tag, as the body's `etag` in quotes.
pub(crate) fn quoted(etag: Etag) -> String {
    format!("\"{etag}\"")
}

/// The tag that a twin must still have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected(Option<Etag>);

/// A header of a twin's change.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "for the document; read by [`Expected`]")]
pub(super) struct IfMatch {
    /// Change only a twin with this `ETag`; `*` or left out: any.
    #[param(rename = "if-match")]
    if_match: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Expected {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let invalid = || {
            let what =
                "If-Match must be one entity tag in quotes, for example \"AAAAAAAAAAE=\", or *";
            Problem::invalid(what).parameter("if-match")
        };
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let text = value.to_str().map_err(|_| invalid())?.trim();
        match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            _ if values.next().is_some() => Err(invalid()),
            None if text == "*" => Ok(Self(None)),
            // A weak tag never matches (RFC 9110, 13.1.1), nor does one that is no twin's.
            None if text.starts_with("W/\"") => Ok(Self(Some(NEVER))),
            None => Err(invalid()),
            Some(inner) if inner.contains('"') => Err(invalid()),
            Some(inner) => Ok(Self(Some(inner.parse().unwrap_or(NEVER)))),
        }
    }
}

/// No twin has it: tags begin at 1.
const NEVER: Etag = Etag(0);

/// The text of a change; the twin's rules read it, so that what is wrong is named where it is.
pub(super) struct Text(Bytes);

impl<S: Send + Sync> FromRequest<S> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        json::text(request).await.map(Self)
    }
}

impl From<TwinError> for Problem {
    fn from(error: TwinError) -> Self {
        let (code, text) = (error.code(), error.to_string());
        match error {
            TwinError::Refused(problem) => {
                use weir_core::twin::Problem as Rule;
                let code = match problem.problem {
                    Rule::Json { .. } | Rule::NotAnObject | Rule::Nothing => {
                        ErrorCode::InvalidRequest
                    }
                    Rule::DuplicateKey => ErrorCode::DuplicateKey,
                    Rule::Document => ErrorCode::TooLarge,
                    _ => code,
                };
                Self::new(code, text).at(problem.pointer)
            }
            TwinError::Configuration(cause) => match *cause {
                ConfigurationError::Refused(faults) => {
                    let problem = Self::new(code, text);
                    faults.into_iter().fold(problem, |problem, fault| {
                        let pointer = Some(fault.pointer);
                        let message = fault.message;
                        problem.with(Detail { pointer, message, ..Detail::default() })
                    })
                }
                ConfigurationError::Twin(_)
                | ConfigurationError::Identity(_)
                | ConfigurationError::Routes(_)
                | ConfigurationError::Unanswered => Self::new(code, text),
            },
            TwinError::Mismatch { present } => {
                Self::new(code, text).header(header::ETAG, quoted(present))
            }
            TwinError::Reported => Self::new(code, text).at("/section"),
            TwinError::Store(cause) => cause.into(),
            TwinError::Unknown(_)
            | TwinError::NoVersion { .. }
            | TwinError::QueueFull
            | TwinError::Unavailable
            | TwinError::Damaged
            | TwinError::Unanswered => Self::new(code, text),
        }
    }
}

pub(super) async fn show(hub: &Hub, of: &Identity) -> Result<Shown, Problem> {
    let twin = hub.twins().get(hub, of).await?;
    Ok(Shown { etag: twin.etag(), view: hub.twins().view(hub, of, &twin) })
}

pub(super) async fn change(
    hub: &Hub,
    of: &Identity,
    (mode, Text(text)): (Mode, Text),
    Expected(expect): Expected,
    caller: &Caller,
) -> Result<Shown, Problem> {
    let change = TwinChange::parse(mode, &text).map_err(TwinError::from)?;
    let twin = hub.twins().change(hub, of, change, expect, &author(caller)).await?;
    Ok(Shown { etag: twin.etag(), view: hub.twins().view(hub, of, &twin) })
}

fn author(caller: &Caller) -> String {
    format!("token:{}", caller.token)
}

/// Which part of a history.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct HistoryQuery {
    /// `desired`, `reported` or `tags`; `desired` when left out.
    #[serde(default = "desired")]
    #[param(value_type = Option<String>, example = "desired")]
    section: Section,
    /// Most items of the page: 1 to 100, which is also the default.
    #[param(minimum = 1, maximum = 100, example = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

fn desired() -> Section {
    Section::Desired
}

/// A change in a section's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TwinHistoryItem, example = json!({
    "version": 2, "at": "2026-05-04T09:00:00Z", "by": "token:4f1c", "patch": {"interval": 5}
}))]
pub(super) struct Item {
    /// `$version` of the section after it; tags are counted in the same way.
    version: u64,
    /// When.
    at: String,
    /// The operator's token or policy, or the identity that reported.
    by: String,
    /// What was merged in.
    #[schema(value_type = Object)]
    patch: Value,
}

impl From<HistoryRow> for Item {
    fn from(row: HistoryRow) -> Self {
        let patch = Value::Object(row.patch.as_map().clone());
        Self { version: row.version, at: row.at.to_string(), by: row.by, patch }
    }
}

pub(super) async fn list(
    hub: &Hub,
    of: &Identity,
    query: HistoryQuery,
) -> Result<Page<Item>, Problem> {
    let HistoryQuery { section, limit, cursor } = query;
    let page = crate::page::PageQuery { limit, cursor };
    let wanted = page.wanted_of(limits::TWIN_VERSIONS)?;
    let after = wanted.after_as()?.unwrap_or(0);
    let rows = hub.twins().history(hub, of, section, after, wanted.and_one()).await?;
    Ok(wanted.page(rows, |row| row.version.to_string(), Item::from))
}

/// Which difference.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DiffQuery {
    /// `desired`, `reported` or `tags`; `desired` when left out.
    #[serde(default = "desired")]
    #[param(value_type = Option<String>, example = "desired")]
    section: Section,
    /// A version of the section.
    from: u64,
    /// Another; the present one when left out.
    to: Option<u64>,
}

/// The patch that leads from one version to another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TwinDiff, example = json!({
    "section": "desired", "from": 2, "to": 5, "patch": {"interval": 5, "old": null}
}))]
pub(super) struct Difference {
    /// `desired`, `reported` or `tags`.
    #[schema(value_type = String)]
    section: Section,
    /// The version that it begins at.
    from: u64,
    /// The version that it leads to.
    to: u64,
    /// A JSON merge patch.
    #[schema(value_type = Object)]
    patch: Value,
}

pub(super) async fn compare(
    hub: &Hub,
    of: &Identity,
    query: DiffQuery,
) -> Result<Json<Difference>, Problem> {
    let DiffQuery { section, from, to } = query;
    let to = match to {
        Some(to) => to,
        None => hub.twins().versions(hub, of, section).await?.present,
    };
    let patch = hub.twins().diff(hub, of, section, (from, to)).await?;
    let patch = Value::Object(patch.as_map().clone());
    Ok(Json(Difference { section, from, to, patch }))
}

/// Where to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TwinRevertBody, example = json!({"section": "desired", "version": 2}))]
pub(super) struct RevertBody {
    /// `desired` or `tags`; `desired` when left out.
    #[serde(default = "desired")]
    #[schema(value_type = Option<String>)]
    section: Section,
    /// The version whose properties are to be in force again.
    version: u64,
}

pub(super) async fn go_back(
    hub: &Hub,
    of: &Identity,
    RevertBody { section, version }: RevertBody,
    Expected(expect): Expected,
    caller: &Caller,
) -> Result<Shown, Problem> {
    let (to, by) = ((section, version), author(caller));
    let twin = hub.twins().revert(hub, of, to, expect, &by).await?;
    Ok(Shown { etag: twin.etag(), view: hub.twins().view(hub, of, &twin) })
}

/// Shows a device's twin.
#[utoipa::path(get, path = "/twins/{device}", operation_id = "getTwin", tag = "twins",
    security(("token" = ["twins:read"])),
    params(("device" = String, Path, description = "Id of the device")),
    responses((status = 200, description = "The twin", body = View)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn get(State(hub): State<Hub>, Path(device): Path<DeviceId>) -> Result<Shown, Problem> {
    show(&hub, &Identity::device(device)).await
}

/// Merges into a device's desired properties and tags; null deletes.
///
/// A connected client that has subscribed gets the patch at once, others when they come back.
#[utoipa::path(patch, path = "/twins/{device}", operation_id = "patchTwin", tag = "twins",
    security(("token" = ["twins:write"])), request_body = Body,
    params(("device" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 200, description = "The twin after it", body = View)),
    extensions(("x-errors" = json!(["not-found", "twin-refused"]))))]
async fn patch(
    State(hub): State<Hub>,
    Path(device): Path<DeviceId>,
    expected: Expected,
    Extension(caller): Extension<Caller>,
    text: Text,
) -> Result<Shown, Problem> {
    change(&hub, &Identity::device(device), (Mode::Merge, text), expected, &caller).await
}

/// Replaces a device's desired properties and tags, each if it is named.
#[utoipa::path(put, path = "/twins/{device}", operation_id = "putTwin", tag = "twins",
    security(("token" = ["twins:write"])), request_body = Body,
    params(("device" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 200, description = "The twin after it", body = View)),
    extensions(("x-errors" = json!(["not-found", "twin-refused"]))))]
async fn put(
    State(hub): State<Hub>,
    Path(device): Path<DeviceId>,
    expected: Expected,
    Extension(caller): Extension<Caller>,
    text: Text,
) -> Result<Shown, Problem> {
    change(&hub, &Identity::device(device), (Mode::Replace, text), expected, &caller).await
}

/// Lists the changes of a section of a device's twin, oldest first.
#[utoipa::path(get, path = "/twins/{device}/history", operation_id = "getTwinHistory", tag = "twins",
    security(("token" = ["twins:read"])),
    params(("device" = String, Path, description = "Id of the device"), HistoryQuery),
    responses((status = 200, description = "A page of changes", body = Page<Item>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn history(
    State(hub): State<Hub>,
    Path(device): Path<DeviceId>,
    Query(query): Query<HistoryQuery>,
) -> Result<Page<Item>, Problem> {
    list(&hub, &Identity::device(device), query).await
}

/// Compares two versions of a section of a device's twin.
#[utoipa::path(get, path = "/twins/{device}/diff", operation_id = "diffTwin", tag = "twins",
    security(("token" = ["twins:read"])),
    params(("device" = String, Path, description = "Id of the device"), DiffQuery),
    responses((status = 200, description = "The difference", body = Difference)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn diff(
    State(hub): State<Hub>,
    Path(device): Path<DeviceId>,
    Query(query): Query<DiffQuery>,
) -> Result<Json<Difference>, Problem> {
    compare(&hub, &Identity::device(device), query).await
}

/// Puts an older version of a device's desired properties or tags in force again, as a new version.
#[utoipa::path(post, path = "/twins/{device}/revert", operation_id = "revertTwin", tag = "twins",
    security(("token" = ["twins:write"])), request_body = RevertBody,
    params(("device" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 200, description = "The twin after it", body = View)),
    extensions(("x-errors" = json!(["not-found", "twin-refused"]))))]
async fn revert(
    State(hub): State<Hub>,
    Path(device): Path<DeviceId>,
    expected: Expected,
    Extension(caller): Extension<Caller>,
    Json(body): Json<RevertBody>,
) -> Result<Shown, Problem> {
    go_back(&hub, &Identity::device(device), body, expected, &caller).await
}
