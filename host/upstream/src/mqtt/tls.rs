//! TLS of the MQTT upstream: what the configuration says, as a connector.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;

use crate::{Error, MqttConfig};

fn setting(key: &'static str, problem: &str) -> Error {
    Error::Setting { key, problem: problem.to_owned() }
}

/// The connector and the name that the broker's certificate must bear; `None` without TLS.
pub(super) fn connector(
    config: &MqttConfig,
    host: &str,
) -> Result<Option<(TlsConnector, ServerName<'static>)>, Error> {
    let MqttConfig { ca_file, cert_file, key_file, server_name, .. } = config;
    if !config.tls {
        let named = ca_file.is_some() || cert_file.is_some() || key_file.is_some();
        return match named || server_name.is_some() || config.insecure {
            true => Err(setting("tls", "must be true where certificates are configured")),
            false => Ok(None),
        };
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|cause| Error::Tls { key: "tls", cause })?;
    let builder = match (ca_file, config.insecure) {
        (Some(path), false) => builder.with_root_certificates(roots(path)?),
        (None, true) => {
            let any = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(any)
        }
        (None, false) => return Err(setting("ca_file", "is needed with tls = true")),
        (Some(_), true) => {
            return Err(setting(
                "insecure",
                "takes any certificate, so that ca_file has no effect",
            ));
        }
    };
    let client = match (cert_file, key_file) {
        (None, None) => builder.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let chain = certificates("cert_file", cert)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|cause| unreadable("key_file", cause))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|cause| Error::Tls { key: "cert_file", cause })?
        }
        (Some(_), None) => return Err(setting("key_file", "is needed with cert_file")),
        (None, Some(_)) => return Err(setting("cert_file", "is needed with key_file")),
    };
    let name = server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| setting("server_name", "is neither a host name nor an address"))?;
    Ok(Some((TlsConnector::from(Arc::new(client)), name)))
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca_file", path)? {
        roots.add(certificate).map_err(|cause| Error::Tls { key: "ca_file", cause })?;
    }
    Ok(roots)
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|cause| unreadable(key, cause))?;
    match chain.is_empty() {
        true => Err(Error::Pem { key, cause: pem::Error::NoItemsFound }),
        false => Ok(chain),
    }
}

fn unreadable(key: &'static str, cause: pem::Error) -> Error {
    match cause {
        pem::Error::Io(cause) => Error::Read { key, cause },
        cause => Error::Pem { key, cause },
    }
}

/// For `insecure = true`: the handshake is real, the certificate may be anyone's.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
