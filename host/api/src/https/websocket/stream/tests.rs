use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const BINARY: u8 = 0x82;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const CLOSE: u8 = 0x88;

/// A frame of a client; its mask is zero, so the payload is as it stands.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

async fn read_frame(client: &mut DuplexStream) -> (u8, Vec<u8>) {
    let first = client.read_u8().await.unwrap();
    let length = match client.read_u8().await.unwrap() {
        126 => usize::from(client.read_u16().await.unwrap()),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    client.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

fn pair(buffer: usize) -> (WebSocketStream<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(buffer);
    (WebSocketStream::new(near, &[]), far)
}

#[tokio::test]
async fn what_came_with_the_upgrade_is_read_first() {
    let (near, mut far) = duplex(1000);
    let mut socket = WebSocketStream::new(near, &frame(BINARY, b"early ")[..4]);
    far.write_all(&frame(BINARY, b"early ")[4..]).await.unwrap();
    far.write_all(&frame(BINARY, b"late")).await.unwrap();
    let mut read = [0; 10];
    socket.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"early late");
}

#[tokio::test]
async fn a_ping_is_answered_although_the_head_only_reads() {
    let (mut socket, mut client) = pair(1000);
    client.write_all(&frame(PING, b"java")).await.unwrap();
    let mut byte = [0];
    let answered = tokio::select! {
        _ = socket.read(&mut byte) => panic!("a ping is no payload"),
        answered = read_frame(&mut client) => answered,
    };
    assert_eq!(answered, (PONG, b"java".to_vec()));
}

#[tokio::test]
async fn the_end_is_said_by_both_sides() {
    let (mut socket, mut client) = pair(1000);
    client.write_all(&frame(CLOSE, &1000u16.to_be_bytes())).await.unwrap();
    assert_eq!(socket.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(read_frame(&mut client).await, (CLOSE, 1000u16.to_be_bytes().to_vec()));
    assert!(socket.write_all(b"too late").await.is_err());
    socket.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the end is said once");
}

#[tokio::test]
async fn what_was_written_comes_before_the_end() {
    let (mut socket, mut client) = pair(1000);
    socket.write_all(&[1, 2, 3]).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_frame(&mut client).await, (BINARY, vec![1, 2, 3]));
    assert_eq!(read_frame(&mut client).await.0, CLOSE);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_frame_against_the_rules_ends_the_connection_with_its_code() {
    let (mut socket, mut client) = pair(1000);
    client.write_all(&frame(0x81, b"text")).await.unwrap();
    let refused = socket.read(&mut [0]).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
    socket.shutdown().await.unwrap();
    assert_eq!(read_frame(&mut client).await, (CLOSE, 1003u16.to_be_bytes().to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_holds_the_writer() {
    let (mut socket, mut client) = pair(100);
    let writing = socket.write_all(&[7; 100_000]);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(60), writing).await;
    assert!(waited.is_err(), "more was taken than the client has room for");
    assert!(socket.outgoing.len() <= WRITE_BYTES + 10);
    assert_eq!(read_frame_head(&mut client).await, BINARY);
}

async fn read_frame_head(client: &mut DuplexStream) -> u8 {
    client.read_u8().await.unwrap()
}

/// One task reads and one writes, as in an AMQP engine: neither takes the other's waker away.
#[tokio::test]
async fn reader_and_writer_may_be_two_tasks() {
    let (socket, mut client) = pair(64);
    let (mut reader, mut writer) = tokio::io::split(socket);
    let sent = 20_000;
    let echo = async move {
        let mut bytes = [0; 50];
        loop {
            match reader.read(&mut bytes).await.unwrap() {
                0 => return,
                read => assert!(read <= 50),
            }
        }
    };
    let write = async move {
        writer.write_all(&vec![5; sent]).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let talk = async move {
        let mut got = 0;
        while got < sent {
            client.write_all(&frame(PING, b"p")).await.unwrap();
            client.write_all(&frame(BINARY, &[1; 20])).await.unwrap();
            let (first, payload) = read_frame(&mut client).await;
            got += if first == BINARY { payload.len() } else { 0 };
        }
        client.write_all(&frame(CLOSE, &[])).await.unwrap();
        // What the hub still says is read, or it could not say it.
        drop(client.read_to_end(&mut Vec::new()).await);
    };
    let all = async { tokio::join!(echo, write, talk) };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, all).await.expect("a task was never woken");
}
