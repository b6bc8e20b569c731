//! Builds a hub out of its parts and takes it apart again, in order.
//!
//! The only place that knows every crate. [`Settings`] are plain values: `config` makes them from the
//! host's file, the demo makes its own.

use crate::certificates;
use crate::config;
use crate::pki::{self, EdgeCaFiles, Pki};
use crate::ready::{Listening, ReadyFile};
use crate::tls::TlsServer;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tracing::{error, info};
use weir_api::https::{Upgrade, Upgrades};
use weir_api::workload::{self, Authority, SocketOptions, Workload};
use weir_core::clock::Clock;
use weir_core::id::DeviceId;
use weir_core::limits;
use weir_core::module::Ceilings;
use weir_core::port::ModuleRuntime;
use weir_hub::tasks::{TaskGroup, TaskKind};
use weir_hub::{Hub, ModuleLogs, Parts, QueueDefaults};
use weir_store::{Durability, Opened, Store};
use weir_wasm::{Compiler, Runtime};

/// Everything that decides what a hub is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Name that clients dial.
    pub hostname: String,
    /// Name that identities and tokens carry.
    pub iothub_hostname: String,
    /// The edge device.
    pub device_id: DeviceId,
    /// MQTT over TLS.
    pub mqtt: Option<SocketAddr>,
    /// MQTT without TLS.
    pub mqtt_plain: Option<SocketAddr>,
    /// AMQP over TLS.
    pub amqp: Option<SocketAddr>,
    /// HTTPS and WebSockets for devices, modules and service scripts.
    pub https: Option<SocketAddr>,
    /// The REST API.
    pub api: SocketAddr,
    /// The REST API over TLS.
    pub api_tls: bool,
    /// What an acknowledgement means.
    pub durability: Durability,
    /// Limit of the store.
    pub store_bytes: Option<u64>,
    /// Limits of the queues.
    pub queues: QueueDefaults,
    /// Time to live of messages whose route sets none.
    pub default_ttl: Option<Duration>,
    /// Ceilings of Wasm modules.
    pub ceilings: Ceilings,
    /// Where messages go that leave the hub.
    pub upstream: weir_upstream::Config,
    /// Clients at once.
    pub max_clients: usize,
    /// Where the modules' log lines are seen from outside.
    pub logs: ModuleLogs,
    /// PEM files with the roots of CA-signed devices.
    pub device_ca_files: Vec<PathBuf>,
    /// Modules may show certificates.
    pub module_certificates: bool,
    /// An edge CA that the operator brings.
    pub edge_ca: Option<EdgeCaFiles>,
    /// The workload API.
    pub workload: config::Workload,
}

/// A hub that takes messages.
pub struct Running {
    /// The hub.
    pub hub: Hub,
    /// Where it listens.
    pub listening: Listening,
    tasks: TaskGroup,
    storage: TaskGroup,
    ready: ReadyFile,
}

/// Starts a hub; it takes messages when this returns.
///
/// # Errors
/// Says what could not be opened or bound.
pub async fn start(settings: Settings) -> Result<Running> {
    let clock = Clock::system();
    let tasks = TaskGroup::default();
    prepare_folder(&settings.data_dir)?;
    let pki = Pki::open(
        &settings.data_dir.join("pki"),
        &settings.hostname,
        &settings.iothub_hostname,
        settings.edge_ca.clone(),
        clock.clone(),
    )
    .context("the certificates could not be opened")?;
    let pki = Arc::new(pki);
    let tls = Arc::new(TlsServer::new(pki.server_certificate()?)?);
    let listeners = bind(&settings)?;
    let opened = Store::open(weir_store::Options {
        dir: settings.data_dir.join("store"),
        durability: settings.durability,
        total_bytes: settings.store_bytes,
        clock: clock.clone(),
    })
    .await
    .context("the store could not be opened")?;
    let runtime = Runtime::new(weir_wasm::Options {
        dir: settings.data_dir.join("modules"),
        compiler: compiler()?,
        clock: clock.clone(),
        ceilings: settings.ceilings.clone(),
    })
    .context("the module runtime could not be started")?;
    let runtime: Arc<dyn ModuleRuntime> = Arc::new(runtime);
    let upstream = weir_upstream::open(&settings.upstream, &clock, &settings.hostname)
        .context("the upstream could not be set up")?;
    let config = hub_config(&settings)?;
    let Opened { store, writer, report, start } = opened;
    // A group of its own: the last acknowledgements of the others need the writer.
    let storage = TaskGroup::default();
    storage.spawn(TaskKind::Essential, "writer", move |_| async move {
        if let Err(cause) = writer.run().await {
            error!(error = %cause, "the writer ended");
        }
    });
    let parts = Parts { store, report, start, runtime, upstream };
    let hub = Hub::start(config, clock, parts, tasks.clone())
        .await
        .context("the hub could not be started")?;
    // Before the first client is let in, who would otherwise be told to come again later: ports were
    // open to all while the store was.
    hub.set_ready(true);
    let listening = listen(&hub, &settings, listeners, &tls, &pki).await?;
    certificates::keep(&hub, pki, tls);
    let ready = ReadyFile::write(&settings.data_dir, &listening, settings.api_tls)?;
    info!(device = %settings.device_id, api = %listening.api, "the hub is ready");
    Ok(Running { hub, listening, tasks, storage, ready })
}

