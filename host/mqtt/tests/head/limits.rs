//! What a hostile or broken client can cost.

use crate::client::{Client, connect, publish};
use crate::hub::TestHub;
use crate::{INPUTS, LEAF_EVENTS, leaf, module};
use std::fs;
use std::time::Duration;
use tokio::io::duplex;
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout};
use weir_core::id::Identity;
use weir_core::limits;
use weir_hub::tasks::Stop;
use weir_mqtt::Peer;
use weir_mqtt_codec::{Packet, Qos};

fn peer() -> Peer {
    let address = "192.0.2.7:1".parse().unwrap();
    Peer { address, protocol: "mqtt-test", certificates: Vec::new() }
}

/// Bytes that are no packet, from the codec's corpus, by name.
fn bad_bytes() -> Vec<(String, Vec<u8>)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../mqtt-codec/fuzz/corpus/decode");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap());
    let named = files.map(|file| (file.file_name().into_string().unwrap(), file.path()));
    // What is over a limit is over the corpus's own, which is smaller.
    let bad = named.filter(|(name, _)| {
        name.starts_with("bad-") && !name.contains("limit") && !name.contains("too-many")
    });
    let all: Vec<_> = bad.map(|(name, path)| (name, fs::read(path).unwrap())).collect();
    assert!(all.len() > 100);
    all
}

#[tokio::test]
async fn malformed_bytes_before_connect_close_the_connection() {
    let hub = TestHub::start().await;
    for (name, bytes) in bad_bytes() {
        let mut client = Client::dial(hub.address).await;
        client.try_send_raw(&bytes).await;
        let closed = timeout(Duration::from_secs(5), client.is_closed()).await;
        assert_eq!(closed, Ok(true), "{name}");
    }
}

#[tokio::test]
async fn malformed_bytes_after_connect_close_the_connection_and_harm_nobody() {
    let hub = TestHub::start().await;
    let (token, other) = (hub.token(&leaf()).await, hub.token(&module()).await);
    let mut neighbour = Client::dial(hub.address).await;
    neighbour.enter(&module(), &other).await;
    for (name, bytes) in bad_bytes() {
        let mut client = Client::dial(hub.address).await;
        client.enter(&leaf(), &token).await;
        client.try_send_raw(&bytes).await;
        let closed = timeout(Duration::from_secs(5), client.rest()).await;
        assert!(closed.is_ok(), "{name}");
    }
    neighbour.send(Packet::Pingreq).await;
    assert_eq!(neighbour.next().await, Some(Packet::Pingresp));
}

#[tokio::test]
async fn a_first_packet_over_64_kib_closes_at_its_header() {
    let hub = TestHub::start().await;
    let mut client = Client::dial(hub.address).await;
    // CONNECT, remaining length 65,536.
    client.send_raw(&[0x10, 0x80, 0x80, 0x04]).await;
    assert!(client.is_closed().await);
}

/// The paused clock jumps when nothing else is to be done, so these connections live in memory.
fn in_memory(hub: &TestHub) -> Client<tokio::io::DuplexStream> {
    let (near, far) = duplex(64 * 1024);
    let server = hub.server.clone();
    let kind = weir_hub::tasks::TaskKind::PerClient;
    hub.hub.tasks().spawn(kind, "test client", move |stop: Stop| async move {
        server.serve(far, peer(), stop).await;
    });
    Client::over(near)
}

