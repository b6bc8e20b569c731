//! `weir run`: a hub in the foreground until SIGTERM, SIGINT or a fault that it cannot outlive.

use crate::compose::{self, Settings};
use crate::config::{Config, Loaded};
use crate::descriptors;
use crate::telemetry;
use anyhow::{Context, Result};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use weir_core::limits;
use weir_hub::{ModuleLogs, QueueDefaults};

/// What was begun has this long to end after a signal.
const GRACE: Duration = Duration::from_secs(8);

/// Runs until told to stop; true when it ended in good order.
///
/// # Errors
/// Says why the hub did not start.
pub async fn run(loaded: &Loaded) -> Result<bool> {
    let config = &loaded.config;
    let logs = telemetry::start(config.log.format, &config.log.level)?;
    for notice in &loaded.notices {
        warn!("{notice}");
    }
    descriptors::make_room();
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be heard")?;
    let running = compose::start(settings(config, logs)).await?;
    tokio::select! {
        _ = terminate.recv() => info!("told to stop"),
        _ = interrupt.recv() => info!("interrupted"),
        () = running.failed() => {}
    }
    Ok(running.stop(GRACE).await)
}

fn settings(config: &Config, logs: ModuleLogs) -> Settings {
    let store = &config.store;
    Settings {
        data_dir: config.data_dir.clone(),
        hostname: config.hostname.clone(),
        iothub_hostname: config.iothub_hostname().to_owned(),
        device_id: config.device_id.clone(),
        mqtt: config.listen.mqtt,
        mqtt_plain: config.listen.mqtt_plain,
        amqp: config.listen.amqp,
        https: config.listen.https,
        api: config.listen.api,
        api_tls: config.api.tls,
        durability: store.durability,
        store_bytes: store.max_size.map(|size| size.0),
        queues: QueueDefaults {
            module_bytes: store.module_queue.0,
            upstream_bytes: store.upstream_queue.0,
            upstream_when_full: store.upstream_when_full,
        },
        default_ttl: store.time_to_live(),
        ceilings: config.security.wasm.clone(),
        upstream: config.upstream.clone(),
        max_clients: limits::MAX_CLIENTS,
        logs,
        device_ca_files: config.security.device_ca_files.clone(),
        module_certificates: config.security.module_certificates,
        edge_ca: config.edge_ca.files(),
        workload: config.workload.clone(),
    }
}
