//! A hub under test, and calls of its API. Every answer is compared with the OpenAPI document: a status
//! that is not documented fails the test that met it.

use crate::runtime::Runtime;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tempfile::TempDir;
use tower::ServiceExt;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_hub::authenticate::Proven;
use weir_hub::tasks::{TaskGroup, TaskKind};
use weir_hub::{Config, Hub, ModuleLogs, Parts, Publication, QueueDefaults};

pub(crate) const EDGE: &str = "edge";
pub(crate) const DROP: &[u8] = b"\0asm drop";

pub(crate) struct TestHub {
    folder: TempDir,
    pub(crate) hub: Hub,
    pub(crate) router: axum::Router,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) clock: Clock,
    pub(crate) logs: ModuleLogs,
    pub(crate) admin: String,
}

impl TestHub {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_secs(1_777_888_800));
        let runtime = Arc::new(Runtime::default());
        let logs = ModuleLogs::default();
        let (hub, router, admin) = open(folder.path(), &clock, &runtime, &logs).await;
        let admin = admin.expect("a new hub makes a token");
        Self { folder, hub, router, runtime, clock, logs, admin }
    }

    /// Stops everything and opens the same folder again.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop().await;
        let (hub, router, admin) =
            open(self.folder.path(), &self.clock, &self.runtime, &self.logs).await;
        assert_eq!(admin, None, "the token is still there");
        (self.hub, self.router) = (hub, router);
        self
    }

    async fn stop(&mut self) {
        let tasks = self.hub.tasks().clone();
        tasks.stop().drain();
        self.hub.store().close().await;
        tasks.shut_down(Duration::from_secs(5)).await;
    }

    /// Every file of the store.
    pub(crate) fn store_files(&self) -> Vec<std::path::PathBuf> {
        let folder = std::fs::read_dir(self.folder.path().join("store")).unwrap();
        folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
    }

    /// A call with the admin's token.
    pub(crate) fn call(&self, method: &str, path: &str) -> Call {
        let call = Call::new(self.router.clone(), method, path);
        call.token(&self.admin)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path).send().await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path).json(&body).send().await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path).json(&body).send().await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path).send().await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if wanted(&answer.json) {
                    return answer.json;
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        };
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, asking).await.unwrap_or_else(|_| panic!("{path}: not in time"))
    }

    /// Uploads a component; gives its digest.
    pub(crate) async fn upload(&self, component: &[u8]) -> String {
        let digest = weir_hub::digest_of(component).to_string();
        let call = self.call("PUT", &format!("/api/v1/artifacts/{digest}"));
        let answer = call.header("content-type", "application/wasm").body(component).send().await;
        assert!(answer.status == 201 || answer.status == 200, "{answer:?}");
        digest
    }

    /// Installs a module with one input and one output.
    pub(crate) async fn install(&self, name: &str, component: &[u8]) -> Answer {
        let digest = self.upload(component).await;
        let spec =
            json!({"type": "wasm", "component": digest, "inputs": ["in"], "outputs": ["out"]});
        self.put(&format!("/api/v1/modules/{name}"), spec).await
    }

    /// A token with these scopes.
    pub(crate) async fn token(&self, scopes: &[&str]) -> String {
        let answer = self.post("/api/v1/tokens", json!({"name": "t", "scopes": scopes})).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json["token"].as_str().unwrap().to_owned()
    }

    /// A device sends messages; resolves when they are on disk.
    pub(crate) async fn send(&self, device: &str, bodies: &[&str]) {
        let identity = Identity::device(device.parse().unwrap());
        let session = self.hub.connect(Proven::trusted(identity), "test", "here").unwrap();
        let mut intake = session.intake();
        let batch = bodies.iter().map(|body| Publication {
            message: Message { body: body.as_bytes().to_vec().into(), ..Message::default() },
            reliable: true,
        });
        intake.submit(batch.collect()).await;
        intake.settled().await.unwrap();
    }
}

