//! Paths of the REST API, each in one place. Names are encoded here and nowhere else.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// All but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

macro_rules! paths {
    ($($(#[$doc:meta])* $name:ident($($part:ident),*) = $form:literal;)*) => {
        $($(#[$doc])* #[must_use] pub fn $name($($part: &str),*) -> String {
            $(let $part = utf8_percent_encode($part, SEGMENT);)*
            format!($form)
        })*
    };
}

paths! {
    /// What the hub is.
    system() = "/api/v1/system";
    /// Whether messages are taken.
    ready() = "/health/ready";
    /// Tokens.
    tokens() = "/api/v1/tokens";
    /// One token.
    token(id) = "/api/v1/tokens/{id}";
    /// Devices.
    devices() = "/api/v1/devices";
    /// One device.
    device(id) = "/api/v1/devices/{id}";
    /// Module identities of a device.
    device_modules(id) = "/api/v1/devices/{id}/modules";
    /// One module identity.
    device_module(id, module) = "/api/v1/devices/{id}/modules/{module}";
    /// A device's keys.
    device_keys(id) = "/api/v1/devices/{id}/keys";
    /// A module identity's keys.
    module_keys(id, module) = "/api/v1/devices/{id}/modules/{module}/keys";
    /// Commands of a device.
    device_commands(id) = "/api/v1/devices/{id}/commands";
    /// Commands of a module identity.
    module_commands(id, module) = "/api/v1/devices/{id}/modules/{module}/commands";
    /// Calls of direct methods.
    method_calls() = "/api/v1/method-calls";
    /// A device's connection string.
    device_connection_string(id) = "/api/v1/devices/{id}/connection-string";
    /// A module identity's connection string.
    module_connection_string(id, module) = "/api/v1/devices/{id}/modules/{module}/connection-string";
    /// What IoT Edge sets for a module; by `unix` or `http`.
    edge_environment(module, transport) = "/api/v1/edge-environment/{module}?transport={transport}";
    /// A service client's connection string.
    service_connection_string(policy) = "/api/v1/service-policies/{policy}/connection-string";
    /// A device's twin.
    twin(id) = "/api/v1/twins/{id}";
    /// A module's twin.
    module_twin(id, module) = "/api/v1/twins/{id}/modules/{module}";
    /// Who is connected.
    clients(state) = "/api/v1/clients?state={state}";
    /// Wasm modules.
    modules() = "/api/v1/modules";
    /// One Wasm module.
    module(name) = "/api/v1/modules/{name}";
    /// Versions of a module.
    module_versions(name) = "/api/v1/modules/{name}/versions";
    /// Keys of a module's state.
    module_state(name) = "/api/v1/modules/{name}/state";
    /// Exchanges of a module's version.
    module_swaps(name) = "/api/v1/modules/{name}/swaps";
    /// What a module has logged, behind the line of that number.
    module_logs(name, after) = "/api/v1/modules/{name}/logs?after={after}";
    /// Uploaded components.
    artifacts() = "/api/v1/artifacts";
    /// One component.
    artifact(digest) = "/api/v1/artifacts/{digest}";
    /// Routes.
    routes() = "/api/v1/routes";
    /// One route.
    route(name) = "/api/v1/routes/{name}";
    /// Tests of routes.
    route_tests() = "/api/v1/route-tests";
    /// Queues.
    queues() = "/api/v1/queues";
    /// One queue.
    queue(name) = "/api/v1/queues/{name}";
    /// Messages of a queue.
    queue_messages(name) = "/api/v1/queues/{name}/messages";
    /// Removals of a queue's messages.
    queue_purges(name) = "/api/v1/queues/{name}/purges";
    /// Dead letters.
    dead_letters() = "/api/v1/dead-letters";
    /// One dead letter.
    dead_letter(id) = "/api/v1/dead-letters/{id}";
    /// Replays of dead letters.
    replays() = "/api/v1/replays";
    /// The upstream.
    upstream() = "/api/v1/upstream";
    /// Why a message went where it went.
    explanation(id) = "/api/v1/messages/{id}/explanation";
    /// All long-running work.
    operations() = "/api/v1/operations";
    /// Long-running work.
    operation(id) = "/api/v1/operations/{id}";
}

/// A page of a list.
pub(super) fn page(path: &str, limit: usize, cursor: Option<&str>) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    let cursor = cursor.map(|cursor| format!("&cursor={}", utf8_percent_encode(cursor, SEGMENT)));
    format!("{path}{separator}limit={limit}{}", cursor.unwrap_or_default())
}

/// What happens in the hub.
#[must_use]
pub fn events(topics: &[String], after: Option<&str>) -> String {
    let encode = |text: &str| utf8_percent_encode(text, SEGMENT).to_string();
    let topics: Vec<String> = topics.iter().map(|topic| encode(topic)).collect();
    let after = after.map(|after| format!("&after={}", encode(after))).unwrap_or_default();
    format!("/api/v1/events?topics={}{after}", topics.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(
            queue_messages("modules/filter/inputs/in"),
            "/api/v1/queues/modules%2Ffilter%2Finputs%2Fin/messages"
        );
        assert_eq!(
            device_module("a%2F?", "$edgeHub"),
            "/api/v1/devices/a%252F%3F/modules/%24edgeHub"
        );
        assert_eq!(page("/x", 5, Some("a=b&")), "/x?limit=5&cursor=a%3Db%26");
        let topics = ["twin".to_owned(), "a&b".to_owned()];
        assert_eq!(events(&topics, Some("7-1")), "/api/v1/events?topics=twin,a%26b&after=7-1");
    }
}
