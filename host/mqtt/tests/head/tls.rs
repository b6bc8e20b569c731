//! The TLS listener.

use crate::client::{Client, connect};
use crate::hub::TestHub;
use crate::{EVENTS, leaf, module};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weir_core::id::Identity;
use weir_mqtt::Security;
use weir_mqtt_codec::Refusal;

/// Takes any certificate: these tests are about the head, not about trust.
#[derive(Debug)]
struct Anyone;

const SCHEMES: [SignatureScheme; 1] = [SignatureScheme::ECDSA_NISTP256_SHA256];

fn verify(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let provider = rustls::crypto::ring::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

fn server_config(name: &str) -> Arc<ServerConfig> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

async fn dial(
    address: SocketAddr,
    certificate: Option<(&CertificateDer<'static>, &KeyPair)>,
) -> Client<TlsStream<TcpStream>> {
    Client::over(handshake(address, certificate).await)
}

async fn handshake(
    address: SocketAddr,
    certificate: Option<(&CertificateDer<'static>, &KeyPair)>,
) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let config = match certificate {
        Some((certificate, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("gateway.weir.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

async fn listen(hub: &TestHub) -> (SocketAddr, watch::Sender<Arc<ServerConfig>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = watch::channel(server_config("first.weir.test"));
    hub.server.listen(listener, Security::Tls(receiver));
    (address, sender)
}

#[tokio::test]
async fn a_token_is_enough_over_tls() {
    let hub = TestHub::start().await;
    let (address, _config) = listen(&hub).await;
    let mut client = dial(address, None).await;
    client.enter(&module(), &hub.token(&module()).await).await;
    client.publishes(EVENTS, vec![b'x'; 100_000], 1).await;
}

#[tokio::test]
async fn the_certificate_of_the_handshake_proves_a_device() {
    let hub = TestHub::start().await;
    let (address, _config) = listen(&hub).await;
    let device = Identity::device("camera".parse().unwrap());
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([]).unwrap().self_signed(&key).unwrap();
    hub.trust(&device, certificate.der()).await;
    let mut without_password = connect(&device, "");
    without_password.login.as_mut().unwrap().password = None;
    let mut client = dial(address, Some((certificate.der(), &key))).await;
    client.enter_as(without_password.clone()).await;
    let mut client = dial(address, None).await;
    assert_eq!(client.refusal(without_password).await, Refusal::NotAuthorized);
}

#[tokio::test]
async fn one_that_does_not_shake_hands_holds_nobody() {
    let hub = TestHub::start().await;
    let (address, _config) = listen(&hub).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut client = dial(address, None).await;
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
}

#[tokio::test]
async fn a_new_certificate_holds_for_the_next_connection_and_the_old_one_stays() {
    let hub = TestHub::start().await;
    let (address, config) = listen(&hub).await;
    let shown =
        |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    let first = handshake(address, None).await;
    let before = shown(&first);
    let mut client = Client::over(first);
    client.enter(&leaf(), &hub.token(&leaf()).await).await;
    config.send_replace(server_config("second.weir.test"));
    assert_ne!(shown(&handshake(address, None).await), before);
    client.publishes(crate::LEAF_EVENTS, "x", 1).await;
}
