//! A stream to the hub: TCP, or TLS that trusts the hub's own authority and nothing else.

use super::{Error, Target};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Name look-up, TCP and TLS together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// A stream in both directions.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send {}
impl<S: AsyncRead + AsyncWrite + Send> Duplex for S {}

pub(super) struct Connector {
    host: String,
    port: u16,
    base: String,
    authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    stale: String,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.base)
    }
}

impl Connector {
    pub(super) fn new(target: &Target) -> Result<Self, Error> {
        let host = target.host.clone();
        let shown = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let authority = format!("{shown}:{}", target.port);
        let tls = match &target.trust {
            None => None,
            Some(file) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| Error::Host)?;
                Some((connector(file)?, name))
            }
        };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let stale = target.named_by.as_ref().map(|file| {
            format!(", as {} says; a hub that was killed leaves that file behind", file.display())
        });
        Ok(Self {
            base: format!("{scheme}://{authority}"),
            host,
            port: target.port,
            authority,
            tls,
            stale: stale.unwrap_or_default(),
        })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) async fn connect(&self) -> Result<Pin<Box<dyn Duplex>>, Error> {
        let opened = timeout(CONNECT_LIMIT, self.open()).await;
        let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        opened.map_err(|cause| Error::Unreachable {
            address: self.authority.clone(),
            stale: self.stale.clone(),
            cause,
        })
    }

    async fn open(&self) -> io::Result<Pin<Box<dyn Duplex>>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::pin(stream),
            Some((connector, name)) => Box::pin(connector.connect(name.clone(), stream).await?),
        })
    }
}

fn connector(file: &Path) -> Result<TlsConnector, Error> {
    let wrong = || Error::Trust { path: file.to_owned() };
    let certificates = CertificateDer::pem_file_iter(file).map_err(|_| wrong())?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.map_err(|_| wrong())?).map_err(|_| wrong())?;
    }
    if roots.is_empty() {
        return Err(wrong());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
