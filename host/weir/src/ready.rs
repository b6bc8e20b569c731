//! `<data_dir>/run/ready.json`: there while the hub takes messages; says where it listens.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Write};
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
    /// AMQP over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amqp: Option<SocketAddr>,
    /// HTTPS and WebSockets for devices, modules and service scripts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<SocketAddr>,
    /// The workload API for all modules, without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<SocketAddr>,
}

impl Listening {
    /// Of a hub that has only its API.
    #[must_use]
    pub fn new(api: SocketAddr) -> Self {
        Self { api, mqtt: None, mqtt_plain: None, amqp: None, https: None, workload: None }
    }

    /// Names and addresses, for people.
    #[must_use]
    pub fn shown(&self) -> Vec<(String, String)> {
        let all = [
            ("api", Some(self.api)),
            ("mqtt", self.mqtt),
            ("mqtt_plain", self.mqtt_plain),
            ("amqp", self.amqp),
            ("https", self.https),
            ("workload", self.workload),
        ];
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

    /// Writes it whole or not at all; on a full disk over the one that a killed hub has left, so that
    /// a hub starts there too and can say why it takes no messages.
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
        match std::fs::write(&part, &text) {
            Ok(()) => {
                std::fs::rename(&part, &path).context("ready.json could not be put in place")?;
            }
            Err(cause) if cause.kind() == ErrorKind::StorageFull => {
                drop(std::fs::remove_file(&part));
                overwrite(&path, &text).context("ready.json could not be written")?;
            }
            Err(cause) => return Err(cause).context("ready.json could not be written"),
        }
        Ok(Self(path))
    }
}

/// Takes no new room on the disk, where the file is there.
fn overwrite(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).open(path)?;
    file.write_all(text)?;
    file.set_len(text.len() as u64)
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_file(&self.0) {
            tracing::warn!(error = %cause, "ready.json could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_hub_left_is_written_over_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        assert_eq!(overwrite(&path, b"{}").unwrap_err().kind(), ErrorKind::NotFound);
        std::fs::write(&path, r#"{"pid": 123456}"#).unwrap();
        overwrite(&path, br#"{"pid": 7}"#).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), r#"{"pid": 7}"#);
    }
}
