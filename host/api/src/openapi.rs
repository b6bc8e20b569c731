//! The OpenAPI document: made from the handlers, completed here, compared with the checked-in file by
//! a test.
//!
//! Handlers name what is their own: success, scope, and in `x-errors` the codes that only they give.
//! What follows from an operation's form (a body, names in the path, a token) is added here, so that
//! no handler can forget it.

use crate::problem::{Body, Detail};
use crate::{Api, auth, docs, health, idempotency, v1};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use weir_core::error_code::ErrorCode;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Weir",
        description = "Control plane of a Weir hub. Every operation but health and documentation \
            needs a bearer token; `/docs/errors/{code}` explains each error.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Body, Detail)),
    tags(
        (name = "system", description = "What the hub is, its health and figures"),
        (name = "tokens", description = "Bearer tokens of this API"),
        (name = "devices", description = "Identities of devices and modules, connection strings"),
        (name = "twins", description = "Twins: desired and reported properties, tags, history"),
        (name = "clients", description = "Who is connected, and who was"),
        (name = "methods", description = "Direct methods of devices and modules"),
        (name = "commands", description = "Cloud-to-device messages"),
        (name = "modules", description = "Wasm modules: install, exchange, look at"),
        (name = "artifacts", description = "Uploaded components"),
        (name = "routes", description = "Routes, tests of routes, explanations of messages"),
        (name = "queues", description = "Queues, their messages, dead letters"),
        (name = "upstream", description = "The link to the upstream"),
        (name = "events", description = "What happens in the hub, as it happens"),
        (name = "documentation", description = "This document and the pages on errors")
    )
)]
struct Frame;

/// Every operation with its handler.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Frame::openapi())
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .routes(routes!(docs::openapi))
        .routes(routes!(docs::error_page))
        .nest("/api/v1", v1::routes())
}

/// The finished document as JSON text, as it is checked in.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let mut text = serde_json::to_string_pretty(&value()).expect("a document is JSON");
        text.push('\n');
        text
    });
    &TEXT
}

/// The finished document.
pub(crate) fn value() -> Value {
    let (_, mut openapi) = routes().split_for_parts();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("weir_<id>_<secret>")
        .description(Some("A token made by `POST /api/v1/tokens`; the first one is in the file `admin.token` of the data folder. An operation's scope is `<area>:<read|write|admin>`."))
        .build();
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme(auth::SCHEME, SecurityScheme::Http(scheme));
    let mut document = serde_json::to_value(&openapi).expect("a document is JSON");
    document["info"]["version"] = json!("1");
    document["servers"] = json!([{"url": "/", "description": "the hub that serves this document"}]);
    let mut shared = BTreeMap::new();
    let paths = document["paths"].as_object_mut().expect("a document has paths");
    for (path, item) in paths {
        let item = item.as_object_mut().expect("a path has operations");
        for (method, operation) in item.iter_mut().filter(|(method, _)| is_method(method)) {
            complete(path, method, operation, &mut shared);
        }
    }
    document["components"]["responses"] = json!(shared);
    document
}

/// Operations of a document: path, method, operation.
pub(crate) fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let item = item.as_object().into_iter().flatten();
        item.filter(|(method, _)| is_method(method))
            .map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn is_method(name: &str) -> bool {
    matches!(name, "get" | "put" | "post" | "delete" | "patch")
}

/// Answers that several operations give, by the names of their codes.
type Shared = BTreeMap<String, Value>;

fn complete(path: &str, method: &str, operation: &mut Value, shared: &mut Shared) {
    // `security(())` of an open operation: an empty requirement, which says the same as none.
    if operation["security"] == json!([{}]) {
        operation["security"] = json!([]);
    }
    let form = Form::of(path, method, operation);
    let mut codes: BTreeSet<&'static str> = form.codes().map(ErrorCode::name).collect();
    let own = operation.as_object_mut().and_then(|operation| operation.remove("x-errors"));
    for name in own.iter().flat_map(|own| own.as_array().into_iter().flatten()) {
        let name = name.as_str().unwrap_or_default();
        let code = ErrorCode::ALL.iter().find(|code| code.name() == name);
        codes.insert(code.expect("x-errors names known codes").name());
    }
    if method == "post" && form.secured {
        let key = json!({
            "name": idempotency::KEY.as_str(), "in": "header", "required": false,
            "description": "Makes a repeat of this request safe: it gets the first answer, for 24 hours.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255}
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(key),
            None => operation["parameters"] = json!([key]),
        }
    }
    if method == "get" && form.secured {
        operation["responses"]["304"] =
            json!({"description": "The caller has the present version (If-None-Match)"});
    }
    let mut by_status = BTreeMap::<u16, Vec<&ErrorCode>>::new();
    for code in ErrorCode::ALL.iter().filter(|code| codes.contains(code.name())) {
        by_status.entry(code.status()).or_default().push(code);
    }
    for (status, codes) in by_status {
        let response = &mut operation["responses"][status.to_string()];
        if response.is_null() {
            let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
            let name = names.join("_");
            *response = json!({"$ref": format!("#/components/responses/{name}")});
            shared.entry(name).or_insert_with(|| problem(&codes));
        }
    }
}

fn problem(codes: &[&ErrorCode]) -> Value {
    let words = codes.iter().map(|code| format!("`{}`: {}", code.name(), code.title()));
    json!({
        "description": words.collect::<Vec<_>>().join("; "),
        "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"}
        }}
    })
}

