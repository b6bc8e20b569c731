//! The edge CA: one that the hub makes at first start, or one that the operator brings.

use super::certificate::{Dates, set_validity};
use super::files::{Pair, Stored, pem, read_pair, replace};
use super::{CA_FILE, CA_LIFE, EARLIEST_NOW, PkiError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use weir_core::clock::Timestamp;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// Files of a CA that the operator brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeCaFiles {
    /// The CA's certificate first, then those that signed it, in PEM.
    pub certificate: PathBuf,
    /// Its key, PKCS #8 in PEM.
    pub key: PathBuf,
    /// What clients are to trust, in PEM, when the root is not in the first file.
    pub trust_bundle: Option<PathBuf>,
}

/// Who signs.
pub(super) struct Authority {
    /// Behind every certificate that is served: the CA's own first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// What clients trust.
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    /// When the first of the chain ends.
    pub(super) expires: Timestamp,
}

impl Authority {
    /// The hub's own; made when there is none.
    pub(super) fn own(folder: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let pair = match read_pair(&folder.join(CA_FILE))? {
            Stored::Pair(pair) => *pair,
            Stored::Damaged => return Err(PkiError::Ca),
            Stored::Missing => {
                let pair = make_ca(now)?;
                replace(folder, CA_FILE, 0o600, &pair.pem())?;
                pair
            }
        };
        let [ca] = &pair.chain[..] else { return Err(PkiError::Ca) };
        let expires = Dates::of(ca).ok_or(PkiError::Ca)?.not_after;
        let issuer = Issuer::from_ca_cert_der(ca, pair.key).map_err(|_| PkiError::Ca)?;
        Ok(Self { trusted: pair.chain.clone(), chain: pair.chain, issuer, expires })
    }

    /// The operator's, checked: what would fail at clients later fails here.
    ///
    /// Whether it is valid now is another question ([`Self::check_dates`]): at the start of a machine
    /// whose clock was never set it must not be asked.
    pub(super) fn brought(files: &EdgeCaFiles) -> Result<Self, PkiError> {
        let chain = certificates(&files.certificate)?;
        let key = key(&files.key)?;
        let parsed: Vec<X509Certificate<'_>> = chain
            .iter()
            .map(|der| X509Certificate::from_der(der).map(|(_, parsed)| parsed))
            .collect::<Result<_, _>>()
            .map_err(|_| unusable(&files.certificate, "holds a certificate that cannot be read"))?;
        let problem = |what: &str| Err(unusable(&files.certificate, what));
        let Some(ca) = parsed.first() else { return problem("holds no certificate") };
        if ca.public_key().raw != key.subject_public_key_info() {
            return Err(unusable(&files.key, "is not the key of the first certificate"));
        }
        let is_ca = ca.basic_constraints().ok().flatten().is_some_and(|basic| basic.value.ca);
        let signs = ca.key_usage().ok().flatten().is_none_or(|usage| usage.value.key_cert_sign());
        if !is_ca || !signs {
            return problem("begins with a certificate that may not sign others (no CA)");
        }
        if parsed.windows(2).any(|pair| pair[0].issuer() != pair[1].subject()) {
            return problem("is out of order: each certificate is signed by the next");
        }
        let mut expires = Timestamp::NEVER;
        for der in &chain {
            let Some(dates) = Dates::of(der) else { return problem("has a date out of range") };
            expires = expires.min(dates.not_after);
        }
        let trusted = match &files.trust_bundle {
            Some(path) => certificates(path)?,
            None => chain.clone(),
        };
        if !trusted.iter().any(|der| is_self_signed(der)) {
            return problem("holds no root: name the file with it in edge_ca.trust_bundle");
        }
        let issuer = Issuer::from_ca_cert_der(&chain[0], key);
        let issuer = issuer.map_err(|_| unusable(&files.certificate, "cannot be used to sign"))?;
        Ok(Self { chain, trusted, issuer, expires })
    }

    /// Every certificate of the chain has to be valid now.
    pub(super) fn check_dates(&self, files: &EdgeCaFiles, now: Timestamp) -> Result<(), PkiError> {
        let dates = self.chain.iter().filter_map(|der| Dates::of(der));
        let mut wrong = dates.filter(|dates| now < dates.not_before || dates.not_after <= now);
        match wrong.next() {
            None => Ok(()),
            Some(Dates { not_before, not_after }) => {
                let what = format!("holds a certificate that is valid {not_before} to {not_after}");
                Err(unusable(&files.certificate, &what))
            }
        }
    }

    /// What clients trust, in PEM.
    pub(super) fn trust_bundle(&self) -> String {
        self.trusted.iter().map(|der| pem("CERTIFICATE", der)).collect()
    }
}

fn unusable(path: &Path, what: &str) -> PkiError {
    PkiError::EdgeCa { file: path.display().to_string(), what: what.to_owned() }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let text = fs::read(path).map_err(|cause| unusable(path, &cause.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|_| unusable(path, "is no PEM"))?;
    match found.is_empty() {
        true => Err(unusable(path, "holds no certificate")),
        false => Ok(found),
    }
}

fn key(path: &Path) -> Result<KeyPair, PkiError> {
    let text = fs::read(path).map_err(|cause| unusable(path, &cause.to_string()))?;
    let text = Zeroizing::new(text);
    match PrivatePkcs8KeyDer::from_pem_slice(&text) {
        Ok(key) => KeyPair::try_from(&key)
            .map_err(|_| unusable(path, "holds a key of a kind that is not supported")),
        Err(_) => {
            let older = [SectionKind::EcPrivateKey, SectionKind::RsaPrivateKey];
            let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(&text);
            let is_older = sections.any(|found| found.is_ok_and(|(kind, _)| older.contains(&kind)));
            Err(unusable(
                path,
                match is_older {
                    true => "is not PKCS #8: convert it with \"openssl pkcs8 -topk8 -nodes\"",
                    false => "holds no key, or an encrypted one",
                },
            ))
        }
    }
}

fn is_self_signed(der: &[u8]) -> bool {
    X509Certificate::from_der(der).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
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
