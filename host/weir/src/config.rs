//! The hub's configuration: one TOML file, the environment on top of it, typed and checked whole.
//!
//! `weir run` and `weir check --config` load it; the client verbs load it to find the hub. Nothing
//! else in the binary reads the environment. Invariants:
//!
//! 1. A configuration is accepted whole, before any file is made or port opened, or not at all.
//! 2. Every value has a default or is absent; `docs/weir.toml` shows all of them, kept by a test.
//! 3. The origin of each value is known: default, file, or the name of an environment variable.

mod address;
mod diagnostic;
mod environment;
mod load;
mod network;
mod rules;
mod show;
mod spans;

#[cfg(test)]
mod tests;

pub use diagnostic::Error;
pub use environment::Environment;
pub use load::{Loaded, Sources};
pub use network::Network;
pub use show::Setting;
pub use weir_upstream::{Config as Upstream, FileConfig, MqttConfig};

use crate::pki::EdgeCaFiles;
use figment::value::Dict;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use weir_core::id::DeviceId;
use weir_core::limits;
use weir_core::module::{Ceilings, Size};
use weir_store::{Durability, WhenFull};

/// What the host's file says. Relative paths begin at the folder of the file; without a file, at the
/// working folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder with everything that the hub keeps. Made at first start, mode 0711: others reach only
    /// `pki/trust-bundle.pem`, by its name.
    pub data_dir: PathBuf,
    /// Name that clients dial; stands in the certificate. Default: the machine's name.
    pub hostname: String,
    /// Name that identities and tokens carry (`HostName=`), also in the certificate. Default: `hostname`.
    pub iothub_hostname: Option<String>,
    /// Id of the edge device. It names what the hub keeps, so it stays when the machine's name changes.
    pub device_id: DeviceId,
    /// Accepts containers with elevated privileges, as in IoT Edge, whose default is true.
    pub allow_elevated_docker_permissions: bool,
    /// Accepts `mqtt_plain` on addresses that other machines reach. For tests only.
    pub insecure: bool,
    /// Where the hub listens.
    pub listen: Listen,
    /// The REST API.
    pub api: Api,
    /// What is kept, and how much.
    pub store: Store,
    /// Where messages for `$upstream` go.
    pub upstream: Upstream,
    /// An edge CA of one's own.
    pub edge_ca: EdgeCa,
    /// What modules get without a connection string.
    pub workload: Workload,
    /// Docker modules. Accepted, not used by this version.
    pub docker: Dict,
    /// What nobody can change through the API.
    pub security: Security,
    /// What the hub says on standard error.
    pub log: Log,
}

/// `[listen]`: `"address:port"`; port 0 takes a free one; `"off"` does not listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// MQTT over TLS.
    #[serde(with = "address")]
    pub mqtt: Option<SocketAddr>,
    /// AMQP 1.0 over TLS.
    #[serde(with = "address")]
    pub amqp: Option<SocketAddr>,
    /// HTTPS and WebSockets for devices, modules and service scripts.
    #[serde(with = "address")]
    pub https: Option<SocketAddr>,
    /// The REST API. Beyond loopback only with `[api] tls = true`. Always on: without it nothing could
    /// be changed.
    #[serde(deserialize_with = "address::always")]
    pub api: SocketAddr,
    /// MQTT without TLS. Loopback only, unless `insecure = true`.
    #[serde(with = "address")]
    pub mqtt_plain: Option<SocketAddr>,
}

/// `[api]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Serves the API over TLS, with the hub's certificate.
    pub tls: bool,
}

/// `[store]`. Sizes are bytes, or `"64Ki"`, `"4Mi"`, `"1Gi"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// All queues together, on disk. Default: 1Gi, or 80 % of the partition where that is less.
    pub max_size: Option<Size>,
    /// `"power"`: what was acknowledged survives a power cut. `"process"`: only the end of the process.
    pub durability: Durability,
    /// One queue into a module; when it is full, new messages are refused.
    pub module_queue: Size,
    /// The queue to the upstream.
    pub upstream_queue: Size,
    /// What the queue to the upstream does when it is full: `"drop-oldest"` or `"reject"`.
    pub upstream_when_full: WhenFull,
    /// Seconds that a message may wait when its route says nothing. 0: for ever.
    pub time_to_live_secs: u64,
}

