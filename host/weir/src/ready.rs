//! `<data_dir>/run/ready.json`: there while the hub takes messages; says where it listens.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where a hub listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// The REST API.
    pub api: SocketAddr,
    /// MQTT over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<SocketAddr>,
    /// MQTT without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt_plain: Option<SocketAddr>,
}

impl Listening {
    /// Names and addresses, for people.
    #[must_use]
    pub fn shown(&self) -> Vec<(String, String)> {
        let all = [("api", Some(self.api)), ("mqtt", self.mqtt), ("mqtt_plain", self.mqtt_plain)];
        all.into_iter()
            .filter_map(|(name, address)| Some((name.to_owned(), address?.to_string())))
            .collect()
    }
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The hub's process.
    pub pid: u32,
    /// Where it listens.
    pub listen: Listening,
    /// True when the API speaks TLS.
    #[serde(default)]
    pub api_tls: bool,
}

/// The file; removed when dropped.
#[derive(Debug)]
pub struct ReadyFile(PathBuf);

impl ReadyFile {
    /// Where it lies.
    #[must_use]
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("run").join("ready.json")
    }

    /// Writes it whole or not at all.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(data_dir: &Path, listening: &Listening, api_tls: bool) -> Result<Self> {
        let path = Self::path(data_dir);
        let folder = data_dir.join("run");
        std::fs::create_dir_all(&folder).context("the run folder could not be made")?;
        let ready = Ready { pid: std::process::id(), listen: *listening, api_tls };
        let text = serde_json::to_vec(&ready).context("ready.json could not be made")?;
        let part = folder.join("ready.json.part");
        std::fs::write(&part, text).context("ready.json could not be written")?;
        std::fs::rename(&part, &path).context("ready.json could not be put in place")?;
        Ok(Self(path))
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_file(&self.0) {
            tracing::warn!(error = %cause, "ready.json could not be removed");
        }
    }
}
