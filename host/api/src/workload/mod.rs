//! The workload API: what IoT Edge's daemon offers to modules, so that they need no connection string.
//!
//! A module asks for the certificates to trust, for signatures with its own key, which it never sees, for
//! certificates, and to have data encrypted. Served on one Unix socket for each module ([`sockets`]), and
//! on a TCP port where the operator wants it. Invariants:
//!
//! 1. On a module's socket only this module is served, and only to processes that may be it.
//! 2. Keys stay in the hub. What was encrypted for a module is readable for no other, nor for a later
//!    one of the same name.
//! 3. Who is not let in learns nothing but that.

mod certificates;
mod error;
mod modules;
mod seal;
mod sign;
mod sockets;

pub use certificates::{Authority, Issued, NotIssued, Purpose};
pub use sockets::{SocketOptions, socket_path};

use crate::body;
use crate::connection;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use error::Refusal;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use weir_core::id::{Identity, ModuleId};
use weir_core::identity::IdentityRecord;
use weir_core::limits;
use weir_hub::Hub;
use weir_hub::tasks::{Stop, TaskKind};

/// After an error of accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the composition root lends.
#[derive(Clone)]
pub struct Options {
    /// The edge CA.
    pub authority: Authority,
    /// From which the keys of modules are derived; the same after every start, or what modules have
    /// encrypted is lost.
    pub secret: [u8; 32],
}

/// Where modules reach the workload API.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Folder of the sockets, from the root.
    pub sockets: Option<PathBuf>,
    /// The port for all modules.
    pub http: Option<SocketAddr>,
}

/// The workload API; cheap to clone.
#[derive(Clone)]
pub struct Workload(Arc<Inner>);

struct Inner {
    hub: Hub,
    options: Options,
}

/// Whom a connection is for.
#[derive(Debug, Clone)]
enum Scope {
    /// Every module: the path says which.
    All,
    /// Only this one.
    One(ModuleId),
}

impl Workload {
    /// For the modules of this hub's edge device.
    #[must_use]
    pub fn new(hub: Hub, options: Options) -> Self {
        Self(Arc::new(Inner { hub, options }))
    }

    /// Serves every module on a TCP port until the hub drains; whoever reaches it can sign as any module,
    /// so peers must be local: `is_local` decides.
    pub fn listen(
        &self,
        listener: TcpListener,
        is_local: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) {
        let workload = self.clone();
        self.hub().tasks().spawn(
            TaskKind::Essential,
            "workload listener",
            move |stop| async move {
                tokio::select! {
                    () = stop.draining() => {}
                    () = workload.accept(listener, is_local) => {}
                }
            },
        );
    }

    async fn accept(&self, listener: TcpListener, is_local: impl Fn(IpAddr) -> bool) {
        let places = Arc::new(Semaphore::new(limits::WORKLOAD_CONNECTIONS));
        let router = self.router(Scope::All);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "a connection to the workload api could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            if !is_local(peer.ip().to_canonical()) {
                warn!(%peer, "a connection to the workload api does not come from this machine");
                continue;
            }
            let router = router.clone();
            self.hub().tasks().spawn(TaskKind::PerClient, "workload", move |stop| async move {
                let _place = place;
                serve(stream, router, &stop).await;
            });
        }
    }

    fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn router(&self, scope: Scope) -> Router {
        Router::new()
            .route("/trust-bundle", get(certificates::trust_bundle))
            .route("/manifest-trust-bundle", get(certificates::no_manifest_trust_bundle))
            .route("/modules", get(modules::list))
            .route("/modules/{module}/genid/{generation}/sign", post(sign::sign))
            .route("/modules/{module}/genid/{generation}/encrypt", post(seal::encrypt))
            .route("/modules/{module}/genid/{generation}/decrypt", post(seal::decrypt))
            .route(
                "/modules/{module}/genid/{generation}/certificate/server",
                post(certificates::server),
            )
            .route("/modules/{module}/certificate/identity", post(certificates::identity))
            .fallback(async || Refusal::not_found("there is nothing at this path"))
            .method_not_allowed_fallback(async || Refusal::not_found("no such operation"))
            .layer(from_fn(version))
            .layer(from_fn(guard))
            .layer(Extension(scope))
            .with_state(self.clone())
    }

    /// The record of an enabled module of the edge device.
    fn module(&self, name: &str) -> Result<Arc<IdentityRecord>, Refusal> {
        let unknown = || Refusal::not_found(format!("there is no module {name}"));
        let module: ModuleId = name.parse().map_err(|_| unknown())?;
        let identity = Identity::module(self.hub().edge_device().clone(), module);
        let identities = self.hub().identities();
        let found = identities.get(&identity).filter(|_| identities.is_enabled(&identity));
        Ok(found.ok_or_else(unknown)?.record)
    }

    /// As [`Self::module`], when this is its generation.
    fn generation(&self, name: &str, generation: &str) -> Result<Arc<IdentityRecord>, Refusal> {
        let record = self.module(name)?;
        match record.generation_id == generation {
            true => Ok(record),
            false => Err(Refusal::not_found(format!("module {name} has another generation id"))),
        }
    }
}

async fn serve<S>(stream: S, router: Router, stop: &Stop)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    if let Err(error) = connection::answer(stream, router, stop).await {
        debug!(%error, "a workload connection ended badly");
    }
}

/// On a module's socket only its own paths, and those without a module.
async fn guard(Extension(scope): Extension<Scope>, request: Request, next: Next) -> Response {
    let mut parts = request.uri().path().split('/').skip(1);
    if let (Scope::One(own), Some("modules"), Some(named)) = (scope, parts.next(), parts.next())
        && percent_decode_str(named).decode_utf8().ok().as_deref() != Some(own.as_str())
    {
        return Refusal::forbidden("this socket is another module's").into_response();
    }
    next.run(request).await
}

const FIRST_VERSION: &str = "2018-06-28";
const LAST_VERSION: &str = "2021-12-07";

/// The original knows a handful of versions; what is asked here is the same in all of them.
async fn version(request: Request, next: Next) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut versions = pairs.filter(|(name, _)| *name == "api-version").map(|(_, value)| value);
    let is_known = versions.next().is_some_and(|version| {
        let is_date = version.len() == 10
            && version.bytes().enumerate().all(|(at, byte)| match at {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        is_date && (FIRST_VERSION..=LAST_VERSION).contains(&version)
    });
    match is_known {
        true => next.run(request).await,
        false => {
            let text = format!("api-version has to be {FIRST_VERSION} to {LAST_VERSION}");
            Refusal::invalid(text).into_response()
        }
    }
}

/// The JSON of a body, whatever type it claims: the Python SDK names none.
async fn read<T: DeserializeOwned>(body: Body) -> Result<T, Refusal> {
    let body = body::read(body, limits::WORKLOAD_BODY_BYTES).await;
    let body = body.map_err(|problem| Refusal::invalid(problem.body().detail.clone()))?;
    serde_json::from_slice(&body).map_err(|error| Refusal::invalid(error.to_string()))
}
