//! `weir dlq`: messages that could not be delivered.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console};
use serde_json::{Value, json};

/// Arguments of `weir dlq`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir dlq list
  weir dlq show 7                              why, and the whole message
  weir dlq replay 7 8                          as new messages into the queue they were in
  weir dlq replay --queue edge/filter/in
  weir dlq delete 7 8")]
pub struct DlqArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: DlqVerb,
}

/// What is done with dead letters.
#[derive(Debug, clap::Subcommand)]
pub(super) enum DlqVerb {
    /// List dead letters, oldest first
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show a dead letter
    Show {
        /// Its number
        id: u64,
    },
    /// Send dead letters on again
    Replay(ReplayArgs),
    /// Delete dead letters
    Delete {
        /// Their numbers
        #[arg(required = true)]
        ids: Vec<u64>,
    },
}

/// Arguments of `weir dlq replay`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(super) struct ReplayArgs {
    /// Their numbers; all or none
    #[arg(group = "which")]
    ids: Vec<u64>,
    /// All of a queue
    #[arg(long, value_name = "NAME", group = "which")]
    queue: Option<String>,
    /// All
    #[arg(long, group = "which")]
    all: bool,
}

const COLUMNS: &[Column] = &[
    ("ID", "/id"),
    ("GIVEN UP", "/at"),
    ("QUEUE", "/queue"),
    ("SENDER", "/message/sender"),
    ("ATTEMPTS", "/attempts"),
    ("REASON", "/reason"),
];
const REPLAYED: &[Column] = &[("DEAD LETTER", "/deadLetter"), ("NEW MESSAGE", "/message")];

impl DlqVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List { limit } => {
                let letters = hub.list(&paths::dead_letters(), Some(limit)).await?;
                Ok(console.list(COLUMNS, &letters)?)
            }
            Self::Show { id } => {
                Ok(console.thing(&hub.get(&paths::dead_letter(&id.to_string())).await?.body)?)
            }
            Self::Replay(args) => args.run(hub, console).await,
            Self::Delete { ids } => {
                for id in &ids {
                    hub.delete(&paths::dead_letter(&id.to_string())).await?;
                }
                Ok(console.note(&format!("{} deleted", ids.len()))?)
            }
        }
    }
}

impl ReplayArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let body = match (self.ids.is_empty(), &self.queue) {
            (false, _) => json!({ "ids": self.ids }),
            (true, Some(queue)) => json!({ "queue": queue }),
            (true, None) => json!({}),
        };
        let mut replayed = Vec::new();
        loop {
            let mut answer = hub.post(&paths::replays(), &body).await?.body;
            let some = match answer.get_mut("replayed").map(Value::take) {
                Some(Value::Array(some)) => some,
                _ => return Err(crate::client::Error::Form.into()),
            };
            let nothing = some.is_empty();
            replayed.extend(some);
            // What fails again comes back as a new dead letter; one round is what was asked for.
            if nothing || answer.get("more") != Some(&Value::Bool(true)) {
                return Ok(console.list(REPLAYED, &replayed)?);
            }
        }
    }
}
