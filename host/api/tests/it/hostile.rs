//! Whatever is thrown at the API: no answer of 500 and above, none that is not documented, and the hub
//! goes on.

use crate::support::{Answer, TestHub, operations};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

const CASES: usize = 4_000;

/// A name that somebody hostile would try, as it stands in a path.
fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("last".to_owned()),
        Just("iothub".to_owned()),
        Just("filter".to_owned()),
        Just("edge".to_owned()),
        Just("..".to_owned()),
        Just("%2e%2e%2f%2e%2e%2fetc%2fpasswd".to_owned()),
        Just("%00".to_owned()),
        Just("%ff%fe".to_owned()),
        Just("%".to_owned()),
        Just("%zz".to_owned()),
        Just("a%2Fb%2Fc".to_owned()),
        Just("$upstream".to_owned()),
        Just("'%20OR%201=1--".to_owned()),
        Just("18446744073709551615".to_owned()),
        Just("18446744073709551616".to_owned()),
        Just("-1".to_owned()),
        Just("a".repeat(200)),
        Just("ab".repeat(32)),
        "[a-zA-Z0-9._~!$&'()*+,;=:@%-]{1,40}",
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,30}".prop_map(Value::from),
        Just(json!("sha256:zz")),
        Just(json!("FROM /messages/* WHERE a > 1 INTO $upstream")),
        Just(json!("FROM")),
        Just(json!("x".repeat(20_000))),
        Just(json!("((((((((((")),
        Just(json!(u64::MAX)),
    ]
}

/// JSON with members that the operations know and ones that they do not.
fn tree() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        Just("route"),
        Just("condition"),
        Just("message"),
        Just("routes"),
        Just("priority"),
        Just("timeToLiveSecs"),
        Just("name"),
        Just("scopes"),
        Just("expiresInSecs"),
        Just("authentication"),
        Just("symmetricKey"),
        Just("primaryKey"),
        Just("type"),
        Just("status"),
        Just("component"),
        Just("spec"),
        Just("inputs"),
        Just("limits"),
        Just("memory"),
        Just("paused"),
        Just("ids"),
        Just("queue"),
        Just("limit"),
        Just("source"),
        Just("body"),
        Just("properties"),
        Just("__proto__"),
        Just(""),
    ];
    leaf().prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| json!(map)),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => tree().prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (tree(), any::<prop::sample::Index>()).prop_map(|(value, at)| {
            let mut bytes = value.to_string().into_bytes();
            bytes.truncate(at.index(bytes.len() + 1));
            bytes
        }),
        1 => Just(br#"{"a":1,"a":2}"#.to_vec()),
        1 => Just("[".repeat(5_000).into_bytes()),
        1 => Just(br#"{"route":"\ud800"}"#.to_vec()),
        1 => Just(br#"{"priority":1e999}"#.to_vec()),
        1 => Just(Vec::new()),
    ]
}

fn query() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        1 => Just("?limit=99999999999999999999".to_owned()),
        1 => Just("?cursor=////".to_owned()),
        1 => Just("?keys=maybe&keys=true".to_owned()),
        1 => Just("?wait=0".to_owned()),
        1 => Just("?%ff=%00&&=".to_owned()),
        1 => "\\?[a-z0-9=&%+]{0,20}",
    ]
}

fn kind() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        8 => Just("application/json"),
        1 => Just("application/wasm"),
        1 => Just("text/html"),
        1 => Just("application/merge-patch+json; charset=\"x"),
    ]
}

fn header() -> impl Strategy<Value = Option<(&'static str, String)>> {
    prop_oneof![
        6 => Just(None),
        1 => "[ -~]{0,20}".prop_map(|value| Some(("if-match", value))),
        1 => "[ -~]{0,20}".prop_map(|value| Some(("if-none-match", value))),
        1 => "[ -~]{0,20}".prop_map(|value| Some(("idempotency-key", value))),
        1 => "[ -~]{0,20}".prop_map(|value| Some(("traceparent", value))),
    ]
}

