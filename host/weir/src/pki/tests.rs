//! What is made at first start, what stays, and what is renewed.

use super::*;
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;

/// 2026-11-20.
const NOW: Timestamp = Timestamp::from_secs(1_795_132_800);

struct Place {
    folder: TempDir,
    clock: Clock,
}

impl Place {
    fn new(now: Timestamp) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), clock: Clock::manual(now) }
    }

    fn folder(&self) -> PathBuf {
        self.folder.path().join("pki")
    }

    fn try_open(&self, hostname: &str) -> Result<Pki, PkiError> {
        Pki::open(&self.folder(), hostname, "hub.example", None, self.clock.clone())
    }

    fn open(&self) -> Pki {
        self.try_open("gateway.example").unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.folder().join(name)).unwrap().permissions().mode() & 0o777
    }
}

fn days(count: u32) -> Duration {
    DAY * count
}

fn leaf(pki: &Pki) -> Vec<u8> {
    pki.server_certificate().unwrap().chain[0].to_vec()
}

#[test]
fn a_first_start_makes_a_ca_and_a_certificate_for_every_name() {
    let place = Place::new(NOW);
    let pki = place.open();
    let served = pki.server_certificate().unwrap();
    let names = names_of(&served.chain[0]).unwrap();
    let expected = ["127.0.0.1", "::1", "gateway.example", "hub.example", "localhost"];
    assert!(names.iter().eq(expected), "{names:?}");
    assert_eq!(served.chain[1..], pki.trust_bundle());
    assert_eq!(served.expires, NOW.after(SERVER_LIFE));
    assert_eq!(pki.ca_expires(), NOW.after(CA_LIFE));
}

#[test]
fn keys_are_readable_by_their_owner_only_and_the_bundle_by_all() {
    let place = Place::new(NOW);
    drop(place.open().server_certificate().unwrap());
    assert_eq!(place.mode(""), 0o711);
    assert_eq!(place.mode(CA_FILE), 0o600);
    assert_eq!(place.mode(SERVER_FILE), 0o600);
    assert_eq!(place.mode(TRUST_BUNDLE), 0o644);
    let mut files: Vec<_> =
        fs::read_dir(place.folder()).unwrap().map(|f| f.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, [CA_FILE, SERVER_FILE, TRUST_BUNDLE]);
}

#[test]
fn the_trust_bundle_is_the_ca_and_no_key() {
    let place = Place::new(NOW);
    let pki = place.open();
    let text = fs::read(pki.trust_bundle_file()).unwrap();
    let bundle: Vec<_> = CertificateDer::pem_slice_iter(&text).map(Result::unwrap).collect();
    assert_eq!(bundle, pki.trust_bundle());
    assert!(PrivateKeyDer::from_pem_slice(&text).is_err());
    assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() <= 64));
}

#[test]
fn a_second_start_keeps_ca_and_certificate() {
    let place = Place::new(NOW);
    let first = place.open();
    let (ca, served) = (first.trust_bundle(), leaf(&first));
    drop(first);
    place.clock.advance(days(50));
    let second = place.open();
    assert_eq!(second.trust_bundle(), ca);
    assert_eq!(leaf(&second), served);
}

#[test]
fn a_certificate_is_renewed_when_two_thirds_of_its_life_have_passed() {
    let place = Place::new(NOW);
    let pki = place.open();
    let first = pki.server_certificate().unwrap();
    place.clock.advance(days(59));
    assert_eq!(leaf(&pki), first.chain[0].to_vec());
    place.clock.advance(days(2));
    let second = pki.server_certificate().unwrap();
    assert_ne!(second.chain[0], first.chain[0]);
    assert_ne!(second.key, first.key);
    assert_eq!(second.chain[1], first.chain[1]);
    assert_eq!(second.expires, NOW.after(days(61)).after(SERVER_LIFE));
    assert_eq!(leaf(&place.open()), second.chain[0].to_vec());
}

#[test]
fn a_certificate_that_has_expired_or_is_not_valid_yet_is_replaced() {
    let place = Place::new(NOW);
    let first = leaf(&place.open());
    place.clock.advance(days(400));
    let second = leaf(&place.open());
    assert_ne!(second, first);
    // The clock was wrong and is set back.
    let earlier = Place { folder: place.folder, clock: Clock::manual(NOW) };
    assert_ne!(leaf(&earlier.open()), second);
}

#[test]
fn a_new_host_name_gets_a_new_certificate_under_the_same_ca() {
    let place = Place::new(NOW);
    let first = place.open();
    let served = leaf(&first);
    assert_eq!(leaf(&place.try_open("GATEWAY.example").unwrap()), served);
    let renamed = place.try_open("192.0.2.7").unwrap();
    assert_eq!(renamed.trust_bundle(), first.trust_bundle());
    assert!(names_of(&leaf(&renamed)).unwrap().contains("192.0.2.7"));
}

