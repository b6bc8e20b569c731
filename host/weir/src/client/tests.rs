use super::fake::{Fake, json, write_data_dir};
use super::*;
use crate::config::Environment;
use serde_json::json as value;
use std::path::Path;
use std::sync::Arc;

fn local(folder: &Path) -> Client {
    let wanted = Wanted { config: None, data_dir: Some(folder) };
    Client::new(&Target::find(wanted, &Environment::default()).unwrap()).unwrap()
}

fn found(wanted: Wanted<'_>, environment: &Environment) -> Result<Target, String> {
    Target::find(wanted, environment).map_err(|error| error.to_string())
}

const NOTHING: Wanted<'_> = Wanted { config: None, data_dir: None };

#[tokio::test]
async fn a_request_carries_the_token_of_the_data_folder() {
    let fake = Fake::answering(vec![json(200, r#"{"version": "1"}"#)]);
    let folder = fake.data_dir();
    let answer = local(folder.path()).get("/api/v1/system").await.unwrap();
    assert_eq!(answer.body, value!({"version": "1"}));
    let seen = fake.seen();
    assert_eq!(seen[0].line, "GET /api/v1/system");
    assert!(seen[0].headers.contains("authorization: Bearer weir_0_secret\r\n"));
}

#[tokio::test]
async fn a_list_is_read_page_by_page_up_to_the_limit() {
    let page =
        |items: &str, next: &str| json(200, &format!(r#"{{"items": {items}, "next": {next}}}"#));
    let fake = Fake::answering(vec![page("[1, 2]", "\"a/b\""), page("[3]", "null")]);
    let folder = fake.data_dir();
    let items = local(folder.path()).list("/x", None).await.unwrap();
    assert_eq!(items, [1, 2, 3]);
    assert_eq!(fake.seen()[1].line, "GET /x?limit=100&cursor=a%2Fb");

    let fake = Fake::answering(vec![page("[1, 2]", "\"a\"")]);
    let folder = fake.data_dir();
    assert_eq!(local(folder.path()).list("/x", Some(2)).await.unwrap(), [1, 2]);
    assert_eq!(fake.seen()[0].line, "GET /x?limit=2");
}

#[tokio::test]
async fn an_upload_says_how_far_it_is() {
    let fake = Fake::answering(vec![json(201, "{}")]);
    let folder = fake.data_dir();
    let bytes = Bytes::from(vec![b'x'; 300_000]);
    let mut steps = Vec::new();
    let mut progress = |done, total| steps.push((done, total));
    let client = local(folder.path());
    client.upload("/a", bytes, "application/wasm", &mut progress).await.unwrap();
    assert_eq!(fake.seen()[0].body.len(), 300_000);
    assert!(steps.iter().all(|(done, total)| done <= total && *total == 300_000), "{steps:?}");
    assert!(!steps.is_empty());
}

#[tokio::test]
async fn a_problem_is_an_error_with_its_words() {
    let problem = r#"{"type": "/docs/errors/not-found", "title": "There is no such thing",
        "status": 404, "detail": "there is no route x", "code": "not-found"}"#;
    let fake = Fake::answering(vec![json(404, problem)]);
    let folder = fake.data_dir();
    let Err(Error::Refused(problem)) = local(folder.path()).delete("/x").await else {
        panic!("the hub says no")
    };
    assert!(problem.is_not_found());
    assert_eq!(
        problem.report(),
        format!(
            "There is no such thing\n  there is no route x\n  more: http://{}/docs/errors/not-found",
            fake.address
        )
    );
}

#[tokio::test]
async fn an_answer_of_something_else_is_no_answer_of_a_hub() {
    for (answer, expected) in [
        ("HTTP/1.1 502 x\r\ncontent-length: 5\r\n\r\nnginx".to_owned(), "502"),
        (json(200, "<html>"), "not understood"),
        ("HTTP/1.1 200 x\r\ncontent-length: 50\r\n\r\n{".to_owned(), "cut off"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "broke"),
        (String::new(), "broke"),
    ] {
        let fake = Fake::answering(vec![answer.clone()]);
        let folder = fake.data_dir();
        let error = local(folder.path()).get("/x").await.unwrap_err().to_string();
        assert!(error.contains(expected), "{answer}: {error}");
    }
}

#[tokio::test]
async fn a_hub_that_was_killed_is_named_with_the_file_it_left() {
    let folder = tempfile::tempdir().unwrap();
    // A port that was just free: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    write_data_dir(folder.path(), port, false);
    let error = local(folder.path()).get("/x").await.unwrap_err().to_string();
    assert!(error.contains("run/ready.json") && error.contains("killed"), "{error}");
}

#[test]
fn without_a_hub_the_error_names_the_file_and_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = Wanted { config: None, data_dir: Some(folder.path()) };
    let error = found(wanted, &Environment::default()).unwrap_err();
    assert!(error.contains(&format!("{}/run/ready.json", folder.path().display())), "{error}");
    assert!(error.contains(&format!("weir run --data-dir {}", folder.path().display())), "{error}");
}

#[test]
fn a_configuration_file_leads_to_its_data_folder() {
    let folder = tempfile::tempdir().unwrap();
    write_data_dir(&folder.path().join("kept"), "0.0.0.0:8420".parse().unwrap(), true);
    let file = folder.path().join("weir.toml");
    std::fs::write(&file, "data_dir = 'kept'").unwrap();
    let wanted = Wanted { config: Some(&file), data_dir: None };
    // What is named on the command line wins over WEIR_HOST.
    let environment = Environment::from([("WEIR_HOST", "elsewhere")]);
    let target = found(wanted, &environment).unwrap();
    assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 8420));
    assert_eq!(target.trust, Some(folder.path().join("kept/pki/trust-bundle.pem")));
}

#[test]
fn a_remote_hub_is_named_by_the_environment() {
    let remote = |host| Environment::from([("WEIR_HOST", host), ("WEIR_TOKEN", "t")]);
    for (host, expected) in [
        ("gw.example", ("gw.example", 8420)),
        ("gw.example:1", ("gw.example", 1)),
        ("http://[::1]:2/", ("::1", 2)),
    ] {
        let target = found(NOTHING, &remote(host)).unwrap();
        assert_eq!((target.host.as_str(), target.port), expected);
        assert_eq!(target.trust, None);
    }
    for host in ["http://", "a b", "gw/path", "user:secret@gw", "http://gw:99999"] {
        let error = found(NOTHING, &remote(host)).unwrap_err();
        assert!(error.contains("no address") && !error.contains("secret"), "{host}: {error}");
    }
    let error = found(NOTHING, &remote("https://gw.example")).unwrap_err();
    assert!(error.contains("WEIR_CA_FILE"), "{error}");
    let error = found(NOTHING, &Environment::from([("WEIR_HOST", "gw")])).unwrap_err();
    assert!(error.contains("WEIR_TOKEN"), "{error}");
}

#[test]
fn a_token_is_never_printed() {
    let environment = Environment::from([("WEIR_HOST", "gw"), ("WEIR_TOKEN", "weir_0_secret")]);
    let target = found(NOTHING, &environment).unwrap();
    let client = Client::new(&target).unwrap();
    assert!(!format!("{target:?} {client:?}").contains("secret"));
    let broken = Environment::from([("WEIR_HOST", "gw"), ("WEIR_TOKEN", "sec\nret")]);
    let error = Client::new(&found(NOTHING, &broken).unwrap()).unwrap_err();
    assert!(!error.to_string().contains("sec\nret"));
}

/// A certificate for loopback and the file of its authority.
fn certificate(folder: &Path) -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("trust-bundle.pem"), made.cert.pem()).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

#[tokio::test]
async fn over_tls_only_the_trust_bundle_of_the_hub_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let config = certificate(&folder.path().join("pki"));
    let fake = Fake::with_tls(vec![json(200, "{}"), json(200, "{}")], config);
    write_data_dir(folder.path(), fake.address, true);
    let client = local(folder.path());
    assert!(client.base().starts_with("https://"));
    client.get("/x").await.unwrap();
    assert_eq!(fake.seen().len(), 1);

    certificate(&folder.path().join("pki"));
    let error = local(folder.path()).get("/x").await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(fake.seen().is_empty(), "the token is not sent to a hub that is not trusted");
}
