//! Handshakes with a real client, in memory.

use super::*;
use crate::pki::Pki;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, ProtocolVersion, RootCertStore,
    ServerConnection, SupportedProtocolVersion,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use std::time::Duration;
use tempfile::TempDir;
use weir_core::clock::Clock;

/// 2026-11-20.
const NOW: Timestamp = Timestamp::from_secs(1_795_132_800);
const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// Stands still, like the clock that the certificates were made by.
#[derive(Debug)]
struct Still;

impl TimeProvider for Still {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_795_132_800)))
    }
}

struct Hub {
    pki: Pki,
    server: TlsServer,
    clock: Clock,
    folder: TempDir,
}

impl Hub {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW);
        let open = Pki::open(folder.path(), "gateway.example", "hub.example", None, clock.clone());
        let pki = open.unwrap();
        let server = TlsServer::new(pki.server_certificate().unwrap()).unwrap();
        Self { pki, server, clock, folder }
    }
}

type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A certificate that nobody signed but itself, as devices with thumbprints have.
fn self_signed() -> Own {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    (vec![certificate.der().clone()], key.into())
}

fn client(hub: &Hub, version: &'static SupportedProtocolVersion, own: Option<Own>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in hub.pki.trust_bundle() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Still))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    match own {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    }
}

/// Carries bytes both ways until nothing more comes.
fn talk(client: &mut Connection, server: &mut Connection) -> Result<(), rustls::Error> {
    loop {
        let mut moved = 0;
        for to_server in [true, false] {
            let (from, to) = match to_server {
                true => (&mut *client, &mut *server),
                false => (&mut *server, &mut *client),
            };
            while from.wants_write() {
                let mut wire = Vec::new();
                moved += from.write_tls(&mut wire).unwrap();
                let mut wire = &wire[..];
                while !wire.is_empty() {
                    to.read_tls(&mut wire).unwrap();
                    to.process_new_packets()?;
                }
            }
        }
        if moved == 0 {
            return Ok(());
        }
    }
}

struct Done {
    client: Connection,
    server: Connection,
}

fn handshake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
    name: &str,
) -> Result<Done, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client: Connection = ClientConnection::new(Arc::new(client), name).unwrap().into();
    let mut server: Connection = ServerConnection::new(server).unwrap().into();
    talk(&mut client, &mut server)?;
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Done { client, server })
}

#[test]
fn clients_without_a_certificate_are_let_in_by_every_name() {
    let hub = Hub::new();
    for version in VERSIONS {
        // An address is no server name on the wire, so this is also a client that names nothing.
        for name in ["gateway.example", "hub.example", "localhost", "127.0.0.1", "::1"] {
            let config = hub.server.config(&[]).unwrap();
            let done = handshake(config, client(&hub, version, None), name).unwrap();
            assert_eq!(done.server.protocol_version(), Some(version.version));
            assert_eq!(client_certificates(&done.server), Vec::<Vec<u8>>::new());
            assert_eq!(done.client.peer_certificates().unwrap().len(), 2);
        }
    }
}

#[test]
fn a_self_signed_client_certificate_survives_the_handshake_and_is_seen() {
    let hub = Hub::new();
    for version in VERSIONS {
        let own = self_signed();
        let der = own.0[0].to_vec();
        let config = hub.server.config(&[]).unwrap();
        let done = handshake(config, client(&hub, version, Some(own)), "gateway.example").unwrap();
        assert_eq!(client_certificates(&done.server), [der]);
    }
}

#[test]
fn a_client_must_have_the_key_of_the_certificate_it_shows() {
    let hub = Hub::new();
    for version in VERSIONS {
        let stolen = self_signed().0;
        // The client's library refuses such a pair, so it is put together behind its back.
        #[derive(Debug)]
        struct Thief(Arc<CertifiedKey>);
        impl rustls::client::ResolvesClientCert for Thief {
            fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
                Some(Arc::clone(&self.0))
            }
            fn has_certs(&self) -> bool {
                true
            }
        }
        let key = rustls::crypto::ring::sign::any_supported_type(&self_signed().1).unwrap();
        let mut config = client(&hub, version, None);
        config.client_auth_cert_resolver =
            Arc::new(Thief(Arc::new(CertifiedKey::new(stolen, key))));
        let refused = handshake(hub.server.config(&[]).unwrap(), config, "gateway.example");
        assert!(matches!(refused, Err(rustls::Error::InvalidCertificate(_))));
    }
}

