//! The hub's own authority: an edge CA made at first start, and the server certificate under it.
//!
//! Opened once at start; [`Pki::server_certificate`] is called then and from time to time (daily, and
//! when the clock jumped), because renewal is a state and not a timer: it needs no network and no
//! restart. Invariants:
//!
//! 1. A CA that exists is never replaced: clients trust it. A file that cannot be read stops the start.
//! 2. A certificate and its key are in one file, replaced in one step, so that they always match.
//! 3. Keys are readable by their owner only; the trust bundle by every user of the machine.

use crate::tls::ServerCertificate;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_core::clock::{Clock, Timestamp};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

const CA_FILE: &str = "edge-ca.pem";
const SERVER_FILE: &str = "server.pem";
/// What clients are given to trust.
pub const TRUST_BUNDLE: &str = "trust-bundle.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_LIFE: Duration = DAY.saturating_mul(3650);
const SERVER_LIFE: Duration = DAY.saturating_mul(90);
/// One day, for clients whose clock is late.
const BACKDATED_SECS: i64 = 24 * 60 * 60;
/// 2026-01-01. A clock before it was never set (a board without a battery): a CA made then must
/// still be good when the clock is right.
const EARLIEST_NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
/// 9999-12-31, the last day that a certificate can name.
const LAST_SECOND: i64 = 253_402_300_799;

/// Why the hub has no certificates.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file or folder could not be written or read.
    #[error("could not {doing}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The CA's file is there and is no certificate with its key. It is never replaced by itself.
    #[error(
        "{CA_FILE} is damaged; restore it, or remove it to make a new CA that no client trusts yet"
    )]
    Ca,
    /// A name cannot stand in a certificate.
    #[error("{name:?} cannot stand in a certificate")]
    Name {
        /// The host name.
        name: String,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Make(#[source] rcgen::Error),
}

fn file<T>(doing: &'static str, result: io::Result<T>) -> Result<T, PkiError> {
    result.map_err(|cause| PkiError::File { doing, cause })
}

/// The folder `<data_dir>/pki`.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    names: Vec<String>,
    clock: Clock,
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    ca_expires: Timestamp,
}

impl Pki {
    /// Opens the folder; at first start makes it and the CA in it. The server certificate will be for
    /// `hostname`, `iothub_hostname` (clients that dial the cloud's name), and this machine's loopback.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn open(
        folder: &Path,
        hostname: &str,
        iothub_hostname: &str,
        clock: Clock,
    ) -> Result<Self, PkiError> {
        let made = DirBuilder::new().recursive(true).mode(0o711).create(folder);
        file("make the folder for certificates", made)?;
        // Other users of the machine reach the trust bundle by its name, and see nothing else.
        let narrowed = fs::set_permissions(folder, Permissions::from_mode(0o711));
        file("protect the folder for certificates", narrowed)?;
        let mut names: Vec<String> = Vec::new();
        for name in [hostname, iothub_hostname, "localhost", "127.0.0.1", "::1"] {
            if !name.is_empty() && !names.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                names.push(name.to_owned());
            }
        }
        let pair = match read_pair(&folder.join(CA_FILE))? {
            Stored::Pair(pair) => *pair,
            Stored::Damaged => return Err(PkiError::Ca),
            Stored::Missing => {
                let pair = make_ca(clock.now())?;
                replace(folder, CA_FILE, 0o600, &pair.pem())?;
                pair
            }
        };
        let [ca] = &pair.chain[..] else { return Err(PkiError::Ca) };
        let ca = ca.clone();
        let dates = Dates::of(&ca).ok_or(PkiError::Ca)?;
        let issuer = Issuer::from_ca_cert_der(&ca, pair.key).map_err(|_| PkiError::Ca)?;
        let ca_expires = dates.not_after;
        let pki = Self { folder: folder.to_owned(), names, clock, ca, issuer, ca_expires };
        pki.publish_trust_bundle()?;
        Ok(pki)
    }

    /// What clients trust, in DER.
    #[must_use]
    pub fn trust_bundle(&self) -> Vec<CertificateDer<'static>> {
        vec![self.ca.clone()]
    }

    /// The file with what clients trust, in PEM.
    #[must_use]
    pub fn trust_bundle_file(&self) -> PathBuf {
        self.folder.join(TRUST_BUNDLE)
    }

    /// When the CA ends, and all trust in this hub with it.
    #[must_use]
    pub fn ca_expires(&self) -> Timestamp {
        self.ca_expires
    }

    /// The certificate to serve now: the present one, or a new one when two thirds of its life have
    /// passed, when the hub's names have changed, or when it cannot be used.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn server_certificate(&self) -> Result<ServerCertificate, PkiError> {
        if let Stored::Pair(pair) = read_pair(&self.folder.join(SERVER_FILE))?
            && let Some(expires) = self.still_good(&pair)
        {
            return Ok(pair.into_certificate(expires));
        }
        let (pair, expires) = self.make_server_certificate()?;
        replace(&self.folder, SERVER_FILE, 0o600, &pair.pem())?;
        Ok(pair.into_certificate(expires))
    }

    /// When the certificate ends, if there is no reason to replace it.
    fn still_good(&self, pair: &Pair) -> Option<Timestamp> {
        let [leaf, issuer] = &pair.chain[..] else { return None };
        let dates = Dates::of(leaf)?;
        let now = self.clock.now();
        let life = dates.not_after.since(dates.not_before);
        let in_time = dates.not_before <= now && now < dates.not_before.after(life * 2 / 3);
        let wanted: BTreeSet<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
        let good = in_time && *issuer == self.ca && names_of(leaf)? == wanted;
        good.then_some(dates.not_after)
    }

    fn make_server_certificate(&self) -> Result<(Pair, Timestamp), PkiError> {
        let now = self.clock.now();
        let mut params = CertificateParams::default();
        for name in &self.names {
            let unusable = |_| PkiError::Name { name: name.clone() };
            let one = CertificateParams::new([name.clone()]).map_err(unusable)?;
            params.subject_alt_names.extend(one.subject_alt_names);
        }
        let expires = Timestamp::from_secs(now.after(SERVER_LIFE).min(self.ca_expires).as_secs());
        set_validity(&mut params, now, expires);
        // A common name has at most 64 characters; clients look at the alternative names.
        let name = self.names.iter().find(|name| name.len() <= 64);
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, name.map_or("edge hub", |n| n));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(PkiError::Make)?;
        let leaf = params.signed_by(&key, &self.issuer).map_err(PkiError::Make)?;
        let chain = vec![leaf.der().clone(), self.ca.clone()];
        Ok((Pair { chain, key }, expires))
    }

    fn publish_trust_bundle(&self) -> Result<(), PkiError> {
        let text = pem("CERTIFICATE", &self.ca);
        let path = self.trust_bundle_file();
        let is_there = fs::read(&path).is_ok_and(|present| present == text.as_bytes());
        if is_there {
            return Ok(());
        }
        replace(&self.folder, TRUST_BUNDLE, 0o644, &text)
    }
}

