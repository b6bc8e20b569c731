//! The HTTPS listener with real TLS clients.

mod device;
mod edge;
mod websocket;

use crate::support::{EDGE, TestHub};
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use weir_api::https::{Upgrade, Upgrades};
use weir_core::id::Identity;
use weir_core::sas::resource_of;
use weir_hub::Session;
use weir_hub::authenticate::{Proven, make_token};

/// A hub behind its HTTPS listener.
struct Port {
    hub: TestHub,
    address: SocketAddr,
    client: Arc<rustls::ClientConfig>,
}

impl Port {
    async fn open() -> Self {
        Self::open_with(echo("mqtt"), echo("amqp")).await
    }

    async fn open_with(mqtt: Upgrade, amqp: Upgrade) -> Self {
        let hub = TestHub::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["gw".to_owned()]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap().der().clone();
        let (server, client) = tls(certificate, PrivatePkcs8KeyDer::from(key.serialize_der()));
        weir_api::https::listen(listener, hub.hub.clone(), server, Upgrades { mqtt, amqp });
        Self { hub, address, client }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.client));
        connector.connect(ServerName::try_from("gw").unwrap(), stream).await.unwrap()
    }

    /// The token of an identity that `register` has made.
    fn token(&self, identity: &Identity) -> String {
        let expires = self.hub.clock.now().after(Duration::from_secs(3_600));
        make_token(&KEY.parse().unwrap(), &resource_of("hub.example", identity), expires, None)
    }

    /// The token of a back end that may do everything.
    async fn service_token(&self) -> String {
        let key = self.hub.hub.service_key("iothubowner").await.unwrap();
        let expires = self.hub.clock.now().after(Duration::from_secs(3_600));
        make_token(&key, "hub.example", expires, Some("iothubowner"))
    }

    async fn register(&self, identity: &Identity) {
        let keys = json!({"authentication": {"type": "sas", "symmetricKey": {"primaryKey": KEY}}});
        let path = match &identity.module {
            Some(module) => format!("/api/v1/devices/{}/modules/{module}", identity.device),
            None => format!("/api/v1/devices/{}", identity.device),
        };
        let made = self.hub.put(&path, keys).await;
        assert!(made.status < 300, "{made:?}");
    }

    fn session(&self, identity: &Identity) -> Session {
        let proven = Proven::trusted(identity.clone());
        self.hub.hub.connect(proven, "test", "here").unwrap()
    }

    /// A request with a body of known length.
    async fn ask(&self, request: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut text = format!("{request} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        Answer::read(&self.exchange(&[text.as_bytes(), body].concat()).await)
    }

    /// One request on a connection of its own; the whole answer.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        // Servers need not say close_notify.
        drop(reading.await.expect("the hub answers and closes"));
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn device(name: &str) -> Identity {
    Identity::device(name.parse().unwrap())
}

fn module(name: &str) -> Identity {
    Identity::module(EDGE.parse().unwrap(), name.parse().unwrap())
}

/// What came back.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { status, headers, body: body.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    /// Status and IoT Hub's name of an error.
    fn refusal(&self) -> (u16, String) {
        let json: Value = serde_json::from_str(&self.body).unwrap();
        let message = json["Message"].as_str().unwrap();
        let code = message.strip_prefix("ErrorCode:").unwrap().split(';').next().unwrap();
        (self.status, code.to_owned())
    }
}

fn tls(
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
) -> (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// A head that says its name and repeats what it reads, until the client goes.
fn echo(name: &'static str) -> Upgrade {
    Arc::new(move |mut socket, _| {
        Box::pin(async move {
            socket.write_all(name.as_bytes()).await.unwrap();
            socket.flush().await.unwrap();
            let mut bytes = [0; 1024];
            while let Ok(length @ 1..) = socket.read(&mut bytes).await {
                socket.write_all(&bytes[..length]).await.unwrap();
                socket.flush().await.unwrap();
            }
            drop(socket.shutdown().await);
        })
    })
}

#[tokio::test]
async fn the_control_plane_is_not_here_and_strangers_are_told_nothing() {
    let port = Port::open().await;
    let service = port.service_token().await;
    for path in ["/api/v1/system", "/health/live", "/docs", "/metrics", "/"] {
        let admin = format!("Bearer {}", port.hub.admin);
        for token in ["", &admin] {
            let answer = port.ask(&format!("GET {path}"), &[("Authorization", token)], b"").await;
            assert_eq!(answer.refusal().0, 401, "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            assert!(answer.header("content-type").starts_with("application/json"));
        }
        let answer = port.ask(&format!("GET {path}"), &[("Authorization", &service)], b"").await;
        assert_eq!(answer.refusal().0, 404, "{path}");
    }
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn service_paths_are_here_and_open_to_no_device() {
    let port = Port::open().await;
    port.register(&device("leaf")).await;
    let service = port.service_token().await;
    let get = async |token: &str| {
        port.ask("GET /devices/leaf?api-version=1", &[("Authorization", token)], b"").await
    };
    let answer = get(&service).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains(r#""deviceId":"leaf""#), "{answer:?}");
    assert_eq!(get(&port.token(&device("leaf"))).await.refusal().0, 401);
    port.hub.hub.tasks().stop().drain();
}
