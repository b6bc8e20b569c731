//! `weir route`.

use super::sample::SampleArgs;
use super::{Error, HubArgs, routes_file, verdict};
use crate::client::{Client, paths};
use crate::output::{Column, Console, cell};
use serde_json::{Value, json};

/// Arguments of `weir route`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir route list
  weir route show hot
  weir route put hot \"FROM /messages/* WHERE temperature > '25' INTO \\$upstream\"
  weir route put in 'FROM /messages/* INTO BrokeredEndpoint(\"/modules/filter/inputs/in\")'
  weir route test --condition \"temperature > '25'\" -p temperature=30
  weir route delete hot")]
pub struct RouteArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: RouteVerb,
}

/// What is done with routes.
#[derive(Debug, clap::Subcommand)]
pub(super) enum RouteVerb {
    /// List the routes in force
    List,
    /// Show a route
    Show {
        /// Its name
        name: String,
    },
    /// Create or replace a route
    Put(PutArgs),
    /// Delete a route
    Delete {
        /// Its name
        name: String,
    },
    /// Test routes or a condition with a message, and say why
    Test(TestArgs),
}

/// Arguments of `weir route put`.
#[derive(Debug, clap::Args)]
pub(super) struct PutArgs {
    /// Its name
    name: String,
    /// FROM ... WHERE ... INTO ...
    route: String,
    /// 0 (first) to 9; the lowest of all when it is left out
    #[arg(long, value_name = "N")]
    priority: Option<u32>,
    /// Seconds that a message may wait
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
}

/// Arguments of `weir route test`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir route test --source /messages/modules/m/outputs/o -p level=high
  weir route test --condition '$body.temp > 50' --body '{\"temp\": 51}' \\
      -s contentType=application/json -s contentEncoding=utf-8
  weir route test --routes routes.txt --message message.json")]
pub(super) struct TestArgs {
    /// A condition alone, without FROM and INTO
    #[arg(long, value_name = "TEXT", conflicts_with = "routes")]
    condition: Option<String>,
    /// A file with routes, as for `weir check`; else those in force
    #[arg(long, value_name = "FILE")]
    routes: Option<String>,
    #[command(flatten)]
    message: SampleArgs,
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("PRIORITY", "/priority"),
    ("TTL", "/timeToLiveSecs"),
    ("ROUTE", "/route"),
];

impl RouteVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::routes(), None).await?)?),
            Self::Show { name } => Ok(console.thing(&hub.get(&paths::route(&name)).await?.body)?),
            Self::Put(args) => args.run(hub, console).await,
            Self::Delete { name } => {
                hub.delete(&paths::route(&name)).await?;
                Ok(console.note(&format!("route {name} is gone"))?)
            }
            Self::Test(args) => args.run(hub, console).await,
        }
    }
}

impl PutArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let mut body = json!({ "route": self.route });
        if let Some(priority) = self.priority {
            body["priority"] = priority.into();
        }
        if let Some(ttl) = self.ttl {
            body["timeToLiveSecs"] = ttl.into();
        }
        let answer = hub.put(&paths::route(&self.name), &body).await?;
        if console.wants_json() {
            return Ok(console.json(&answer.body)?);
        }
        Ok(console.note(&format!("route {} is in force", self.name))?)
    }
}

impl TestArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let mut body = json!({ "message": self.message.message()? });
        if let Some(condition) = &self.condition {
            body["condition"] = Value::from(condition.as_str());
        }
        if let Some(file) = &self.routes {
            body["routes"] = routes_file::read(file)?.named();
        }
        let answer = hub.post(&paths::route_tests(), &body).await?.body;
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        console.line(&format!("result: {}", cell(&answer, "/result")))?;
        if let Some(condition) = &self.condition {
            let why = cell(&answer, "/text");
            if let Some((indent, marks)) = verdict::caret(&answer, condition) {
                console.line(&format!("  {condition}"))?;
                console.line(&format!("  {:indent$}{marks} {why}", ""))?;
            } else {
                console.line(&format!("  {why}"))?;
            }
        }
        let routes = answer.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(verdict::show(&routes, console)?)
    }
}
