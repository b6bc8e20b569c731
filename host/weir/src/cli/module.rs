//! `weir module`: Wasm modules.

use super::artifact::{read, upload};
use super::sample::read_json;
use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console, cell};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use weir_core::digest::Digest;

/// Arguments of `weir module`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir module put filter --spec filter.json --component filter.wasm
  weir module swap filter filter-v2.wasm       while messages flow
  weir module swap filter sha256:...           a component that is uploaded already
  weir module list
  weir module show filter
  weir module versions filter
  weir module state filter                     the keys that it keeps
  weir module logs filter --follow             what it says
  weir module delete filter")]
pub struct ModuleArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: ModuleVerb,
}

/// What is done with modules.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ModuleVerb {
    /// List the modules
    List,
    /// Show a module: state, specification, counters
    Show {
        /// Its name
        name: String,
    },
    /// Create or replace a module
    Put(PutArgs),
    /// Exchange a module's component while messages flow
    Swap(SwapArgs),
    /// List a module's versions
    Versions {
        /// Its name
        name: String,
    },
    /// List the keys of a module's state; their values stay with the module
    State {
        /// Its name
        name: String,
    },
    /// Print what a module has logged
    Logs(LogsArgs),
    /// Delete a module; its queues stay
    Delete {
        /// Its name
        name: String,
    },
}

/// Arguments of `weir module put`.
#[derive(Debug, clap::Args)]
pub(super) struct PutArgs {
    /// Its name
    name: String,
    /// JSON file with the specification; - for standard input
    #[arg(long, value_name = "FILE")]
    spec: String,
    /// The component, uploaded when the hub does not have it; its digest is put into the specification
    #[arg(long, value_name = "FILE.wasm")]
    component: Option<PathBuf>,
}

/// Arguments of `weir module swap`.
#[derive(Debug, clap::Args)]
pub(super) struct SwapArgs {
    /// Its name
    name: String,
    /// A .wasm file, or sha256:... of an uploaded one
    #[arg(value_name = "FILE.wasm|sha256:...")]
    component: String,
}

/// Arguments of `weir module logs`.
#[derive(Debug, clap::Args)]
pub(super) struct LogsArgs {
    /// Its name
    name: String,
    /// Go on with what is logged from now on
    #[arg(short, long)]
    follow: bool,
}

const COLUMNS: &[Column] = &[
    ("NAME", "/name"),
    ("STATE", "/state"),
    ("VERSION", "/version"),
    ("ON PROBATION", "/onProbation"),
    ("MESSAGES", "/counters/messages"),
    ("DROPPED", "/counters/dropped"),
    ("FAULTS", "/counters/faults"),
    ("COMPONENT", "/spec/component"),
];
const VERSIONS: &[Column] = &[
    ("VERSION", "/number"),
    ("INSTALLED", "/at"),
    ("STATE", "/fortune"),
    ("WHY", "/why"),
    ("COMPONENT", "/spec/component"),
];
const STATE: &[Column] = &[("KEY", "/key"), ("BYTES", "/bytes"), ("EXPIRES", "/expires")];
/// How often a long operation is asked for.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How often a log that is followed is asked for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl ModuleVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            Self::List => Ok(console.list(COLUMNS, &hub.list(&paths::modules(), None).await?)?),
            Self::Show { name } => Ok(console.thing(&hub.get(&paths::module(&name)).await?.body)?),
            Self::Put(args) => args.run(hub, console).await,
            Self::Swap(args) => args.run(hub, console).await,
            Self::Versions { name } => {
                let versions = hub.list(&paths::module_versions(&name), None).await?;
                Ok(console.list(VERSIONS, &versions)?)
            }
            Self::State { name } => {
                let keys = hub.list(&paths::module_state(&name), None).await?;
                Ok(console.list(STATE, &keys)?)
            }
            Self::Logs(args) => args.run(hub, console).await,
            Self::Delete { name } => {
                hub.delete(&paths::module(&name)).await?;
                Ok(console.note(&format!("module {name} is gone"))?)
            }
        }
    }
}

impl PutArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let mut spec = read_json(&self.spec)?;
        let Some(members) = spec.as_object_mut() else {
            return Err(Error::Form(format!("{} is no JSON object", self.spec)));
        };
        members.entry("type").or_insert_with(|| "wasm".into());
        if let Some(file) = &self.component {
            let (digest, _) = upload(hub, &read(file)?, console).await?;
            members.insert("component".to_owned(), digest.to_string().into());
        }
        let answer = hub.put(&paths::module(&self.name), &spec).await?;
        let answer = finished(hub, answer.status, answer.body).await?;
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        Ok(console.note(&format!("module {} is installed", self.name))?)
    }
}

impl SwapArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let digest = match self.component.parse::<Digest>() {
            Ok(digest) => digest,
            Err(cause) if self.component.starts_with("sha256:") => {
                return Err(Error::Usage(format!("{} is no digest: {cause}", self.component)));
            }
            Err(_) => upload(hub, &read(self.component.as_ref())?, console).await?.0,
        };
        let began = Instant::now();
        let body = json!({ "component": digest });
        let answer = hub.post(&paths::module_swaps(&self.name), &body).await?;
        let answer = finished(hub, answer.status, answer.body).await?;
        let took = began.elapsed().as_millis();
        if console.wants_json() {
            return Ok(console.json(&answer)?);
        }
        Ok(console
            .line(&format!("module {} runs {digest}, {took} ms after the call", self.name))?)
    }
}

/// The end of an operation that the hub goes on with after its answer (202).
async fn finished(hub: &Client, status: StatusCode, body: Value) -> Result<Value, Error> {
    let id = body.get("id").and_then(Value::as_str).map(str::to_owned);
    let (StatusCode::ACCEPTED, Some(id)) = (status, id) else { return Ok(body) };
    loop {
        sleep(ASK_AGAIN).await;
        let operation = hub.get(&paths::operation(&id)).await?.body;
        match operation.get("state").and_then(Value::as_str) {
            Some("running") => {}
            Some("failed") => {
                return Err(Error::Operation {
                    code: cell(&operation, "/problem/code"),
                    detail: cell(&operation, "/problem/detail"),
                });
            }
            _ => return Ok(operation),
        }
    }
}

impl LogsArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let mut seen = 0;
        loop {
            let lines = hub.list(&paths::module_logs(&self.name, &seen.to_string()), None).await?;
            for line in lines {
                seen = line.get("number").and_then(Value::as_u64).unwrap_or(seen);
                show_line(&line, console)?;
            }
            if !self.follow {
                return Ok(());
            }
            sleep(LOOK_AGAIN).await;
        }
    }
}

fn show_line(line: &Value, console: &mut Console<'_>) -> Result<(), Error> {
    if console.wants_json() {
        return Ok(console.raw(format!("{line}\n").as_bytes())?);
    }
    let member = |key| cell(line, key);
    Ok(console.line(&format!("{} {:5} {}", member("/at"), member("/level"), member("/message")))?)
}
