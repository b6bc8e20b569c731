//! TLS for every listener: what is served, what is asked of clients, and what is resumed.
//!
//! Made once; listeners take a [`ServerConfig`] each. Invariants:
//!
//! 1. A client certificate is asked for and never demanded, and any is taken whose key the client has:
//!    who it is, `weir_hub::authenticate` judges. Clients with tokens show none, and certificates known
//!    by their thumbprint are signed by nobody.
//! 2. A certificate is exchanged without touching listeners or connections.
//! 3. The name that a client asks for does not matter: they dial the gateway's or the cloud's, or none.

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{
    CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::sync::Arc;
use weir_core::clock::Timestamp;

/// Sessions of TLS 1.2 clients that know no tickets; the others carry their session themselves.
const SESSIONS: usize = 1_024;

/// A certificate to serve.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The certificate first, then those that signed it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// When it ends.
    pub expires: Timestamp,
}

/// A certificate that cannot be served, or a system without randomness.
#[derive(Debug, thiserror::Error)]
#[error("could not set up TLS")]
pub struct TlsError(#[source] rustls::Error);

/// The server side of TLS, shared by all listeners.
#[derive(Debug)]
pub struct TlsServer {
    provider: Arc<CryptoProvider>,
    served: Arc<Served>,
    sessions: Arc<ServerSessionMemoryCache>,
    tickets: Arc<dyn ProducesTickets>,
}

impl TlsServer {
    /// Serves `certificate` until [`Self::reload`].
    ///
    /// # Errors
    /// [`TlsError`]: the certificate and its key do not match, or there is no randomness.
    pub fn new(certificate: ServerCertificate) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = certified(certificate, &provider)?;
        Ok(Self {
            served: Arc::new(Served(ArcSwap::from_pointee(key))),
            sessions: ServerSessionMemoryCache::new(SESSIONS),
            // Its keys change every six hours.
            tickets: rustls::crypto::ring::Ticketer::new().map_err(TlsError)?,
            provider,
        })
    }

    /// Serves another certificate from the next handshake on; connections that stand are not touched.
    /// False when it is the one that is served already.
    ///
    /// # Errors
    /// [`TlsError`]; the old certificate is served on.
    pub fn reload(&self, certificate: ServerCertificate) -> Result<bool, TlsError> {
        let fresh = certified(certificate, &self.provider)?;
        if self.served.0.load().key.cert == fresh.key.cert {
            return Ok(false);
        }
        self.served.0.store(Arc::new(fresh));
        Ok(true)
    }

    /// When the certificate that is served ends.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.served.0.load().expires
    }

    /// For a listener that speaks `protocols` (ALPN); none: a client may ask for any.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
        let verifier = AnyCertificate { provider: Arc::clone(&self.provider) };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(TlsError)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(Arc::clone(&self.served) as Arc<dyn ResolvesServerCert>);
        config.session_storage = Arc::clone(&self.sessions) as _;
        config.ticketer = Arc::clone(&self.tickets);
        // A client resumes one connection at a time.
        config.send_tls13_tickets = 1;
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// The certificates that a client showed, its own first; empty when it showed none.
#[must_use]
pub fn client_certificates(connection: &CommonState) -> Vec<Vec<u8>> {
    let shown = connection.peer_certificates().unwrap_or_default();
    shown.iter().map(|certificate| certificate.to_vec()).collect()
}

fn certified(
    certificate: ServerCertificate,
    provider: &CryptoProvider,
) -> Result<Certified, TlsError> {
    let ServerCertificate { chain, key, expires } = certificate;
    let key = CertifiedKey::from_der(chain, key, provider).map_err(TlsError)?;
    Ok(Certified { key: Arc::new(key), expires })
}

#[derive(Debug)]
struct Certified {
    key: Arc<CertifiedKey>,
    expires: Timestamp,
}

/// The certificate that is served, whatever name is asked for.
#[derive(Debug)]
struct Served(ArcSwap<Certified>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}

/// Takes every certificate whose key the client proves to have.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyCertificate {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
