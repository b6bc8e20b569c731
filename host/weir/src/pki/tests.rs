//! What is made at first start, what stays, and what is renewed.

use super::*;
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
        Pki::open(&self.folder(), hostname, "hub.example", self.clock.clone())
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
    let key = other.open().make_server_certificate().unwrap().0.key;
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
        X509Certificate::from_der(&bundle[0]).unwrap().1.subject().to_string()
    };
    assert_ne!(name(&one), name(&other));
}
