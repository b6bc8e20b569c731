//! The `[upstream]` table: stands in for `weir_upstream::Config`, whose keys it has.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Which kind of upstream, by the key `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Config {
    /// No upstream: routes into `$upstream` wait for one.
    None {},
    /// JSON lines in a local file.
    File(FileConfig),
    /// An MQTT 3.1.1 broker.
    Mqtt(MqttConfig),
}

impl Default for Config {
    fn default() -> Self {
        Self::None {}
    }
}

impl Config {
    /// Makes relative paths relative to `base`, the folder that the hub's other paths begin at.
    pub fn resolve_paths(&mut self, base: &Path) {
        match self {
            Self::None {} => {}
            Self::File(file) => file.path = base.join(&file.path),
            Self::Mqtt(mqtt) => {
                let MqttConfig { password_file, ca_file, cert_file, key_file, .. } = mqtt;
                let files = [password_file, ca_file, cert_file, key_file];
                for path in files.into_iter().flatten() {
                    *path = base.join(&*path);
                }
            }
        }
    }
}

/// `kind = "file"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file that is written. Its folder must exist.
    pub path: PathBuf,
    /// A file that has grown to this many bytes is closed and renamed to `<path>.<number>`; the
    /// numbers grow (`.000001`, `.000002`, …), and a closed file is never renamed again.
    #[serde(default = "default_rotate_bytes")]
    pub rotate_bytes: u64,
    /// Closed files that are kept; the oldest are deleted. 0 keeps all.
    #[serde(default = "default_keep_files")]
    pub keep_files: u32,
    /// When what was written must be on disk.
    #[serde(default)]
    pub fsync: Fsync,
    /// Longest time between write and fsync, for `fsync = "interval"`.
    #[serde(default = "default_fsync_interval_ms")]
    pub fsync_interval_ms: u64,
}

/// When the file upstream calls fdatasync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Before messages count as accepted: a power cut loses none of them.
    #[default]
    Always,
    /// At the latest `fsync_interval_ms` after a write: a power cut may lose that much.
    Interval,
    /// Never: a power cut may lose what the system had not written by itself.
    Never,
}

const fn default_rotate_bytes() -> u64 {
    64 * 1024 * 1024
}

const fn default_keep_files() -> u32 {
    10
}

const fn default_fsync_interval_ms() -> u64 {
    1_000
}

impl FileConfig {
    /// The defaults, with this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            rotate_bytes: default_rotate_bytes(),
            keep_files: default_keep_files(),
            fsync: Fsync::default(),
            fsync_interval_ms: default_fsync_interval_ms(),
        }
    }
}

/// `kind = "mqtt"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// `host` or `host:port`; an IPv6 address stands in brackets. The port is 1883, with TLS 8883.
    pub address: String,
    /// Default: `weir-` and the hub's name.
    #[serde(default)]
    pub client_id: Option<String>,
    /// True: the broker forgets this client with each connection, and what it had not acknowledged is
    /// sent as new. False: it is sent again with its packet id and DUP.
    #[serde(default = "default_true")]
    pub clean_session: bool,
    /// MQTT keep-alive. A PINGREQ leaves after three quarters of it without another packet.
    #[serde(default = "default_keep_alive_secs")]
    pub keep_alive_secs: u16,
    /// Limit for name look-up, TCP and TLS together, and again for CONNACK.
    #[serde(default = "default_connect_timeout_secs")]
    pub connect_timeout_secs: u64,
    /// Longest time without any PUBACK while one is awaited, and longest wait for a PINGRESP; after
    /// it the connection counts as dead.
    #[serde(default = "default_ack_timeout_secs")]
    pub ack_timeout_secs: u64,
    /// PUBLISH packets under way, from the oldest without a PUBACK on.
    #[serde(default = "default_window")]
    pub window: usize,
    /// Topic of a message. `{hub}`, `{device}`, `{module}` and `{output}` are filled in; `-` stands
    /// for a module or output that a message does not have. In values `+`, `#`, `/`, `%` and control
    /// characters are percent-encoded, and so is a `$` that would begin the topic.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// Where a message's properties go.
    #[serde(default)]
    pub properties: PropertyForm,
    /// Messages whose PUBLISH would be larger are rejected. Set it to the broker's limit where the
    /// broker closes the connection on larger ones.
    #[serde(default = "default_max_packet_bytes")]
    pub max_packet_bytes: usize,
    /// User name of the CONNECT.
    #[serde(default)]
    pub user_name: Option<String>,
    /// File whose content is the password; a line break at its end is left out. Read for each
    /// connection, so that a changed password needs no restart.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// TLS 1.2 or 1.3.
    #[serde(default)]
    pub tls: bool,
    /// PEM with the certificates that the broker's certificate must lead to.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// PEM with the client's certificate chain, where the broker asks for one.
    #[serde(default)]
    pub cert_file: Option<PathBuf>,
    /// PEM with the private key of `cert_file`.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Name in the broker's certificate, where it is not the host of `address`.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Takes any certificate. For tests only: anyone in between can read and answer.
    #[serde(default)]
    pub insecure: bool,
}

/// Where properties go that MQTT 3.1.1 has no place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropertyForm {
    /// Into the topic's last level, as in IoT Hub: `…/%24.ct=text%2Fplain&colour=blue`.
    #[default]
    Topic,
    /// The payload is the JSON object that the file upstream writes.
    Envelope,
    /// They are left out.
    None,
}

const fn default_true() -> bool {
    true
}

const fn default_keep_alive_secs() -> u16 {
    60
}

const fn default_connect_timeout_secs() -> u64 {
    10
}

const fn default_ack_timeout_secs() -> u64 {
    20
}

const fn default_window() -> usize {
    100
}

fn default_topic() -> String {
    "weir/{hub}/{device}/{module}/{output}".to_owned()
}

const fn default_max_packet_bytes() -> usize {
    268_435_455
}

impl MqttConfig {
    /// The defaults, with this broker.
    #[must_use]
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            client_id: None,
            clean_session: true,
            keep_alive_secs: default_keep_alive_secs(),
            connect_timeout_secs: default_connect_timeout_secs(),
            ack_timeout_secs: default_ack_timeout_secs(),
            window: default_window(),
            topic: default_topic(),
            properties: PropertyForm::default(),
            max_packet_bytes: default_max_packet_bytes(),
            user_name: None,
            password_file: None,
            tls: false,
            ca_file: None,
            cert_file: None,
            key_file: None,
            server_name: None,
            insecure: false,
        }
    }
}
