//! The workload API on its port and on the modules' sockets.

use crate::support::{EDGE, TestHub};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use weir_api::workload::{
    Authority, Issued, NotIssued, Options, Purpose, SocketOptions, Workload, socket_path,
};
use weir_core::clock::Timestamp;
use weir_core::id::Identity;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const VERSION: &str = "api-version=2021-12-07";

fn workload(hub: &TestHub) -> Workload {
    let issue = |purpose: &Purpose| match purpose {
        Purpose::Server { names } if names[0].contains(' ') => {
            Err(NotIssued::Name(names[0].clone()))
        }
        purpose => Ok(Issued {
            certificate: format!("{purpose:?}"),
            key: "key".into(),
            expires: Timestamp::from_secs(1_800_000_000),
        }),
    };
    let authority =
        Authority { trust_bundle: Arc::new(|| "BUNDLE".into()), issue: Arc::new(issue) };
    Workload::new(hub.hub.clone(), Options { authority, secret: [7; 32] })
}

async fn register(hub: &TestHub, module: &str) -> String {
    let keys = json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY}}});
    let path = format!("/api/v1/devices/{EDGE}/modules/{module}");
    assert_eq!(hub.put(&path, keys).await.status, 201);
    let identity = Identity::module(EDGE.parse().unwrap(), module.parse().unwrap());
    hub.hub.identities().get(&identity).unwrap().record.generation_id.clone()
}

