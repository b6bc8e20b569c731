//! What a filter costs as a module, beside the same rule in native Rust in the same run.
//!
//! `cargo bench -p weir-wasm --bench filter` (and `-- 100` for one size). Every figure is the best of many slices, taken in
//! rotation, of the time inside calls, so that other load on the machine drops out; the ratios are
//! what counts. Half of the messages are kept.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures and prints")]

#[path = "../tests/support/mod.rs"]
mod support;

use serde::Deserialize;
use serde_json::json;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Module, compiler, delivery, guests, runtime_in, stamped};
use weir_core::port::{Batch, Instance, Outcome};

const ROUNDS: usize = 60;
const SLICE: Duration = Duration::from_millis(4);

fn main() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
    tokio.expect("a runtime can be made").block_on(async {
        filters().await;
        starts().await;
    });
}

/// A JSON object of about `bytes`, with the reading in its middle.
fn body(bytes: usize, temperature: f64) -> String {
    let member = |at: usize| match at % 3 {
        0 => format!("\"m{at}\":{}", at * 17),
        1 => format!("\"m{at}\":{at}.25"),
        _ => format!("\"m{at}\":\"ok-{at}\""),
    };
    let mut members =
        vec![format!("\"temperature\":{temperature:.1}"), "\"unit\":\"C\"".to_owned()];
    let mut length = members.iter().map(|member| member.len() + 1).sum::<usize>() + 1;
    for at in 0.. {
        let member = member(at);
        length += member.len() + 1;
        if length > bytes {
            break;
        }
        members.push(member);
    }
    let middle = members.len() / 2;
    members.swap(0, middle);
    format!("{{{}}}", members.join(","))
}

fn messages(count: u64, bytes: usize) -> Batch {
    let deliveries = (0..count)
        .map(|number| {
            let temperature = if number % 2 == 0 { 31.5 } else { 19.5 };
            delivery(number, stamped(number, body(bytes, temperature), &[]))
        })
        .collect();
    Batch { deliveries }
}

#[derive(Deserialize)]
struct Reading {
    temperature: f64,
}

/// The rule in native Rust.
fn native(batch: &Batch, mark: bool) -> Vec<Outcome> {
    let keep = || match mark {
        true => Outcome::Annotate {
            output: 0,
            set: vec![("state".to_owned(), "hot".to_owned())],
            unset: Vec::new(),
        },
        false => Outcome::Pass { output: 0 },
    };
    let outcome = |body: &[u8]| match serde_json::from_slice::<Reading>(body) {
        Ok(reading) if reading.temperature >= 25.0 => keep(),
        Ok(_) | Err(_) => Outcome::Drop,
    };
    batch.deliveries.iter().map(|delivery| outcome(delivery.message.body())).collect()
}

/// Nanoseconds inside calls for a message, over one slice.
async fn slice_of_module(instance: &Arc<dyn Instance>, batch: &Batch) -> f64 {
    let before = instance.usage();
    let start = Instant::now();
    while start.elapsed() < SLICE {
        // Several at once, as under load: the guest's thread does not sleep between them.
        let answers: Vec<_> = (0..8).map(|_| instance.deliver(batch.clone())).collect();
        for answer in answers {
            black_box(answer.await.expect("the filter does not fail"));
        }
    }
    let after = instance.usage();
    let micros = (after.busy_micros - before.busy_micros) as f64;
    micros * 1_000.0 / (after.messages - before.messages) as f64
}

fn slice_of_native(batch: &Batch, mark: bool) -> f64 {
    let start = Instant::now();
    let mut messages = 0;
    while start.elapsed() < SLICE {
        black_box(native(black_box(batch), mark));
        messages += batch.deliveries.len();
    }
    start.elapsed().as_nanos() as f64 / messages as f64
}

async fn filter(settings: serde_json::Value, fields: bool) -> Arc<dyn Instance> {
    let module = Module::new(guests::guest("filter"))
        .with("properties", json!([]))
        .with("body", json!(if fields { "none" } else { "bytes" }))
        .with("fields", if fields { json!(["/temperature"]) } else { json!([]) })
        .with("settings", settings)
        .limit("body-inline", "1Mi");
    module.start(&runtime_in(&cache_dir(), compiler())).await
}

fn cache_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("bench-compiled")
}

async fn filters() {
    let pass = json!({ "threshold": 25, "field": 0 });
    let mark = json!({ "threshold": 25, "field": 0, "mark": "state" });
    let parse = json!({ "threshold": 25, "member": "temperature" });
    let modules = [filter(pass, true).await, filter(mark, true).await, filter(parse, false).await];
    println!("filter, ns a message (ratio to native in the same run), half kept");
    println!(
        "{:>9}  {:>12} {:>20} {:>12} {:>20} {:>22}",
        "body",
        "native pass",
        "fields, pass",
        "native mark",
        "fields, mark",
        "parsed in guest, pass"
    );
    let only: Option<usize> = std::env::args().find_map(|argument| argument.parse().ok());
    for (bytes, count) in [(100, 64), (1_024, 64), (65_536, 16)] {
        if only.is_some_and(|only| only != bytes) {
            continue;
        }
        let batch = messages(count, bytes);
        let mut best = [f64::MAX; 5];
        for _ in 0..ROUNDS {
            let slices = [
                slice_of_native(&batch, false),
                slice_of_module(&modules[0], &batch).await,
                slice_of_native(&batch, true),
                slice_of_module(&modules[1], &batch).await,
                slice_of_module(&modules[2], &batch).await,
            ];
            for (best, slice) in best.iter_mut().zip(slices) {
                *best = best.min(slice);
            }
        }
        let [native, fields, native_mark, fields_mark, parsed] = best;
        let cell = |module: f64, native: f64| format!("{module:.0} ({:.2} x)", module / native);
        println!(
            "{bytes:>7} B  {native:>12.0} {:>20} {native_mark:>12.0} {:>20} {:>22}",
            cell(fields, native),
            cell(fields_mark, native_mark),
            cell(parsed, native)
        );
    }
}

/// From cached code on disk, and from code in memory, to an instance whose `init` has returned.
async fn starts() {
    let filter = Module::new(guests::guest("filter"))
        .with("settings", json!({}))
        .with("fields", json!(["/temperature"]));
    let (mut disk, mut memory) = (Duration::MAX, Duration::MAX);
    for _ in 0..50 {
        let runtime = runtime_in(&cache_dir(), compiler());
        let start = Instant::now();
        drop(filter.start_compiled(&runtime).await.expect("the filter starts"));
        disk = disk.min(start.elapsed());
        let start = Instant::now();
        drop(filter.start_compiled(&runtime).await.expect("the filter starts"));
        memory = memory.min(start.elapsed());
    }
    println!(
        "start with cached code on disk: {:.2} ms, of which load and check {:.2} ms",
        millis(disk),
        millis(disk.saturating_sub(memory))
    );
    println!("start with code in memory (thread, instantiate, init): {:.2} ms", millis(memory));
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
