//! `weir twin`: twins of devices and of modules.

use super::sample::read_json;
use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::{Column, Console};
use hyper::Method;
use serde_json::{Value, json};

/// Arguments of `weir twin`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir twin get pump-1
  weir twin set pump-1 --desired '{\"interval\": 5, \"old\": null}'
  weir twin set edge --module filter --tags '{\"site\": \"north\"}'
  weir twin history pump-1
  weir twin history pump-1 --section reported
  weir twin diff pump-1 --from 2
  weir twin revert pump-1 --version 2")]
pub struct TwinArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: TwinVerb,
}

/// What is done with twins.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TwinVerb {
    /// Show a twin
    Get(WhichArgs),
    /// Change desired properties and tags; null deletes
    Set(SetArgs),
    /// List the changes of a section, oldest first
    History(HistoryArgs),
    /// Show what has changed between two versions
    Diff(DiffArgs),
    /// Put an older version in force again, as a new version
    Revert(RevertArgs),
}

/// A device, or a module of it.
#[derive(Debug, clap::Args)]
pub(super) struct WhichArgs {
    /// The device
    id: String,
    /// A module of it
    #[arg(long, value_name = "M")]
    module: Option<String>,
}

/// Arguments of `weir twin set`.
#[derive(Debug, clap::Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Desired properties to merge in
    #[arg(long, value_name = "JSON", required_unless_present_any = ["tags", "body"])]
    desired: Option<String>,
    /// Tags to merge in
    #[arg(long, value_name = "JSON")]
    tags: Option<String>,
    /// JSON file with {tags, properties: {desired}} instead; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["desired", "tags"])]
    body: Option<String>,
    /// Replace what is named instead of merging it in
    #[arg(long)]
    replace: bool,
    /// Only if the twin still has this etag
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
}

/// A part of a twin.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum Section {
    /// What is wanted of the client
    #[default]
    Desired,
    /// What the client says
    Reported,
    /// The operator's notes
    Tags,
}

/// A part that an operator writes.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
pub(super) enum OwnSection {
    /// What is wanted of the client
    #[default]
    Desired,
    /// The operator's notes
    Tags,
}

/// Arguments of `weir twin history`.
#[derive(Debug, clap::Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The part
    #[arg(long, value_enum, default_value_t, value_name = "PART")]
    section: Section,
}

/// Arguments of `weir twin diff`.
#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The part
    #[arg(long, value_enum, default_value_t, value_name = "PART")]
    section: Section,
    /// A version
    #[arg(long, value_name = "N")]
    from: u64,
    /// Another; the present one when it is left out
    #[arg(long, value_name = "N")]
    to: Option<u64>,
}

/// Arguments of `weir twin revert`.
#[derive(Debug, clap::Args)]
pub(super) struct RevertArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The part
    #[arg(long, value_enum, default_value_t, value_name = "PART")]
    section: OwnSection,
    /// The version to put in force again
    #[arg(long, value_name = "N")]
    version: u64,
    /// Only if the twin still has this etag
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
}

const HISTORY: &[Column] =
    &[("VERSION", "/version"), ("AT", "/at"), ("BY", "/by"), ("PATCH", "/patch")];

impl TwinVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        match self {
            // Nested as it is, a twin is read best as it stands.
            Self::Get(which) => Ok(console.json(&hub.get(&which.path()).await?.body)?),
            Self::Set(args) => args.run(hub, console).await,
            Self::History(HistoryArgs { which, section }) => {
                let path = format!("{}/history?section={}", which.path(), section.name());
                Ok(console.list(HISTORY, &hub.list(&path, None).await?)?)
            }
            Self::Diff(DiffArgs { which, section, from, to }) => {
                let to = to.map_or_else(String::new, |to| format!("&to={to}"));
                let query = format!("section={}&from={from}{to}", section.name());
                let answer = hub.get(&format!("{}/diff?{query}", which.path())).await?.body;
                if console.wants_json() {
                    return Ok(console.json(&answer)?);
                }
                Ok(console.json(&answer["patch"])?)
            }
            Self::Revert(args) => args.run(hub, console).await,
        }
    }
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Reported => "reported",
            Self::Tags => "tags",
        }
    }
}

impl WhichArgs {
    fn path(&self) -> String {
        match &self.module {
            Some(module) => paths::module_twin(&self.id, module),
            None => paths::twin(&self.id),
        }
    }

    fn name(&self) -> String {
        match &self.module {
            Some(module) => format!("{}/{module}", self.id),
            None => self.id.clone(),
        }
    }
}

impl SetArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let body = match &self.body {
            Some(file) => read_json(file)?,
            None => self.body()?,
        };
        let method = if self.replace { Method::PUT } else { Method::PATCH };
        let answer =
            hub.change(method, &self.which.path(), &body, self.if_match.as_deref()).await?;
        changed(&self.which, &answer.body, console)
    }

    fn body(&self) -> Result<Value, Error> {
        let mut body = json!({});
        if let Some(desired) = &self.desired {
            body["properties"]["desired"] = object("desired", desired)?;
        }
        if let Some(tags) = &self.tags {
            body["tags"] = object("tags", tags)?;
        }
        Ok(body)
    }
}

impl RevertArgs {
    async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let section = match self.section {
            OwnSection::Desired => "desired",
            OwnSection::Tags => "tags",
        };
        let body = json!({ "section": section, "version": self.version });
        let path = format!("{}/revert", self.which.path());
        let answer = hub.change(Method::POST, &path, &body, self.if_match.as_deref()).await?;
        changed(&self.which, &answer.body, console)
    }
}

fn changed(which: &WhichArgs, twin: &Value, console: &mut Console<'_>) -> Result<(), Error> {
    if console.wants_json() {
        return Ok(console.json(twin)?);
    }
    let version = &twin["properties"]["desired"]["$version"];
    Ok(console.note(&format!(
        "the twin of {} was changed; its desired properties have version {version}",
        which.name()
    ))?)
}

fn object(option: &str, text: &str) -> Result<Value, Error> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Error::Usage(format!("--{option} is no JSON: {error}")))?;
    match value.is_object() {
        true => Ok(value),
        false => Err(Error::Usage(format!("--{option} must be an object"))),
    }
}
