//! What the gate lets in and what it refuses.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use weir_core::id::Identity;
use weir_core::identity::Notes;

const HUB: &str = "hub.example";
const GATEWAY: &str = "gateway.example";
/// 2026-01-01.
const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

fn device() -> Identity {
    Identity::device("pump".parse().unwrap())
}

fn module() -> Identity {
    Identity::module("pump".parse().unwrap(), "filter".parse().unwrap())
}

fn key(byte: u8) -> Key {
    Key::generate([byte; 32])
}

fn record(identity: Identity, authentication: Authentication) -> IdentityRecord {
    IdentityRecord {
        identity,
        generation_id: "g".into(),
        etag: "e".into(),
        status: Status::Enabled,
        authentication,
        parent: None,
        notes: Notes::default(),
        status_updated: None,
        created: NOW,
        updated: NOW,
    }
}

/// The device has keys 1 and 2, the module 3 and 4.
fn device_record() -> IdentityRecord {
    record(device(), Authentication::sas([1; 32], [2; 32]))
}

fn module_record() -> IdentityRecord {
    record(module(), Authentication::sas([3; 32], [4; 32]))
}

fn token(key: &Key, host: &str, identity: &Identity, secs: i64) -> String {
    let expires = Timestamp::from_secs(NOW.as_secs() + secs);
    make_token(key, &sas::resource_of(host, identity), expires, None)
}

fn gate() -> Authenticator {
    Authenticator::new(HUB, GATEWAY, &[]).unwrap()
}

fn judge(
    own: &IdentityRecord,
    device: Option<&IdentityRecord>,
    token: &str,
) -> Result<Proven, Refusal> {
    let records = Records { own: Some(own), device };
    gate().authenticate(records, Credentials::Password(token), NOW)
}

#[test]
fn a_token_signed_with_either_key_proves_the_identity() {
    for signer in [key(1), key(2)] {
        let proven = judge(&device_record(), None, &token(&signer, HUB, &device(), 60)).unwrap();
        assert_eq!(proven.identity, device());
        assert_eq!(proven.expires, Some(Timestamp::from_secs(NOW.as_secs() + 60)));
    }
    let by_gateway = token(&key(1), "GATEWAY.example", &device(), 60);
    assert!(judge(&device_record(), None, &by_gateway).is_ok());
}

#[test]
fn a_token_of_another_key_identity_or_hub_proves_nothing() {
    let record = device_record();
    let other = Identity::device("valve".parse().unwrap());
    for (token, expected) in [
        (token(&key(9), HUB, &device(), 60), Refusal::Signature),
        (token(&key(1), HUB, &other, 60), Refusal::Audience),
        (token(&key(1), "other.example", &device(), 60), Refusal::Audience),
        (token(&key(1), HUB, &module(), 60), Refusal::Audience),
        (token(&key(1), HUB, &device(), -301), Refusal::Expired),
        ("secret".to_owned(), Refusal::Token(SasError::Form)),
        (make_token(&key(1), HUB, NOW, Some("iothubowner")), Refusal::Token(SasError::Audience)),
    ] {
        assert_eq!(judge(&record, None, &token), Err(expected));
    }
}

#[test]
fn a_token_is_taken_five_minutes_after_its_expiry() {
    let late = judge(&device_record(), None, &token(&key(1), HUB, &device(), -299)).unwrap();
    assert_eq!(late.expires, Some(Timestamp::from_secs(NOW.as_secs() + 1)));
}

#[test]
fn a_token_that_was_changed_after_signing_is_refused() {
    let token = token(&key(1), HUB, &device(), -400);
    let (head, _) = token.split_once("&se=").unwrap();
    let longer = format!("{head}&se={}", NOW.as_secs() + 3600);
    assert_eq!(judge(&device_record(), None, &longer), Err(Refusal::Signature));
}

#[test]
fn a_device_opens_its_modules_with_its_own_key_only() {
    let (own, device_record) = (module_record(), device_record());
    let judge = |token: &str| judge(&own, Some(&device_record), token);
    assert_eq!(judge(&token(&key(3), HUB, &module(), 60)).unwrap().identity, module());
    assert_eq!(judge(&token(&key(1), HUB, &device(), 60)).unwrap().identity, module());
    assert_eq!(judge(&token(&key(3), HUB, &device(), 60)), Err(Refusal::Signature));
    assert_eq!(judge(&token(&key(1), HUB, &module(), 60)), Err(Refusal::Signature));
}

#[test]
fn a_module_does_not_open_its_device() {
    let token = token(&key(3), HUB, &module(), 60);
    assert_eq!(judge(&device_record(), None, &token), Err(Refusal::Audience));
}