/// `[edge_ca]`: a CA of the operator, which signs the hub's certificate and those of modules. Looked at
/// every minute: new files take effect without a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EdgeCa {
    /// PEM: the CA's certificate first, then those that signed it. Absent: the hub makes a CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM: its key, PKCS #8, not encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// PEM: what clients are to trust, when the root is not in `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_bundle: Option<PathBuf>,
}

/// `[workload]`: the workload API of IoT Edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// One Unix socket for each module, `<data_dir>/run/workload/<module>.sock`.
    pub sockets: bool,
    /// Mode of the sockets. Who may use one is decided by the user of the process besides.
    pub socket_mode: String,
    /// Users (numbers) whose processes may be any module; the hub's own user and root always may.
    pub users: Vec<u32>,
    /// Plain HTTP for all modules. Whoever reaches it can sign as any module: loopback, or an address in
    /// `network`.
    #[serde(with = "address")]
    pub http: Option<SocketAddr>,
    /// The network of the containers, such as `"172.18.0.0/16"`, from which `http` may be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
}

/// `[security]`: read-only for the API.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// PEM files with the authorities whose device certificates are accepted (`certificateAuthority`).
    pub device_ca_files: Vec<PathBuf>,
    /// Modules may show certificates instead of tokens. IoT Edge never lets them.
    pub module_certificates: bool,
    /// The most that a specification of a Wasm module may ask for.
    pub wasm: Ceilings,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `"text"` or `"json"`.
    pub format: LogFormat,
    /// `"error"`, `"warn"`, `"info"`, `"debug"`, `"trace"`, or by part: `"info,weir_mqtt=debug"`.
    pub level: String,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object in a line.
    Json,
}

/// Port of MQTT over TLS (IANA).
const MQTT_PORT: u16 = 8883;
/// Port of the REST API.
const API_PORT: u16 = 8420;

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("weir-data"),
            hostname: machine_name(),
            iothub_hostname: None,
            device_id: "edge".parse().expect("the default id is in the alphabet"),
            allow_elevated_docker_permissions: false,
            insecure: false,
            listen: Listen::default(),
            api: Api::default(),
            store: Store::default(),
            upstream: Upstream::default(),
            edge_ca: EdgeCa::default(),
            workload: Workload::default(),
            docker: Dict::new(),
            security: Security::default(),
            log: Log::default(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            mqtt: Some(SocketAddr::new(everywhere, MQTT_PORT)),
            amqp: None,
            https: None,
            api: SocketAddr::new(here, API_PORT),
            mqtt_plain: None,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            max_size: None,
            durability: Durability::Power,
            module_queue: Size(limits::STORE_BYTES / 4),
            upstream_queue: Size(limits::STORE_BYTES / 2),
            upstream_when_full: WhenFull::DropOldest,
            time_to_live_secs: 0,
        }
    }
}

impl Default for Workload {
    fn default() -> Self {
        let socket_mode = "0666".to_owned();
        Self { sockets: true, socket_mode, users: Vec::new(), http: None, network: None }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

impl Config {
    /// Name that identities and tokens carry.
    #[must_use]
    pub fn iothub_hostname(&self) -> &str {
        self.iothub_hostname.as_deref().unwrap_or(&self.hostname)
    }
}

impl EdgeCa {
    /// The files; none: the hub makes a CA.
    #[must_use]
    pub fn files(&self) -> Option<EdgeCaFiles> {
        let Self { certificate, key, trust_bundle } = self.clone();
        Some(EdgeCaFiles { certificate: certificate?, key: key?, trust_bundle })
    }
}

impl Workload {
    /// The mode of the sockets; none when it is not an octal number of permissions.
    #[must_use]
    pub fn mode(&self) -> Option<u32> {
        u32::from_str_radix(&self.socket_mode, 8).ok().filter(|mode| *mode <= 0o777)
    }

    /// Whether an address is this machine's own or one of its containers'.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.network.is_some_and(|network| network.contains(address))
    }
}

impl Store {
    /// How long a message may wait when its route says nothing.
    #[must_use]
    pub fn time_to_live(&self) -> Option<Duration> {
        (self.time_to_live_secs > 0).then(|| Duration::from_secs(self.time_to_live_secs))
    }
}

/// The machine's name where it can stand in a certificate, else `localhost`.
fn machine_name() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_str() {
        Ok(name) if rules::is_host_name(name) => name.to_owned(),
        _ => "localhost".to_owned(),
    }
}