#[test]
fn a_ca_that_was_made_before_the_clock_was_set_is_good_afterwards() {
    let place = Place::new(Timestamp::from_secs(30));
    let pki = place.open();
    let at_first = leaf(&pki);
    assert!(pki.ca_expires() > NOW.after(days(3000)));
    place.clock.advance(NOW.since(Timestamp::from_secs(30)));
    assert_ne!(leaf(&pki), at_first);
    let dates = Dates::of(&pki.trust_bundle()[0]).unwrap();
    assert!(dates.not_before < NOW);
}

#[test]
fn a_damaged_server_certificate_is_made_anew() {
    let place = Place::new(NOW);
    let pki = place.open();
    drop(pki.server_certificate().unwrap());
    let path = place.folder().join(SERVER_FILE);
    fs::write(&path, "no certificate").unwrap();
    let made = leaf(&pki);
    // A key of another certificate.
    let other = Place::new(NOW);
    drop(other.open().server_certificate().unwrap());
    let own = read_pair(&other.folder().join(SERVER_FILE));
    let key = match own.unwrap() {
        Stored::Pair(pair) => pair.key,
        Stored::Missing | Stored::Damaged => panic!("it was made"),
    };
    let text = fs::read_to_string(&path).unwrap();
    let (certificates, _) = text.split_once("-----BEGIN PRIVATE KEY").unwrap();
    fs::write(&path, format!("{certificates}{}", key.serialize_pem())).unwrap();
    assert_ne!(leaf(&pki), made);
}

#[test]
fn a_damaged_ca_stops_the_start_and_is_not_replaced() {
    let place = Place::new(NOW);
    drop(place.open());
    let path = place.folder().join(CA_FILE);
    let whole = fs::read_to_string(&path).unwrap();
    for damaged in ["", "no certificate", &whole[..whole.len() / 2]] {
        fs::write(&path, damaged).unwrap();
        assert!(matches!(place.try_open("gateway.example"), Err(PkiError::Ca)));
        assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    }
    fs::write(&path, whole).unwrap();
    assert!(place.try_open("gateway.example").is_ok());
}

#[test]
fn a_lost_trust_bundle_is_written_again() {
    let place = Place::new(NOW);
    let path = place.open().trust_bundle_file();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, "cut").unwrap();
    drop(place.open());
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_name_that_no_certificate_can_hold_is_named() {
    let place = Place::new(NOW);
    let error = place.try_open("gätéway").unwrap().server_certificate().unwrap_err();
    assert_eq!(error.to_string(), "\"gätéway\" cannot stand in a certificate");
    let long = format!("{}.example", "a".repeat(63));
    assert!(place.try_open(&long).unwrap().server_certificate().is_ok());
}

#[test]
fn two_hubs_have_two_authorities() {
    let (one, other) = (Place::new(NOW).open(), Place::new(NOW).open());
    let name = |pki: &Pki| {
        let bundle = pki.trust_bundle();
        use x509_parser::prelude::{FromDer, X509Certificate};
        X509Certificate::from_der(&bundle[0]).unwrap().1.subject().to_string()
    };
    assert_ne!(name(&one), name(&other));
}

/// A CA of the operator, in files: a root, and an intermediate that is the edge CA.
struct Brought {
    files: EdgeCaFiles,
    root: CertificateDer<'static>,
}

fn ca(name: &str, issuer: Option<&rcgen::Issuer<'_, KeyPair>>) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    certificate::set_validity(&mut params, NOW, NOW.after(days(100)));
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    (made.unwrap(), key)
}

impl Brought {
    fn new(folder: &Path) -> Self {
        let (root, root_key) = ca("root", None);
        let issuer = rcgen::Issuer::from_ca_cert_der(root.der(), root_key).unwrap();
        let (edge, key) = ca("edge", Some(&issuer));
        let files = EdgeCaFiles {
            certificate: folder.join("ca.cert.pem"),
            key: folder.join("ca.key.pem"),
            trust_bundle: None,
        };
        fs::write(&files.certificate, edge.pem() + &root.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        Self { files, root: root.der().clone() }
    }

    fn open(&self, place: &Place) -> Result<Pki, PkiError> {
        let files = Some(self.files.clone());
        let clock = place.clock.clone();
        Pki::open(&place.folder(), "gateway.example", "hub.example", files, clock)
    }
}

#[test]
fn a_ca_of_the_operator_signs_and_its_root_is_what_clients_trust() {
    let place = Place::new(NOW);
    let brought = Brought::new(place.folder.path());
    let pki = brought.open(&place).unwrap();
    let served = pki.server_certificate().unwrap();
    assert_eq!(served.chain.len(), 3);
    let anchor = webpki_anchor(&brought.root);
    verify(&served.chain, &anchor).unwrap();
    assert!(pki.trust_bundle().contains(&brought.root));
    assert!(!place.folder().join(CA_FILE).exists(), "the hub made none of its own");
    assert_eq!(served.expires, NOW.after(SERVER_LIFE));
    assert_eq!(pki.ca_expires(), NOW.after(days(100)));
}

fn webpki_anchor(der: &CertificateDer<'static>) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der.clone()).unwrap();
    roots
}

/// As a client does.
fn verify(
    chain: &[CertificateDer<'static>],
    roots: &rustls::RootCertStore,
) -> Result<(), rustls::Error> {
    use rustls::client::danger::ServerCertVerifier;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let roots = std::sync::Arc::new(roots.clone());
    let builder = rustls::client::WebPkiServerVerifier::builder_with_provider(roots, provider);
    let now = Duration::from_secs(u64::try_from(NOW.as_secs()).unwrap());
    let now = rustls_pki_types::UnixTime::since_unix_epoch(now);
    let name = rustls_pki_types::ServerName::try_from("gateway.example").unwrap();
    let verifier = builder.build().unwrap();
    verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], now).map(drop)
}