#[test]
fn a_disabled_identity_is_refused_and_so_are_the_modules_of_a_disabled_device() {
    let disabled = IdentityRecord { status: Status::Disabled, ..device_record() };
    let device_token = token(&key(1), HUB, &device(), 60);
    let module_token = token(&key(3), HUB, &module(), 60);
    assert_eq!(judge(&disabled, None, &device_token), Err(Refusal::Disabled));
    assert_eq!(judge(&module_record(), Some(&disabled), &module_token), Err(Refusal::Disabled));
}

#[test]
fn what_is_not_registered_is_unknown() {
    let token = token(&key(3), HUB, &module(), 60);
    let other = record(Identity::device("valve".parse().unwrap()), Authentication::None);
    assert_eq!(judge(&module_record(), None, &token), Err(Refusal::Unknown));
    assert_eq!(judge(&module_record(), Some(&other), &token), Err(Refusal::Unknown));
    let nobody = gate().authenticate(Records::default(), Credentials::Password(&token), NOW);
    assert_eq!(nobody, Err(Refusal::Unknown));
}

#[test]
fn an_identity_without_authentication_cannot_connect_even_by_its_device() {
    let own = record(module(), Authentication::None);
    let device_token = token(&key(1), HUB, &device(), 60);
    let refused = judge(&own, Some(&device_record()), &device_token);
    assert_eq!(refused, Err(Refusal::TokenNotAllowed));
}

#[test]
fn a_password_counts_before_a_certificate_and_an_empty_one_is_none() {
    let certificates = [vec![1]];
    assert!(matches!(Credentials::of(Some("t"), &certificates), Credentials::Password("t")));
    assert!(matches!(Credentials::of(Some(""), &certificates), Credentials::Certificates(_)));
    assert!(matches!(Credentials::of(None, &certificates), Credentials::Certificates(_)));
    assert!(matches!(Credentials::of(Some(""), &[]), Credentials::None));
    let own = device_record();
    let records = Records { own: Some(&own), device: None };
    let nothing = gate().authenticate(records, Credentials::None, NOW);
    assert_eq!(nothing, Err(Refusal::NoCredentials));
}

#[test]
fn signature_vectors_of_iot_edge() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let all = include_str!("../../../../tests/golden/iotedge/auth.json");
    let all: serde_json::Value = serde_json::from_str(all).unwrap();
    let cases = all["sas_signature_vectors"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let field = |name: &str| case[name].as_str().unwrap();
        let text = sas::string_to_sign(field("sr"), field("se"));
        let signature = sign(&STANDARD.decode(field("key_base64")).unwrap(), text.as_bytes());
        assert_eq!(STANDARD.encode(signature), field("signature"), "{case}");
    }
}

// Certificates.

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2025, 6, 1);
    params.not_after = rcgen::date_time_ymd(2026, 6, 1);
    params
}

fn self_signed(params: &CertificateParams) -> Vec<u8> {
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(params: &CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>) -> Vec<u8> {
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().to_vec()
}

fn thumbprint(algorithm: &'static digest::Algorithm, der: &[u8]) -> Thumbprint {
    let digest = digest::digest(algorithm, der);
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.parse().unwrap()
}

fn with_thumbprints(primary: Thumbprint, secondary: Option<Thumbprint>) -> IdentityRecord {
    record(device(), Authentication::SelfSigned { primary, secondary })
}

fn show(
    gate: &Authenticator,
    own: &IdentityRecord,
    certificates: &[Vec<u8>],
    now: Timestamp,
) -> Result<Proven, Refusal> {
    let device = device_record();
    let records = Records { own: Some(own), device: Some(&device) };
    gate.authenticate(records, Credentials::of(None, certificates), now)
}

#[test]
fn a_self_signed_certificate_proves_by_either_thumbprint() {
    let der = self_signed(&params("any name"));
    let sha1 = thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY, &der);
    let sha256 = thumbprint(&digest::SHA256, &der);
    let other = thumbprint(&digest::SHA256, b"other");
    for own in [
        with_thumbprints(sha1.clone(), None),
        with_thumbprints(sha256, None),
        with_thumbprints(other.clone(), Some(sha1)),
    ] {
        let proven = show(&gate(), &own, std::slice::from_ref(&der), NOW).unwrap();
        assert_eq!(proven.expires.unwrap().to_string(), "2026-06-01T00:00:00Z");
    }
    let refused = show(&gate(), &with_thumbprints(other, None), &[der], NOW);
    assert_eq!(refused, Err(Refusal::Thumbprint));
}

#[test]
fn a_certificate_outside_its_time_is_refused() {
    let der = self_signed(&params("any name"));
    let own = with_thumbprints(thumbprint(&digest::SHA256, &der), None);
    for now in [1_700_000_000, 1_800_000_000] {
        let refused = show(&gate(), &own, std::slice::from_ref(&der), Timestamp::from_secs(now));
        assert_eq!(refused, Err(Refusal::CertificateTime));
    }
}

