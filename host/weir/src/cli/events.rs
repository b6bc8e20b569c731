//! `weir events`.

use super::{Error, HubArgs};
use crate::client::{Client, Told, paths};
use crate::output::{Console, cell};
use serde_json::Value;
use std::ops::ControlFlow;

/// Arguments of `weir events`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir events                                  what happens, until Ctrl-C
  weir events --topic twin --topic link
  weir events --after 7-123 --count 1          the next one after that
  weir --output json events                    one JSON object a line")]
pub struct EventsArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    /// Only this topic: twin, link, client, module, queue, audit (may be given again)
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Go on behind this event
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl EventsArgs {
    pub(super) async fn run(&self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let path = paths::events(&self.topic, self.after.as_deref());
        let mut left = self.count;
        hub.follow(&path, |told| {
            show(&told, console)?;
            if told.event != "lost" {
                left = left.map(|left| left - 1);
            }
            Ok::<_, Error>(match left {
                Some(0) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            })
        })
        .await
    }
}

fn show(told: &Told, console: &mut Console<'_>) -> Result<(), Error> {
    let Told { event, data } = told;
    if event == "lost" {
        let until = cell(data, "/until");
        return Ok(console.note(&format!("events up to {until} may be missing"))?);
    }
    if console.wants_json() {
        return Ok(console.line(&data.to_string())?);
    }
    let more = data.get("data").filter(|more| !more.is_null()).map(Value::to_string);
    let text = |pointer| cell(data, pointer);
    Ok(console.line(&format!(
        "{}  {:7} {} {}  {}",
        text("/at"),
        text("/topic"),
        text("/what"),
        text("/subject"),
        more.unwrap_or_default()
    ))?)
}
