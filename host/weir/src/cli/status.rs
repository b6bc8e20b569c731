//! `weir status`.

use super::{Error, HubArgs};
use crate::client::{self, Client, paths};
use crate::config::Environment;
use crate::output::{Column, Console, cell};
use serde_json::{Value, json};

/// Arguments of `weir status`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir status
  weir status --quiet && echo ready            for scripts and health checks
  weir status --output json")]
pub struct StatusArgs {
    /// Print nothing; 0 when messages are taken, else 1
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    hub: HubArgs,
}

const QUEUES: &[Column] = &[
    ("QUEUE", "/name"),
    ("MESSAGES", "/messages"),
    ("BYTES", "/bytes"),
    ("IN FLIGHT", "/inFlight"),
    ("DROPPED", "/dropped"),
];
const MODULES: &[Column] = &[
    ("MODULE", "/name"),
    ("STATE", "/state"),
    ("VERSION", "/version"),
    ("MESSAGES", "/counters/messages"),
    ("FAULTS", "/counters/faults"),
];

impl StatusArgs {
    pub(super) async fn run(
        self,
        environment: &Environment,
        console: &mut Console<'_>,
    ) -> Result<(), Error> {
        if self.quiet {
            let ready = match self.hub.connect(environment) {
                Ok(hub) => ready(&hub).await.is_ok_and(|(ready, _)| ready),
                Err(_) => false,
            };
            return if ready { Ok(()) } else { Err(Error::No) };
        }
        let hub = self.hub.connect(environment)?;
        let (ready, health) = ready(&hub).await?;
        show(&hub, &health, console).await?;
        if ready { Ok(()) } else { Err(Error::No) }
    }
}

/// Whether messages are taken, and what the hub says of its health.
async fn ready(hub: &Client) -> Result<(bool, Value), client::Error> {
    match hub.get(&paths::ready()).await {
        Ok(answer) => Ok((true, answer.body)),
        Err(client::Error::Refused(problem)) => Ok((false, problem.json)),
        Err(error) => Err(error),
    }
}

async fn show(hub: &Client, health: &Value, console: &mut Console<'_>) -> Result<(), Error> {
    let system = hub.get(&paths::system()).await?.body;
    let upstream = hub.get(&paths::upstream()).await?.body;
    let queues = hub.list(&paths::queues(), None).await?;
    let modules = hub.list(&paths::modules(), None).await?;
    if console.wants_json() {
        return Ok(console.json(&json!({
            "health": health, "system": system, "upstream": upstream,
            "queues": queues, "modules": modules,
        }))?);
    }
    let of = |value, pointer| cell(value, pointer);
    // A hub that is not ready says why in a problem.
    let state = match of(health, "/code").as_str() {
        "-" => of(health, "/status"),
        _ => format!("not ready: {}", of(health, "/detail")),
    };
    console.line(&format!(
        "{} {} on {}: {state}",
        of(&system, "/edgeDevice"),
        of(&system, "/version"),
        hub.base()
    ))?;
    console.line(&format!("up since   {}", of(&system, "/started")))?;
    console.line(&format!("clients    {}", of(&system, "/clients")))?;
    let size =
        |pointer| system.pointer(pointer).and_then(Value::as_u64).map_or("-".to_owned(), size);
    let (used, most) = (size("/storeBytes"), size("/storeMaxBytes"));
    console.line(&format!("store      {used} of {most}"))?;
    let link = (of(&upstream, "/kind"), of(&upstream, "/state"), of(&upstream, "/waiting"));
    let reason = upstream.get("reason").and_then(Value::as_str);
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    console.line(&format!("upstream   {}, {}{reason}, {} waiting", link.0, link.1, link.2))?;
    for (columns, items) in [(QUEUES, queues), (MODULES, modules)] {
        if !items.is_empty() {
            console.line("")?;
            console.list(columns, &items)?;
        }
    }
    Ok(())
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut rest = bytes as f64;
    while rest >= 1024.0 && unit + 1 < units.len() {
        rest /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} bytes"),
        _ => format!("{rest:.1} {}", units[unit]),
    }
}