#[tokio::test]
async fn a_slow_connect_is_cut_after_ten_seconds() {
    let hub = TestHub::start().await;
    let mut bytes = Vec::new();
    Packet::Connect(Box::new(connect(&leaf(), "x"))).encode(&mut bytes).unwrap();
    let mut client = in_memory(&hub);
    tokio::time::pause();
    let start = Instant::now();
    for byte in &bytes[..9] {
        assert!(client.try_send_raw(&[*byte]).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(client.is_closed().await);
    let cut = start.elapsed();
    assert!(cut >= Duration::from_secs(10) && cut < Duration::from_secs(13), "{cut:?}");
}

#[tokio::test]
async fn one_that_says_nothing_is_gone_after_ten_seconds() {
    let hub = TestHub::start().await;
    let mut client = in_memory(&hub);
    tokio::time::pause();
    let start = Instant::now();
    assert!(client.is_closed().await);
    let gone = start.elapsed();
    assert!(gone >= Duration::from_secs(10) && gone < Duration::from_secs(13), "{gone:?}");
}

#[tokio::test]
async fn silent_connections_of_one_source_leave_room_for_others_and_its_own_wait() {
    let hub = TestHub::start().await;
    let token = hub.token(&leaf()).await;
    let mut silent = Vec::new();
    for _ in 0..limits::MAX_UNKNOWN_OF_SOURCE {
        silent.push(Client::dial(hub.address).await);
    }
    let mut further = Client::dial(hub.address).await;
    let mut connects = Vec::new();
    Packet::Connect(Box::new(connect(&leaf(), &token))).encode(&mut connects).unwrap();
    further.send_raw(&connects).await;
    assert!(timeout(Duration::from_millis(300), further.next()).await.is_err(), "it has to wait");
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Client::over(socket.connect(hub.address).await.unwrap());
    other.enter(&leaf(), &token).await;
    drop(silent);
    let answer = timeout(Duration::from_secs(5), further.next()).await;
    assert!(matches!(answer, Ok(Some(Packet::Connack(_)))), "its turn has come: {answer:?}");
}

#[tokio::test]
async fn a_thousand_devices_behind_one_address_may_come_at_once() {
    let hub = TestHub::with_clients(1_000).await;
    let mut devices = Vec::new();
    for number in 0..1_000 {
        let device = Identity::device(format!("d{number}").parse().unwrap());
        let token = hub.token(&device).await;
        devices.push((device, token));
    }
    let mut clients = Vec::new();
    for (device, token) in &devices {
        clients.push((Client::dial(hub.address).await, device, token));
    }
    // The last first: it waits for those who say nothing yet.
    clients.reverse();
    let entered = clients.iter_mut().map(|(client, device, token)| client.enter(device, token));
    futures::future::join_all(entered).await;
}

#[tokio::test]
async fn a_silent_client_goes_after_one_and_a_half_times_its_keep_alive() {
    let hub = TestHub::start().await;
    let mut connect = connect(&leaf(), &hub.token(&leaf()).await);
    connect.keep_alive_secs = 10;
    let mut client = in_memory(&hub);
    client.enter_as(connect).await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(14)).await;
    client.send(Packet::Pingreq).await;
    assert_eq!(client.next().await, Some(Packet::Pingresp));
    let start = Instant::now();
    assert!(client.is_closed().await);
    let silent = start.elapsed();
    assert!(silent >= Duration::from_secs(15) && silent < Duration::from_secs(16), "{silent:?}");
}

#[tokio::test]
async fn a_packet_that_does_not_end_is_cut_after_twenty_seconds() {
    let hub = TestHub::start().await;
    let token = hub.token(&leaf()).await;
    let mut client = in_memory(&hub);
    client.enter(&leaf(), &token).await;
    tokio::time::pause();
    let start = Instant::now();
    let mut bytes = Vec::new();
    publish(LEAF_EVENTS, vec![b'x'; 1000], 1).encode(&mut bytes).unwrap();
    for byte in &bytes[..19] {
        assert!(client.try_send_raw(&[*byte]).await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(client.is_closed().await);
    let cut = start.elapsed();
    assert!(cut >= Duration::from_secs(20) && cut < Duration::from_secs(22), "{cut:?}");
}

#[tokio::test]
async fn a_client_that_never_reads_goes_after_twenty_seconds() {
    let hub = TestHub::start().await;
    let token = hub.token(&leaf()).await;
    let mut client = in_memory(&hub);
    client.enter(&leaf(), &token).await;
    tokio::time::pause();
    let start = Instant::now();
    // Answers to these are more than the pipe and the hub's buffer hold together.
    let ping = [0xc0, 0x00].repeat(16 * 1024);
    while client.try_send_raw(&ping).await {}
    let cut = start.elapsed();
    assert!(cut >= Duration::from_secs(20) && cut < Duration::from_secs(23), "{cut:?}");
}

#[tokio::test]
async fn a_client_whom_the_hub_does_not_read_is_not_silent() {
    let hub = TestHub::start().await;
    hub.route().await;
    hub.set_full(true);
    let mut connect = connect(&leaf(), &hub.token(&leaf()).await);
    connect.keep_alive_secs = 1;
    let mut client = Client::dial(hub.address).await;
    client.enter_as(connect).await;
    client.send(publish(LEAF_EVENTS, "x", 1)).await;
    // The hub does not see this while it has no room.
    client.send(Packet::Pingreq).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    hub.set_full(false);
    let answers = [client.next().await, client.next().await];
    assert!(answers.contains(&Some(Packet::Pingresp)), "{answers:?}");
}

#[tokio::test]
async fn who_fails_again_and_again_waits_for_the_answer_and_others_do_not() {
    let hub = TestHub::start().await;
    let token = hub.token(&leaf()).await;
    for _ in 0..6 {
        let mut client = Client::dial(hub.address).await;
        client.refusal(connect(&leaf(), "wrong")).await;
    }
    let start = Instant::now();
    let mut client = Client::dial(hub.address).await;
    client.refusal(connect(&leaf(), "wrong")).await;
    assert!(start.elapsed() >= Duration::from_millis(700));
    let start = Instant::now();
    Client::dial(hub.address).await.enter(&leaf(), &token).await;
    assert!(start.elapsed() < Duration::from_millis(700));
}

#[tokio::test]
async fn a_take_over_war_leaves_one_connection() {
    let hub = TestHub::start().await;
    let token = hub.token(&module()).await;
    let mut last = Client::dial(hub.address).await;
    last.enter(&module(), &token).await;
    for _ in 0..100 {
        last = Client::dial(hub.address).await;
        last.enter(&module(), &token).await;
    }
    last.subscribe(INPUTS, Qos::AtLeastOnce).await;
    last.send(Packet::Pingreq).await;
    assert_eq!(last.next().await, Some(Packet::Pingresp));
}