impl Running {
    /// Resolves when the hub must stop by itself: something essential has ended.
    pub async fn failed(&self) {
        let (tasks, storage) = (self.tasks.stop(), self.storage.stop());
        tokio::select! {
            () = tasks.draining() => {}
            () = storage.draining() => {}
        }
    }

    /// Stops in order: nothing new is taken, what was begun is finished and acknowledged, then the
    /// store is closed. True when nothing essential had failed.
    pub async fn stop(self, grace: Duration) -> bool {
        drop(self.ready);
        self.hub.set_ready(false);
        let failed = self.tasks.shut_down(grace).await;
        self.hub.store().close().await;
        let failed = failed.or(self.storage.shut_down(grace).await);
        match failed {
            Some(task) => error!(task, "the hub stopped because an essential task had ended"),
            None => info!("the hub has stopped"),
        }
        failed.is_none()
    }
}

fn hub_config(settings: &Settings) -> Result<weir_hub::Config> {
    let mut device_roots = Vec::new();
    for path in &settings.device_ca_files {
        device_roots.extend(pki::device_roots(path)?);
    }
    Ok(weir_hub::Config {
        edge_device: settings.device_id.clone(),
        hostname: settings.hostname.clone(),
        iothub_hostname: settings.iothub_hostname.clone(),
        ceilings: settings.ceilings.clone(),
        default_ttl: settings.default_ttl,
        queues: settings.queues,
        max_clients: settings.max_clients,
        device_roots,
        module_certificates: settings.module_certificates,
    })
}

/// The binary compiles its own modules, as a limited child.
fn compiler() -> Result<Compiler> {
    let program = std::env::current_exe().context("the hub's own program was not found")?;
    Ok(Compiler { program, args: vec!["compile-module".into()] })
}

/// Others may pass through, to the trust bundle, but not list it; what is private below it has a mode of
/// its own. A folder that is there keeps its mode.
fn prepare_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.with_context(|| format!("the data folder {} could not be made", path.display()))
}

struct Listeners {
    mqtt: Option<TcpListener>,
    mqtt_plain: Option<TcpListener>,
    amqp: Option<TcpListener>,
    https: Option<TcpListener>,
    workload: Option<TcpListener>,
    api: TcpListener,
}

/// Ports are taken before anything is opened: a second hub on the same ports changes nothing.
fn bind(settings: &Settings) -> Result<Listeners> {
    let one = |what: &str, address: SocketAddr| {
        let bound = listener(address);
        bound.with_context(|| format!("{what} cannot listen on {address}"))
    };
    let maybe = |what: &str, address: Option<SocketAddr>| match address {
        Some(address) => one(what, address).map(Some),
        None => Ok(None),
    };
    Ok(Listeners {
        mqtt: maybe("mqtt", settings.mqtt)?,
        mqtt_plain: maybe("mqtt_plain", settings.mqtt_plain)?,
        amqp: maybe("amqp", settings.amqp)?,
        https: maybe("https", settings.https)?,
        workload: maybe("the workload api", settings.workload.http)?,
        api: one("api", settings.api)?,
    })
}

/// A listener behind which all clients of a site can wait: the library's own has room for 128, and the
/// system drops or resets those over it.
fn listener(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::LISTEN_BACKLOG)
}

