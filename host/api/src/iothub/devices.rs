//! `/devices`: the registry of devices.

use super::etag::IfMatch;
use super::identity::{self, Body, Presence};
use super::json::{Json, Path, Raw, parse};
use super::refusal::Refusal;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::limits;
use weir_hub::Hub;

/// How many are wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Top {
    top: Option<String>,
}

impl Top {
    /// At most [`limits::PAGE_ITEMS`], IoT Hub's own limit.
    pub(super) fn items(&self) -> Result<usize, Refusal> {
        let Some(text) = &self.top else { return Ok(limits::PAGE_ITEMS) };
        match text.parse() {
            Ok(number) if (1..=limits::PAGE_ITEMS).contains(&number) => Ok(number),
            _ => Err(Refusal::invalid(format!("top is a number from 1 to {}", limits::PAGE_ITEMS))),
        }
    }
}

/// The first devices, in order of names.
pub(super) async fn list(
    State(hub): State<Hub>,
    Query(top): Query<Top>,
) -> Result<Response, Refusal> {
    let presence = Presence::of(&hub);
    let found = hub.identities().devices(None, top.items()?);
    let views = found.iter().map(|found| identity::view(&hub, &presence, found));
    Ok(Json(views.collect::<Vec<_>>()).into_response())
}

/// One device, with its keys.
pub(super) async fn get(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
) -> Result<Response, Refusal> {
    let identity = Identity::device(id);
    let found = hub.identities().get(&identity).ok_or_else(|| Refusal::unknown(&identity))?;
    Ok(identity::show(&hub, StatusCode::OK, &found))
}

/// Creates (without `If-Match`) or changes a device. The status is 200 for both: the Python SDK takes
/// no other.
pub(super) async fn put(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    if_match: IfMatch,
    Json(body): Json<Body>,
) -> Result<Response, Refusal> {
    let (written, _) = identity::put(&hub, Identity::device(id), body, &if_match).await?;
    Ok(identity::show(&hub, StatusCode::OK, &written))
}

/// Deletes a device and its modules.
pub(super) async fn delete(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    if_match: IfMatch,
) -> Result<StatusCode, Refusal> {
    let expect = if_match.expect_present();
    hub.identities().delete_whole(&hub, &Identity::device(id), expect).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One line of a bulk change.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    id: DeviceId,
    module_id: Option<ModuleId>,
    import_mode: Option<String>,
    #[serde(alias = "eTag")]
    etag: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Creates, changes or deletes up to 100 identities, each by itself. Answered with 400 when one of them
/// could not be, and the others are done all the same.
pub(super) async fn bulk(State(hub): State<Hub>, Raw(bytes): Raw) -> Result<Response, Refusal> {
    let lines: Vec<Line> = parse(&bytes)?;
    if lines.len() > limits::BULK_IDENTITIES {
        let text = format!("at most {} devices in one request", limits::BULK_IDENTITIES);
        return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "TooManyDevices", text));
    }
    let mut seen = HashSet::new();
    let mut errors = Vec::new();
    for line in lines {
        let identity = Identity { device: line.id.clone(), module: line.module_id.clone() };
        if !seen.insert(identity.clone()) {
            let text = format!("{identity} is named twice");
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "DeviceDefinedMultipleTimes", text));
        }
        if let Err(refusal) = apply(&hub, identity.clone(), line).await {
            errors.push(json!({
                "deviceId": identity.device, "moduleId": identity.module,
                "errorCode": refusal.code, "errorStatus": refusal.text,
            }));
        }
    }
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let result = json!({"isSuccessful": errors.is_empty(), "errors": errors, "warnings": []});
    Ok((status, Json(result)).into_response())
}

async fn apply(hub: &Hub, identity: Identity, line: Line) -> Result<(), Refusal> {
    let mode = line.import_mode.unwrap_or_else(|| "create".to_owned()).to_lowercase();
    let tag = || {
        let tag = line.etag.filter(|tag| !tag.is_empty() && tag != "*");
        tag.map_or(IfMatch::Any, IfMatch::Tag)
    };
    let there = hub.identities().get(&identity).is_some();
    let if_match = match mode.as_str() {
        "delete" | "deleteifmatchetag" => {
            let if_match = if mode == "delete" { IfMatch::Any } else { tag() };
            let expect = if_match.expect_present();
            return Ok(hub.identities().delete_whole(hub, &identity, expect).await?);
        }
        "create" => IfMatch::Absent,
        "update" => IfMatch::Any,
        "updateifmatchetag" => tag(),
        "createorupdate" | "createorupdateifmatchetag" if !there => IfMatch::Absent,
        "createorupdate" => IfMatch::Any,
        "createorupdateifmatchetag" => tag(),
        _ => return Err(Refusal::invalid(format!("importMode {mode:?} is not offered here"))),
    };
    let body: Body = serde_json::from_value(Value::Object(line.rest))
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    identity::put(hub, identity, body, &if_match).await.map(drop)
}
