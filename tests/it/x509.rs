//! Devices and modules with certificates, over TLS on every port that takes them: MQTT and HTTPS.

use crate::support::{EDGE, Hub, PATIENCE};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// A certificate with its key.
struct Own {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn self_signed(params: &CertificateParams) -> Own {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    Own { certificate, key: key.serialize_der().into() }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority of devices");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issued(name: &str, by: &CertifiedIssuer<'static, KeyPair>) -> Own {
    let key = KeyPair::generate().unwrap();
    let certificate = params(name).signed_by(&key, by).unwrap().der().clone();
    Own { certificate, key: key.serialize_der().into() }
}

fn thumbprint(algorithm: &'static ring::digest::Algorithm, own: &Own) -> String {
    let hash = ring::digest::digest(algorithm, &own.certificate);
    hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn connect(
    hub: &Hub,
    listener: &str,
    own: &Own,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(hub.data().join("pki/trust-bundle.pem")).unwrap() {
        roots.add(root.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![own.certificate.clone()], own.key.clone_key().into())
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(hub.listener(listener)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    rustls::StreamOwned::new(client, stream)
}

/// The return code of a CONNECT without a password.
fn mqtt(hub: &Hub, identity: &str, own: &Own) -> u8 {
    let text =
        |text: &str| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat();
    let user = format!("localhost/{identity}/?api-version=2021-04-12");
    let body = [&[0, 4], &b"MQTT"[..], &[4, 0x80, 0, 60], &text(identity), &text(&user)].concat();
    let mut stream = connect(hub, "mqtt", own);
    stream.write_all(&[0x10, u8::try_from(body.len()).unwrap()]).unwrap();
    stream.write_all(&body).unwrap();
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).unwrap();
    connack[3]
}

/// The status of a message without a token.
fn https(hub: &Hub, device: &str, own: &Own) -> u16 {
    let mut stream = connect(hub, "https", own);
    let path = format!("/devices/{device}/messages/events?api-version=2021-04-12");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    std::str::from_utf8(&status[9..]).unwrap().parse().unwrap()
}

fn by_thumbprint(hub: &Hub, path: &str, primary: &str, secondary: &str) {
    let thumbprints = json!({"primaryThumbprint": primary, "secondaryThumbprint": secondary});
    let authentication = json!({"type": "selfSigned", "x509Thumbprint": thumbprints});
    hub.put(path, &json!({ "authentication": authentication }));
}

/// A hub that trusts one authority for devices.
fn start(security: &str) -> (Hub, CertifiedIssuer<'static, KeyPair>) {
    let authority = authority();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("devices.pem");
    std::fs::write(&file, authority.pem()).unwrap();
    let hub = Hub::start_with(&format!("security.device_ca_files = [{file:?}]\n{security}"));
    (hub, authority)
}

#[test]
fn a_device_is_known_by_either_thumbprint_of_either_hash() {
    let (hub, _) = start("");
    let (one, two) = (self_signed(&params("any")), self_signed(&params("name")));
    let sha1 = thumbprint(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &one);
    let sha256 = thumbprint(&ring::digest::SHA256, &two).to_lowercase();
    by_thumbprint(&hub, "/devices/leaf", &sha1, &sha256);
    for own in [&one, &two] {
        assert_eq!(mqtt(&hub, "leaf", own), 0);
        assert_eq!(https(&hub, "leaf", own), 204);
    }
    let stranger = self_signed(&params("leaf"));
    assert_eq!(mqtt(&hub, "leaf", &stranger), 5);
    assert_eq!(https(&hub, "leaf", &stranger), 401);
    hub.identity("other", None);
    assert_eq!(mqtt(&hub, "other", &one), 5, "a device with keys");
    assert_eq!(https(&hub, "other", &one), 401);
}

#[test]
fn a_certificate_that_is_not_valid_now_proves_nothing() {
    let (hub, _) = start("");
    let mut late = params("leaf");
    (late.not_before, late.not_after) =
        (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    let mut early = params("leaf");
    (early.not_before, early.not_after) =
        (rcgen::date_time_ymd(2200, 1, 1), rcgen::date_time_ymd(2201, 1, 1));
    for own in [self_signed(&late), self_signed(&early)] {
        let sha256 = thumbprint(&ring::digest::SHA256, &own);
        by_thumbprint(&hub, "/devices/leaf", &sha256, &sha256);
        assert_eq!(mqtt(&hub, "leaf", &own), 5);
        assert_eq!(https(&hub, "leaf", &own), 401);
    }
}

#[test]
fn a_device_is_known_by_its_name_in_a_certificate_of_an_authority() {
    let (hub, trusted) = start("");
    hub.put("/devices/leaf", &json!({"authentication": {"type": "certificateAuthority"}}));
    let own = issued("leaf", &trusted);
    assert_eq!((mqtt(&hub, "leaf", &own), https(&hub, "leaf", &own)), (0, 204));
    for (what, own) in [
        ("another's name", issued("other", &trusted)),
        ("another authority", issued("leaf", &authority())),
        ("no authority", self_signed(&params("leaf"))),
    ] {
        assert_eq!((mqtt(&hub, "leaf", &own), https(&hub, "leaf", &own)), (5, 401), "{what}");
    }
}

#[test]
fn modules_show_certificates_only_where_policy_allows_it() {
    for (security, code) in [("", 5), ("security.module_certificates = true", 0)] {
        let (hub, trusted) = start(security);
        let own = self_signed(&params("m"));
        let sha256 = thumbprint(&ring::digest::SHA256, &own);
        by_thumbprint(&hub, &format!("/devices/{EDGE}/modules/m"), &sha256, &sha256);
        assert_eq!(mqtt(&hub, "edge/m", &own), code, "{security}");
        let signed = json!({"authentication": {"type": "certificateAuthority"}});
        hub.put(&format!("/devices/{EDGE}/modules/n"), &signed);
        assert_eq!(mqtt(&hub, "edge/n", &issued("edge/n", &trusted)), code, "{security}");
        assert_eq!(mqtt(&hub, "edge/n", &issued("n", &trusted)), 5, "{security}");
    }
}
