//! What the types of the configuration cannot say.

use super::{Config, Upstream};
use crate::pki::{check_edge_ca, device_roots};
use std::borrow::Cow;
use std::net::SocketAddr;
use tracing_subscriber::EnvFilter;
use weir_core::clock::Clock;

/// A rule that the configuration breaks.
#[derive(Debug)]
pub(super) struct Broken {
    /// The key whose value is at fault, such as `listen.api`.
    pub(super) key: Cow<'static, str>,
    /// Another key with which the rule would not hold.
    unless: Option<&'static str>,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Broken {
    /// Whether the rule asks for this key besides its own.
    pub(super) fn depends_on(&self, key: &str) -> bool {
        self.unless == Some(key)
    }
}

fn broken(key: &'static str, message: String, help: &str) -> Broken {
    Broken { key: key.into(), unless: None, message, help: Some(help.to_owned()) }
}

/// All broken rules.
pub(super) fn check(config: &Config) -> Vec<Broken> {
    let mut found = Vec::new();
    let beyond = |address: Option<SocketAddr>| address.filter(|at| !at.ip().is_loopback());
    if let Some(address) = beyond(Some(config.listen.api))
        && !config.api.tls
    {
        let message = format!("{address} is reached by other machines, and the API has no TLS");
        let help =
            "tokens would cross the network in the clear; add these two lines:\n[api]\ntls = true";
        found.push(Broken { unless: Some("api.tls"), ..broken("listen.api", message, help) });
    }
    if let Some(address) = beyond(config.listen.mqtt_plain)
        && !config.insecure
    {
        let message = format!("{address} is reached by other machines, and mqtt_plain has no TLS");
        let help =
            "use 127.0.0.1 or listen.mqtt; for a test, add insecure = true above the first [table]";
        found.push(Broken {
            unless: Some("insecure"),
            ..broken("listen.mqtt_plain", message, help)
        });
    }
    if let Some(address) = config.workload.http.filter(|at| !config.workload.is_local(at.ip())) {
        let message =
            format!("{address} may be reached by other machines, which could sign as any module");
        let help = "use 127.0.0.1, or an address of the containers' network and name that, too:\n\
                    [workload]\nnetwork = \"172.18.0.0/16\"";
        found.push(Broken {
            unless: Some("workload.network"),
            ..broken("workload.http", message, help)
        });
    }
    let (certificate, key) = (&config.edge_ca.certificate, &config.edge_ca.key);
    if certificate.is_some() != key.is_some() {
        let (there, missing) = match certificate.is_some() {
            true => ("edge_ca.certificate", "edge_ca.key"),
            false => ("edge_ca.key", "edge_ca.certificate"),
        };
        let message = "an edge CA is a certificate and its key".to_owned();
        let help = format!("add {missing}");
        found.push(Broken { unless: Some(missing), ..broken(there, message, &help) });
    }
    if config.workload.mode().is_none() {
        let message = format!("{:?} is no mode of a file", config.workload.socket_mode);
        found.push(broken("workload.socket_mode", message, "an octal number such as \"0660\""));
    }
    let names = [
        ("hostname", Some(&config.hostname)),
        ("iothub_hostname", config.iothub_hostname.as_ref()),
    ];
    for (key, name) in names {
        if let Some(name) = name.filter(|name| !is_host_name(name)) {
            let help = "letters, digits, '-' and '.', at most 253; or an address. The port stands in [listen]";
            found.push(broken(key, format!("{name:?} is no host name"), help));
        }
    }
    if EnvFilter::try_new(&config.log.level).is_err() {
        found.push(broken(
            "log.level",
            format!("{:?} is no log level", config.log.level),
            "error, warn, info, debug or trace; by part: \"info,weir_mqtt=debug\"",
        ));
    }
    if config.data_dir.as_os_str().is_empty() {
        found.push(broken("data_dir", "data_dir is empty".to_owned(), "name a folder"));
    }
    found
}

/// What the configuration leads to and cannot work: the upstream's settings, and files that are named.
pub(super) fn look_around(config: &Config) -> Vec<Broken> {
    let mut found = Vec::new();
    if let Err(error) = weir_upstream::open(&config.upstream, &Clock::system(), &config.hostname) {
        let key = format!("upstream.{}", error.key());
        let message = format!("{:#}", anyhow::Error::new(error));
        found.push(Broken { key: key.into(), unless: None, message, help: None });
    }
    if let Some(files) = config.edge_ca.files()
        && let Err(cause) = check_edge_ca(&files)
    {
        found.push(Broken {
            key: "edge_ca".into(),
            unless: None,
            message: cause.to_string(),
            help: None,
        });
    }
    for path in &config.security.device_ca_files {
        if let Err(cause) = device_roots(path) {
            let key = "security.device_ca_files".into();
            found.push(Broken { key, unless: None, message: format!("{cause:#}"), help: None });
        }
    }
    found
}

/// A DNS name or an IP address: what can stand in a certificate and in a connection string.
pub(super) fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.parse::<std::net::IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

/// Keys that this version accepts and does not use, one sentence for each.
pub(super) fn notices(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    let mut unused = |set: bool, key: &str, what: &str| {
        if set {
            found.push(format!("{key} is accepted and has no effect: {what} not built yet"));
        }
    };
    unused(!config.docker.is_empty(), "[docker]", "Docker modules are");
    let elevated = config.allow_elevated_docker_permissions;
    unused(elevated, "allow_elevated_docker_permissions", "Docker modules are");
    if matches!(config.upstream, Upstream::None {}) {
        found.push("there is no upstream: messages for $upstream wait".to_owned());
    }
    found
}
