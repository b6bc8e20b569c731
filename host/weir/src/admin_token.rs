//! `<data_dir>/admin.token`: the first token, for the operator at this machine. Never in the log.

use anyhow::{Context, Result};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use weir_hub::Hub;

/// Where it lies.
#[must_use]
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.token")
}

/// Makes the first token and writes it, unless both are there.
///
/// # Errors
/// When the store or the file cannot be written.
pub async fn ensure(hub: &Hub, data_dir: &Path) -> Result<()> {
    let path = path(data_dir);
    let lost = !path.exists();
    let Some(secret) = hub.tokens().ensure_admin(hub, lost).await? else { return Ok(()) };
    let part = path.with_extension("part");
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .context("the admin token could not be written")?;
    file.write_all(secret.as_bytes()).context("the admin token could not be written")?;
    file.sync_all().context("the admin token could not be written")?;
    std::fs::rename(&part, &path).context("the admin token could not be put in place")
}
