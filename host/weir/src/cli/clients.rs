//! `weir client`.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console};

/// Arguments of `weir client`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir client list
  weir client list --state disconnected        who left, and when")]
pub struct ClientArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: ClientVerb,
}

/// What is done with clients.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ClientVerb {
    /// List who is connected, or who was
    List {
        /// Which clients
        #[arg(long, value_enum, default_value_t, value_name = "STATE")]
        state: Presence,
    },
}

/// Which clients are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Presence {
    /// Who is connected
    #[default]
    Connected,
    /// Who was, and is not
    Disconnected,
    /// Both
    All,
}

const COLUMNS: &[Column] = &[
    ("DEVICE", "/deviceId"),
    ("MODULE", "/moduleId"),
    ("PROTOCOL", "/protocol"),
    ("CONNECTED", "/connected"),
    ("SINCE", "/since"),
    ("LAST SEEN", "/lastSeen"),
    ("LEFT", "/left"),
    ("PEER", "/peer"),
];

impl ClientVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List { state } => {
                let state = match state {
                    Presence::Connected => "connected",
                    Presence::Disconnected => "disconnected",
                    Presence::All => "all",
                };
                Ok(console.list(COLUMNS, &hub.list(&paths::clients(state), None).await?)?)
            }
        }
    }
}
