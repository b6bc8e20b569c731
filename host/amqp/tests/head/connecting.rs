//! Openings: with and without a SASL layer.

use crate::client::{Client, data, soon};
use crate::hub::TestHub;
use crate::{LEAF_EVENTS, SENDER_EVENTS, leaf, sender};
use fe2o3_amqp::link::Sender;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::{Connection, Session};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_core::id::Identity;

async fn with_sasl(hub: &TestHub, profile: SaslProfile) -> Result<(), String> {
    let stream = TcpStream::connect(hub.address).await.unwrap();
    let opening =
        Connection::builder().container_id("test").sasl_profile(profile).open_with_stream(stream);
    let mut connection = soon(opening).await.map_err(|refused| format!("{refused:?}"))?;
    let mut session = soon(Session::begin(&mut connection)).await.unwrap();
    let mut link = soon(Sender::attach(&mut session, "s", SENDER_EVENTS)).await.unwrap();
    match soon(link.send(data("x"))).await {
        Ok(outcome) if outcome.is_accepted() => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

fn plain(user: &str, password: &str) -> SaslProfile {
    SaslProfile::Plain { username: user.to_owned(), password: password.to_owned() }
}

#[tokio::test]
async fn plain_proves_the_identity_of_the_user_name() {
    let hub = TestHub::start().await;
    let token = hub.token(&sender()).await;
    with_sasl(&hub, plain("E/modules/sender@sas.hub", &token)).await.unwrap();
    with_sasl(&hub, plain("E/modules/sender@hub", &token)).await.unwrap();
    let edge = Identity::device("E".parse().unwrap());
    let of_edge = hub.token(&edge).await;
    with_sasl(&hub, plain("E/modules/sender@sas.hub", &of_edge)).await.unwrap();
}

#[tokio::test]
async fn plain_is_refused_when_the_token_is_wrong_or_anothers() {
    let hub = TestHub::start().await;
    let token = hub.token(&sender()).await;
    let other = hub.token(&leaf()).await;
    for (user, password) in [
        ("E/modules/sender@sas.hub", other.as_str()),
        ("E/modules/sender@sas.hub", "secret"),
        ("E/modules/sender@sas.hub", ""),
        ("leaf@sas.hub", &token),
        ("nobody", &token),
        ("", &token),
    ] {
        let refused = with_sasl(&hub, plain(user, password)).await.unwrap_err();
        assert!(refused.contains("Sasl") && refused.contains("Auth"), "{user}: {refused}");
    }
}

#[tokio::test]
async fn anonymous_leaves_the_proof_to_tokens() {
    let hub = TestHub::start().await;
    hub.token(&sender()).await;
    let refused = with_sasl(&hub, SaslProfile::Anonymous).await.unwrap_err();
    assert!(refused.contains("UnauthorizedAccess"), "{refused}");
}

/// Speaks the SASL layer by hand; gives the mechanisms and the outcome's code.
async fn sasl_by_hand(hub: &TestHub, mechanism: &str) -> (String, Option<u8>) {
    let mut stream = TcpStream::connect(hub.address).await.unwrap();
    stream.write_all(b"AMQP\x03\x01\x00\x00").await.unwrap();
    let mut bytes = [0; 8];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"AMQP\x03\x01\x00\x00");
    let mechanisms = frame(&mut stream).await.unwrap();
    let name = mechanism.as_bytes();
    let length = u8::try_from(name.len()).unwrap();
    let fields = [&[0xa3, length], name].concat();
    let list = [&[0xc0, u8::try_from(fields.len() + 1).unwrap(), 1], &fields[..]].concat();
    let body = [&[2, 1, 0, 0, 0x00, 0x53, 0x41], &list[..]].concat();
    let size = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[&size[..], &body].concat()).await.unwrap();
    let outcome = frame(&mut stream).await;
    let shown = String::from_utf8_lossy(&mechanisms).into_owned();
    (shown, outcome.map(|outcome| *outcome.last().unwrap()))
}

async fn frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let size = soon(stream.read_u32()).await.ok()?;
    let mut rest = vec![0; usize::try_from(size).unwrap() - 4];
    soon(stream.read_exact(&mut rest)).await.ok()?;
    Some(rest)
}

#[tokio::test]
async fn the_c_sharp_sdks_mechanism_is_offered_and_external_only_with_a_certificate() {
    let hub = TestHub::start().await;
    let (mechanisms, code) = sasl_by_hand(&hub, "MSSBCBS").await;
    for name in ["ANONYMOUS", "MSSBCBS", "PLAIN"] {
        assert!(mechanisms.contains(name), "{mechanisms}");
    }
    assert!(!mechanisms.contains("EXTERNAL"));
    assert_eq!(code, Some(0));
    for mechanism in ["EXTERNAL", "SCRAM-SHA-256", ""] {
        assert_eq!(sasl_by_hand(&hub, mechanism).await.1, Some(1), "{mechanism}");
    }
}

#[tokio::test]
async fn another_protocol_is_told_what_is_spoken_here() {
    let hub = TestHub::start().await;
    for greeting in [&b"AMQP\x00\x00\x09\x01"[..], b"GET / HTTP/1.1\r\n", b"AMQP\x02\x01\x00\x00"] {
        let mut stream = TcpStream::connect(hub.address).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        let mut answer = Vec::new();
        drop(soon(stream.read_to_end(&mut answer)).await);
        assert_eq!(answer, b"AMQP\x03\x01\x00\x00");
    }
}

#[tokio::test]
async fn a_stranger_gets_few_links_and_sessions() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    let mut sessions = Vec::new();
    let mut refused = None;
    for _ in 0..20 {
        match tokio::time::timeout(Duration::from_secs(5), Session::begin(&mut client.connection))
            .await
        {
            Ok(Ok(session)) => sessions.push(session),
            other => {
                refused = Some(format!("{other:?}"));
                break;
            }
        }
    }
    assert!(refused.is_some() && sessions.len() < weir_core::limits::AMQP_UNPROVEN_SESSIONS);
}

#[tokio::test]
async fn a_full_hub_says_so() {
    let hub = TestHub::with_clients(1).await;
    let mut first = Client::enter(&hub, &leaf()).await;
    let link = first.sender(LEAF_EVENTS).await.unwrap();
    let mut second = Client::enter(&hub, &sender()).await;
    let refused = second.sender(SENDER_EVENTS).await.unwrap_err();
    assert!(crate::client::says(&refused, "resource-limit-exceeded"), "{refused:?}");
    soon(link.close()).await.unwrap();
}
