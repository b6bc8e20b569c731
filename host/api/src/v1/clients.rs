//! `/api/v1/clients`: who is connected.

use crate::Api;
use crate::page::{Page, PageOf, PageQuery};
use crate::problem::Problem;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_hub::{ClientView, Hub};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A connected client.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "deviceId": "sensor-1", "protocol": "mqtt", "since": "2026-05-04T10:00:00Z",
    "peer": "192.0.2.7:51234"
}))]
struct Client {
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_id: Option<String>,
    /// `mqtt`, …
    protocol: &'static str,
    /// Since when.
    since: String,
    /// Address of the other side.
    peer: String,
}

impl From<ClientView> for Client {
    fn from(view: ClientView) -> Self {
        Self {
            device_id: view.identity.device.to_string(),
            module_id: view.identity.module.as_ref().map(ToString::to_string),
            protocol: view.protocol,
            since: view.since,
            peer: view.peer,
        }
    }
}

/// Lists the connected clients.
#[utoipa::path(get, path = "/clients", operation_id = "listClients", tag = "clients",
    security(("token" = ["clients:read"])), params(PageQuery),
    responses((status = 200, description = "A page of clients", body = Page<Client>)))]
async fn list(State(hub): State<Hub>, query: PageOf) -> Result<Page<Client>, Problem> {
    let wanted = query.0.wanted()?;
    let after = wanted.after.as_deref();
    let mut named: Vec<(String, ClientView)> =
        hub.clients().into_iter().map(|view| (view.identity.to_string(), view)).collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named.retain(|(name, _)| after.is_none_or(|after| name.as_str() > after));
    named.truncate(wanted.and_one());
    Ok(wanted.page(named, |(name, _)| name.clone(), |(_, view)| view.into()))
}
