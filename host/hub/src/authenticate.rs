//! The gate: whether what a client shows proves the identity that it claims.
//!
//! Called by every head when a client connects, and again by the hub when an identity changes or its
//! proof ends. Pure: the caller brings the records and the time. Invariants:
//!
//! 1. A proof is good for exactly one identity, the one of the record.
//! 2. Signatures are compared in constant time.
//! 3. A [`Refusal`] has no secret in it: it goes to the log, never to the client.

use ring::{digest, hmac};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::identity::{Authentication, IdentityRecord, Key, Status, Thumbprint};
use weir_core::sas::{self, SasError, SasToken, Signer};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// What a client shows.
#[derive(Clone, Copy)]
pub enum Credentials<'a> {
    /// A token.
    Password(&'a str),
    /// Certificates in DER, the client's own first; their key was proven in the TLS handshake.
    Certificates(&'a [Vec<u8>]),
    /// Nothing.
    None,
}

impl<'a> Credentials<'a> {
    /// A password counts before a certificate; an empty one is none.
    #[must_use]
    pub fn of(password: Option<&'a str>, certificates: &'a [Vec<u8>]) -> Self {
        match password {
            Some(token) if !token.is_empty() => Self::Password(token),
            _ if !certificates.is_empty() => Self::Certificates(certificates),
            _ => Self::None,
        }
    }
}

/// What the hub knows of the identity that a client claims.
#[derive(Debug, Clone, Copy, Default)]
pub struct Records<'a> {
    /// The identity's own record.
    pub own: Option<&'a IdentityRecord>,
    /// For a module: the record of its device.
    pub device: Option<&'a IdentityRecord>,
}

/// An identity that has been proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Who it is.
    pub identity: Identity,
    /// When the proof ends and the connection with it; none: it does not end by itself.
    pub expires: Option<Timestamp>,
    /// What it rests on.
    pub proof: Proof,
}

impl Proven {
    /// An identity that the hub's own process vouches for.
    #[must_use]
    pub fn trusted(identity: Identity) -> Self {
        Self { identity, expires: None, proof: Proof::Trusted }
    }
}

/// What a proof rests on, so that it can be judged again when a record has changed: hashes, no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The hub's own process.
    Trusted,
    /// A key of the identity or of its device.
    Key {
        /// Whose.
        of: Signer,
        /// SHA-256 of the key.
        hash: [u8; 32],
    },
    /// A certificate known by its thumbprint.
    Thumbprint {
        /// SHA-1 of the certificate.
        sha1: [u8; 20],
        /// SHA-256 of it.
        sha256: [u8; 32],
    },
    /// A certificate that chains to the trust bundle.
    Chain,
}

impl Proof {
    /// True when what was shown would be taken again, as far as the records decide.
    #[must_use]
    pub fn holds(&self, records: Records<'_>) -> bool {
        if *self == Self::Trusted && records.own.is_none() {
            return true;
        }
        let Some(own) = records.own else { return false };
        let Some(device) = device_of(own, records.device) else { return false };
        if own.status == Status::Disabled || device.status == Status::Disabled {
            return false;
        }
        match (self, &own.authentication) {
            (Self::Trusted, _) | (Self::Chain, Authentication::CertificateAuthority) => true,
            (Self::Key { .. }, Authentication::None) => false,
            (Self::Key { of, hash }, _) => {
                let record = match of {
                    Signer::Own => own,
                    Signer::Device => device,
                };
                match &record.authentication {
                    Authentication::Sas { primary, secondary } => {
                        hash_of_key(primary) == *hash || hash_of_key(secondary) == *hash
                    }
                    Authentication::SelfSigned { .. }
                    | Authentication::CertificateAuthority
                    | Authentication::None => false,
                }
            }
            (
                Self::Thumbprint { sha1, sha256 },
                Authentication::SelfSigned { primary, secondary },
            ) => {
                let is_this = |known: &Thumbprint| match known.as_bytes().len() {
                    20 => known.as_bytes() == sha1,
                    _ => known.as_bytes() == sha256,
                };
                is_this(primary) || secondary.as_ref().is_some_and(is_this)
            }
            (Self::Chain | Self::Thumbprint { .. }, _) => false,
        }
    }
}

fn hash_of_key(key: &Key) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, key.as_bytes()).as_ref());
    hash
}

