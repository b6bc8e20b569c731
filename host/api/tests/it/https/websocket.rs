//! WebSockets: the handshake on the wire, and the bytes behind it.

use super::Port;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn handshake(path: &str, protocol: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gw:443\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: {protocol}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
    )
}

/// The answer's head, in lower case.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(stream.read_u8().await.unwrap()));
    }
    head.to_lowercase()
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let mut payload = vec![0; usize::from(stream.read_u8().await.unwrap())];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

/// With a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn a_sub_protocol_is_handed_to_its_head_on_every_path() {
    let port = Port::open().await;
    for (path, protocol, head) in [
        ("/$iothub/websocket", "mqtt", "mqtt"),
        ("/$iothub/websocket?iothub-no-client-cert=true", "AMQPWSB10", "amqp"),
        ("/", "mqtt", "mqtt"),
        ("/devices/d/messages/events", "mqtt", "mqtt"),
    ] {
        let mut stream = port.connect().await;
        // The first frame may come with the handshake.
        let early = [handshake(path, protocol).as_bytes(), &frame(0x82, b"early")].concat();
        stream.write_all(&early).await.unwrap();
        let answer = read_head(&mut stream).await;
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        let echoed = format!("sec-websocket-protocol: {}\r\n", protocol.to_lowercase());
        assert!(answer.contains(&echoed), "{answer}");
        assert!(!answer.contains("extensions"), "{answer}");
        assert_eq!(read_frame(&mut stream).await, (0x82, head.into()));
        assert_eq!(read_frame(&mut stream).await, (0x82, b"early".to_vec()));
        stream.write_all(&frame(0x88, &[])).await.unwrap();
        assert_eq!(read_frame(&mut stream).await.0, 0x88);
    }
    port.hub.hub.tasks().stop().drain();
}

#[tokio::test]
async fn an_unknown_sub_protocol_is_refused() {
    let port = Port::open().await;
    for protocol in ["chat", "", "amqp10"] {
        let request = handshake("/$iothub/websocket", protocol);
        let request = request.replace("Connection: Upgrade", "Connection: Upgrade, close");
        let answer = port.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("ErrorCode:ArgumentInvalid;"), "{answer}");
    }
    port.hub.hub.tasks().stop().drain();
}