async fn open(
    folder: &Path,
    clock: &Clock,
    runtime: &Arc<Runtime>,
    logs: &ModuleLogs,
) -> (Hub, axum::Router, Option<String>) {
    let options = weir_store::Options {
        dir: folder.join("store"),
        durability: weir_store::Durability::Process,
        total_bytes: None,
        clock: clock.clone(),
    };
    let weir_store::Opened { store, writer, report, start } =
        weir_store::Store::open(options).await.unwrap();
    let tasks = TaskGroup::default();
    tasks.spawn(TaskKind::Essential, "writer", |_| async move { writer.run().await.unwrap() });
    let config = Config {
        edge_device: EDGE.parse().unwrap(),
        hostname: "gw".into(),
        iothub_hostname: "hub.example".into(),
        ceilings: weir_core::module::Ceilings::default(),
        default_ttl: None,
        queues: QueueDefaults::default(),
        max_clients: 100,
        device_roots: Vec::new(),
        module_certificates: false,
    };
    let parts = Parts { store, report, start, runtime: runtime.clone(), upstream: None };
    let hub = Hub::start(config, clock.clone(), parts, tasks).await.unwrap();
    let admin = hub.tokens().ensure_admin(&hub, false).await.unwrap();
    hub.set_ready(true);
    let listeners = vec![("api".to_owned(), "127.0.0.1:8420".to_owned())];
    let options = weir_api::Options {
        listeners,
        logs: logs.clone(),
        workload: weir_api::workload::Places {
            sockets: Some("/data/run/workload".into()),
            http: "127.0.0.1:15580".parse().ok(),
        },
        tls: None,
    };
    let router = weir_api::router(hub.clone(), options);
    (hub, router, admin.map(|text| text.to_string()))
}

/// One request.
pub(crate) struct Call {
    router: axum::Router,
    request: axum::http::request::Builder,
    method: String,
    path: String,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(router: axum::Router, method: &str, path: &str) -> Self {
        let request = Request::builder().method(method).uri(path);
        let path = path.split('?').next().unwrap().to_owned();
        Self { router, request, method: method.to_owned(), path, body: Vec::new() }
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Replaces the header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(headers) = self.request.headers_mut() {
            headers.insert(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        self
    }

    pub(crate) fn without_token(mut self) -> Self {
        self.request.headers_mut().unwrap().remove(header::AUTHORIZATION);
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string().as_bytes())
    }

    pub(crate) async fn send(self) -> Answer {
        let request = self.request.body(Body::from(self.body)).unwrap();
        let response = self.router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, json, text };
        answer.check(&self.method, &self.path);
        answer
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status, self.json["code"].as_str().unwrap_or_default())
    }

    /// The answer is one that the document announces.
    fn check(&self, method: &str, path: &str) {
        let operation = operation(method, path);
        if self.status >= 400 && path != "/health/ready" {
            assert_eq!(self.header("content-type"), "application/problem+json", "{path} {self:?}");
            for member in ["type", "title", "status", "detail", "code", "instance", "trace_id"] {
                assert!(!self.json[member].is_null(), "{member} of {self:?}");
            }
            assert_eq!(self.json["status"], self.status);
        }
        match operation {
            Some(operation) => {
                let status = self.status.to_string();
                let documented = operation["responses"].get(&status).is_some();
                assert!(documented, "{method} {path}: {status} is not documented: {self:?}");
            }
            None => assert!(
                matches!(self.status, 404 | 405) || path.starts_with("/docs"),
                "{method} {path} is not documented: {self:?}"
            ),
        }
    }
}

pub(crate) fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> =
        LazyLock::new(|| serde_json::from_str(weir_api::openapi_document()).unwrap());
    &DOCUMENT
}

/// Every operation: path, method, operation.
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    document()["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let method = if method == "HEAD" { "GET" } else { method };
    let fits = |template: &str| {
        let (template, path) = (template.split('/'), path.split('/'));
        template.clone().count() == path.clone().count()
            && template
                .zip(path)
                .all(|(want, have)| want.starts_with('{') && !have.is_empty() || want == have)
    };
    operations()
        .find(|(template, known, _)| known.eq_ignore_ascii_case(method) && fits(template))
        .map(|(_, _, operation)| operation)
}