/// Why a client is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such identity.
    #[error("the identity is not known")]
    Unknown,
    /// It, or the device of the module, is disabled.
    #[error("the identity is disabled")]
    Disabled,
    /// Neither token nor certificate.
    #[error("no token and no certificate was shown")]
    NoCredentials,
    /// A token for an identity that has no keys.
    #[error("the identity is not one that uses tokens")]
    TokenNotAllowed,
    /// Not a token.
    #[error("the token cannot be read")]
    Token(#[source] SasError),
    /// Signed with another key.
    #[error("the token is signed with neither key")]
    Signature,
    /// For another identity or another hub.
    #[error("the token is for another identity or hub")]
    Audience,
    /// Over, the allowance for late clocks included.
    #[error("the token has expired")]
    Expired,
    /// A certificate for an identity that does not use them; modules do only where policy allows it.
    #[error("the identity is not one that uses certificates")]
    CertificateNotAllowed,
    /// Not a certificate.
    #[error("the certificate cannot be read")]
    Certificate,
    /// Not yet or no longer valid.
    #[error("the certificate is not valid at this time")]
    CertificateTime,
    /// Another certificate.
    #[error("the certificate has neither thumbprint")]
    Thumbprint,
    /// For another device.
    #[error("the certificate's common name is not the id")]
    CommonName,
    /// No path to the trust bundle.
    #[error("the certificate does not chain to the trust bundle")]
    Chain,
}

/// A certificate of the trust bundle that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("certificate {number} of the trust bundle cannot be read")]
pub struct TrustError {
    /// Counted from 1.
    pub number: usize,
}

/// Judges credentials. Made anew when the trust bundle changes.
#[derive(Debug, Clone)]
pub struct Authenticator {
    iothub: String,
    gateway: String,
    anchors: Vec<TrustAnchor<'static>>,
    /// Modules may show certificates, too; in IoT Edge they may not.
    module_certificates: bool,
}

impl Authenticator {
    /// `iothub` and `gateway` are the host names that a token may be for; `bundle` the certificates
    /// (DER) that a device's certificate may chain to.
    ///
    /// # Errors
    /// [`TrustError`] names the first unusable certificate.
    pub fn new(iothub: &str, gateway: &str, bundle: &[Vec<u8>]) -> Result<Self, TrustError> {
        let anchors = bundle.iter().enumerate().map(|(at, der)| {
            let der = CertificateDer::from(der.as_slice());
            let anchor = webpki::anchor_from_trusted_cert(&der);
            anchor.map(|anchor| anchor.to_owned()).map_err(|_| TrustError { number: at + 1 })
        });
        let anchors = anchors.collect::<Result<_, _>>()?;
        let (iothub, gateway) = (iothub.to_owned(), gateway.to_owned());
        Ok(Self { iothub, gateway, anchors, module_certificates: false })
    }

    /// Whether a module may be known by a certificate, as a device is: by its thumbprint, or signed by an
    /// authority of the bundle, the common name then being `device/module`.
    #[must_use]
    pub fn with_module_certificates(self, allowed: bool) -> Self {
        Self { module_certificates: allowed, ..self }
    }

    /// Judges what a client shows for the identity of `records.own`.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn authenticate(
        &self,
        records: Records<'_>,
        credentials: Credentials<'_>,
        now: Timestamp,
    ) -> Result<Proven, Refusal> {
        let own = records.own.ok_or(Refusal::Unknown)?;
        let device = device_of(own, records.device).ok_or(Refusal::Unknown)?;
        if own.status == Status::Disabled || device.status == Status::Disabled {
            return Err(Refusal::Disabled);
        }
        let (expires, proof) = match credentials {
            Credentials::Password(token) => self.by_token(own, device, token, now)?,
            Credentials::Certificates([leaf, rest @ ..]) => {
                self.by_certificate(own, leaf, rest, now)?
            }
            Credentials::Certificates([]) | Credentials::None => {
                return Err(Refusal::NoCredentials);
            }
        };
        Ok(Proven { identity: own.identity.clone(), expires: Some(expires), proof })
    }

    fn by_token(
        &self,
        own: &IdentityRecord,
        device: &IdentityRecord,
        token: &str,
        now: Timestamp,
    ) -> Result<(Timestamp, Proof), Refusal> {
        let token = SasToken::parse(token).map_err(Refusal::Token)?;
        let audience = token.audience().map_err(Refusal::Token)?;
        let signer = audience.signer_for(&own.identity).ok_or(Refusal::Audience)?;
        // A device's token opens its modules only by the device's own key.
        let record = match signer {
            Signer::Own => own,
            Signer::Device => device,
        };
        let Authentication::Sas { primary, secondary } = &record.authentication else {
            return Err(Refusal::TokenNotAllowed);
        };
        if own.authentication == Authentication::None {
            return Err(Refusal::TokenNotAllowed);
        }
        let signed_with = [primary, secondary].into_iter().find(|key| is_signed_by(&token, key));
        let key = signed_with.ok_or(Refusal::Signature)?;
        if !audience.is_for_host(&[&self.iothub, &self.gateway]) {
            return Err(Refusal::Audience);
        }
        let until = token.holds_until(now).ok_or(Refusal::Expired)?;
        Ok((until, Proof::Key { of: signer, hash: hash_of_key(key) }))
    }

    fn by_certificate(
        &self,
        own: &IdentityRecord,
        leaf: &[u8],
        rest: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<(Timestamp, Proof), Refusal> {
        if own.identity.module.is_some() && !self.module_certificates {
            return Err(Refusal::CertificateNotAllowed);
        }
        match &own.authentication {
            Authentication::SelfSigned { primary, secondary } => {
                let certificate = parse(leaf)?;
                let known = is_hash_of(primary, leaf)
                    || secondary.as_ref().is_some_and(|secondary| is_hash_of(secondary, leaf));
                if !known {
                    return Err(Refusal::Thumbprint);
                }
                Ok((valid_until(&certificate, now)?, thumbprint_of(leaf)))
            }
            Authentication::CertificateAuthority => {
                let certificate = parse(leaf)?;
                if !names_only(&certificate, &own.identity.to_string()) {
                    return Err(Refusal::CommonName);
                }
                let until = valid_until(&certificate, now)?;
                self.check_chain(leaf, rest, now)?;
                Ok((until, Proof::Chain))
            }
            Authentication::Sas { .. } | Authentication::None => {
                Err(Refusal::CertificateNotAllowed)
            }
        }
    }

    fn check_chain(&self, leaf: &[u8], rest: &[Vec<u8>], now: Timestamp) -> Result<(), Refusal> {
        let leaf = CertificateDer::from(leaf);
        let leaf = webpki::EndEntityCert::try_from(&leaf).map_err(|_| Refusal::Certificate)?;
        let rest: Vec<_> = rest.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let secs = u64::try_from(now.as_secs()).unwrap_or(0);
        let path = leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.anchors,
            &rest,
            UnixTime::since_unix_epoch(Duration::from_secs(secs)),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        );
        path.map(drop).map_err(|_| Refusal::Chain)
    }
}

