//! Who gets in.

use crate::support::{Call, TestHub, operations};
use serde_json::json;
use std::collections::HashMap;

/// A path with something in the place of every name.
fn filled(path: &str) -> String {
    let fill = |part: &str| match part {
        "{digest}" => "ab".repeat(32),
        part if part.starts_with('{') => "7".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_operation_but_the_open_ones_needs_a_token_with_its_scope() {
    let hub = TestHub::start().await;
    let mut secured = 0;
    let mut tokens = HashMap::new();
    for (path, method, operation) in operations() {
        let (path, method) = (filled(path), method.to_uppercase());
        let Some(needed) = operation["security"][0]["token"][0].as_str() else {
            let answer = hub.call(&method, &path).without_token().send().await;
            assert!(![401, 403].contains(&answer.status), "{method} {path}: {answer:?}");
            continue;
        };
        secured += 1;
        let answer = hub.call(&method, &path).without_token().send().await;
        assert_eq!(answer.refusal(), (401, "unauthorized"), "{method} {path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
        let (area, level) = needed.split_once(':').unwrap();
        let other = if area == "clients" { "routes:admin" } else { "clients:admin" };
        let mut wrong = vec![other.to_owned()];
        match level {
            "admin" => wrong.push(format!("{area}:write")),
            "write" => wrong.push(format!("{area}:read")),
            _ => {}
        }
        for scope in wrong {
            if !tokens.contains_key(&scope) {
                tokens.insert(scope.clone(), hub.token(&[&scope]).await);
            }
            let answer = hub.call(&method, &path).token(&tokens[&scope]).send().await;
            assert_eq!(answer.refusal(), (403, "forbidden"), "{method} {path} with {scope}");
            assert!(answer.json["detail"].as_str().unwrap().contains(needed), "{answer:?}");
        }
    }
    assert!(secured > 40, "{secured}");
}

#[tokio::test]
async fn a_made_up_token_is_refused_whatever_it_looks_like() {
    let hub = TestHub::start().await;
    let (head, secret) = hub.admin.rsplit_once('_').unwrap();
    let mut other = secret.to_owned();
    other.replace_range(0..1, if secret.starts_with('A') { "B" } else { "A" });
    for value in [
        format!("Bearer {head}_{other}"),
        format!("Bearer {head}_"),
        format!("Bearer {head}"),
        format!("Bearer {}x", hub.admin),
        format!("Bearer weir_0000000000000000_{secret}"),
        format!("Basic {}", hub.admin),
        hub.admin.clone(),
        "Bearer".to_owned(),
    ] {
        let call = hub.call("GET", "/api/v1/system").header("authorization", &value);
        assert_eq!(call.send().await.refusal(), (401, "unauthorized"), "{value}");
    }
    assert_eq!(hub.get("/api/v1/system").await.status, 200);
}

#[tokio::test]
async fn a_token_has_its_burst_and_is_then_told_to_wait() {
    let hub = TestHub::start().await;
    let token = hub.token(&["system:read"]).await;
    let mut answers = Vec::new();
    for _ in 0..260 {
        answers.push(hub.call("GET", "/api/v1/system").token(&token).send().await);
    }
    let limited: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(!limited.is_empty(), "never limited");
    assert_eq!(limited[0].refusal(), (429, "too-many-requests"));
    assert!(limited[0].header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(limited[0].header("ratelimit"), "\"token\";r=0;t=4");
    assert_eq!(answers[0].header("ratelimit"), "\"token\";r=199;t=1");
    assert_eq!(answers[0].header("ratelimit-policy"), "\"token\";q=200;w=4");
    assert_eq!(hub.get("/api/v1/system").await.status, 200, "others have their own");
}

#[tokio::test]
async fn what_is_open_needs_no_token_and_shows_nothing_secret() {
    let hub = TestHub::start().await;
    for (path, part) in [
        ("/health/live", "live"),
        ("/health/ready", "\"ready\""),
        ("/openapi.json", "\"openapi\": \"3.1"),
        ("/docs/", "swagger-ui"),
        ("/docs/swagger-initializer.js", "/openapi.json"),
        ("/docs/errors/route-syntax", "Route cannot be read"),
    ] {
        let answer = Call::new(hub.router.clone(), "GET", path).send().await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text.contains(part), "{path}: {}", answer.text);
        assert!(!answer.text.contains(hub.admin.as_str()));
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        if path.starts_with("/docs") {
            let policy = answer.header("content-security-policy");
            assert!(policy.contains("default-src 'none'") && !policy.contains("http"), "{path}");
        }
    }
    let moved = Call::new(hub.router.clone(), "GET", "/docs").send().await;
    assert_eq!((moved.status, moved.header("location")), (308, "/docs/"));
    let moved = Call::new(hub.router.clone(), "GET", "/docs/errors/").send().await;
    assert_eq!((moved.status, moved.header("location")), (308, "/docs/errors"));
    let missing = Call::new(hub.router.clone(), "GET", "/docs/errors/nothing").send().await;
    assert_eq!(missing.refusal(), (404, "not-found"));
    let missing = Call::new(hub.router.clone(), "GET", "/docs/../../etc/passwd").send().await;
    assert_eq!(missing.refusal(), (404, "not-found"));
}

#[tokio::test]
async fn every_error_has_its_page_and_the_index_leads_to_all() {
    let hub = TestHub::start().await;
    let open = async |path: &str| Call::new(hub.router.clone(), "GET", path).send().await;
    let index = open("/docs/errors").await;
    assert_eq!(index.status, 200);
    for code in weir_core::error_code::ErrorCode::ALL {
        let path = format!("/docs/errors/{code}");
        assert!(index.text.contains(&format!("href=\"{path}\"")), "{code}");
        let page = open(&path).await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    }
    let problem = hub.get("/api/v1/routes/nothing").await;
    assert_eq!(open(problem.json["type"].as_str().unwrap()).await.status, 200);
}

#[tokio::test]
async fn the_hub_is_not_ready_before_its_listeners_are() {
    let hub = TestHub::start().await;
    hub.hub.set_ready(false);
    let answer = Call::new(hub.router.clone(), "GET", "/health/ready").send().await;
    assert_eq!((answer.status, &answer.json["status"]), (503, &json!("not-ready")));
    hub.hub.set_ready(true);
    let answer = Call::new(hub.router.clone(), "GET", "/health/ready").send().await;
    assert_eq!((answer.status, &answer.json["status"]), (200, &json!("ready")));
    assert_eq!(answer.json["upstream"], "none");
}
