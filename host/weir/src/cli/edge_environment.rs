//! `weir edge-environment`: the variables that IoT Edge sets for a module, one on a line.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::Console;
use serde_json::Value;

/// Arguments of `weir edge-environment`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  export $(weir edge-environment --module sender)
  weir edge-environment --module sender --http > sender.env")]
pub struct EdgeEnvironmentArgs {
    /// Module of the edge device
    #[arg(long, value_name = "M")]
    module: String,
    /// By the port of the workload API instead of the module's socket
    #[arg(long)]
    http: bool,
    #[command(flatten)]
    pub(super) hub: HubArgs,
}

impl EdgeEnvironmentArgs {
    pub(super) async fn run(&self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let transport = if self.http { "http" } else { "unix" };
        let answer = hub.get(&paths::edge_environment(&self.module, transport)).await?.body;
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        let variables = answer.get("variables").and_then(Value::as_object);
        for (name, value) in variables.ok_or(crate::client::Error::Form)? {
            let value = value.as_str().ok_or(crate::client::Error::Form)?;
            console.line(&format!("{name}={value}"))?;
        }
        Ok(())
    }
}
