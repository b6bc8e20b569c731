//! Messages a second into a broker and into a file, beside the bare cost of the same bytes.
//!
//! `cargo bench -p weir-upstream --bench upstream`. Two batches of 256 are under way, as in the hub.
//! The file's floor is write, and with fsync fdatasync, of the same bytes in the same pieces, in the same folder;
//! the broker's floor is a loop without a session: the same packets, encoded beforehand, with the
//! same window, against the same broker: one in this process, and Mosquitto where it is installed
//! (without a subscriber). The best of three rounds counts.
#![expect(clippy::unwrap_used, reason = "a benchmark may stop on a fault of its own")]
#![expect(clippy::print_stdout, reason = "its result")]
#![expect(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use support::broker::Broker;
use support::mosquitto::Mosquitto;
use support::{accepted, deliveries, numbered, run};
use weir_core::port::Batch;
use weir_mqtt_codec::{Connect, Delivery, Limits, Packet, PacketId, Publish, Text, decode};
use weir_upstream::{Config, FileConfig, Fsync, MqttConfig, PropertyForm};

const BATCH: u64 = 256;
const WINDOW: usize = 100;

fn main() {
    println!("{:34} {:>12} {:>12} {:>7}", "", "messages/s", "floor", "ratio");
    for bytes in [100, 1024] {
        for (name, form) in [
            ("topic", PropertyForm::Topic),
            ("envelope", PropertyForm::Envelope),
            ("none", PropertyForm::None),
        ] {
            let broker = Broker::start();
            broker.behave(|behaviour| behaviour.only_counts = true);
            let rate = best(|| mqtt(broker.address, bytes, form, 200_000));
            let floor = best(|| mqtt_floor(broker.address, bytes, 200_000));
            print(&format!("mqtt, properties = {name}, {bytes} B"), rate, floor);
        }
    }
    if let Some(mosquitto) = Mosquitto::start("") {
        for bytes in [100, 1024] {
            let form = PropertyForm::Topic;
            let rate = best(|| mqtt(mosquitto.address, bytes, form, 100_000));
            let floor = best(|| mqtt_floor(mosquitto.address, bytes, 100_000));
            print(&format!("mqtt into Mosquitto, {bytes} B"), rate, floor);
        }
    }
    for bytes in [100, 1024] {
        let rate = best(|| file(bytes, Fsync::Always, 50_000));
        let floor = best(|| file_floor(bytes, true, 50_000));
        print(&format!("file, fsync = always, {bytes} B"), rate, floor);
        let rate = best(|| file(bytes, Fsync::Never, 200_000));
        let floor = best(|| file_floor(bytes, false, 200_000));
        print(&format!("file, fsync = never, {bytes} B"), rate, floor);
    }
}

fn print(name: &str, rate: f64, floor: f64) {
    println!("{name:34} {rate:>12.0} {floor:>12.0} {:>7.2}", rate / floor);
}

fn best(round: impl Fn() -> f64) -> f64 {
    (0..3).map(|_| round()).fold(0.0, f64::max)
}

fn batches(bytes: usize, messages: u64) -> Vec<Batch> {
    let numbers = |from: u64| from..(from + BATCH).min(messages);
    let batch = |from| deliveries(numbers(from).map(|n| numbered(n, vec![b'x'; bytes])).collect());
    (0..messages).step_by(256).map(batch).collect()
}

fn rate(messages: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let messages = messages as f64;
    messages / time.as_secs_f64()
}

fn delivered(config: &Config, bytes: usize, messages: u64) -> f64 {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let running = run(config);
        running.insist(deliveries(vec![numbered(u64::MAX, "first")])).await;
        let mut batches = batches(bytes, messages).into_iter();
        let started = Instant::now();
        let mut under_way = std::collections::VecDeque::new();
        loop {
            while under_way.len() < 2 {
                let Some(batch) = batches.next() else { break };
                under_way.push_back(running.upstream.deliver(batch));
            }
            let Some(answer) = under_way.pop_front() else { break };
            assert!(accepted(&answer.await.unwrap()));
        }
        rate(messages, started.elapsed())
    })
}

fn mqtt(address: SocketAddr, bytes: usize, properties: PropertyForm, messages: u64) -> f64 {
    let mut config = MqttConfig::new(address.to_string());
    config.properties = properties;
    config.window = WINDOW;
    delivered(&Config::Mqtt(Box::new(config)), bytes, messages)
}

fn mqtt_floor(address: SocketAddr, bytes: usize, messages: u64) -> f64 {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let connect = Connect {
        client_id: Text::default(),
        clean_session: true,
        keep_alive_secs: 0,
        will: None,
        login: None,
    };
    let mut out = Vec::new();
    Packet::Connect(Box::new(connect)).encode(&mut out).unwrap();
    stream.write_all(&out).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    out.clear();
    let publish = Publish {
        topic: "weir/edge/pump-1/-/-".parse().unwrap(),
        payload: vec![b'x'; bytes].into(),
        delivery: Delivery::AtLeastOnce { id: PacketId::MIN, dup: false },
        retain: false,
    };
    Packet::Publish(publish).encode(&mut out).unwrap();
    let packets = out.repeat(WINDOW);
    let limits = Limits { max_packet_bytes: 1024, max_filters: 1 };
    let (mut input, mut block) = (BytesMut::new(), [0; 16 * 1024]);
    let (mut to_send, mut room, mut missing) = (messages, WINDOW, messages);
    let started = Instant::now();
    while missing > 0 {
        let now = room.min(usize::try_from(to_send).unwrap());
        if now > 0 {
            stream.write_all(&packets[..now * out.len()]).unwrap();
            to_send -= now as u64;
            room -= now;
        }
        let read = stream.read(&mut block).unwrap();
        input.extend_from_slice(&block[..read]);
        while decode(&mut input, &limits).unwrap().is_some() {
            room += 1;
            missing -= 1;
        }
    }
    rate(messages, started.elapsed())
}

fn file(bytes: usize, fsync: Fsync, messages: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let mut config = FileConfig::new(folder.path().join("out"));
    config.fsync = fsync;
    delivered(&Config::File(config), bytes, messages)
}

/// Lines as the upstream writes them, in pieces of one batch.
fn file_floor(bytes: usize, sync: bool, messages: u64) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sample = folder.path().join("sample");
    runtime.block_on(async {
        let batch = deliveries((0..BATCH).map(|n| numbered(n, vec![b'x'; bytes])).collect());
        run(&Config::File(FileConfig::new(&sample))).insist(batch).await;
    });
    let piece = std::fs::read(sample).unwrap();
    let mut file = std::fs::File::create(folder.path().join("floor")).unwrap();
    let started = Instant::now();
    for _ in 0..messages.div_ceil(BATCH) {
        file.write_all(&piece).unwrap();
        if sync {
            rustix::fs::fdatasync(file.as_fd()).unwrap();
        }
    }
    rate(messages, started.elapsed())
}
