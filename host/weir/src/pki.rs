//! The hub's own authority: the edge CA, and the server certificate under it.
//!
//! Opened once at start; [`Pki::server_certificate`] is called then and every minute, because renewal is
//! a state and not a timer: it needs no network and no restart. The CA is made at first start, unless
//! the operator brings one. Invariants:
//!
//! 1. A CA that the hub has made is never replaced: clients trust it. A file that cannot be read stops
//!    the start.
//! 2. A certificate and its key are in one file, replaced in one step, so that they always match.
//! 3. Keys are readable by their owner only; the trust bundle by every user of the machine.
//! 4. Files of the operator that have become unusable change nothing: the hub goes on with what it has.

mod authority;
mod certificate;
mod files;
mod issue;

pub use authority::EdgeCaFiles;

use crate::tls::ServerCertificate;
use anyhow::Context;
use arc_swap::ArcSwap;
use authority::Authority;
use certificate::{Dates, names_of};
use files::{Pair, Stored, read_pair, replace};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use weir_api::workload::{Issued, NotIssued, Purpose};
use weir_core::clock::{Clock, Timestamp};

const CA_FILE: &str = "edge-ca.pem";
const SERVER_FILE: &str = "server.pem";
const SECRET_FILE: &str = "workload.key";
/// What clients are given to trust.
pub const TRUST_BUNDLE: &str = "trust-bundle.pem";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CA_LIFE: Duration = DAY.saturating_mul(3650);
/// Of a server certificate, and of those of modules.
const SERVER_LIFE: Duration = DAY.saturating_mul(90);
/// 2026-01-01. A clock before it was never set (a board without a battery): a CA made then must
/// still be good when the clock is right.
const EARLIEST_NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

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
    /// A file of the operator's CA cannot be used.
    #[error("{file} {what}")]
    EdgeCa {
        /// Its path, as the configuration names it.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// A name cannot stand in a certificate.
    #[error("{name:?} cannot stand in a certificate")]
    Name {
        /// The host name.
        name: String,
    },
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Make(#[source] rcgen::Error),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

fn file<T>(doing: &'static str, result: io::Result<T>) -> Result<T, PkiError> {
    result.map_err(|cause| PkiError::File { doing, cause })
}

/// The folder `<data_dir>/pki`.
pub struct Pki {
    folder: PathBuf,
    names: Vec<String>,
    clock: Clock,
    files: Option<EdgeCaFiles>,
    authority: ArcSwap<Authority>,
}

impl Pki {
    /// Opens the folder; at first start makes it and, without `files` of the operator, the CA in it. The
    /// server certificate will be for `hostname`, `iothub_hostname` (clients that dial the cloud's name),
    /// and this machine's loopback.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn open(
        folder: &Path,
        hostname: &str,
        iothub_hostname: &str,
        files: Option<EdgeCaFiles>,
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
        let authority = match &files {
            Some(files) => Authority::brought(files)?,
            None => Authority::own(folder, clock.now())?,
        };
        let authority = ArcSwap::from_pointee(authority);
        let pki = Self { folder: folder.to_owned(), names, clock, files, authority };
        pki.publish_trust_bundle()?;
        Ok(pki)
    }

    /// Looks at the operator's files again. True when they hold another CA than before, which is then in
    /// force: the next server certificate is signed by it.
    ///
    /// # Errors
    /// [`PkiError`]: they cannot be used; the CA stays what it was.
    pub fn reload(&self) -> Result<bool, PkiError> {
        let Some(files) = &self.files else { return Ok(false) };
        let fresh = Authority::brought(files)?;
        let present = self.authority.load();
        if fresh.chain == present.chain && fresh.trusted == present.trusted {
            return Ok(false);
        }
        fresh.check_dates(files, self.clock.now())?;
        self.authority.store(fresh.into());
        self.publish_trust_bundle()?;
        Ok(true)
    }

    /// What clients trust, in DER.
    #[must_use]
    pub fn trust_bundle(&self) -> Vec<CertificateDer<'static>> {
        self.authority.load().trusted.clone()
    }

    /// What clients trust, in PEM.
    #[must_use]
    pub fn trust_bundle_text(&self) -> String {
        self.authority.load().trust_bundle()
    }

    /// The file with what clients trust, in PEM.
    #[must_use]
    pub fn trust_bundle_file(&self) -> PathBuf {
        self.folder.join(TRUST_BUNDLE)
    }

    /// When the CA ends, and all trust in this hub with it.
    #[must_use]
    pub fn ca_expires(&self) -> Timestamp {
        self.authority.load().expires
    }

    /// The certificate to serve now: the present one, or a new one when two thirds of its life have
    /// passed, when the hub's names or its CA have changed, or when it cannot be used.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn server_certificate(&self) -> Result<ServerCertificate, PkiError> {
        let authority = self.authority.load();
        if let Stored::Pair(pair) = read_pair(&self.folder.join(SERVER_FILE))?
            && let Some(expires) = self.still_good(&pair, &authority)
        {
            return Ok(pair.into_certificate(expires));
        }
        let purpose = Purpose::Server { names: self.names.clone() };
        let (pair, expires) = issue::issue(&authority, &purpose, self.clock.now())?;
        replace(&self.folder, SERVER_FILE, 0o600, &pair.pem())?;
        Ok(pair.into_certificate(expires))
    }

    /// A certificate for a module.
    ///
    /// # Errors
    /// [`NotIssued`].
    pub fn issue(&self, purpose: &Purpose) -> Result<Issued, NotIssued> {
        let made = issue::issue(&self.authority.load(), purpose, self.clock.now());
        let (pair, expires) = made.map_err(|error| match error {
            PkiError::Name { name } => NotIssued::Name(name),
            error => NotIssued::Failed(format!("{:#}", anyhow::Error::new(error))),
        })?;
        Ok(Issued { certificate: pair.chain_pem(), key: pair.key_pem().to_string(), expires })
    }

    /// What the keys of modules are derived from; made at first start.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn secret(&self) -> Result<[u8; 32], PkiError> {
        let path = self.folder.join(SECRET_FILE);
        match fs::read(&path) {
            Ok(bytes) => {
                let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it has not 32 bytes");
                file("read the workload key", bytes.try_into().map_err(|_| damaged()))
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; 32];
                ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut secret)
                    .map_err(|_| PkiError::Random)?;
                replace(&self.folder, SECRET_FILE, 0o600, &secret)?;
                Ok(secret)
            }
            Err(cause) => Err(PkiError::File { doing: "read the workload key", cause }),
        }
    }

    /// When the certificate ends, if there is no reason to replace it.
    fn still_good(&self, pair: &Pair, authority: &Authority) -> Option<Timestamp> {
        let [leaf, issuers @ ..] = &pair.chain[..] else { return None };
        let dates = Dates::of(leaf)?;
        let now = self.clock.now();
        let life = dates.not_after.since(dates.not_before);
        let in_time = dates.not_before <= now && now < dates.not_before.after(life * 2 / 3);
        let wanted: BTreeSet<String> = self.names.iter().map(|name| name.to_lowercase()).collect();
        let good = in_time && *issuers == authority.chain[..] && names_of(leaf)? == wanted;
        good.then_some(dates.not_after)
    }

    fn publish_trust_bundle(&self) -> Result<(), PkiError> {
        let text = self.trust_bundle_text();
        let path = self.trust_bundle_file();
        let is_there = fs::read(&path).is_ok_and(|present| present == text.as_bytes());
        if is_there {
            return Ok(());
        }
        replace(&self.folder, TRUST_BUNDLE, 0o644, text.as_bytes())
    }
}

/// Whether a CA that the operator brings can be used, now or at another time: a machine that was off for
/// long, or whose clock is not set, has to start.
///
/// # Errors
/// [`PkiError`] names the file and what is wrong with it.
pub fn check_edge_ca(files: &EdgeCaFiles) -> Result<(), PkiError> {
    Authority::brought(files).map(drop)
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
