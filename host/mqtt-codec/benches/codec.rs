//! Decoding and encoding on the hot path, beside a plain copy of the same bytes in the same run.
//!
//! `cargo bench -p weir-mqtt-codec`. An iteration is 1,000 packets, so that microseconds in the table
//! are nanoseconds for one packet. Allocations are counted: a decoded PUBLISH must not have one (the
//! few shown belong to the buffer as a whole).
#![expect(clippy::unwrap_used, reason = "a benchmark may stop on a fault of its own")]

use bytes::{Bytes, BytesMut};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use weir_mqtt_codec::{
    Delivery, Limits, Packet, PacketId, Publish, TopicName, decode, filter, put_pubacks,
    put_publish_header,
};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const PACKETS: u16 = 1000;
const LIMITS: Limits = Limits { max_packet_bytes: 256 * 1024 + 16 * 1024, max_filters: 50 };
const TOPIC: &str = "devices/pump-1/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8";
const PAYLOAD_BYTES: [usize; 2] = [100, 1024];

fn main() {
    divan::main();
}

fn publishes(payload_bytes: usize) -> Vec<u8> {
    let payload = Bytes::from(vec![b'x'; payload_bytes]);
    let topic: TopicName = TOPIC.parse().unwrap();
    let mut wire = Vec::new();
    for id in 1..=PACKETS {
        let delivery = Delivery::AtLeastOnce { id: PacketId::new(id).unwrap(), dup: false };
        let (topic, payload) = (topic.clone(), payload.clone());
        Packet::Publish(Publish { topic, payload, delivery, retain: false })
            .encode(&mut wire)
            .unwrap();
    }
    wire
}

/// The floor: the bytes of the packets are copied once, packet by packet.
#[divan::bench(args = PAYLOAD_BYTES)]
fn floor_memcpy(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let wire = publishes(payload_bytes);
    let packet_bytes = wire.len() / usize::from(PACKETS);
    let mut copy = Vec::with_capacity(wire.len());
    bencher.counter(ItemsCount::new(PACKETS)).counter(BytesCount::new(wire.len())).bench_local(
        || {
            copy.clear();
            for packet in wire.chunks_exact(packet_bytes) {
                copy.extend_from_slice(black_box(packet));
            }
            black_box(copy.len())
        },
    );
}

/// A read buffer that holds 1,000 packets; each is decoded and dropped.
#[divan::bench(args = PAYLOAD_BYTES)]
fn decode_publish_qos1(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let wire = publishes(payload_bytes);
    bencher
        .counter(ItemsCount::new(PACKETS))
        .counter(BytesCount::new(wire.len()))
        .with_inputs(|| BytesMut::from(&wire[..]))
        .bench_local_refs(|buffer| {
            while let Some(packet) = decode(buffer, &LIMITS).unwrap() {
                black_box(packet);
            }
        });
}

/// As a connection reads: 64 KiB at a time into one buffer, with packets cut at the edges.
#[divan::bench(args = PAYLOAD_BYTES)]
fn read_and_decode_publish_qos1(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let wire = publishes(payload_bytes);
    let mut buffer = BytesMut::new();
    bencher.counter(ItemsCount::new(PACKETS)).counter(BytesCount::new(wire.len())).bench_local(
        || {
            for read in wire.chunks(64 * 1024) {
                buffer.reserve(64 * 1024);
                buffer.extend_from_slice(read);
                while let Some(packet) = decode(&mut buffer, &LIMITS).unwrap() {
                    black_box(packet);
                }
            }
        },
    );
}

#[divan::bench(args = PAYLOAD_BYTES)]
fn encode_publish_qos1(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let topic: TopicName = TOPIC.parse().unwrap();
    let payload = vec![b'x'; payload_bytes];
    let mut out = BytesMut::with_capacity(usize::from(PACKETS) * (payload_bytes + 100));
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        out.clear();
        for id in 1..=PACKETS {
            let delivery = Delivery::AtLeastOnce { id: PacketId::new(id).unwrap(), dup: false };
            put_publish_header(&topic, delivery, false, payload.len(), &mut out).unwrap();
            out.extend_from_slice(black_box(&payload));
        }
        black_box(out.len())
    });
}

#[divan::bench]
fn encode_pubacks(bencher: Bencher<'_, '_>) {
    let mut out = BytesMut::with_capacity(usize::from(PACKETS) * 4);
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        out.clear();
        put_pubacks(black_box(1..=PACKETS).filter_map(PacketId::new), &mut out);
        black_box(out.len())
    });
}

#[divan::bench]
fn decode_puback(bencher: Bencher<'_, '_>) {
    let mut wire = Vec::new();
    put_pubacks((1..=PACKETS).filter_map(PacketId::new), &mut wire);
    bencher
        .counter(ItemsCount::new(PACKETS))
        .with_inputs(|| BytesMut::from(&wire[..]))
        .bench_local_refs(|buffer| {
            while let Some(packet) = decode(buffer, &LIMITS).unwrap() {
                black_box(packet);
            }
        });
}

/// The price of text without `unsafe`: one more check for each look at it.
#[divan::bench]
fn topic_as_str(bencher: Bencher<'_, '_>) {
    let topic: TopicName = TOPIC.parse().unwrap();
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        for _ in 0..PACKETS {
            black_box(black_box(&topic).as_str());
        }
    });
}

#[divan::bench]
fn match_filter(bencher: Bencher<'_, '_>) {
    let topic: TopicName = TOPIC.parse().unwrap();
    bencher.counter(ItemsCount::new(PACKETS)).bench_local(|| {
        for _ in 0..PACKETS {
            black_box(filter::matches(black_box("devices/+/messages/#"), black_box(&topic)));
        }
    });
}