#[test]
fn a_module_cannot_prove_itself_by_certificate() {
    let der = self_signed(&params("filter"));
    let primary = thumbprint(&digest::SHA256, &der);
    let own = record(module(), Authentication::SelfSigned { primary, secondary: None });
    assert_eq!(
        show(&gate(), &own, std::slice::from_ref(&der), NOW),
        Err(Refusal::CertificateNotAllowed)
    );
}

/// The record of the device is at hand in this one.
fn show_module(
    gate: &Authenticator,
    own: &IdentityRecord,
    der: Vec<u8>,
) -> Result<Proven, Refusal> {
    let device = device_record();
    let records = Records { own: Some(own), device: Some(&device) };
    gate.authenticate(records, Credentials::Certificates(&[der]), NOW)
}

#[test]
fn where_policy_allows_it_a_module_proves_itself_by_certificate() {
    let own_name = module().to_string();
    let der = self_signed(&params("any name"));
    let primary = thumbprint(&digest::SHA256, &der);
    let own = record(module(), Authentication::SelfSigned { primary, secondary: None });
    let open = gate().with_module_certificates(true);
    assert_eq!(show_module(&open, &own, der.clone()).unwrap().identity, module());
    assert_eq!(show_module(&gate(), &own, der), Err(Refusal::CertificateNotAllowed));
    let root = authority("root");
    let own = record(module(), Authentication::CertificateAuthority);
    let gate = Authenticator::new(HUB, GATEWAY, &[root.der().to_vec()]).unwrap();
    let open = gate.with_module_certificates(true);
    let signed = |name: &str| issued(&params(name), &root);
    assert!(show_module(&open, &own, signed(&own_name)).is_ok());
    for another in [module().device.as_str(), module().module.unwrap().as_str()] {
        assert_eq!(show_module(&open, &own, signed(another)), Err(Refusal::CommonName));
    }
}

#[test]
fn an_identity_with_keys_cannot_prove_itself_by_certificate_nor_the_reverse() {
    let der = self_signed(&params("pump"));
    let refused = show(&gate(), &device_record(), std::slice::from_ref(&der), NOW);
    assert_eq!(refused, Err(Refusal::CertificateNotAllowed));
    let own = with_thumbprints(thumbprint(&digest::SHA256, &der), None);
    let refused = judge(&own, None, &token(&key(1), HUB, &device(), 60));
    assert_eq!(refused, Err(Refusal::TokenNotAllowed));
}

#[test]
fn a_certificate_of_the_trust_bundle_proves_the_device_that_it_names() {
    let root = authority("root");
    let own = record(device(), Authentication::CertificateAuthority);
    let gate = Authenticator::new(HUB, GATEWAY, &[root.der().to_vec()]).unwrap();
    let judge = |certificates: &[Vec<u8>]| show(&gate, &own, certificates, NOW);

    assert_eq!(judge(&[issued(&params("pump"), &root)]).unwrap().identity, device());
    assert_eq!(judge(&[issued(&params("valve"), &root)]), Err(Refusal::CommonName));
    assert_eq!(judge(&[issued(&params("pump"), &authority("root"))]), Err(Refusal::Chain));
    assert_eq!(judge(&[self_signed(&params("pump"))]), Err(Refusal::Chain));
    assert_eq!(judge(&[vec![0x30, 0x03]]), Err(Refusal::Certificate));
}

#[test]
fn a_chain_may_have_intermediate_authorities() {
    let root = authority("root");
    let mut middle = params("middle");
    middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    middle.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
    let own = record(device(), Authentication::CertificateAuthority);
    let gate = Authenticator::new(HUB, GATEWAY, &[root.der().to_vec()]).unwrap();
    let leaf = issued(&params("pump"), &middle);

    let whole = [leaf.clone(), middle.der().to_vec()];
    assert!(show(&gate, &own, &whole, NOW).is_ok());
    assert_eq!(show(&gate, &own, std::slice::from_ref(&leaf), NOW), Err(Refusal::Chain));

    // A certificate that was issued by an ordinary one, which is no authority.
    let plain = params("plain");
    let plain = CertifiedIssuer::signed_by(plain, KeyPair::generate().unwrap(), &root).unwrap();
    let chain = [issued(&params("pump"), &plain), plain.der().to_vec()];
    assert_eq!(show(&gate, &own, &chain, NOW), Err(Refusal::Chain));
}

#[test]
fn a_certificate_for_servers_is_no_proof_of_a_device() {
    let root = authority("root");
    let mut server = params("pump");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let own = record(device(), Authentication::CertificateAuthority);
    let gate = Authenticator::new(HUB, GATEWAY, &[root.der().to_vec()]).unwrap();
    assert_eq!(show(&gate, &own, &[issued(&server, &root)], NOW), Err(Refusal::Chain));
}

#[test]
fn a_trust_bundle_that_cannot_be_read_is_named() {
    let root = authority("root").der().to_vec();
    let error = Authenticator::new(HUB, GATEWAY, &[root, vec![1, 2]]).unwrap_err();
    assert_eq!(error, TrustError { number: 2 });
}
