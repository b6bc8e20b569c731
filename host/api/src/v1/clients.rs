//! `/api/v1/clients`: who is connected, and who was.

use crate::Api;
use crate::extract::Query;
use crate::page::{Page, PageQuery};
use crate::problem::Problem;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::id::Identity;
use weir_hub::{ClientView, Hub, Presence};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A client.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(example = json!({
    "deviceId": "sensor-1", "connected": true, "protocol": "mqtt",
    "since": "2026-05-04T10:00:00Z", "lastSeen": "2026-05-04T10:07:12Z", "left": null,
    "peer": "192.0.2.7:51234"
}))]
struct Client {
    device_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    module_id: Option<String>,
    #[serde(flatten)]
    presence: PresenceView,
    /// Address of the other side, while it is connected.
    peer: Option<String>,
}

/// When an identity was there.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Presence)]
pub(super) struct PresenceView {
    /// Whether it is connected now.
    connected: bool,
    /// What it used last: `mqtt`, `amqp`, `https`, …
    protocol: String,
    /// When its last session began, or its last single request came.
    since: String,
    /// When something came from it last.
    last_seen: String,
    /// When its last session ended; null while it is connected, or where the hub could not note it.
    left: Option<String>,
}

impl From<Presence> for PresenceView {
    fn from(presence: Presence) -> Self {
        Self {
            connected: presence.connected,
            protocol: presence.protocol,
            since: presence.since.to_string(),
            last_seen: presence.last_seen.to_string(),
            left: presence.left.map(|left| left.to_string()),
        }
    }
}

/// Which clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Which {
    /// Those who are connected.
    #[default]
    Connected,
    /// Those who were there and are not.
    Disconnected,
    /// Both.
    All,
}

/// Which clients, and which part of the list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
struct ClientsQuery {
    /// Most items of the page: 1 to 1000; 100 when left out.
    #[param(minimum = 1, maximum = 1000, example = 100)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// `connected` (also when it is left out), `disconnected` or `all`.
    #[param(value_type = Option<String>)]
    state: Which,
}

/// Lists the clients.
#[utoipa::path(get, path = "/clients", operation_id = "listClients", tag = "clients",
    security(("token" = ["clients:read"])), params(ClientsQuery),
    responses((status = 200, description = "A page of clients", body = Page<Client>)))]
async fn list(
    State(hub): State<Hub>,
    Query(query): Query<ClientsQuery>,
) -> Result<Page<Client>, Problem> {
    let wanted = PageQuery { limit: query.limit, cursor: query.cursor }.wanted()?;
    let after = wanted.after.as_deref();
    let connected = hub.clients().into_iter().map(|view| (view.identity.clone(), view));
    let mut connected: BTreeMap<Identity, ClientView> = connected.collect();
    let mut named: Vec<(String, Client)> = hub
        .presence_of_all()
        .into_iter()
        .map(|(identity, presence)| {
            let peer = connected.remove(&identity).map(|view| view.peer);
            (identity.to_string(), client(&identity, presence, peer))
        })
        .collect();
    // Who is connected without an identity of the registry: sources of the hub's own process.
    named.extend(connected.into_iter().map(|(identity, view)| {
        let presence = PresenceView {
            connected: true,
            protocol: view.protocol.to_owned(),
            since: view.since.clone(),
            last_seen: view.since,
            left: None,
        };
        (identity.to_string(), client(&identity, presence, Some(view.peer)))
    }));
    named.retain(|(name, client)| {
        let is_asked = match query.state {
            Which::All => true,
            Which::Connected => client.presence.connected,
            Which::Disconnected => !client.presence.connected,
        };
        is_asked && after.is_none_or(|after| name.as_str() > after)
    });
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named.truncate(wanted.and_one());
    Ok(wanted.page(named, |(name, _)| name.clone(), |(_, client)| client))
}

fn client(identity: &Identity, presence: impl Into<PresenceView>, peer: Option<String>) -> Client {
    Client {
        device_id: identity.device.to_string(),
        module_id: identity.module.as_ref().map(ToString::to_string),
        presence: presence.into(),
        peer,
    }
}
