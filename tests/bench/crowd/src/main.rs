//! Thousands of devices on one hub, over TLS with tokens.
//!
//! `crowd idle`: what an idle client costs in memory. `crowd storm`: the hub is killed, started again, and
//! all come back. Both start a hub of their own and print one JSON object.

mod client;
mod hub;

use clap::{Parser, Subcommand};
use client::{Crowd, Policy};
use hub::{cpu_s, Hub};
use serde_json::{json, Value};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[derive(Parser)]
#[command(version, about = "Thousands of devices on one hub, over TLS with tokens")]
struct Cli {
    /// The hub's program, a release build.
    #[arg(long, env = "WEIR_BIN", global = true, default_value = "weir")]
    weir: PathBuf,
    /// Threads of this tool.
    #[arg(long, global = true, default_value_t = 2)]
    threads: usize,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// All connect, subscribe, send one message, and are silent: memory of the hub for each.
    Idle {
        #[arg(long, default_value_t = 2_000)]
        clients: usize,
    },
    /// All connect; the hub is killed and started; all come back.
    Storm {
        #[arg(long, default_value_t = 5_000)]
        clients: usize,
        /// How they come back.
        #[arg(long, value_enum, default_value_t = Policy::Sdk)]
        policy: Policy,
        /// How long to wait for the last one.
        #[arg(long, default_value_t = 120)]
        limit_s: u64,
    },
}

fn main() {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cli.threads)
        .enable_all()
        .build();
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async {
            match cli.mode {
                Mode::Idle { clients } => idle(&cli.weir, clients).await,
                Mode::Storm { clients, policy, limit_s } => {
                    storm(&cli.weir, clients, policy, limit_s).await
                }
            }
        })
    });
    match result {
        Ok(value) => println!("{value:#}"),
        Err(error) => {
            println!("{:#}", json!({ "error": error.to_string() }));
            std::process::exit(1);
        }
    }
}

/// Starts a hub with so many devices, and clients for all of them.
async fn gather(
    weir: &std::path::Path,
    clients: usize,
    policy: Policy,
) -> io::Result<(Hub, Arc<Crowd>)> {
    let hub = Hub::start(weir)?;
    hub.add_devices(clients).await?;
    let crowd = Crowd::new(&hub, clients, policy)?;
    Ok((hub, crowd))
}

async fn idle(weir: &std::path::Path, clients: usize) -> io::Result<Value> {
    let (mut hub, crowd) = gather(weir, clients, Policy::AtOnce).await?;
    // A life of its own: what setting up has left in its memory does not count as room for clients.
    hub.kill();
    hub.restart()?;
    hub.until_ready().await?;
    crowd.warm_up(10).await?;
    sleep(Duration::from_secs(3)).await;
    let before = hub.rss_kib();
    let begun = Instant::now();
    crowd.connect_all(100).await?;
    let connected_s = begun.elapsed().as_secs_f64();
    sleep(Duration::from_secs(5)).await;
    let after = hub.rss_kib();
    let cpu = hub.cpu_s();
    sleep(Duration::from_secs(5)).await;
    let each = after.saturating_sub(before) as f64 / clients as f64;
    Ok(json!({
        "mode": "idle", "clients": clients, "still_connected": crowd.connected(),
        "connected_s": connected_s, "rss_before_kib": before, "rss_after_kib": after,
        "kib_each": each, "hub_cpu_idle": (hub.cpu_s() - cpu) / 5.0,
    }))
}

async fn storm(
    weir: &std::path::Path,
    clients: usize,
    policy: Policy,
    limit_s: u64,
) -> io::Result<Value> {
    let (mut hub, crowd) = gather(weir, clients, policy).await?;
    let begun = Instant::now();
    crowd.connect_all(200).await?;
    let first_s = begun.elapsed().as_secs_f64();
    sleep(Duration::from_secs(2)).await;
    let rss_before = hub.rss_kib();
    hub.kill();
    // The process has gone, and with it its sockets: who comes from now on comes to the next one.
    crowd.forget();
    let killed = Instant::now();
    let own = cpu_s(std::process::id());
    hub.restart()?;
    let limit = Duration::from_secs(limit_s);
    let mut peak = 0;
    // Every one that was there has lost its connection: those that are connected have come back.
    while crowd.back() < clients && killed.elapsed() < limit {
        sleep(Duration::from_millis(5)).await;
        peak = peak.max(hub.rss_kib());
    }
    let open = crowd.opened().unwrap_or(killed);
    let opened_ms = (open - killed).as_secs_f64() * 1e3;
    let (own, target) = (cpu_s(std::process::id()) - own, hub.cpu_s());
    let times = crowd.times_since(open);
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    sleep(Duration::from_secs(2)).await;
    Ok(json!({
        "mode": "storm", "clients": clients, "policy": format!("{policy:?}"),
        "first_connect_s": first_s, "port_open_after_ms": opened_ms,
        "reconnected": crowd.back(), "still_connected": crowd.connected(),
        "last_connack_s": times.last(), "median_connack_s": times.get(times.len() / 2),
        "port_closed": count(&crowd.port_closed), "refused": count(&crowd.refused),
        "closed_on": count(&crowd.closed_on), "too_slow": count(&crowd.too_slow),
        "last_error": crowd.last_error(),
        "hub_cpu_s": target, "generator_cpu_s": own, "generator_share": own / (own + target),
        "rss_before_kib": rss_before, "rss_peak_kib": peak, "rss_after_kib": hub.rss_kib(),
    }))
}
