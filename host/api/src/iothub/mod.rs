//! IoT Hub's service paths: what `azure-iothub` (npm), `azure-iot-hub` (PyPI) and back-end scripts call.
//!
//! Mounted on the HTTPS listener (443); never on the API's. The path of a request: [`finish`] (time
//! limit, error bodies) → [`auth::guard`] (policy and rights) → [`finish::detach`] → a handler. Forms,
//! codes and texts are IoT Hub's; `docs/compatibility.md` has a row for every operation, and a test
//! compares it with [`operations`]. Invariants: an operation that is not in [`OPERATIONS`] is not
//! reached; only a token of a shared access policy whose rights cover the operation reaches a handler.

mod absent;
mod apply;
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
mod query;
mod refusal;
mod statistics;
mod twins;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use weir_hub::Hub;
use weir_hub::authorize::Operation as Right;

/// One operation.
struct Operation {
    method: &'static str,
    path: &'static str,
    /// What the policy of the caller must allow.
    needs: Right,
    handler: fn() -> MethodRouter<Hub>,
}

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

/// Every operation and what its caller must be allowed. As in Microsoft's documentation a query needs the
/// right to read the registry, not that to read twins; it does not say what configurations need: here it
/// is the registry's rights, too.
#[rustfmt::skip]
const OPERATIONS: &[Operation] = operations! {
    get    "/devices" Right::ReadRegistry => devices::list;
    post   "/devices" Right::WriteRegistry => devices::bulk;
    get    "/devices/{id}" Right::ReadRegistry => devices::get;
    put    "/devices/{id}" Right::WriteRegistry => devices::put;
    delete "/devices/{id}" Right::WriteRegistry => devices::delete;
    get    "/devices/{id}/modules" Right::ReadRegistry => modules::list;
    get    "/devices/{id}/modules/{module}" Right::ReadRegistry => modules::get;
    put    "/devices/{id}/modules/{module}" Right::WriteRegistry => modules::put;
    delete "/devices/{id}/modules/{module}" Right::WriteRegistry => modules::delete;
    delete "/devices/{id}/commands" Right::SendCommands => commands::purge;
    post   "/devices/{id}/applyConfigurationContent" Right::ApplyConfiguration => apply::apply;
    post   "/devices/query" Right::ReadRegistry => query::query;
    get    "/twins/{id}" Right::ReadTwins => twins::get_device;
    patch  "/twins/{id}" Right::WriteTwins => twins::patch_device;
    put    "/twins/{id}" Right::WriteTwins => twins::put_device;
    get    "/twins/{id}/modules/{module}" Right::ReadTwins => twins::get_module;
    patch  "/twins/{id}/modules/{module}" Right::WriteTwins => twins::patch_module;
    put    "/twins/{id}/modules/{module}" Right::WriteTwins => twins::put_module;
    post   "/twins/{id}/methods" Right::CallMethods => methods::device;
    post   "/twins/{id}/modules/{module}/methods" Right::CallMethods => methods::module;
    get    "/configurations" Right::ReadRegistry => configurations::list;
    get    "/configurations/{id}" Right::ReadRegistry => configurations::get;
    put    "/configurations/{id}" Right::WriteRegistry => configurations::put;
    delete "/configurations/{id}" Right::WriteRegistry => configurations::delete;
    post   "/configurations/testQueries" Right::ReadRegistry => configurations::test_queries;
    get    "/messages/serviceBound/feedback" Right::ReadFeedback => absent::feedback;
    delete "/messages/serviceBound/feedback/{lock}" Right::ReadFeedback => absent::feedback;
    post   "/messages/serviceBound/feedback/{lock}/abandon" Right::ReadFeedback => absent::feedback;
    get    "/statistics/devices" Right::ReadRegistry => statistics::devices;
    get    "/statistics/service" Right::ReadRegistry => statistics::service;
    get    "/jobs" Right::ReadTwins => absent::jobs;
    post   "/jobs/create" Right::WriteRegistry => absent::jobs;
    get    "/jobs/{id}" Right::ReadTwins => absent::jobs;
    delete "/jobs/{id}" Right::WriteTwins => absent::jobs;
    get    "/jobs/v2/query" Right::ReadTwins => absent::jobs;
    get    "/jobs/v2/{id}" Right::ReadTwins => absent::jobs;
    put    "/jobs/v2/{id}" Right::WriteTwins => absent::jobs;
    post   "/jobs/v2/{id}/cancel" Right::WriteTwins => absent::jobs;
    get    "/digitaltwins/{id}" Right::ReadTwins => absent::digital_twins;
    patch  "/digitaltwins/{id}" Right::WriteTwins => absent::digital_twins;
    post   "/digitaltwins/{id}/commands/{command}" Right::CallMethods => absent::digital_twins;
    post   "/digitaltwins/{id}/components/{component}/commands/{command}" Right::CallMethods => absent::digital_twins;
};

/// SDKs write the paths of lists with a slash at the end, too.
const LISTS: [&str; 2] = ["/devices", "/configurations"];

/// Method, path and needed rights of every operation, for tests of the table and its documentation.
pub fn operations() -> impl Iterator<Item = (String, &'static str, Right)> {
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
