//! The control plane: REST under `/api/v1`, health, metrics, and the pages that explain them.
//!
//! Translates between HTTP and [`weir_hub::Hub`] and decides nothing. [`serve`] answers on a listener;
//! [`router`] is the same without one. The path of a request: [`finish`] (limits, problems) →
//! [`auth`] (who may) → [`finish::detach`] → [`idempotency`] → a handler in `v1/<resource>.rs`.
//!
//! Invariants: an operation that is not in the OpenAPI document is not reached; bad input is answered
//! with a 4xx that says what and where; a change that has begun is brought to its end.
#![forbid(unsafe_code)]

mod auth;
mod body;
mod connection;
mod docs;
mod etag;
mod extract;
mod finish;
mod health;
pub mod https;
mod idempotency;
pub mod iothub;
mod json;
mod openapi;
mod page;
mod patience;
mod problem;
mod rate;
mod serve;
mod v1;
pub mod workload;

pub use openapi::document as openapi_document;
pub use serve::serve;

use axum::Router;
use axum::extract::FromRef;
use axum::middleware::{from_fn, from_fn_with_state};
use std::sync::Arc;
use tokio::sync::Semaphore;
use weir_core::limits;
use weir_hub::{Hub, ModuleLogs};

/// What the composition root says of the API.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Names and addresses of all listeners, for `/api/v1/system`.
    pub listeners: Vec<(String, String)>,
    /// The last log lines of the modules.
    pub logs: ModuleLogs,
    /// Where modules reach the workload API.
    pub workload: workload::Places,
    /// Set when this listener speaks TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

struct Inner {
    hub: Hub,
    options: Options,
    access: auth::Access,
    rates: rate::Rates,
    uploads: Semaphore,
    event_streams: Arc<Semaphore>,
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Api(Arc<Inner>);

impl Api {
    pub(crate) fn new(hub: Hub, options: Options) -> Self {
        Self(Arc::new(Inner {
            hub,
            options,
            access: auth::Access::of(&openapi::value()),
            rates: rate::Rates::default(),
            uploads: Semaphore::new(limits::API_UPLOADS),
            event_streams: Arc::new(Semaphore::new(limits::EVENT_STREAMS)),
        }))
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    pub(crate) fn access(&self) -> &auth::Access {
        &self.0.access
    }

    pub(crate) fn rates(&self) -> &rate::Rates {
        &self.0.rates
    }

    /// Places for components on their way in.
    pub(crate) fn uploads(&self) -> &Semaphore {
        &self.0.uploads
    }

    /// Places for streams of events.
    pub(crate) fn event_streams(&self) -> &Arc<Semaphore> {
        &self.0.event_streams
    }

    pub(crate) fn router(self) -> Router {
        let (operations, _) = openapi::routes().split_for_parts();
        operations
            .layer(from_fn(finish::revalidate))
            .layer(from_fn_with_state(self.clone(), idempotency::once))
            .layer(from_fn_with_state(self.clone(), finish::detach))
            .layer(from_fn_with_state(self.clone(), auth::guard))
            .merge(docs::pages())
            .fallback(finish::not_found)
            .layer(from_fn(finish::finish))
            .with_state(self)
    }
}

impl FromRef<Api> for Hub {
    fn from_ref(api: &Api) -> Self {
        api.hub().clone()
    }
}

/// The whole API as a service.
pub fn router(hub: Hub, options: Options) -> Router {
    Api::new(hub, options).router()
}
