//! What the types of the configuration cannot say.

use super::{Config, Upstream};
use std::net::SocketAddr;
use tracing_subscriber::EnvFilter;

/// A rule that the configuration breaks.
#[derive(Debug)]
pub(super) struct Broken {
    /// The key whose value is at fault, such as `listen.api`.
    pub(super) key: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

fn broken(key: &'static str, message: String, help: &str) -> Broken {
    Broken { key, message, help: Some(help.to_owned()) }
}

/// The first broken rule.
pub(super) fn check(config: &Config) -> Result<(), Broken> {
    let beyond = |address: Option<SocketAddr>| address.filter(|at| !at.ip().is_loopback());
    if let Some(address) = beyond(Some(config.listen.api))
        && !config.api.tls
    {
        return Err(broken(
            "listen.api",
            format!("{address} is reached by other machines, and the API has no TLS"),
            "tokens would cross the network in the clear; add these two lines:\n[api]\ntls = true",
        ));
    }
    if let Some(address) = beyond(config.listen.mqtt_plain)
        && !config.insecure
    {
        return Err(broken(
            "listen.mqtt_plain",
            format!("{address} is reached by other machines, and mqtt_plain has no TLS"),
            "use 127.0.0.1 or listen.mqtt; for a test, add insecure = true above the first [table]",
        ));
    }
    host_name("hostname", &config.hostname)?;
    host_name("iothub_hostname", config.iothub_hostname())?;
    if EnvFilter::try_new(&config.log.level).is_err() {
        return Err(broken(
            "log.level",
            format!("{:?} is no log level", config.log.level),
            "error, warn, info, debug or trace; by part: \"info,weir_mqtt=debug\"",
        ));
    }
    if config.data_dir.as_os_str().is_empty() {
        return Err(broken("data_dir", "data_dir is empty".to_owned(), "name a folder"));
    }
    Ok(())
}

fn host_name(key: &'static str, name: &str) -> Result<(), Broken> {
    if is_host_name(name) {
        return Ok(());
    }
    let help =
        "letters, digits, '-' and '.', at most 253; or an address. The port stands in [listen]";
    Err(broken(key, format!("{name:?} is no host name"), help))
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
    unused(config.listen.amqp.is_some(), "listen.amqp", "the AMQP listener is");
    unused(config.listen.https.is_some(), "listen.https", "the HTTPS listener for devices is");
    unused(!config.docker.is_empty(), "[docker]", "Docker modules are");
    let elevated = config.allow_elevated_docker_permissions;
    unused(elevated, "allow_elevated_docker_permissions", "Docker modules are");
    if matches!(config.upstream, Upstream::None {}) {
        found.push("there is no upstream: messages for $upstream wait".to_owned());
    }
    found
}
