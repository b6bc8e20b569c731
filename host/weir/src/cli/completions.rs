//! `weir completions`.

use super::{Error, command};
use crate::output::Console;
use clap_complete::Shell;

/// Arguments of `weir completions`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  weir completions bash > /etc/bash_completion.d/weir
  source <(weir completions zsh)")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(self, console: &mut Console<'_>) -> Result<(), Error> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "weir", &mut text);
        Ok(console.raw(&text)?)
    }
}
