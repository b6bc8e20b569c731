//! `/api/v1/devices/{id}/commands`, and the same of modules: cloud-to-device messages.

use super::message::{self, MessageView};
use super::time;
use crate::Api;
use crate::extract::Path;
use crate::json::Json;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::command::NewCommand;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::limits;
use weir_core::message::Message;
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_hub::{Caller, EntryState, Hub, Peeked};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_device, send_device, purge_device)).routes(routes!(
        list_module,
        send_module,
        purge_module
    ))
}

/// A command to be sent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schema(as = CommandBody, example = json!({
    "body": {"valve": "close"}, "contentType": "application/json", "ack": "full",
    "expiresInSecs": 600, "properties": {"urgent": "yes"}
}))]
struct Body {
    /// A text is sent as it is, any other JSON as its text; empty when it is left out.
    #[schema(value_type = Option<Object>)]
    body: Option<Value>,
    /// Instead of `body`, for bytes that are no text.
    body_base64: Option<String>,
    /// Media type of the body.
    content_type: Option<String>,
    /// Encoding of the body, such as `utf-8`.
    content_encoding: Option<String>,
    /// The sender's own id; the hub makes one when it is left out.
    message_id: Option<String>,
    /// Id of what it belongs to.
    correlation_id: Option<String>,
    /// What the sender wants to be told: `none`, `positive`, `negative` or `full`.
    ack: Option<String>,
    /// How long it waits: up to two days; an hour when it is left out.
    #[schema(minimum = 1, maximum = 172800)]
    expires_in_secs: Option<u64>,
    /// Application properties.
    properties: BTreeMap<String, String>,
}

/// A command that is kept.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SentCommand, example = json!({
    "messageId": "0000010000000011", "sequence": 17, "expires": "2026-05-04T11:00:00Z"
}))]
struct Sent {
    /// The sender's own id, or the hub's.
    message_id: String,
    /// Its place in the order of acceptance.
    sequence: u64,
    /// When it is no longer handed out.
    expires: String,
}

/// A command that waits.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Command, example = json!({
    "sequence": 17, "state": "waiting", "deliveries": 0, "expires": "2026-05-04T11:00:00Z",
    "message": {"id": "0000010000000011", "enqueued": "2026-05-04T10:00:00Z",
        "sender": "edge/$edgeHub", "hops": 0, "bodyBytes": 18}
}))]
struct View {
    /// Its place in the order of acceptance.
    sequence: u64,
    /// `waiting`, `in-flight` (a client has it) or `retrying`.
    #[schema(value_type = String)]
    state: EntryState,
    /// How often it was handed out.
    deliveries: u32,
    /// When it is no longer handed out.
    expires: Option<String>,
    /// The message.
    message: MessageView,
}

/// What a purge removed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CommandPurge, example = json!({"removed": 3}))]
struct Purged {
    /// Commands that were removed; those that a client has stay.
    removed: u64,
}

async fn list(
    hub: &Hub,
    target: &Identity,
    caller: &Caller,
    query: PageOf,
) -> Result<Page<View>, Problem> {
    let wanted = query.0.wanted()?;
    let after = wanted.after_as::<u64>()?;
    let inside = message::may_read(caller).then_some(limits::PAGE_BODY_BYTES);
    let mut found = hub.commands().list(hub, target).await?;
    found.retain(|entry| after.is_none_or(|after| entry.sequence.0 > after));
    found.truncate(wanted.and_one());
    let view = |entry: Peeked| View {
        sequence: entry.sequence.0,
        state: entry.state,
        deliveries: entry.attempts,
        expires: time(entry.expires),
        message: message::view(&entry.record.message, inside),
    };
    Ok(wanted.page(found, |entry| entry.sequence.0.to_string(), view))
}

async fn send(
    hub: &Hub,
    target: &Identity,
    body: Body,
) -> Result<(StatusCode, Json<Sent>), Problem> {
    let expires =
        body.expires_in_secs.map(|secs| hub.clock().now().after(Duration::from_secs(secs)));
    let command = NewCommand { message: message_of(body)?, expires };
    let sent = hub.commands().send(hub, target, command).await?;
    let sent = Sent {
        message_id: sent.message_id,
        sequence: sent.sequence,
        expires: sent.expires.to_string(),
    };
    Ok((StatusCode::CREATED, Json(sent)))
}

