//! How a verb fails, and what the user sees of it.

use crate::client::{self, FindError};
use crate::config;
use crate::exit::Exit;
use crate::output::Console;
use serde_json::json;
use std::error::Error as _;
use std::io;
use weir_core::error_code::ErrorCode;

/// Why a verb did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line contradicts itself.
    #[error("{0}")]
    Usage(String),
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The hub is not there, or says no.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Work that the hub went on with has failed.
    #[error("it failed: {detail}")]
    Operation {
        /// Stable name.
        code: String,
        /// Why.
        detail: String,
    },
    /// A file could not be used.
    #[error("could not {doing}")]
    Input {
        /// What was being done, with the name of the file.
        doing: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A file is not of the form that is needed.
    #[error("{0}")]
    Form(String),
    /// The answer is no, and has been printed.
    #[error("no")]
    No,
    /// The answer could not be printed.
    #[error("could not print the answer")]
    Print(#[from] io::Error),
}

impl From<FindError> for Error {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Config(error) => Self::Config(error),
            FindError::Client(error) => Self::Client(error),
        }
    }
}

impl Error {
    /// Prints it and says how the process is to end.
    pub(super) fn show(self, console: &mut Console<'_>, colour: bool) -> Exit {
        let report = match &self {
            Self::No => return Exit::Failed,
            // Whoever reads has closed the pipe: `weir queue peek q | head`.
            Self::Print(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Exit::Fine,
            Self::Config(error) if console.wants_json() => error.json().to_string(),
            Self::Config(error) => error.report(colour).trim_end().to_owned(),
            Self::Client(client::Error::Refused(problem)) if console.wants_json() => {
                problem.json.to_string()
            }
            Self::Client(client::Error::Refused(problem)) => problem.report(),
            _ if console.wants_json() => json!({ "title": self.chain() }).to_string(),
            _ => self.chain(),
        };
        let prefix = if console.wants_json() { "" } else { "error: " };
        for (at, line) in report.lines().enumerate() {
            let prefix = if at == 0 { prefix } else { "" };
            if console.note(&format!("{prefix}{line}")).is_err() {
                break;
            }
        }
        self.exit()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Client(client::Error::Refused(problem)) if problem.is_policy() => Exit::Denied,
            Self::Operation { code, .. } if code == ErrorCode::PolicyDenied.name() => Exit::Denied,
            _ => Exit::Failed,
        }
    }

    fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}
