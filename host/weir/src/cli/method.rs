//! `weir method`: direct methods of devices and modules.

use super::sample::read_json;
use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Console, cell};
use serde_json::{Value, json};

/// Arguments of `weir method`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir method call pump-1 reboot
  weir method call pump-1 calibrate '{\"zero\": true}' --response-timeout 60
  weir method call edge poke --module filter --connect-timeout 10")]
pub struct MethodArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: MethodVerb,
}

/// What is done with methods.
#[derive(Debug, clap::Subcommand)]
pub(super) enum MethodVerb {
    /// Call a method and wait for the answer
    Call(CallArgs),
}

/// Arguments of `weir method call`.
#[derive(Debug, clap::Args)]
pub(super) struct CallArgs {
    /// The device
    device: String,
    /// The method
    name: String,
    /// What the method is given, as JSON
    #[arg(value_name = "JSON")]
    payload: Option<String>,
    /// A module of the device
    #[arg(long, value_name = "M")]
    module: Option<String>,
    /// JSON file with the payload instead; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "payload")]
    payload_file: Option<String>,
    /// Wait so many seconds for it to connect (0 to 300)
    #[arg(long, value_name = "SECONDS")]
    connect_timeout: Option<u32>,
    /// Wait so many seconds for the answer (5 to 300)
    #[arg(long, value_name = "SECONDS")]
    response_timeout: Option<u32>,
}

impl MethodVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::Call(args) => args.run(hub, console).await,
        }
    }
}

impl CallArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let mut body = json!({ "deviceId": self.device, "methodName": self.name });
        if let Some(module) = self.module {
            body["moduleId"] = module.into();
        }
        let payload = match (self.payload, &self.payload_file) {
            (Some(text), _) => Some(serde_json::from_str::<Value>(&text).map_err(|wrong| {
                Error::Usage(format!("the payload is not JSON ({wrong}); a text needs quotes"))
            })?),
            (None, Some(file)) => Some(read_json(file)?),
            (None, None) => None,
        };
        if let Some(payload) = payload {
            body["payload"] = payload;
        }
        if let Some(seconds) = self.connect_timeout {
            body["connectTimeoutInSeconds"] = seconds.into();
        }
        if let Some(seconds) = self.response_timeout {
            body["responseTimeoutInSeconds"] = seconds.into();
        }
        let answer = hub.post(&paths::method_calls(), &body).await?.body;
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        console.note(&format!("status {}", cell(&answer, "/status")))?;
        Ok(console.line(&answer["payload"].to_string())?)
    }
}
