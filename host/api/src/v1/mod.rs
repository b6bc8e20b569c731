//! `/api/v1`: one file for each resource, and the views they share.

mod artifacts;
mod clients;
mod commands;
mod dead_letters;
mod devices;
mod edge_environment;
mod events;
mod explanations;
mod identity;
mod keys;
mod message;
mod method_calls;
mod module;
mod module_identities;
mod module_logs;
mod module_spec;
mod module_state;
mod module_twins;
mod modules;
mod operations;
mod queues;
mod replays;
mod route_tests;
mod routes;
mod service_policies;
mod swaps;
mod system;
mod tokens;
mod twins;
mod upstream;
mod verdict;

use crate::Api;
use utoipa_axum::router::OpenApiRouter;
use weir_core::clock::Timestamp;

/// All operations below `/api/v1`.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    [
        system::routes(),
        tokens::routes(),
        devices::routes(),
        module_identities::routes(),
        twins::routes(),
        module_twins::routes(),
        edge_environment::routes(),
        service_policies::routes(),
        keys::routes(),
        clients::routes(),
        method_calls::routes(),
        commands::routes(),
        modules::routes(),
        swaps::routes(),
        module_state::routes(),
        module_logs::routes(),
        artifacts::routes(),
        routes::routes(),
        route_tests::routes(),
        explanations::routes(),
        queues::routes(),
        dead_letters::routes(),
        replays::routes(),
        upstream::routes(),
        operations::routes(),
        events::routes(),
    ]
    .into_iter()
    .fold(OpenApiRouter::new(), OpenApiRouter::merge)
}

/// RFC 3339 in UTC; none for a time that never comes.
fn time(at: Timestamp) -> Option<String> {
    (at != Timestamp::NEVER).then(|| at.to_string())
}
