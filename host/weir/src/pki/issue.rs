//! Certificates that the edge CA signs: the hub's own, and those of modules.

use super::authority::Authority;
use super::certificate::set_validity;
use super::{PkiError, SERVER_LIFE};
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};
use weir_api::workload::Purpose;
use weir_core::clock::Timestamp;

/// Longest common name (X.520).
const COMMON_NAME_BYTES: usize = 64;

/// A fresh key with a certificate for it, and the end of that.
pub(super) fn issue(
    authority: &Authority,
    purpose: &Purpose,
    now: Timestamp,
) -> Result<(super::files::Pair, Timestamp), PkiError> {
    let mut params = CertificateParams::default();
    let (name, usage) = match purpose {
        Purpose::Server { names } => {
            for name in names {
                let unusable = |_| PkiError::Name { name: name.clone() };
                let one = CertificateParams::new([name.clone()]).map_err(unusable)?;
                params.subject_alt_names.extend(one.subject_alt_names);
            }
            // Clients look at the alternative names.
            let name = names.iter().find(|name| name.len() <= COMMON_NAME_BYTES);
            let name = name.map_or("edge hub", String::as_str);
            (name, ExtendedKeyUsagePurpose::ServerAuth)
        }
        Purpose::Client { name, uri } => {
            let unusable = |_| PkiError::Name { name: uri.clone() };
            let uri = Ia5String::try_from(uri.as_str()).map_err(unusable)?;
            params.subject_alt_names.push(SanType::URI(uri));
            let name = if name.len() <= COMMON_NAME_BYTES { name } else { "edge module" };
            (name, ExtendedKeyUsagePurpose::ClientAuth)
        }
    };
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    let expires = Timestamp::from_secs(now.after(SERVER_LIFE).min(authority.expires).as_secs());
    set_validity(&mut params, now, expires);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(PkiError::Make)?;
    let leaf = params.signed_by(&key, &authority.issuer).map_err(PkiError::Make)?;
    let mut chain = vec![leaf.der().clone()];
    chain.extend(authority.chain.iter().cloned());
    Ok((super::files::Pair { chain, key }, expires))
}
