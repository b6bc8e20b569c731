//! `…/messages/devicebound`: cloud-to-device messages by polling, each under a lock.

use super::headers;
use crate::https::Https;
use crate::https::client::Client;
use crate::https::error::Refusal;
use axum::Extension;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use weir_core::command::{Command, LockToken, Settlement};
use weir_hub::CommandError;

/// 200 with the next command, 204 when none waits.
pub(super) async fn receive(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Path(device): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let visitor = super::visitor(&https, &client, &headers, &device).await?;
    Ok(match visitor.receive_command().await {
        Some(command) => shown(&command),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

/// `DELETE …/{lock}`, or `DELETE …/{lock}?reject`.
pub(super) async fn complete(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Path((device, lock)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let query = query.unwrap_or_default();
    let rejects = query.split('&').any(|pair| pair.split('=').next() == Some("reject"));
    let settlement = if rejects { Settlement::Reject } else { Settlement::Complete };
    let visitor = super::visitor(&https, &client, &headers, &device).await?;
    visitor.settle_command(lock_of(&lock)?, settlement).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/{lock}/abandon`.
pub(super) async fn abandon(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Path((device, lock)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let visitor = super::visitor(&https, &client, &headers, &device).await?;
    visitor.settle_command(lock_of(&lock)?, Settlement::Abandon).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A text that is no lock is one that is not in force.
fn lock_of(text: &str) -> Result<LockToken, Refusal> {
    text.parse().map_err(|_| CommandError::LockLost.into())
}

fn shown(command: &Command) -> Response {
    let message = command.message.message();
    let mut headers = HeaderMap::new();
    headers::write(&message.properties, &mut headers);
    let own = [
        (header::ETAG.as_str(), format!("\"{}\"", command.lock)),
        ("iothub-sequencenumber", command.sequence.to_string()),
        ("iothub-deliverycount", command.delivery_count.to_string()),
        ("iothub-enqueuedtime", command.enqueued.to_string()),
        ("iothub-expiry", command.expires.to_string()),
    ];
    for (name, value) in own {
        let value = HeaderValue::try_from(value).expect("numbers, times and ids can stand there");
        headers.insert(header::HeaderName::from_static(name), value);
    }
    (headers, message.body.clone()).into_response()
}
