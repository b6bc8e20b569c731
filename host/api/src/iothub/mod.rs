//! IoT Hub's service paths: what `azure-iothub` (npm), `azure-iot-hub` (PyPI) and back-end scripts call.
//!
//! Mounted on the HTTPS listener (443); never on the API's. The path of a request: [`finish`] (time
//! limit, error bodies) → [`auth::guard`] (policy and rights) → [`finish::detach`] → a handler. Forms,
//! codes and texts are IoT Hub's; `docs/compatibility.md` has a row for every operation, and a test
//! compares it with [`operations`]. Invariants: an operation that is not in [`OPERATIONS`] is not
//! reached; only a token of a shared access policy whose rights cover the operation reaches a handler.

mod absent;
mod auth;
mod commands;
mod configurations;
mod devices;
mod etag;
mod finish;
mod identity;
mod json;
mod methods;
mod modules;
mod refusal;
mod statistics;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use weir_hub::{Hub, Rights};

/// One operation.
struct Operation {
    method: &'static str,
    path: &'static str,
    /// What the policy of the caller must allow.
    needs: Rights,
    handler: fn() -> MethodRouter<Hub>,
}

const READ: Rights = Rights::REGISTRY_READ;
const WRITE: Rights = Rights::REGISTRY_WRITE;
const SERVICE: Rights = Rights::SERVICE_CONNECT;

macro_rules! operations {
    ($($method:ident $path:literal $needs:expr => $($handler:ident)::+;)*) => {
        &[$(Operation {
            method: stringify!($method),
            path: $path,
            needs: $needs,
            handler: || $method($($handler)::+),
        },)*]
    };
}

/// Every operation and the rights that it needs. Where Microsoft documents them, they are these: the
/// registry and queries RegistryRead or RegistryWrite, twins, methods and messages ServiceConnect. They
/// do not say what configurations need: here it is the registry's rights, too.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = operations! {
    get    "/devices" READ => devices::list;
    post   "/devices" WRITE => devices::bulk;
    get    "/devices/{id}" READ => devices::get;
    put    "/devices/{id}" WRITE => devices::put;
    delete "/devices/{id}" WRITE => devices::delete;
    get    "/devices/{id}/modules" READ => modules::list;
    get    "/devices/{id}/modules/{module}" READ => modules::get;
    put    "/devices/{id}/modules/{module}" WRITE => modules::put;
    delete "/devices/{id}/modules/{module}" WRITE => modules::delete;
    delete "/devices/{id}/commands" SERVICE => commands::purge;
    post   "/twins/{id}/methods" SERVICE => methods::device;
    post   "/twins/{id}/modules/{module}/methods" SERVICE => methods::module;
    get    "/configurations" READ => configurations::list;
    get    "/configurations/{id}" READ => configurations::get;
    put    "/configurations/{id}" WRITE => configurations::put;
    delete "/configurations/{id}" WRITE => configurations::delete;
    post   "/configurations/testQueries" READ => configurations::test_queries;
    get    "/messages/serviceBound/feedback" SERVICE => absent::feedback;
    delete "/messages/serviceBound/feedback/{lock}" SERVICE => absent::feedback;
    post   "/messages/serviceBound/feedback/{lock}/abandon" SERVICE => absent::feedback;
    get    "/statistics/devices" READ => statistics::devices;
    get    "/statistics/service" SERVICE => statistics::service;
    get    "/jobs" SERVICE => absent::jobs;
    post   "/jobs/create" WRITE => absent::jobs;
    get    "/jobs/{id}" SERVICE => absent::jobs;
    delete "/jobs/{id}" SERVICE => absent::jobs;
    get    "/jobs/v2/query" SERVICE => absent::jobs;
    get    "/jobs/v2/{id}" SERVICE => absent::jobs;
    put    "/jobs/v2/{id}" SERVICE => absent::jobs;
    post   "/jobs/v2/{id}/cancel" SERVICE => absent::jobs;
    get    "/digitaltwins/{id}" SERVICE => absent::digital_twins;
    patch  "/digitaltwins/{id}" SERVICE => absent::digital_twins;
    post   "/digitaltwins/{id}/commands/{command}" SERVICE => absent::digital_twins;
    post   "/digitaltwins/{id}/components/{component}/commands/{command}" SERVICE => absent::digital_twins;
};

/// SDKs write the paths of lists with a slash at the end, too.
const LISTS: [&str; 2] = ["/devices", "/configurations"];

/// Method, path and needed rights of every operation, for tests of the table and its documentation.
pub fn operations() -> impl Iterator<Item = (String, &'static str, Rights)> {
    OPERATIONS
        .iter()
        .map(|operation| (operation.method.to_uppercase(), operation.path, operation.needs))
}

/// The service paths as a router. It answers every request that it is given, if only with 404.
pub fn router(hub: Hub) -> Router {
    let mut router = Router::new();
    for operation in OPERATIONS {
        let guard = auth::Guard { hub: hub.clone(), needs: Some(operation.needs) };
        // A method call that nobody waits for any more is given up; every other change is brought to
        // its end.
        let detached = !operation.path.ends_with("/methods");
        let handler = || {
            let handler = (operation.handler)();
            let handler = match detached {
                true => handler.route_layer(from_fn_with_state(hub.clone(), finish::detach)),
                false => handler,
            };
            handler.route_layer(from_fn_with_state(guard.clone(), auth::guard))
        };
        router = router.route(operation.path, handler());
        if LISTS.contains(&operation.path) {
            router = router.route(&format!("{}/", operation.path), handler());
        }
    }
    // Who has no token is told nothing, not even what there is not.
    let known = auth::Guard { hub: hub.clone(), needs: None };
    let fallback =
        Router::new().fallback(finish::not_found).layer(from_fn_with_state(known, auth::guard));
    router
        .method_not_allowed_fallback(finish::method_not_allowed)
        .fallback_service(fallback.with_state(hub.clone()))
        .layer(from_fn_with_state(hub.clone(), finish::finish))
        .with_state(hub)
}
