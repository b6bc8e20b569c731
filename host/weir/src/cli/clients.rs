//! `weir client`.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console};

/// Arguments of `weir client`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir client list")]
pub struct ClientArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: ClientVerb,
}

/// What is done with clients.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ClientVerb {
    /// List who is connected
    List,
}

const COLUMNS: &[Column] = &[
    ("DEVICE", "/deviceId"),
    ("MODULE", "/moduleId"),
    ("PROTOCOL", "/protocol"),
    ("SINCE", "/since"),
    ("PEER", "/peer"),
];

impl ClientVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::clients(), None).await?)?),
        }
    }
}
