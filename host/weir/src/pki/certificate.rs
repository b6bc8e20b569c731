//! What certificates say.

use rcgen::CertificateParams;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use weir_core::clock::Timestamp;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One day, for clients whose clock is late.
const BACKDATED_SECS: i64 = 24 * 60 * 60;
/// 9999-12-31, the last day that a certificate can name.
const LAST_SECOND: i64 = 253_402_300_799;

pub(super) fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch = |secs: i64| {
        Duration::from_secs(u64::try_from(secs.clamp(0, LAST_SECOND)).unwrap_or_default())
    };
    params.not_before = epoch + since_epoch(from.as_secs().saturating_sub(BACKDATED_SECS));
    params.not_after = epoch + since_epoch(until.as_secs());
}

/// What a certificate says of its time.
pub(super) struct Dates {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

impl Dates {
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        Some(Self {
            not_before: Timestamp::from_secs(validity.not_before.timestamp()),
            not_after: Timestamp::from_secs(validity.not_after.timestamp()),
        })
    }
}

/// The host names and addresses that a certificate is for, in lower case.
pub(super) fn names_of(der: &[u8]) -> Option<BTreeSet<String>> {
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