#[test]
fn new_files_of_the_operator_take_effect_and_bad_ones_change_nothing() {
    let place = Place::new(NOW);
    let brought = Brought::new(place.folder.path());
    let pki = brought.open(&place).unwrap();
    let before = leaf(&pki);
    assert!(!pki.reload().unwrap());
    assert_eq!(leaf(&pki), before);
    fs::write(&brought.files.key, "broken").unwrap();
    assert!(pki.reload().is_err());
    assert_eq!(leaf(&pki), before);
    let another = Brought::new(place.folder.path());
    assert!(pki.reload().unwrap());
    assert_ne!(leaf(&pki), before);
    verify(&pki.server_certificate().unwrap().chain, &webpki_anchor(&another.root)).unwrap();
    let bundle = fs::read_to_string(pki.trust_bundle_file()).unwrap();
    assert_eq!(bundle, pki.trust_bundle_text());
    // One that is over is not taken in while the hub runs; at a start it is, whatever the clock says.
    place.clock.advance(days(200));
    Brought::new(place.folder.path());
    let refused = pki.reload().unwrap_err().to_string();
    assert!(refused.contains("valid 2026-11-19"), "{refused}");
    assert!(brought.open(&place).is_ok());
}

#[test]
fn what_is_wrong_with_a_ca_of_the_operator_is_said_with_its_file() {
    let place = Place::new(NOW);
    let brought = Brought::new(place.folder.path());
    let files = &brought.files;
    let (certificate, key) =
        (fs::read_to_string(&files.certificate).unwrap(), fs::read_to_string(&files.key).unwrap());
    let edge_only = certificate.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap();
    let (other, other_key) = ca("other", None);
    let plain_key = KeyPair::generate().unwrap();
    let plain = rcgen::CertificateParams::default().self_signed(&plain_key).unwrap();
    let sec1 = key.replace("PRIVATE KEY", "EC PRIVATE KEY");
    let other_key = other_key.serialize_pem();
    let unordered = format!("{edge_only}{}", other.pem());
    let plain_key = plain_key.serialize_pem();
    for (certificate, key, complaint) in [
        ("", key.as_str(), "cert.pem holds no certificate"),
        (&certificate, "", "key.pem holds no key"),
        (&certificate, &sec1, "key.pem is not PKCS #8"),
        (&certificate, &other_key, "key.pem is not the key"),
        (edge_only, &key, "holds no root"),
        (&unordered, &key, "out of order"),
        (&plain.pem(), &plain_key, "may not sign others"),
    ] {
        fs::write(&files.certificate, certificate).unwrap();
        fs::write(&files.key, key).unwrap();
        let refused = check_edge_ca(files).unwrap_err().to_string();
        assert!(refused.contains(complaint), "{complaint}: {refused}");
    }
    fs::write(&files.certificate, edge_only).unwrap();
    fs::write(&files.key, &key).unwrap();
    let root = place.folder.path().join("root.pem");
    fs::write(&root, &certificate[edge_only.len()..]).unwrap();
    let files = EdgeCaFiles { trust_bundle: Some(root), ..files.clone() };
    check_edge_ca(&files).unwrap();
    fs::remove_file(&files.certificate).unwrap();
    let refused = check_edge_ca(&files).unwrap_err().to_string();
    assert!(refused.contains("ca.cert.pem No such file"), "{refused}");
}

#[test]
fn the_secret_of_the_workload_stays() {
    let place = Place::new(NOW);
    let secret = place.open().secret().unwrap();
    assert_ne!(secret, [0; 32]);
    assert_eq!(place.open().secret().unwrap(), secret);
    assert_eq!(place.mode(SECRET_FILE), 0o600);
    fs::write(place.folder().join(SECRET_FILE), "short").unwrap();
    assert!(place.open().secret().is_err());
}
