//! The listener itself: what happens on the wire.

use crate::support::TestHub;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_core::limits;

async fn listening() -> (TestHub, SocketAddr) {
    let hub = TestHub::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    weir_api::serve(listener, hub.hub.clone(), weir_api::Options::default());
    (hub, address)
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The hub may answer and close before it has read everything.
    drop(stream.write_all(request).await);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_is_answered_over_the_wire() {
    let (hub, address) = listening().await;
    let request = format!(
        "GET /api/v1/system HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
        hub.admin
    );
    let answer = exchange(address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("\"edgeDevice\":\"edge\""), "{answer}");
    let answer =
        exchange(address, b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let (_hub, address) = listening().await;
    let long = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "a".repeat(4 * limits::API_HEAD_BYTES)
    );
    let answer = exchange(address, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty(), "{answer}");
    let many: String = (0..limits::API_HEADERS + 10).map(|at| format!("x{at}: 1\r\n")).collect();
    let answer = exchange(address, format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = exchange(address, b"\x16\x03\x01 this is TLS\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400") || answer.is_empty(), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let (hub, address) = listening().await;
    let request = format!(
        "PUT /api/v1/routes/r HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 99999999\r\n\r\n{{",
        hub.admin
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn who_says_nothing_is_cut_off_and_others_are_served_meanwhile() {
    let (hub, address) = listening().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /health/live HT").await.unwrap();
        silent.push(stream);
    }
    let answer =
        exchange(address, b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut one = silent.pop().unwrap();
    let wait = limits::API_HEAD_LIMIT + Duration::from_secs(5);
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(wait, one.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection is still open");
    drop(hub);
}

#[tokio::test]
async fn a_drain_answers_what_is_in_hand_and_takes_nothing_new() {
    let (hub, address) = listening().await;
    hub.install("filter", crate::support::DROP).await;
    let slow = hub.upload(b"\0asm slow").await;
    let body = format!("{{\"component\":\"{slow}\"}}");
    let request = format!(
        "POST /api/v1/modules/filter/swaps HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        hub.admin,
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    hub.runtime.asked().await;
    let tasks = hub.hub.tasks().clone();
    tasks.stop().drain();
    hub.runtime.open();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 "), "it was answered: {answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let late = TcpStream::connect(address).await;
    if let Ok(mut late) = late {
        drop(late.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await);
        let mut nothing = Vec::new();
        drop(late.read_to_end(&mut nothing).await);
        assert!(nothing.is_empty());
    }
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_is_gone() {
    let (hub, address) = listening().await;
    hub.install("filter", crate::support::DROP).await;
    let slow = hub.upload(b"\0asm slow").await;
    let spec = format!(
        "{{\"type\":\"wasm\",\"component\":\"{slow}\",\"inputs\":[\"in\"],\"outputs\":[\"out\"]}}"
    );
    let request = format!(
        "PUT /api/v1/modules/filter HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{spec}",
        hub.admin,
        spec.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    hub.runtime.asked().await;
    drop(stream);
    hub.runtime.open();
    hub.until("/api/v1/modules/filter", |module| module["version"] == 2).await;
}
