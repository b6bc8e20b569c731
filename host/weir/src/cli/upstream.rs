//! `weir upstream`.

use super::{Error, HubArgs};
use crate::client::{Client, paths};
use crate::output::Console;
use serde_json::json;

/// Arguments of `weir upstream`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir upstream show
  weir upstream pause                          messages wait, also over restarts
  weir upstream resume")]
pub struct UpstreamArgs {
    #[command(flatten)]
    pub(super) hub: HubArgs,
    #[command(subcommand)]
    pub(super) verb: UpstreamVerb,
}

/// What is done with the upstream.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub(super) enum UpstreamVerb {
    /// Show the link and what waits for it
    Show,
    /// Cut the link; messages wait
    Pause,
    /// Mend the link
    Resume,
}

impl UpstreamVerb {
    pub(super) async fn run(self, hub: &Client, console: &mut Console<'_>) -> Result<(), Error> {
        let pause = |paused: bool| json!({ "paused": paused });
        let answer = match self {
            Self::Show => hub.get(&paths::upstream()).await?,
            Self::Pause => hub.patch(&paths::upstream(), &pause(true)).await?,
            Self::Resume => hub.patch(&paths::upstream(), &pause(false)).await?,
        };
        Ok(console.thing(&answer.body)?)
    }
}
