//! `weir explain`.

use super::{Error, HubArgs, verdict};
use crate::client::{Client, paths};
use crate::output::{Column, Console, cell};
use serde_json::Value;

/// Arguments of `weir explain`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir explain last                            the message that was accepted last
  weir explain 00000001000000a7                by the hub's number
  weir explain reading-17                      by the id that its sender gave it")]
pub struct ExplainArgs {
    /// The hub's number, the sender's message id, or last
    id: String,
    #[command(flatten)]
    pub(super) hub: HubArgs,
}

const PLACES: &[Column] = &[("WAITS IN", "/queue"), ("PRIORITY", "/priority"), ("STATE", "/state")];
/// A client or the upstream has no module's name.
const FATES: &[Column] = &[("MODULE", "/module"), ("FATE", "/fate")];

impl ExplainArgs {
    pub(super) async fn run(&self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let explanation = hub.get(&paths::explanation(&self.id)).await?.body;
        if console.wants_json() {
            return Ok(console.json(&explanation)?);
        }
        let member = |pointer| cell(&explanation, pointer);
        let (id, sender, at) = (member("/id"), member("/sender"), member("/enqueued"));
        console.line(&format!("message {id} from {sender}, accepted {at}"))?;
        console.line(&member("/summary"))?;
        let list =
            |key: &str| explanation.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        console.line("")?;
        verdict::show(&list("routes"), console)?;
        for (columns, items) in [(PLACES, list("places")), (FATES, list("fates"))] {
            if !items.is_empty() {
                console.line("")?;
                console.list(columns, &items)?;
            }
        }
        Ok(())
    }
}