fn message_of(body: Body) -> Result<Message, Problem> {
    let bytes = match (body.body, body.body_base64) {
        (Some(_), Some(_)) => {
            let text = "body and bodyBase64 exclude each other";
            return Err(Problem::invalid(text).at("/bodyBase64"));
        }
        (Some(Value::String(text)), None) => text.into_bytes(),
        (Some(value), None) => value.to_string().into_bytes(),
        (None, Some(text)) => STANDARD
            .decode(text)
            .map_err(|_| Problem::invalid("bodyBase64 is not base64").at("/bodyBase64"))?,
        (None, None) => Vec::new(),
    };
    let mut properties = PropertiesBuilder::default();
    let system = [
        (SystemProperty::MessageId, &body.message_id),
        (SystemProperty::CorrelationId, &body.correlation_id),
        (SystemProperty::ContentType, &body.content_type),
        (SystemProperty::ContentEncoding, &body.content_encoding),
        (SystemProperty::Ack, &body.ack),
    ];
    let refused = |problem: weir_core::properties::PropertiesError| {
        Problem::invalid(problem.to_string()).at("/properties")
    };
    for (property, value) in system {
        if let Some(value) = value {
            properties.push(Key::System(property), Some(value)).map_err(refused)?;
        }
    }
    for (name, value) in &body.properties {
        properties.push(Key::Application(name), Some(value)).map_err(refused)?;
    }
    Ok(Message { body: bytes.into(), properties: properties.build(), output: None })
}

async fn purge(hub: &Hub, target: &Identity) -> Result<Json<Purged>, Problem> {
    Ok(Json(Purged { removed: hub.commands().purge(hub, target).await? }))
}

/// Shows the commands that wait for a device, without taking them.
///
/// What is in them is shown to a token with the scope `messages:read`; of bodies the first 4 KiB.
#[utoipa::path(get, path = "/devices/{id}/commands", operation_id = "listDeviceCommands",
    tag = "commands", security(("token" = ["commands:read"])),
    params(("id" = String, Path, description = "Id of the device"), PageQuery),
    responses((status = 200, description = "A page of commands", body = Page<View>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn list_device(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Extension(caller): Extension<Caller>,
    query: PageOf,
) -> Result<Page<View>, Problem> {
    list(&hub, &Identity::device(id), &caller, query).await
}

/// Sends a command to a device, connected or not.
///
/// It is on disk when this is answered, and waits for the device until it expires.
#[utoipa::path(post, path = "/devices/{id}/commands", operation_id = "sendDeviceCommand",
    tag = "commands", security(("token" = ["commands:write"])), request_body = Body,
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 201, description = "It is kept", body = Sent)),
    extensions(("x-errors" = json!(["not-found", "queue-full", "command-expiry"]))))]
async fn send_device(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Json(body): Json<Body>,
) -> Result<(StatusCode, Json<Sent>), Problem> {
    send(&hub, &Identity::device(id), body).await
}

/// Removes the commands that wait for a device.
#[utoipa::path(delete, path = "/devices/{id}/commands", operation_id = "purgeDeviceCommands",
    tag = "commands", security(("token" = ["commands:write"])),
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 200, description = "They are gone", body = Purged)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn purge_device(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
) -> Result<Json<Purged>, Problem> {
    purge(&hub, &Identity::device(id)).await
}

/// Shows the commands that wait for a module, without taking them.
///
/// What is in them is shown to a token with the scope `messages:read`; of bodies the first 4 KiB.
#[utoipa::path(get, path = "/devices/{id}/modules/{module}/commands",
    operation_id = "listModuleCommands", tag = "commands",
    security(("token" = ["commands:read"])),
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), PageQuery),
    responses((status = 200, description = "A page of commands", body = Page<View>)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn list_module(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Extension(caller): Extension<Caller>,
    query: PageOf,
) -> Result<Page<View>, Problem> {
    list(&hub, &Identity::module(id, module), &caller, query).await
}

/// Sends a command to a module, connected or not.
///
/// It is on disk when this is answered, and waits for the module until it expires.
#[utoipa::path(post, path = "/devices/{id}/modules/{module}/commands",
    operation_id = "sendModuleCommand", tag = "commands",
    security(("token" = ["commands:write"])), request_body = Body,
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module")),
    responses((status = 201, description = "It is kept", body = Sent)),
    extensions(("x-errors" = json!(["not-found", "queue-full", "command-expiry"]))))]
async fn send_module(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Json(body): Json<Body>,
) -> Result<(StatusCode, Json<Sent>), Problem> {
    send(&hub, &Identity::module(id, module), body).await
}

/// Removes the commands that wait for a module.
#[utoipa::path(delete, path = "/devices/{id}/modules/{module}/commands",
    operation_id = "purgeModuleCommands", tag = "commands",
    security(("token" = ["commands:write"])),
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module")),
    responses((status = 200, description = "They are gone", body = Purged)),
    extensions(("x-errors" = json!(["not-found"]))))]
async fn purge_module(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
) -> Result<Json<Purged>, Problem> {
    purge(&hub, &Identity::module(id, module)).await
}
