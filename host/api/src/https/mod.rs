//! HTTPS for devices, modules and service scripts: what Azure IoT clients look for on port 443.
//!
//! [`listen`] serves a port. One router for all: WebSockets on every path go to the heads of their
//! sub-protocol; what a device or module asks is answered here; the rest, and all that a service policy
//! has signed, belongs to the service paths. Invariants:
//!
//! 1. `/api/v1` is never served here, and none of this where the control plane listens.
//! 2. Who asks is decided by the token or the certificate, never by the path.
//! 3. Nothing that a client sends, or does not read, costs more than a bounded part of memory and time.

mod caller;
mod client;
mod device;
mod edge;
mod error;
mod listener;
mod websocket;

pub use websocket::WebSocket;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use client::Client;
use error::Refusal;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;
use weir_core::limits;
use weir_core::sas::SasToken;
use weir_hub::Hub;
use weir_hub::door::{Door, Peer, Security};

/// What is below a connection: TLS, without its type.
type Stream = Box<dyn ByteStream>;

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for S {}

/// Goes on with a connection after its upgrade, until it ends.
pub type Upgrade = Arc<dyn Fn(WebSocket, Peer) -> BoxFuture<'static, ()> + Send + Sync>;

/// The heads behind the sub-protocols.
#[derive(Clone)]
pub struct Upgrades {
    /// `mqtt`.
    pub mqtt: Upgrade,
    /// `AMQPWSB10`.
    pub amqp: Upgrade,
}

/// What the handlers share; cheap to clone.
#[derive(Clone)]
pub(crate) struct Https(Arc<Inner>);

struct Inner {
    hub: Hub,
    upgrades: Upgrades,
    /// Places of connections whose clients have proven who they are.
    proven: Arc<Semaphore>,
    websockets: Arc<Semaphore>,
}

impl Https {
    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }
}

/// Serves `listener` until the hub drains. Returns at once; the work is done by tasks of the hub.
/// `tls` has to ask for client certificates and to offer `http/1.1` alone: WebSockets need it.
pub fn listen(listener: TcpListener, hub: Hub, tls: Arc<rustls::ServerConfig>, upgrades: Upgrades) {
    let door = Door::new(hub.clone());
    let (_, tls) = watch::channel(tls);
    let https = Https(Arc::new(Inner {
        hub,
        upgrades,
        proven: Arc::new(Semaphore::new(limits::HTTPS_CONNECTIONS)),
        websockets: Arc::new(Semaphore::new(limits::WEBSOCKETS)),
    }));
    door.listen("https", listener, Security::Tls(tls), listener::Server::new(https));
}

fn router(https: Https) -> Router {
    let service = crate::iothub::router(https.hub().clone());
    Router::new()
        .merge(edge::routes())
        .merge(device::routes())
        // What is not for devices and modules is for service scripts, also another method of a path.
        .method_not_allowed_fallback(pass_on)
        .fallback(pass_on)
        .layer(from_fn_with_state(https.clone(), by_token))
        .layer(Extension(ServicePaths(service)))
        .layer(from_fn_with_state(https.clone(), websocket::upgrade))
        .layer(from_fn(finish))
        .with_state(https)
}

/// The paths for service scripts, which look at their tokens themselves.
#[derive(Clone)]
struct ServicePaths(Router);

async fn pass_on(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Extension(service): Extension<ServicePaths>,
    mut request: Request,
) -> Response {
    // A path that both know has left its parameters here; the other router would take them for its own.
    request.extensions_mut().clear();
    let response = service.0.oneshot(request).await.into_response();
    match response.status() {
        StatusCode::UNAUTHORIZED => client.refused().await,
        _ => client.proven(&https.0.proven),
    }
    response
}

/// A token that a service policy has signed opens service paths, and nothing else does: some paths are
/// those of modules, too.
async fn by_token(
    State(https): State<Https>,
    Extension(client): Extension<Client>,
    Extension(service): Extension<ServicePaths>,
    request: Request,
    next: Next,
) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|text| text.to_str().ok());
    let names_policy =
        token.is_some_and(|text| SasToken::parse(text).is_ok_and(|token| token.policy().is_some()));
    match names_policy {
        true => pass_on(State(https), Extension(client), Extension(service), request).await,
        false => next.run(request).await,
    }
}

/// What every request gets: an end without a panic, and the header that IoT Edge always sends.
async fn finish(request: Request, next: Next) -> Response {
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Refusal::new(status, "ServerError", "the hub failed on this request").into_response()
    });
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