/// What an operation looks like from outside.
struct Form {
    secured: bool,
    changes: bool,
    posts: bool,
    named: bool,
    json: bool,
    body: bool,
    conditional: bool,
}

impl Form {
    fn of(path: &str, method: &str, operation: &Value) -> Self {
        let has = |place: &str, name: Option<&str>| {
            operation["parameters"].as_array().into_iter().flatten().any(|parameter| {
                parameter["in"] == place && name.is_none_or(|name| parameter["name"] == name)
            })
        };
        let content = &operation["requestBody"]["content"];
        Self {
            secured: operation["security"].as_array().is_some_and(|list| !list.is_empty()),
            changes: method != "get",
            posts: method == "post",
            named: path.contains('{'),
            json: content.get("application/json").is_some(),
            body: content.is_object(),
            conditional: has("header", Some("if-match")),
        }
    }

    fn codes(&self) -> impl Iterator<Item = ErrorCode> {
        use ErrorCode as Code;
        let sets: [(bool, &[ErrorCode]); 7] = [
            (
                self.secured,
                &[
                    Code::Unauthorized,
                    Code::Forbidden,
                    Code::TooManyRequests,
                    Code::InvalidRequest,
                    Code::NotReady,
                    Code::Internal,
                ],
            ),
            (self.secured && self.changes, &[Code::StoreUnavailable]),
            (self.secured && self.posts, &[Code::IdempotencyMismatch, Code::Conflict]),
            (self.secured && self.named, &[Code::InvalidName]),
            (self.json, &[Code::DuplicateKey]),
            (self.body, &[Code::TooLarge, Code::UnsupportedMediaType]),
            (self.conditional, &[Code::VersionMismatch]),
        ];
        sets.into_iter().filter(|(holds, _)| *holds).flat_map(|(_, codes)| codes.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CHECKED_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/weir.v1.json");

    #[test]
    fn openapi_document_is_current() {
        #[expect(clippy::disallowed_methods, reason = "a test is told to write the file anew")]
        if std::env::var("WEIR_BLESS").is_ok() {
            std::fs::write(CHECKED_IN, document()).unwrap();
        }
        let checked_in = std::fs::read_to_string(Path::new(CHECKED_IN)).unwrap_or_default();
        assert!(
            checked_in == document(),
            "openapi/weir.v1.json is not what the code says; \
             WEIR_BLESS=1 cargo test -p weir-api openapi writes it, then read the diff"
        );
    }

    /// A schema, or the one that a reference leads to.
    fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str().and_then(|target| target.strip_prefix("#")) {
            Some(pointer) => document.pointer(pointer).expect("references lead somewhere"),
            None => schema,
        }
    }

    fn has_example(document: &Value, content: &Value) -> bool {
        content.as_object().into_iter().flatten().any(|(_, media)| {
            let schema = resolved(document, &media["schema"]);
            let item = resolved(document, &schema["properties"]["items"]["items"]);
            [media, schema, item].iter().any(|place| !place["example"].is_null())
        })
    }

    #[test]
    fn every_operation_has_what_it_must_have() {
        let document = value();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let tags: Vec<&str> = document["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| tag["name"].as_str().unwrap())
            .collect();
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let name = format!("{method} {path}");
            let id = operation["operationId"].as_str().expect(&name);
            assert!(ids.insert(id), "{name}: {id} is not unique");
            let summary = operation["summary"].as_str().expect(&name);
            assert!(summary.ends_with('.') && !summary.contains('\n'), "{name}: {summary}");
            let own = operation["tags"].as_array().expect(&name);
            assert!(own.len() == 1 && tags.contains(&own[0].as_str().unwrap()), "{name}: tag");
            assert!(operation["security"].is_array(), "{name}: security");
            let responses = operation["responses"].as_object().expect(&name);
            let mut shown = false;
            for (status, response) in responses {
                let response = resolved(&document, response);
                assert!(!response["description"].as_str().unwrap_or_default().is_empty(), "{name}");
                let content = &response["content"];
                shown |= status.starts_with('2') && has_example(&document, content);
                if status.starts_with('4') || status == "500" {
                    assert!(content["application/problem+json"].is_object(), "{name}: {status}");
                }
            }
            let empty = responses.contains_key("204");
            assert!(shown || empty, "{name}: an example of the answer");
            if let Some(body) = operation.get("requestBody") {
                let upload = body["content"].get("application/wasm").is_some();
                assert!(upload || has_example(&document, &body["content"]), "{name}: request");
            }
            if !operation["security"].as_array().unwrap().is_empty() {
                for status in ["401", "403", "429", "500"] {
                    assert!(responses.contains_key(status), "{name}: {status}");
                }
            }
        }
        assert!(ids.len() > 40, "{}", ids.len());
    }

    #[test]
    fn only_health_and_documentation_are_open() {
        let document = value();
        let open: Vec<&str> = operations(&document)
            .filter(|(_, _, operation)| operation["security"].as_array().unwrap().is_empty())
            .map(|(path, _, _)| path)
            .collect();
        assert_eq!(open, ["/docs/errors/{code}", "/health/live", "/health/ready", "/openapi.json"]);
    }

    #[test]
    fn every_parameter_in_a_path_is_described() {
        let document = value();
        for (path, method, operation) in operations(&document) {
            let named =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            let named: Vec<&str> = named.collect();
            let described: Vec<&str> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(named, described, "{method} {path}");
        }
    }
}
