//! Certificates with their keys in files: read whole, replaced in one step.

use super::{PkiError, file};
use crate::tls::ServerCertificate;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use weir_core::clock::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// A certificate, its issuers, and its key.
pub(super) struct Pair {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: KeyPair,
}

pub(super) enum Stored {
    Missing,
    Damaged,
    Pair(Box<Pair>),
}

impl Pair {
    pub(super) fn from_pem(text: &[u8]) -> Option<Self> {
        let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().ok()?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text).ok()?;
        let key = KeyPair::try_from(&key).ok()?;
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        (leaf.public_key().raw == key.subject_public_key_info()).then_some(())?;
        Some(Self { chain, key })
    }

    pub(super) fn pem(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([self.chain_pem().as_bytes(), self.key_pem().as_bytes()].concat())
    }

    pub(super) fn chain_pem(&self) -> String {
        self.chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect()
    }

    pub(super) fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", self.key.serialized_der()))
    }

    pub(super) fn into_certificate(self, expires: Timestamp) -> ServerCertificate {
        let key = PrivateKeyDer::Pkcs8(self.key.into());
        ServerCertificate { chain: self.chain, key, expires }
    }
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    // One allocation, so that no copy of a key stays behind in freed memory.
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.extend([line, "\n"]);
        rest = after;
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

pub(super) fn read_pair(path: &Path) -> Result<Stored, PkiError> {
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(cause) => return Err(PkiError::File { doing: "read a certificate", cause }),
    };
    Ok(Pair::from_pem(&text).map_or(Stored::Damaged, |pair| Stored::Pair(Box::new(pair))))
}

/// Puts a whole file in place of another: after a power cut there is the old one or the new one.
pub(super) fn replace(folder: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<(), PkiError> {
    let fresh = folder.join(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        // The mode above is cut by the umask, and does not change a file that was left behind.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    file("write a certificate", write())
}
