//! `weir queue`.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console, cell};
use serde_json::json;

/// Arguments of `weir queue`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir queue list
  weir queue show '$upstream'
  weir queue peek '$upstream' --limit 3        look without taking
  weir queue purge edge/filter/in --yes")]
pub struct QueueArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: QueueVerb,
}

/// What is done with queues.
#[derive(Debug, clap::Subcommand)]
pub(super) enum QueueVerb {
    /// List the queues
    List,
    /// Show a queue
    Show {
        /// Its name; '$upstream' for the upstream's
        name: String,
    },
    /// Show messages of a queue without taking them
    Peek {
        /// Its name; '$upstream' for the upstream's
        name: String,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
    },
    /// Remove what waits in a queue, for ever
    Purge {
        /// Its name
        name: String,
        /// Yes, for ever
        #[arg(long, required = true)]
        yes: bool,
    },
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("MESSAGES", "/messages"),
    ("BYTES", "/bytes"),
    ("MAX BYTES", "/maxBytes"),
    ("WHEN FULL", "/whenFull"),
    ("IN FLIGHT", "/inFlight"),
    ("HELD", "/held"),
    ("RETRYING", "/retrying"),
    ("DROPPED", "/dropped"),
    ("OLDEST", "/oldest"),
];
const MESSAGES: &[Column] = &[
    ("MESSAGE", "/message/id"),
    ("ACCEPTED", "/message/enqueued"),
    ("SENDER", "/message/sender"),
    ("STATE", "/state"),
    ("ATTEMPTS", "/attempts"),
    ("ROUTE", "/route"),
    ("BYTES", "/message/bodyBytes"),
    ("BODY", "/message/content/body"),
];

impl QueueVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::queues(), None).await?)?),
            Self::Show { name } => Ok(console.thing(&hub.get(&paths::queue(&name)).await?.body)?),
            Self::Peek { name, limit } => {
                let messages = hub.list(&paths::queue_messages(&name), Some(limit)).await?;
                Ok(console.list(MESSAGES, &messages)?)
            }
            Self::Purge { name, yes: _ } => {
                let answer = hub.post(&paths::queue_purges(&name), &json!({})).await?.body;
                if console.wants_json() {
                    return Ok(console.json(&answer)?);
                }
                let removed = cell(&answer, "/removed");
                Ok(console.line(&format!("{removed} messages removed from {name}"))?)
            }
        }
    }
}
