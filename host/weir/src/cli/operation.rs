//! `weir operation`: work of the hub that outlives the call that began it.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console};

/// Arguments of `weir operation`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir operation list                          swaps that took long, and what came of them
  weir operation show 000000000001")]
pub struct OperationArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: OperationVerb,
}

/// What is done with operations.
#[derive(Debug, clap::Subcommand)]
pub(super) enum OperationVerb {
    /// List the last operations, oldest first
    List,
    /// Show an operation
    Show {
        /// Its id
        id: String,
    },
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("KIND", "/kind"),
    ("TARGET", "/target"),
    ("STATE", "/state"),
    ("BEGAN", "/began"),
    ("ENDED", "/ended"),
    ("RESULT", "/result"),
    ("PROBLEM", "/problem/detail"),
];

impl OperationVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::operations(), None).await?)?),
            Self::Show { id } => Ok(console.thing(&hub.get(&paths::operation(&id)).await?.body)?),
        }
    }
}