/// The record of the device itself, or of the module's device.
fn device_of<'a>(
    own: &'a IdentityRecord,
    device: Option<&'a IdentityRecord>,
) -> Option<&'a IdentityRecord> {
    if own.identity.module.is_none() {
        return Some(own);
    }
    let is_its_device = |record: &&IdentityRecord| {
        record.identity.module.is_none() && record.identity.device == own.identity.device
    };
    device.filter(is_its_device)
}

/// True when the token was signed with `key`; takes as long for a near miss as for a far one.
#[must_use]
pub fn is_signed_by(token: &SasToken<'_>, key: &Key) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::verify(&key, token.string_to_sign().as_bytes(), token.signature()).is_ok()
}

/// A token for `resource` (percent-encoded, see [`sas::resource_of`]) signed with `key`.
#[must_use]
pub fn make_token(key: &Key, resource: &str, expires: Timestamp, policy: Option<&str>) -> String {
    let expiry = expires.as_secs().to_string();
    let signature = sign(key.as_bytes(), sas::string_to_sign(resource, &expiry).as_bytes());
    sas::token_text(resource, signature.as_ref(), &expiry, policy)
}

fn thumbprint_of(der: &[u8]) -> Proof {
    let (mut sha1, mut sha256) = ([0; 20], [0; 32]);
    let hash = |algorithm| digest::digest(algorithm, der);
    sha1.copy_from_slice(hash(&digest::SHA1_FOR_LEGACY_USE_ONLY).as_ref());
    sha256.copy_from_slice(hash(&digest::SHA256).as_ref());
    Proof::Thumbprint { sha1, sha256 }
}

fn sign(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(Refusal::Certificate),
    }
}

fn valid_until(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<Timestamp, Refusal> {
    let time = ASN1Time::from_timestamp(now.as_secs()).map_err(|_| Refusal::CertificateTime)?;
    match certificate.validity().is_valid_at(time) {
        true => Ok(Timestamp::from_secs(certificate.validity().not_after.timestamp())),
        false => Err(Refusal::CertificateTime),
    }
}

/// With several common names it would depend on the reader which one counts.
fn names_only(certificate: &X509Certificate<'_>, id: &str) -> bool {
    let mut names = certificate.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str() == Ok(id),
        _ => false,
    }
}

/// SHA-1 because that is what IoT Hub's thumbprints are; it names a certificate that an operator
/// has registered, and no signature rests on it.
fn is_hash_of(thumbprint: &Thumbprint, der: &[u8]) -> bool {
    let known = thumbprint.as_bytes();
    let algorithm = match known.len() {
        20 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        _ => &digest::SHA256,
    };
    digest::digest(algorithm, der).as_ref() == known
}

#[cfg(test)]
mod tests;
