//! What is wrong below the protocols: bytes at a TLS listener that are no handshake, or a bad one.

use super::{Case, End, How, LIMIT, Said};
use crate::support::Hub;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::sync::Arc;

/// A client that trusts the hub.
pub(crate) fn client_config(hub: &Hub) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let bundle = hub.data().join("pki/trust-bundle.pem");
    for certificate in CertificateDer::pem_file_iter(bundle).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// A TLS record.
fn record(kind: u8, version: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind][..], &version.to_be_bytes(), &length, content].concat()
}

/// A handshake message that says it is `declared` bytes long.
fn handshake(kind: u8, declared: u32, body: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = declared.to_be_bytes();
    [&[kind, a, b, c][..], body].concat()
}

/// A ClientHello of this version and with these suites, without extensions.
fn hello(version: u16, suites: &[u8]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(suites.len()).unwrap().to_be_bytes());
    body.extend(suites);
    body.extend([1, 0]);
    let length = u32::try_from(body.len()).unwrap();
    record(22, 0x0301, &handshake(1, length, &body))
}

fn alert_or_nothing(bytes: &[u8]) -> bool {
    bytes.is_empty() || bytes[0] == 21
}

/// For any listener with TLS, to be sent to it without.
pub(crate) fn cases() -> Vec<Case> {
    const GCM: &[u8] = &[0xc0, 0x2b];
    let hello_cut = hello(0x0303, GCM)[..20].to_vec();
    let noise = (0..512u32).map(|n| (n * n * 31 + n).to_le_bytes()[0]).collect();
    let ended = [
        ("nothing at all", vec![]),
        ("a ClientHello cut short", hello_cut),
        ("half a record's head", vec![22, 3]),
    ];
    let at_once: [(&str, Vec<u8>); 20] = [
        ("MQTT without TLS", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04leaf".to_vec()),
        ("AMQP without TLS", b"AMQP\x00\x01\x00\x00".to_vec()),
        ("SASL without TLS", b"AMQP\x03\x01\x00\x00".to_vec()),
        ("HTTP without TLS", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec()),
        ("noise", noise),
        ("a record of type 0", record(0, 0x0303, b"x")),
        ("a record of type 255", record(255, 0x0303, b"x")),
        ("a record longer than 16 KiB + 2 KiB", b"\x16\x03\x03\xff\xff\x01".to_vec()),
        ("an empty handshake record", record(22, 0x0303, b"")),
        ("a handshake message of 16 MiB", record(22, 0x0303, &handshake(1, 0x00ff_ffff, &[3; 64]))),
        (
            "a ClientHello of SSL 2",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10\x01\x00\x80".to_vec(),
        ),
        ("only TLS 1.0", hello(0x0301, GCM)),
        ("only TLS 1.1", hello(0x0302, GCM)),
        ("only SSL 3", hello(0x0300, GCM)),
        ("no suite that is spoken", hello(0x0303, &[0, 0])),
        ("a list of suites of odd length", hello(0x0303, &[0xc0, 0x2b, 0])),
        ("a ServerHello from the client", record(22, 0x0303, &handshake(2, 4, &[3, 3, 0, 0]))),
        (
            "ChangeCipherSpec and then application data",
            [record(20, 0x0303, &[1]), record(23, 0x0303, b"x")].concat(),
        ),
        ("application data first", record(23, 0x0303, b"hello")),
        ("a heartbeat (CVE-2014-0160)", record(24, 0x0302, &[1, 0x40, 0])),
    ];
    let none = Vec::new().into();
    let case = |name: &str, bytes| {
        let end = End::Closed(Said::That(alert_or_nothing));
        Case::new(format!("TLS: {name}"), "RFC 8446, RFC 5246", &none, bytes, end)
    };
    let ended = ended.map(|(name, bytes)| case(name, bytes).sent(How::ThenEnd).within(LIMIT));
    let at_once = at_once.map(|(name, bytes)| case(name, bytes));
    ended.into_iter().chain(at_once).collect()
}