async fn listen(
    hub: &Hub,
    settings: &Settings,
    listeners: Listeners,
    tls: &Arc<TlsServer>,
    pki: &Arc<Pki>,
) -> Result<Listening> {
    let head = weir_mqtt::Server::new(hub.clone());
    let amqp = weir_amqp::Server::new(hub.clone());
    let mut listening = Listening::new(listeners.api.local_addr()?);
    if let Some(listener) = listeners.mqtt {
        listening.mqtt = Some(listener.local_addr()?);
        let (_, config) = watch::channel(tls.config(&[])?);
        head.listen(listener, weir_mqtt::Security::Tls(config));
    }
    if let Some(listener) = listeners.mqtt_plain {
        listening.mqtt_plain = Some(listener.local_addr()?);
        head.listen(listener, weir_mqtt::Security::Plain);
    }
    if let Some(listener) = listeners.amqp {
        listening.amqp = Some(listener.local_addr()?);
        let (_, config) = watch::channel(tls.config(&[])?);
        amqp.listen(listener, weir_amqp::Security::Tls(config));
    }
    if let Some(listener) = listeners.https {
        listening.https = Some(listener.local_addr()?);
        let upgrades = upgrades(hub, &head, &amqp);
        weir_api::https::listen(listener, hub.clone(), tls.config(&["http/1.1"])?, upgrades);
    }
    listening.workload = serve_modules(hub, settings, listeners.workload, pki)?;
    let api_tls = if settings.api_tls { Some(tls.config(&["http/1.1"])?) } else { None };
    crate::admin_token::ensure(hub, &settings.data_dir).await?;
    let options = weir_api::Options {
        listeners: listening.shown(),
        logs: settings.logs.clone(),
        workload: workload::Places {
            sockets: settings.workload.sockets.then(|| sockets_folder(settings)).transpose()?,
            http: listening.workload,
        },
        tls: api_tls,
    };
    weir_api::serve(listeners.api, hub.clone(), options);
    Ok(listening)
}

/// The workload API: a port where one is wanted, and a socket for each module.
fn serve_modules(
    hub: &Hub,
    settings: &Settings,
    listener: Option<TcpListener>,
    pki: &Arc<Pki>,
) -> Result<Option<SocketAddr>> {
    let (bundle, issuer) = (Arc::clone(pki), Arc::clone(pki));
    let authority = Authority {
        trust_bundle: Arc::new(move || bundle.trust_bundle_text()),
        issue: Arc::new(move |purpose| issuer.issue(purpose)),
    };
    let options = workload::Options { authority, secret: pki.secret()? };
    let workload = Workload::new(hub.clone(), options);
    let config = &settings.workload;
    if config.sockets {
        let sockets = SocketOptions {
            folder: sockets_folder(settings)?,
            mode: config.mode().context("the mode of the workload sockets is no mode")?,
            users: config.users.clone(),
            own_user: rustix::process::getuid().as_raw(),
            // No module has a container yet.
            is_of_module: Arc::new(|_, _| None),
        };
        workload.keep_sockets(sockets).context("the workload sockets could not be made")?;
    }
    let Some(listener) = listener else { return Ok(None) };
    let address = listener.local_addr()?;
    let config = config.clone();
    workload.listen(listener, move |peer| config.is_local(peer));
    Ok(Some(address))
}

/// From the root, because modules run in other folders.
fn sockets_folder(settings: &Settings) -> Result<PathBuf> {
    let folder = std::path::absolute(settings.data_dir.join("run").join("workload"));
    folder.context("the folder of the workload sockets has no absolute path")
}

/// Hands WebSockets to the head of what is spoken on them.
fn upgrades(hub: &Hub, mqtt: &weir_mqtt::Server, amqp: &weir_amqp::Server) -> Upgrades {
    let (head, stop) = (mqtt.clone(), hub.tasks().stop());
    let mqtt: Upgrade = Arc::new(move |socket, peer| {
        let (head, stop) = (head.clone(), stop.clone());
        Box::pin(async move { head.serve(socket, peer, stop).await })
    });
    let (head, stop) = (amqp.clone(), hub.tasks().stop());
    let amqp: Upgrade = Arc::new(move |socket, peer| {
        let (head, stop) = (head.clone(), stop.clone());
        Box::pin(async move { head.serve(socket, peer, stop).await })
    });
    Upgrades { mqtt, amqp }
}
