//! WebSockets on port 443: the opening handshake (RFC 6455 section 4.2), on every path.
//!
//! The SDKs ask for `/$iothub/websocket`, others for `/`; what is spoken then, the sub-protocol says.
//! Extensions that a client offers are not taken: a `permessage-deflate` that is not answered is not used.

pub(crate) mod frame;
pub(crate) mod stream;

use super::client::Client;
use super::error::Refusal;
use super::{Https, Stream};
use crate::patience::Patient;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use stream::WebSocketStream;
use tracing::debug;
use weir_core::limits;
use weir_hub::door::Peer;
use weir_hub::tasks::TaskKind;

/// The connection after the upgrade.
pub type WebSocket = WebSocketStream<Stream>;

const VERSION: &str = "13";

/// What is spoken on a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubProtocol {
    Mqtt,
    Amqp,
}

impl SubProtocol {
    /// Their registered names. `AMQPWSB10` is the one of the AMQP WebSocket binding.
    const ALL: [(&str, Self); 2] = [("mqtt", Self::Mqtt), ("AMQPWSB10", Self::Amqp)];

    /// For people.
    fn shown(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt-ws",
            Self::Amqp => "amqp-ws",
        }
    }
}

/// Ends requests for an upgrade, whatever their path is.
pub(crate) async fn upgrade(
    State(https): State<Https>,
    mut request: Request,
    next: Next,
) -> Response {
    if !has_token(request.headers(), &header::UPGRADE, "websocket") {
        return next.run(request).await;
    }
    let (key, name, protocol) = match asked(&request) {
        Ok(asked) => asked,
        Err(refusal) if refusal.status() == StatusCode::UPGRADE_REQUIRED => {
            return ([(header::SEC_WEBSOCKET_VERSION, VERSION)], refusal).into_response();
        }
        Err(refusal) => return refusal.into_response(),
    };
    let (Some(client), Some(on_upgrade)) = (
        request.extensions_mut().remove::<Client>(),
        request.extensions_mut().remove::<OnUpgrade>(),
    ) else {
        return refuse("this connection cannot be upgraded").into_response();
    };
    let Ok(place) = Arc::clone(&https.0.websockets).try_acquire_owned() else {
        let text = "the hub has as many connections as it takes";
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text)
            .into_response();
    };
    https.0.hub.tasks().clone().spawn(TaskKind::PerClient, "websocket", move |_| async move {
        let _place = place;
        let peer = Peer { protocol: protocol.shown(), ..client.peer().clone() };
        match opened(on_upgrade).await {
            Some(socket) => https.hand_over(protocol, socket, peer).await,
            None => debug!(peer = %peer.address, "a WebSocket was not opened"),
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("upgrade")),
        (header::UPGRADE, HeaderValue::from_static("websocket")),
        (header::SEC_WEBSOCKET_ACCEPT, accept(&key)),
        (header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

impl Https {
    async fn hand_over(&self, protocol: SubProtocol, socket: WebSocket, peer: Peer) {
        let upgrade = match protocol {
            SubProtocol::Mqtt => &self.0.upgrades.mqtt,
            SubProtocol::Amqp => &self.0.upgrades.amqp,
        };
        upgrade(socket, peer).await;
    }
}

/// The key, and the sub-protocol that the client likes best of those that are known.
fn asked(request: &Request) -> Result<(HeaderValue, &'static str, SubProtocol), Refusal> {
    let headers = request.headers();
    if request.method() != Method::GET || !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(refuse("a WebSocket is opened by GET with the header Connection: Upgrade"));
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != VERSION) {
        let text = "version 13 of WebSocket is spoken";
        return Err(Refusal::new(StatusCode::UPGRADE_REQUIRED, "ArgumentInvalid", text));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let is_key = |key: &&HeaderValue| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16);
    let key = key.filter(is_key).ok_or_else(|| refuse("Sec-WebSocket-Key is not 16 bytes"))?;
    let known = tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL)
        .find_map(|wanted| SubProtocol::ALL.into_iter().find(|(name, _)| *name == wanted));
    match known {
        Some((name, protocol)) => Ok((key.clone(), name, protocol)),
        None => Err(refuse("the sub-protocols are mqtt and AMQPWSB10")),
    }
}

/// The bare stream, without the limits that requests have; those of its head hold from now on.
async fn opened(on_upgrade: OnUpgrade) -> Option<WebSocket> {
    let upgraded: Upgraded =
        tokio::time::timeout(limits::HANDSHAKE_LIMIT, on_upgrade).await.ok()?.ok()?;
    let parts = upgraded.downcast::<TokioIo<Patient<Stream>>>().ok()?;
    Some(WebSocketStream::new(parts.io.into_inner().into_inner(), &parts.read_buf))
}

/// Proves that the hub has understood (RFC 6455 section 4.2.2): SHA-1 is only a checksum here.
fn accept(key: &HeaderValue) -> HeaderValue {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let text = STANDARD.encode(hash.finish());
    HeaderValue::from_str(&text).expect("base64 can stand in a header")
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn refuse(text: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "ArgumentInvalid", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_answered_as_it_says() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn request(change: (&'static str, &'static str)) -> Request {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", "chat, AMQPWSB10, mqtt"),
            change,
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut request = Request::new(axum::body::Body::empty());
        *request.headers_mut() = headers;
        request
    }

    #[test]
    fn the_first_known_sub_protocol_counts() {
        let asked_for = |list| {
            let asked = asked(&request(("sec-websocket-protocol", list)));
            asked.map(|(_, name, _)| name).map_err(|refusal| refusal.status().as_u16())
        };
        assert_eq!(asked_for("chat, AMQPWSB10, mqtt"), Ok("AMQPWSB10"));
        assert_eq!(asked_for("mqtt"), Ok("mqtt"));
        for unknown in ["", "chat", "MQTT", "amqpwsb10", "mqtt;x"] {
            assert_eq!(asked_for(unknown), Err(400), "{unknown}");
        }
    }

    #[test]
    fn a_handshake_that_is_none_is_refused() {
        let status = |change| asked(&request(change)).unwrap_err().status().as_u16();
        assert_eq!(status(("connection", "close")), 400);
        assert_eq!(status(("sec-websocket-version", "8")), 426);
        assert_eq!(status(("sec-websocket-key", "dGhl")), 400);
        assert_eq!(status(("sec-websocket-key", "no base64")), 400);
    }
}
