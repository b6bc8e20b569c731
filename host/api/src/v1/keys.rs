//! `/api/v1/devices/{id}/keys`, and the same of modules: the two keys that tokens are signed with.

use super::identity::find;
use crate::Api;
use crate::etag::{IfMatch, Precondition, Tagged};
use crate::extract::Path;
use crate::json::Json;
use crate::problem::Problem;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::identity::Authentication;
use weir_hub::{Expect, Hub, IdentityError, Registered, Rotate};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(device_keys, rotate_device))
        .routes(routes!(module_keys, rotate_module))
}

/// Both keys of an identity.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({"primaryKey": "<key>", "secondaryKey": "<key>"}))]
struct Keys {
    /// One key, as base64.
    primary_key: String,
    /// The other.
    secondary_key: String,
}

/// Which keys are exchanged.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = KeyRotation, example = json!({"rotate": "primary"}))]
struct Rotation {
    /// `primary`, `secondary` or `both`.
    #[schema(value_type = String)]
    rotate: Rotate,
}

type Answer = Result<Tagged<Json<Keys>>, Problem>;

fn view(found: &Registered) -> Answer {
    let Authentication::Sas { primary, secondary } = &found.record.authentication else {
        return Err(IdentityError::NoKeys(found.record.identity.clone()).into());
    };
    let (primary_key, secondary_key) = (primary.text().to_string(), secondary.text().to_string());
    Ok(Tagged(found.revision, Json(Keys { primary_key, secondary_key })))
}

async fn rotate(hub: &Hub, identity: &Identity, which: Rotate, expect: Expect) -> Answer {
    view(&hub.identities().rotate(hub, identity, which, expect).await?)
}

/// Shows a device's keys.
#[utoipa::path(get, path = "/devices/{id}/keys", operation_id = "getDeviceKeys", tag = "devices",
    security(("token" = ["devices:admin"])),
    params(("id" = String, Path, description = "Id of the device")),
    responses((status = 200, description = "Both keys", body = Keys)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn device_keys(State(hub): State<Hub>, Path(id): Path<DeviceId>) -> Answer {
    view(&find(&hub, &Identity::device(id))?)
}

/// Exchanges keys of a device for new ones.
///
/// A client whose token is signed with a key that is gone is disconnected at once; one that came with
/// the other key stays.
#[utoipa::path(post, path = "/devices/{id}/keys", operation_id = "rotateDeviceKeys", tag = "devices",
    security(("token" = ["devices:admin"])), request_body = Rotation,
    params(("id" = String, Path, description = "Id of the device"), IfMatch),
    responses((status = 200, description = "Both keys, as they are now", body = Keys)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn rotate_device(
    State(hub): State<Hub>,
    Path(id): Path<DeviceId>,
    Precondition(expect): Precondition,
    Json(body): Json<Rotation>,
) -> Answer {
    rotate(&hub, &Identity::device(id), body.rotate, expect).await
}

/// Shows a module's keys.
#[utoipa::path(get, path = "/devices/{id}/modules/{module}/keys", operation_id = "getModuleKeys",
    tag = "devices", security(("token" = ["devices:admin"])),
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module")),
    responses((status = 200, description = "Both keys", body = Keys)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn module_keys(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
) -> Answer {
    view(&find(&hub, &Identity::module(id, module))?)
}

/// Exchanges keys of a module for new ones.
///
/// A client whose token is signed with a key that is gone is disconnected at once; one that came with
/// the other key stays.
#[utoipa::path(post, path = "/devices/{id}/modules/{module}/keys",
    operation_id = "rotateModuleKeys", tag = "devices",
    security(("token" = ["devices:admin"])), request_body = Rotation,
    params(("id" = String, Path, description = "Id of the device"),
           ("module" = String, Path, description = "Id of the module"), IfMatch),
    responses((status = 200, description = "Both keys, as they are now", body = Keys)),
    extensions(("x-errors" = json!(["not-found", "conflict"]))))]
async fn rotate_module(
    State(hub): State<Hub>,
    Path((id, module)): Path<(DeviceId, ModuleId)>,
    Precondition(expect): Precondition,
    Json(body): Json<Rotation>,
) -> Answer {
    rotate(&hub, &Identity::module(id, module), body.rotate, expect).await
}