/// Status and JSON.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    body: &str,
) -> (u16, Value) {
    let length = body.len();
    // As from Python: no content type.
    let text = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    assert!(head.contains("content-type: application/json"), "{head}");
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

/// A hub with the module `sender` and the API on a port.
async fn on_port() -> (TestHub, std::net::SocketAddr, String) {
    let hub = TestHub::start().await;
    let generation = register(&hub, "sender").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    workload(&hub).listen(listener, |peer| peer.is_loopback());
    (hub, address, generation)
}

#[tokio::test]
async fn a_module_has_its_token_signed_without_seeing_its_key() {
    let (hub, address, generation) = on_port().await;
    let data = "hub.example%2Fdevices%2Fedge%2Fmodules%2Fsender\n1795206674";
    let ask_for = async |path: &str, key: &str, algorithm: &str, data: &str| {
        let body = json!({"keyId": key, "algo": algorithm, "data": data}).to_string();
        let stream = TcpStream::connect(address).await.unwrap();
        ask(stream, &format!("POST {path}"), &body).await
    };
    let path = format!("/modules/sender/genid/{generation}/sign?{VERSION}");
    let encoded = STANDARD.encode(data);
    let (status, signed) = ask_for(&path, "primary", "HMACSHA256", &encoded).await;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &STANDARD.decode(KEY).unwrap());
    let digest = STANDARD.encode(ring::hmac::sign(&key, data.as_bytes()));
    assert_eq!((status, signed), (200, json!({ "digest": digest })));
    let without_version = path.split('?').next().unwrap();
    let another = format!("/modules/sender/genid/another/sign?{VERSION}");
    let unknown = format!("/modules/nobody/genid/{generation}/sign?{VERSION}");
    for (path, key, algorithm, data, expected) in [
        (path.as_str(), "tertiary", "HMACSHA256", encoded.as_str(), 400),
        (&path, "primary", "MD5", &encoded, 400),
        (&path, "primary", "HMACSHA256", "no base64", 400),
        (without_version, "primary", "HMACSHA256", &encoded, 400),
        (&format!("{without_version}?api-version=2017-01-01"), "primary", "x", &encoded, 400),
        (&format!("{without_version}?api-version=2022-08-03"), "primary", "x", &encoded, 400),
        (&another, "primary", "HMACSHA256", &encoded, 404),
        (&unknown, "primary", "HMACSHA256", &encoded, 404),
    ] {
        let (status, refused) = ask_for(path, key, algorithm, data).await;
        assert_eq!(status, expected, "{path} {key} {algorithm}");
        assert!(refused["message"].is_string(), "{refused}");
    }
    let old = format!("{without_version}?api-version=2018-06-28");
    assert_eq!(ask_for(&old, "secondary", "hmacsha256", &encoded).await.0, 200);
    hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn bundle_modules_and_certificates_are_those_of_iot_edge() {
    let (hub, address, generation) = on_port().await;
    let ask_for = async |request: String, body: &str| {
        ask(TcpStream::connect(address).await.unwrap(), &request, body).await
    };
    let bundle = ask_for(format!("GET /trust-bundle?{VERSION}"), "").await;
    assert_eq!(bundle, (200, json!({"certificate": "BUNDLE"})));
    let (status, _) = ask_for(format!("GET /manifest-trust-bundle?{VERSION}"), "").await;
    assert_eq!(status, 404);
    let (_, modules) = ask_for(format!("GET /modules?{VERSION}"), "").await;
    let names: Vec<_> = modules["modules"].as_array().unwrap().iter().map(|m| &m["name"]).collect();
    assert!(names.contains(&&json!("sender")), "{modules}");
    let path = format!("POST /modules/sender/genid/{generation}/certificate/server?{VERSION}");
    let wish = r#"{"commonName":"host.example","expiration":"2030-01-01T00:00:00Z"}"#;
    let (status, made) = ask_for(path.clone(), wish).await;
    assert_eq!(status, 201);
    assert_eq!(made["privateKey"], json!({"type": "key", "bytes": "key"}));
    assert_eq!(made["certificate"], r#"Server { names: ["host.example", "sender"] }"#);
    assert_eq!(made["expiration"], "2027-01-15T08:00:00Z");
    for bad in ["", "{}", r#"{"commonName":""}"#, r#"{"commonName":"a b"}"#] {
        assert_eq!(ask_for(path.clone(), bad).await.0, 400, "{bad}");
    }
    for body in ["", r#"{"expiration":"2030-01-01T00:00:00Z"}"#] {
        let path = format!("POST /modules/sender/certificate/identity?{VERSION}");
        let (status, made) = ask_for(path, body).await;
        let uri = "azureiot://hub.example/devices/edge/modules/sender";
        let expected = format!(r#"Client {{ name: "edge/sender", uri: "{uri}" }}"#);
        assert_eq!((status, &made["certificate"]), (201, &json!(expected)));
    }
    hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn what_a_module_has_encrypted_only_it_decrypts() {
    let (hub, address, generation) = on_port().await;
    let other = register(&hub, "other").await;
    let ask_for = async |module: &str, generation: &str, verb: &str, body: Value| {
        let path = format!("POST /modules/{module}/genid/{generation}/{verb}?{VERSION}");
        ask(TcpStream::connect(address).await.unwrap(), &path, &body.to_string()).await
    };
    let (vector, text) = (STANDARD.encode("iv"), STANDARD.encode("secret"));
    let body = json!({"plaintext": text, "initializationVector": vector});
    let (status, sealed) = ask_for("sender", &generation, "encrypt", body).await;
    assert_eq!(status, 200);
    let body = json!({"ciphertext": sealed["ciphertext"], "initializationVector": vector});
    let opened = ask_for("sender", &generation, "decrypt", body.clone()).await;
    assert_eq!(opened, (200, json!({ "plaintext": text })));
    assert_eq!(ask_for("other", &other, "decrypt", body.clone()).await.0, 400);
    assert_eq!(ask_for("sender", "1", "decrypt", body).await.0, 404);
    hub.hub.tasks().stop().drain();
}

fn sockets(folder: &Path, is_of_module: Option<bool>) -> SocketOptions {
    let own_user = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder).unwrap());
    SocketOptions {
        folder: folder.join("workload"),
        mode: 0o660,
        users: Vec::new(),
        own_user,
        is_of_module: Arc::new(move |_, _| is_of_module),
    }
}

async fn appears(path: &Path, there: bool) {
    let waiting = async {
        while path.exists() != there {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let within = Duration::from_secs(10);
    tokio::time::timeout(within, waiting).await.unwrap_or_else(|_| panic!("{path:?}"));
}

fn path_of(folder: &Path, module: &str) -> PathBuf {
    socket_path(&folder.join("workload"), &module.parse().unwrap())
}

#[tokio::test]
async fn a_socket_comes_and_goes_with_its_module_and_serves_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::start().await;
    let generation = register(&hub, "sender").await;
    std::fs::create_dir(folder.path().join("workload")).unwrap();
    let (own, stale) = (path_of(folder.path(), "sender"), path_of(folder.path(), "gone"));
    for left_behind in [&own, &stale] {
        drop(std::os::unix::net::UnixListener::bind(left_behind).unwrap());
    }
    workload(&hub).keep_sockets(sockets(folder.path(), None)).unwrap();
    assert!(!stale.exists());
    appears(&own, true).await;
    assert_eq!(std::fs::metadata(&own).unwrap().permissions().mode() & 0o777, 0o660);
    let ask_for =
        async |path: &str| ask(UnixStream::connect(&own).await.unwrap(), path, "{}").await.0;
    assert_eq!(ask_for(&format!("GET /trust-bundle?{VERSION}")).await, 200);
    let sign = format!("POST /modules/sender/genid/{generation}/sign?{VERSION}");
    assert_eq!(ask_for(&sign).await, 400, "the body is empty");
    assert_eq!(ask_for(&sign.replace("sender", "%73ender")).await, 400);
    register(&hub, "other").await;
    for foreign in ["other", "nobody", "sende%72s", "%00"] {
        assert_eq!(ask_for(&sign.replace("sender", foreign)).await, 403, "{foreign}");
    }
    let second = path_of(folder.path(), "other");
    appears(&second, true).await;
    assert_eq!(hub.delete(&format!("/api/v1/devices/{EDGE}/modules/other")).await.status, 204);
    appears(&second, false).await;
    hub.hub.tasks().stop().drain();
    appears(&own, false).await;
}

#[tokio::test]
async fn a_process_of_another_container_is_not_served() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::start().await;
    register(&hub, "sender").await;
    workload(&hub).keep_sockets(sockets(folder.path(), Some(false))).unwrap();
    let own = path_of(folder.path(), "sender");
    appears(&own, true).await;
    let mut stream = UnixStream::connect(&own).await.unwrap();
    drop(stream.write_all(b"GET /trust-bundle?api-version=2021-12-07 HTTP/1.1\r\n\r\n").await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    assert_eq!(answer, b"");
    hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn ten_connections_are_served_and_the_next_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let hub = TestHub::start().await;
    register(&hub, "sender").await;
    workload(&hub).keep_sockets(sockets(folder.path(), None)).unwrap();
    let own = path_of(folder.path(), "sender");
    appears(&own, true).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(UnixStream::connect(&own).await.unwrap());
    }
    let mut surplus = UnixStream::connect(&own).await.unwrap();
    assert_eq!(surplus.read(&mut [0]).await.unwrap(), 0);
    let first = held.swap_remove(0);
    assert_eq!(ask(first, &format!("GET /trust-bundle?{VERSION}"), "").await.0, 200);
    hub.hub.tasks().stop().drain();
}
