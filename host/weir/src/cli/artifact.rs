//! `weir artifact`, and the upload that `weir module` uses.

use super::{Error, HubArgs};
use crate::client::{self, Client, paths};
use crate::output::{Column, Console};
use bytes::Bytes;
use serde_json::Value;
use std::path::{Path, PathBuf};
use weir_core::digest::Digest;
use weir_hub::digest_of;

/// Arguments of `weir artifact`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir artifact put filter.wasm                prints its digest
  weir artifact list
  weir artifact show sha256:...                what it needs and offers
  weir artifact delete sha256:...")]
pub struct ArtifactArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: ArtifactVerb,
}

/// What is done with artifacts.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ArtifactVerb {
    /// List the uploaded components
    List,
    /// Show what a component needs and offers
    Show {
        /// sha256:...
        digest: Digest,
    },
    /// Upload a component; it is checked and compiled
    Put {
        /// A .wasm file with a component
        file: PathBuf,
    },
    /// Delete a component that no module needs
    Delete {
        /// sha256:...
        digest: Digest,
    },
}

const COLUMNS: &[Column] = &[("DIGEST", "/digest"), ("BYTES", "/bytes"), ("UPLOADED", "/at")];

impl ArtifactVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::artifacts(), None).await?)?),
            Self::Show { digest } => {
                Ok(console.thing(&hub.get(&paths::artifact(&digest.to_string())).await?.body)?)
            }
            Self::Put { file } => {
                let (digest, answer) = upload(hub, &read(&file)?, console).await?;
                match answer {
                    Some(answer) if console.wants_json() => Ok(console.json(&answer)?),
                    _ => Ok(console.line(&digest.to_string())?),
                }
            }
            Self::Delete { digest } => {
                hub.delete(&paths::artifact(&digest.to_string())).await?;
                Ok(console.note(&format!("{digest} is gone"))?)
            }
        }
    }
}

/// Reads a component.
pub(super) fn read(file: &Path) -> Result<Bytes, Error> {
    let bytes = std::fs::read(file).map_err(|cause| Error::Input {
        doing: format!("read the component {}", file.display()),
        cause,
    })?;
    Ok(bytes.into())
}

/// Uploads a component unless the hub has it; its digest, and the hub's view of it.
pub(super) async fn upload(
    hub: &Client,
    bytes: &Bytes,
    console: &mut Console<'_>,
) -> Result<(Digest, Option<Value>), Error> {
    let digest = digest_of(bytes);
    let path = paths::artifact(&digest.to_string());
    match hub.get(&path).await {
        Ok(answer) => return Ok((digest, Some(answer.body))),
        Err(client::Error::Refused(problem)) if problem.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    let mut drawn = 0;
    let mut progress = |done: u64, total: u64| {
        // One line for each percent; what cannot be drawn is not worth the upload.
        let percent = done * 100 / total.max(1);
        if percent != drawn {
            drawn = percent;
            drop(console.progress("uploading", done, total));
        }
    };
    let answer = hub.upload(&path, bytes.clone(), "application/wasm", &mut progress).await?;
    Ok((digest, Some(answer.body)))
}