async fn throw(
    hub: &TestHub,
    token: &str,
    (method, path): (&str, &str),
    (kind, body): (&str, &[u8]),
    header: Option<&(&'static str, String)>,
) -> Option<Answer> {
    // What no HTTP server would hand over is not ours to answer.
    path.parse::<axum::http::Uri>().ok()?;
    let call = hub.call(method, path).token(token);
    let mut call = call.header("content-type", kind).body(body);
    if let Some((name, value)) = header {
        call = call.header(name, value.trim());
    }
    Some(call.send().await)
}

#[tokio::test]
async fn no_request_makes_the_hub_fail() {
    let hub = TestHub::start().await;
    hub.runtime.open();
    hub.install("filter", crate::support::DROP).await;
    let mut tokens = Vec::new();
    for _ in 0..CASES / 100 {
        tokens.push(hub.token(&["*:admin"]).await);
    }
    // A stream of events has no end; what is wrong with a request for one is tested beside it.
    let all: Vec<_> = operations().filter(|(path, ..)| *path != "/api/v1/events").collect();
    let mut runner = TestRunner::deterministic();
    let strategy = (
        prop::sample::select(all),
        prop::collection::vec(segment(), 3),
        query(),
        kind(),
        body(),
        header(),
    );
    let mut counts = std::collections::BTreeMap::<u16, usize>::new();
    for case in 0..CASES {
        let (operation, names, query, kind, body, header) =
            strategy.new_tree(&mut runner).unwrap().current();
        let (path, method, _) = operation;
        let mut names = names.into_iter();
        let parts = path.split('/').map(|part| match part.starts_with('{') {
            true => names.next().unwrap_or_default(),
            false => part.to_owned(),
        });
        let path = format!("{}{query}", parts.collect::<Vec<_>>().join("/"));
        let method = method.to_uppercase();
        let token = &tokens[case % tokens.len()];
        let request = (method.as_str(), path.as_str());
        let answer = throw(&hub, token, request, (kind, &body), header.as_ref()).await;
        let Some(answer) = answer else { continue };
        *counts.entry(answer.status).or_default() += 1;
        let shown = String::from_utf8_lossy(&body);
        assert!(answer.status < 500, "case {case}: {method} {path} {shown}: {answer:?}");
        assert_ne!(answer.status, 429, "no token is used that often");
    }
    assert!(counts[&400] > 200 && counts[&200] > 200 && counts[&422] > 50, "{counts:?}");
    assert_eq!(hub.get("/api/v1/system").await.status, 200);
}

#[tokio::test]
async fn hostile_paths_lead_nowhere() {
    let hub = TestHub::start().await;
    let mut runner = TestRunner::deterministic();
    let parts = prop::collection::vec(
        prop_oneof![
            segment(),
            Just("api".to_owned()),
            Just("v1".to_owned()),
            Just("docs".to_owned()),
            Just(String::new()),
            Just("errors".to_owned()),
            Just("health".to_owned()),
        ],
        0..6,
    );
    for _ in 0..1_000 {
        let path = format!("/{}", parts.new_tree(&mut runner).unwrap().current().join("/"));
        let request = ("GET", path.as_str());
        let Some(answer) = throw(&hub, &hub.admin, request, ("", &[]), None).await else {
            continue;
        };
        assert!(answer.status < 500, "{path}: {answer:?}");
        assert!(!answer.text.contains("root:"), "{path}");
    }
}

#[tokio::test]
async fn names_that_would_leave_a_folder_stay_names() {
    let hub = TestHub::start().await;
    for name in ["..%2F..%2Fx", "%2Fetc%2Fpasswd", "..", "a%5C..%5Cb", "x%00.md"] {
        for path in [
            format!("/docs/errors/{name}"),
            format!("/docs/{name}"),
            format!("/api/v1/artifacts/{name}"),
            format!("/api/v1/modules/{name}/state"),
            format!("/api/v1/tokens/{name}"),
        ] {
            let answer = hub.get(&path).await;
            assert!(matches!(answer.status, 400 | 404 | 422), "{path}: {answer:?}");
        }
    }
}
