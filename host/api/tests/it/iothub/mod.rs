//! The service paths of IoT Hub, as its SDKs call them.

mod apply;
mod configurations;
mod methods;
mod page;
mod policies;
mod registry;
mod statistics;
mod twins;

use crate::support::TestHub;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use serde_json::Value;
use std::time::Duration;
use tower::ServiceExt;
use weir_core::sas;
use weir_hub::authenticate::make_token;

/// A service client with the key of one policy.
pub(crate) struct Service<'h> {
    hub: &'h TestHub,
    router: axum::Router,
    pub(crate) token: String,
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
    /// Status and IoT Hub's name of the error, of a body in IoT Hub's form.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        let message = self.json["Message"].as_str().unwrap_or_else(|| panic!("{self:?}"));
        let (code, text) = message.strip_prefix("ErrorCode:").unwrap().split_once(';').unwrap();
        assert!(!text.is_empty(), "{self:?}");
        assert_eq!(self.headers["iothub-errorcode"], code);
        assert!(self.json["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"));
        (self.status, code)
    }

    pub(crate) fn message(&self) -> &str {
        self.json["Message"].as_str().unwrap()
    }
}

impl<'h> Service<'h> {
    pub(crate) async fn of(hub: &'h TestHub, policy: &str) -> Self {
        let token = token(hub, policy, "gw", 3600).await;
        Self { hub, router: weir_api::iothub::router(hub.hub.clone()), token }
    }

    pub(crate) async fn owner(hub: &'h TestHub) -> Self {
        Self::of(hub, "iothubowner").await
    }

    pub(crate) fn hub(&self) -> &'h TestHub {
        self.hub
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        if_match: Option<&str>,
        body: Option<&Value>,
    ) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut headers = vec![("authorization", self.token.as_str())];
        if let Some(tag) = if_match {
            headers.push(("if-match", tag));
        }
        self.raw(method, path, &headers, &body).await
    }

    pub(crate) async fn raw(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let separator = if path.contains('?') { '&' } else { '?' };
        let uri = format!("{path}{separator}api-version=2021-04-12");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if !text.is_empty() {
            let kind = parts.headers["content-type"].to_str().unwrap();
            assert!(kind.starts_with("application/json"), "{kind}");
        }
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status.as_u16(), headers: parts.headers, json, text }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None, None).await
    }

    pub(crate) async fn create(&self, path: &str, body: Value) -> Answer {
        self.call("PUT", path, None, Some(&body)).await
    }

    /// With `If-Match: "<tag>"`.
    pub(crate) async fn update(&self, path: &str, tag: &str, body: Value) -> Answer {
        self.call("PUT", path, Some(&format!("\"{tag}\"")), Some(&body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, None, Some(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str, tag: &str) -> Answer {
        self.call("DELETE", path, Some(&format!("\"{tag}\"")), None).await
    }
}

/// A token of a policy that ends in so many seconds.
pub(crate) async fn token(hub: &TestHub, policy: &str, resource: &str, seconds: u64) -> String {
    let key = hub.hub.service_key(policy).await.unwrap();
    let expires = hub.clock.now().after(Duration::from_secs(seconds));
    make_token(&key, resource, expires, Some(policy))
}

/// A token of a device or module.
pub(crate) fn own_token(hub: &TestHub, identity: &weir_core::id::Identity) -> String {
    let found = hub.hub.identities().get(identity).unwrap();
    let weir_core::identity::Authentication::Sas { primary, .. } = &found.record.authentication
    else {
        panic!("{identity} has no keys");
    };
    let expires = hub.clock.now().after(Duration::from_secs(3600));
    make_token(primary, &sas::resource_of("hub.example", identity), expires, None)
}
