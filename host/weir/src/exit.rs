//! How the process ends: the exit codes that scripts rely on.

use std::process::ExitCode;

/// Why the process ends. Append only: scripts depend on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked was done.
    Fine = 0,
    /// It was not.
    Failed = 1,
    /// The hub's policy does not allow it.
    Denied = 3,
    /// The command line is not understood (`EX_USAGE`).
    Usage = 64,
}

/// What `--help` says about the codes.
pub const HELP: &str = "\
Exit codes:
  0   fine
  1   failed
  3   denied by the hub's policy
  64  the command line is not understood";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