#[test]
fn a_client_that_trusts_another_authority_or_name_goes_away() {
    let (hub, other) = (Hub::new(), Hub::new());
    for version in VERSIONS {
        let config = hub.server.config(&[]).unwrap();
        let distrustful = client(&other, version, None);
        assert!(handshake(config, distrustful, "gateway.example").is_err());
        let config = hub.server.config(&[]).unwrap();
        assert!(handshake(config, client(&hub, version, None), "other.example").is_err());
    }
}

#[test]
fn a_reload_changes_the_certificate_of_the_next_handshake_only() {
    let hub = Hub::new();
    let config = hub.server.config(&[]).unwrap();
    let served = |done: &Done| done.client.peer_certificates().unwrap()[0].clone();
    let connect = || {
        let client = client(&hub, &rustls::version::TLS13, None);
        handshake(Arc::clone(&config), client, "gateway.example").unwrap()
    };
    let before = connect();
    // Another name, so another certificate; under the same CA, and also for the old name.
    let clock = hub.clock.clone();
    let renamed =
        Pki::open(hub.folder.path(), "renamed.example", "gateway.example", None, clock).unwrap();
    hub.server.reload(renamed.server_certificate().unwrap()).unwrap();
    let after = connect();
    assert_ne!(served(&after), served(&before));
    let Done { mut client, mut server } = before;
    std::io::Write::write_all(&mut client.writer(), b"still here").unwrap();
    talk(&mut client, &mut server).unwrap();
    let mut read = [0; 10];
    std::io::Read::read_exact(&mut server.reader(), &mut read).unwrap();
    assert_eq!(&read, b"still here");
}

#[test]
fn a_certificate_without_its_key_is_not_served() {
    let hub = Hub::new();
    let good = hub.pki.server_certificate().unwrap();
    let (_, key) = self_signed();
    let mixed = ServerCertificate { key, ..good };
    assert!(hub.server.reload(mixed).is_err());
    let client = client(&hub, &rustls::version::TLS13, None);
    assert!(handshake(hub.server.config(&[]).unwrap(), client, "gateway.example").is_ok());
}

/// What a client that comes back three times meets.
fn returns(
    hub: &Hub,
    version: &'static SupportedProtocolVersion,
    own: Option<Own>,
    server: &ServerConfig,
) -> [HandshakeKind; 3] {
    let shown = usize::from(own.is_some());
    let mut client = client(hub, version, own);
    client.resumption = Resumption::in_memory_sessions(8);
    [(); 3].map(|()| {
        let server = Arc::new(server.clone());
        let done = handshake(server, client.clone(), "gateway.example").unwrap();
        assert_eq!(client_certificates(&done.server).len(), shown);
        done.server.handshake_kind().unwrap()
    })
}

#[test]
fn a_client_that_comes_back_resumes_by_a_ticket_or_by_the_cache() {
    const EXPECTED: [HandshakeKind; 3] =
        [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed];
    let hub = Hub::new();
    let both = hub.server.config(&[]).unwrap();
    let mut tickets_only = ServerConfig::clone(&both);
    tickets_only.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let mut cache_only = ServerConfig::clone(&both);
    cache_only.ticketer = Arc::new(NoTickets);
    for version in VERSIONS {
        for server in [&both, &tickets_only, &cache_only] {
            assert_eq!(returns(&hub, version, None, server), EXPECTED);
            assert_eq!(returns(&hub, version, Some(self_signed()), server), EXPECTED);
        }
    }
}

#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }
    fn lifetime(&self) -> u32 {
        0
    }
    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }
    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[test]
fn a_listener_names_its_protocols() {
    let hub = Hub::new();
    let mut client = client(&hub, &rustls::version::TLS13, None);
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = hub.server.config(&["http/1.1"]).unwrap();
    let done = handshake(config, client.clone(), "hub.example").unwrap();
    assert_eq!(done.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(done.server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let done = handshake(hub.server.config(&[]).unwrap(), client, "hub.example").unwrap();
    assert_eq!(done.server.alpn_protocol(), None);
}
