//! Where a hub is, and with which token it is spoken to.
//!
//! What the command names wins: `--config`, `--data-dir`. Then `WEIR_HOST`, then the folder that
//! `weir run` without options uses.

use super::Error;
use crate::config::{self, Environment, Loaded, Sources};
use serde::Deserialize;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Port of the API where `WEIR_HOST` names none.
const PORT: u16 = 8420;

/// What the command line says about the hub.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// `--config`.
    pub config: Option<&'a Path>,
    /// `--data-dir`.
    pub data_dir: Option<&'a Path>,
}

/// A hub that can be spoken to.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name or address, without brackets.
    pub host: String,
    /// Port of the API.
    pub port: u16,
    /// PEM with what its certificate leads to, where the API has TLS.
    pub trust: Option<PathBuf>,
    /// Says who asks; needed for all but health.
    pub token: Option<Token>,
    /// The file that named it; it may be left from a hub that was killed.
    pub named_by: Option<PathBuf>,
}

/// A bearer token; never printed, wiped from memory afterwards.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// The line breaks around it are left out.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    fn read(path: &Path) -> io::Result<Self> {
        let text = Zeroizing::new(fs::read_to_string(path)?);
        Ok(Self::new(&text))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

/// What is needed of `run/ready.json`.
#[derive(Deserialize)]
struct Ready {
    listen: Listen,
    /// The API has TLS.
    #[serde(default)]
    api_tls: bool,
}

#[derive(Deserialize)]
struct Listen {
    api: SocketAddr,
}

/// Why the hub was not found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// The configuration file is refused.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Everything else.
    #[error(transparent)]
    Client(#[from] Error),
}

impl Target {
    /// Finds the hub.
    ///
    /// # Errors
    /// Says where it was looked for, and how to start it.
    pub fn find(wanted: Wanted<'_>, environment: &Environment) -> Result<Self, FindError> {
        let named = wanted.config.is_some() || wanted.data_dir.is_some();
        if let Some(host) = environment.get("WEIR_HOST").filter(|_| !named) {
            return Ok(Self::remote(host, environment)?);
        }
        let data_dir = match (wanted.config, wanted.data_dir) {
            (None, Some(folder)) => folder.to_owned(),
            (file, data_dir) => {
                Loaded::from(Sources { file, environment, data_dir })?.config.data_dir
            }
        };
        Ok(Self::local(&data_dir, wanted, environment)?)
    }

    fn local(
        data_dir: &Path,
        wanted: Wanted<'_>,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let path = data_dir.join("run").join("ready.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(Error::NotRunning { looked_at: path, start: start_options(wanted) });
            }
            Err(cause) => return Err(Error::Unreadable { path, cause }),
        };
        let Ok(ready) = serde_json::from_slice::<Ready>(&text) else {
            return Err(Error::Damaged { path });
        };
        let trust = data_dir.join("pki").join("trust-bundle.pem");
        let address = reachable(ready.listen.api);
        Ok(Self {
            host: address.ip().to_string(),
            port: address.port(),
            trust: ready.api_tls.then_some(trust),
            token: Some(local_token(data_dir, environment)?),
            named_by: Some(path),
        })
    }

    fn remote(text: &str, environment: &Environment) -> Result<Self, Error> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => (false, text),
        };
        let authority = rest.trim_end_matches('/').parse::<hyper::http::uri::Authority>();
        let authority = authority.map_err(|_| Error::Host)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        // User information would be a secret in the wrong place.
        let odd_port = authority.port_u16().is_none() && authority.as_str() != authority.host();
        if host.is_empty() || odd_port || authority.as_str().contains('@') {
            return Err(Error::Host);
        }
        let trust = match (tls, environment.get("WEIR_CA_FILE")) {
            (false, _) => None,
            (true, Some(file)) => Some(PathBuf::from(file)),
            (true, None) => return Err(Error::NoTrust { host }),
        };
        let token = token_of(environment)?.ok_or(Error::NoToken)?;
        let port = authority.port_u16().unwrap_or(PORT);
        Ok(Self { host, port, trust, token: Some(token), named_by: None })
    }
}

fn start_options(wanted: Wanted<'_>) -> String {
    let config = wanted.config.map(|file| format!(" --config {}", file.display()));
    let data_dir = wanted.data_dir.map(|folder| format!(" --data-dir {}", folder.display()));
    config.into_iter().chain(data_dir).collect()
}

/// `WEIR_TOKEN`, or the content of the file that `WEIR_TOKEN_FILE` names.
fn token_of(environment: &Environment) -> Result<Option<Token>, Error> {
    match (environment.get("WEIR_TOKEN"), environment.get("WEIR_TOKEN_FILE")) {
        (Some(token), _) => Ok(Some(Token::new(token))),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            Token::read(&path).map(Some).map_err(|cause| Error::Unreadable { path, cause })
        }
        (None, None) => Ok(None),
    }
}

/// The hub's own token where it can be read; whoever may not read it brings one in the environment.
fn local_token(data_dir: &Path, environment: &Environment) -> Result<Token, Error> {
    let path = data_dir.join("admin.token");
    match Token::read(&path) {
        Ok(token) => Ok(token),
        Err(cause) => token_of(environment)?.ok_or(Error::Unreadable { path, cause }),
    }
}

/// A listener on all addresses is reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}
