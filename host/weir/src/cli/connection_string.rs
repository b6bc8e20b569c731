//! `weir connection-string`: one line, for an SDK's environment.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::Console;
use serde_json::Value;

/// Arguments of `weir connection-string`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("whose").required(true)))]
#[command(before_help = "\
Examples:
  weir connection-string --device pump-1
  export EdgeHubConnectionString=$(weir connection-string --device edge --module sender)
  weir connection-string --service             for back ends")]
pub struct ConnectionStringArgs {
    /// Of a device
    #[arg(long, value_name = "D", group = "whose")]
    device: Option<String>,
    /// Of a module of the device
    #[arg(long, value_name = "M", requires = "device")]
    module: Option<String>,
    /// Of a service client
    #[arg(long, group = "whose")]
    service: bool,
    /// Policy of the service client: iothubowner, service, registryRead, registryReadWrite, device
    #[arg(long, value_name = "NAME", default_value = "iothubowner", requires = "service")]
    policy: String,
    #[command(flatten)]
    pub(super) hub: HubArgs,
}

impl ConnectionStringArgs {
    pub(super) async fn run(&self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let path = match (&self.device, &self.module) {
            (Some(device), Some(module)) => paths::module_connection_string(device, module),
            (Some(device), None) => paths::device_connection_string(device),
            (None, _) => paths::service_connection_string(&self.policy),
        };
        let answer = hub.get(&path).await?.body;
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        match answer.get("connectionString").and_then(Value::as_str) {
            Some(text) => Ok(console.line(text)?),
            None => Err(crate::client::Error::Form.into()),
        }
    }
}