fn make_ca(now: Timestamp) -> Result<Pair, PkiError> {
    let key = KeyPair::generate().map_err(PkiError::Make)?;
    let mut params = CertificateParams::default();
    // Two hubs' CAs need two names, or a client that knows both takes the wrong one.
    let id = ring::digest::digest(&ring::digest::SHA256, &key.subject_public_key_info());
    let id: String = id.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, format!("Weir edge CA {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let expires = now.max(EARLIEST_NOW).after(CA_LIFE);
    set_validity(&mut params, now.min(EARLIEST_NOW), expires);
    let certificate = params.self_signed(&key).map_err(PkiError::Make)?;
    Ok(Pair { chain: vec![certificate.der().clone()], key })
}

fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |secs: i64| {
        Duration::from_secs(u64::try_from(secs.clamp(0, LAST_SECOND)).unwrap_or_default())
    };
    params.not_before = epoch + since_epoch(from.as_secs().saturating_sub(BACKDATED_SECS));
    params.not_after = epoch + since_epoch(until.as_secs());
}

/// What a certificate says of its time.
struct Dates {
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Dates {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            not_before: Timestamp::from_secs(validity.not_before.timestamp()),
            not_after: Timestamp::from_secs(validity.not_after.timestamp()),
        })
    }
}

/// The host names and addresses that a certificate is for, in lower case.
fn names_of(der: &[u8]) -> Option<BTreeSet<String>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_lowercase()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(IpAddr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    };
    names.value.general_names.iter().map(text).collect()
}

/// A certificate, its issuers, and its key.
struct Pair {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

enum Stored {
    Missing,
    Damaged,
    Pair(Box<Pair>),
}

impl Pair {
    fn from_pem(text: &[u8]) -> Option<Self> {
        let chain = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>().ok()?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text).ok()?;
        let key = KeyPair::try_from(&key).ok()?;
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        (leaf.public_key().raw == key.subject_public_key_info()).then_some(())?;
        Some(Self { chain, key })
    }

    fn pem(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for certificate in &self.chain {
            text.push_str(&pem("CERTIFICATE", certificate));
        }
        text.push_str(&Zeroizing::new(pem("PRIVATE KEY", self.key.serialized_der())));
        text
    }

    fn into_certificate(self, expires: Timestamp) -> ServerCertificate {
        let key = PrivateKeyDer::Pkcs8(self.key.into());
        ServerCertificate { chain: self.chain, key, expires }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
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

fn read_pair(path: &Path) -> Result<Stored, PkiError> {
    let text = match fs::read(path) {
        Ok(text) => Zeroizing::new(text),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Stored::Missing),
        Err(cause) => return Err(PkiError::File { doing: "read a certificate", cause }),
    };
    Ok(Pair::from_pem(&text).map_or(Stored::Damaged, |pair| Stored::Pair(Box::new(pair))))
}

/// Puts a whole file in place of another: after a power cut there is the old one or the new one.
fn replace(folder: &Path, name: &str, mode: u32, text: &str) -> Result<(), PkiError> {
    let fresh = folder.join(format!(".{name}.new"));
    let write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        // The mode above is cut by the umask, and does not change a file that was left behind.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    file("write a certificate", write())
}

/// The authorities in a PEM file, in DER, under which device certificates are accepted.
///
/// # Errors
/// When the file cannot be read or holds no certificate.
pub fn device_roots(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    let name = path.display();
    let found = CertificateDer::pem_file_iter(path)
        .with_context(|| format!("{name} could not be read"))?
        .map(|certificate| Ok(certificate?.to_vec()))
        .collect::<Result<Vec<_>, rustls_pki_types::pem::Error>>()
        .with_context(|| format!("{name} is no PEM"))?;
    anyhow::ensure!(!found.is_empty(), "{name} holds no certificate");
    Ok(found)
}

#[cfg(test)]
mod tests;
