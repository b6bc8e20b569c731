//! The HTTPS listener with real TLS clients.

mod websocket;

use crate::support::TestHub;
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use weir_api::https::{Upgrade, Upgrades};

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

    /// One request on a connection of its own; the whole answer.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // Servers need not say close_notify.
        drop(stream.read_to_end(&mut answer).await);
        String::from_utf8_lossy(&answer).into_owned()
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
async fn the_control_plane_is_not_here_and_errors_are_those_of_iot_hub() {
    let port = Port::open().await;
    for path in ["/api/v1/system", "/health/live", "/docs", "/"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n");
        let answer = port.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
        assert!(answer.contains("content-type: application/json"), "{answer}");
        assert!(answer.contains(r#"{"ExceptionMessage":"","Message":"ErrorCode:NotFound;"#));
    }
    port.hub.hub.tasks().stop().drain();
}
