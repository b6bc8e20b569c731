//! HTTPS for devices, modules and service scripts: what Azure IoT clients look for on port 443.
//!
//! [`listen`] serves a port. One router for all: WebSockets on every path go to the heads of their
//! sub-protocol; what a device or module asks is answered here; the rest, and all that a service policy
//! has signed, belongs to the service paths. Invariants:
//!
//! 1. `/api/v1` is never served here, and none of this where the control plane listens.
//! 2. Who asks is decided by the token or the certificate, never by the path.
//! 3. Nothing that a client sends, or does not read, costs more than a bounded part of memory and time.

mod client;
mod error;
mod listener;
mod websocket;

pub use client::Peer;
pub use websocket::WebSocket;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use error::Refusal;
use futures::FutureExt;
use futures::future::BoxFuture;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use weir_core::limits;
use weir_hub::Hub;
use weir_hub::tasks::TaskKind;

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
    let tasks = hub.tasks().clone();
    let websockets = Arc::new(Semaphore::new(limits::WEBSOCKETS));
    let https = Https(Arc::new(Inner { hub, upgrades, websockets }));
    let door = listener::Door { router: router(https.clone()), https, tls: TlsAcceptor::from(tls) };
    tasks.spawn(TaskKind::Essential, "https listener", move |stop| {
        listener::accept(listener, Arc::new(door), stop)
    });
}

fn router(https: Https) -> Router {
    Router::new()
        .fallback(async || Refusal::nothing_here())
        .layer(from_fn_with_state(https.clone(), websocket::upgrade))
        .layer(from_fn(finish))
        .with_state(https)
}

/// What every request gets: an end without a panic, and the header that IoT Edge always sends.
async fn finish(request: Request, next: Next) -> Response {
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        let status = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        Refusal::new(status, "ServerError", "the hub failed on this request").into_response()
    });
    let nosniff = HeaderValue::from_static("nosniff");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
