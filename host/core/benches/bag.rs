//! Cost of reading and writing the property bag of a typical SDK message.
//!
//! `cargo bench -p weir-core --bench bag`

use std::hint::black_box;
use weir_core::clock::Timestamp;
use weir_core::id::{Identity, MessageId};
use weir_core::message::Message;
use weir_core::topic::bag::{decode_bag, push_bag};
use weir_core::topic::parse_publish;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

const TOPIC: &str = "devices/weir-edge/modules/sender/messages/events/%24.on=out1&%24.mid=3f9c0c9e-9d0f-4c51&%24.ct=application%2Fjson&colour=blue";
const BAG: &str = "%24.on=out1&%24.mid=3f9c0c9e-9d0f-4c51&%24.ct=application%2Fjson&colour=blue";
const PLAIN: &str = "site=north&line=7&colour=blue&tag=x";

fn main() {
    divan::main();
}

#[divan::bench(sample_size = 1000)]
fn parse_topic(bencher: divan::Bencher<'_, '_>) {
    bencher.bench(|| parse_publish(black_box(TOPIC)));
}

#[divan::bench(sample_size = 1000, args = [("sdk", BAG), ("plain", PLAIN), ("empty", "")])]
fn decode(bencher: divan::Bencher<'_, '_>, (_, bag): (&str, &str)) {
    bencher.bench(|| decode_bag(black_box(bag)));
}

#[divan::bench(sample_size = 1000)]
fn encode(bencher: divan::Bencher<'_, '_>) {
    let properties = decode_bag(BAG).map(|bag| bag.properties).unwrap_or_default();
    let sender =
        Identity::module("weir-edge".parse().expect("an id"), "sender".parse().expect("an id"));
    let message = Message { properties, ..Message::default() };
    let message = message.stamp(&sender, MessageId(1), Timestamp::from_secs(1));
    let mut out = String::with_capacity(512);
    bencher.bench_local(|| {
        out.clear();
        push_bag(black_box(&message), &mut out);
        out.len()
    });
}
