//! `weir command`: cloud-to-device messages.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console, cell};
use serde_json::{Value, json};

/// Arguments of `weir command`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir command send pump-1 'close the valve'   waits an hour for the device
  weir command send pump-1 '{\"valve\": 1}' --content-type application/json --expires-in 600
  weir command send edge hello --module filter --property urgent=yes
  weir command list pump-1
  weir command purge pump-1 --yes")]
pub struct CommandArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: CommandVerb,
}

/// What is done with commands.
#[derive(Debug, clap::Subcommand)]
pub(super) enum CommandVerb {
    /// Send a command; it waits for its client
    Send(SendArgs),
    /// List what waits
    List(WhoArgs),
    /// Remove what waits, for ever
    Purge {
        #[command(flatten)]
        who: WhoArgs,
        /// Yes, for ever
        #[arg(long, required = true)]
        yes: bool,
    },
}

/// A device, or a module of it.
#[derive(Debug, clap::Args)]
pub(super) struct WhoArgs {
    /// The device
    device: String,
    /// A module of it
    #[arg(long, value_name = "M")]
    module: Option<String>,
}

/// Arguments of `weir command send`.
#[derive(Debug, clap::Args)]
pub(super) struct SendArgs {
    #[command(flatten)]
    who: WhoArgs,
    /// The body, sent as it is
    #[arg(value_name = "TEXT")]
    body: String,
    /// Media type of the body
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Your own id of it
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// Which ends of it are noted for you: none, positive, negative or full
    #[arg(long, value_name = "ENDS")]
    ack: Option<String>,
    /// It waits so many seconds (an hour unless you say; two days at most)
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,
    /// An application property; may be repeated
    #[arg(long = "property", value_name = "NAME=VALUE")]
    properties: Vec<String>,
}

const COLUMNS: &[Column] = &[
    ("SEQUENCE", "/sequence"),
    ("STATE", "/state"),
    ("DELIVERIES", "/deliveries"),
    ("ACCEPTED", "/message/enqueued"),
    ("EXPIRES", "/expires"),
    ("ID", "/message/content/systemProperties/messageId"),
    ("BODY", "/message/content/body"),
];

impl WhoArgs {
    fn path(&self) -> String {
        match &self.module {
            Some(module) => paths::module_commands(&self.device, module),
            None => paths::device_commands(&self.device),
        }
    }

    fn name(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/{module}", self.device),
            None => self.device.clone(),
        }
    }
}

impl CommandVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::Send(args) => args.run(hub, console).await,
            Self::List(who) => Ok(console.list(COLUMNS, &hub.list(&who.path(), None).await?)?),
            Self::Purge { who, yes: _ } => {
                let answer = hub.delete(&who.path()).await?.body;
                if console.wants_json() {
                    return Ok(console.json(&answer)?);
                }
                let removed = cell(&answer, "/removed");
                Ok(console.line(&format!("{removed} commands removed from {}", who.name()))?)
            }
        }
    }
}

impl SendArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let mut properties = serde_json::Map::new();
        for property in &self.properties {
            let (name, value) = property.split_once('=').ok_or_else(|| {
                Error::Usage(format!("{property:?} is no property; write NAME=VALUE"))
            })?;
            properties.insert(name.to_owned(), value.into());
        }
        let mut body = json!({ "body": self.body, "properties": properties });
        let members = [
            ("contentType", self.content_type.map(Value::from)),
            ("messageId", self.message_id.map(Value::from)),
            ("ack", self.ack.map(Value::from)),
            ("expiresInSecs", self.expires_in.map(Value::from)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        let answer = hub.post(&self.who.path(), &body).await?.body;
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        let (id, until) = (cell(&answer, "/messageId"), cell(&answer, "/expires"));
        Ok(console.line(&format!("{id} waits for {} until {until}", self.who.name()))?)
    }
}
