//! Why a request did not do what it should, in words for people.

use serde::Deserialize;
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use weir_core::error_code::ErrorCode;

/// Why there is no answer, or none that helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No hub runs on the data folder.
    #[error(
        "no hub is running: there is no {}\n  start one: weir run{start}\n  or say where it is: --config FILE, --data-dir DIR, or WEIR_HOST and WEIR_TOKEN",
        looked_at.display()
    )]
    NotRunning {
        /// The file that would be there.
        looked_at: PathBuf,
        /// Options that start it on the same folder.
        start: String,
    },
    /// A file that the hub has written cannot be read.
    #[error("could not read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A file is there and is not what it should be.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// `WEIR_HOST` is no address.
    #[error("WEIR_HOST is no address; write 127.0.0.1:8420 or https://gateway.example:8420")]
    Host,
    /// There is a host and no token.
    #[error(
        "WEIR_HOST is set and there is no token: set WEIR_TOKEN, or WEIR_TOKEN_FILE to a file with it"
    )]
    NoToken,
    /// The token has characters that no token has.
    #[error("the token has characters that cannot be sent; it is not one of a hub")]
    TokenForm,
    /// A remote hub with TLS and nothing to trust.
    #[error("{host} is reached over TLS: set WEIR_CA_FILE to the hub's pki/trust-bundle.pem")]
    NoTrust {
        /// The host.
        host: String,
    },
    /// Certificates cannot be used.
    #[error("the certificates in {} cannot be used", path.display())]
    Trust {
        /// The file.
        path: PathBuf,
    },
    /// Nobody listens there.
    #[error("could not reach the hub at {address}{stale}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// What may be the matter with the file that named it.
        stale: String,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The hub takes connections and does not answer.
    #[error("the hub has not answered for {} s", limit.as_secs())]
    NoAnswer {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection broke.
    #[error("the connection to the hub broke")]
    Broken {
        /// How.
        #[source]
        cause: hyper::Error,
    },
    /// The answer ended too early or is too large.
    #[error("the hub's answer was cut off")]
    CutOff,
    /// The answer is not of the documented form.
    #[error("the hub's answer is not understood; is it a Weir of another version?")]
    Form,
    /// An error without an explanation: it is not a hub that answers.
    #[error("the answer is HTTP {0} without an explanation; is this a Weir?")]
    Status(u16),
    /// The hub says no.
    #[error("{}", .0.title)]
    Refused(Box<Problem>),
}

/// What the hub says (RFC 9457).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// Page that explains the code, relative to the hub.
    #[serde(rename = "type")]
    pub page: String,
    /// Short; the same for each code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// Stable name.
    pub code: String,
    /// Finds the request in the hub's log.
    pub trace_id: Option<String>,
    /// Everything that is wrong.
    pub errors: Vec<Detail>,
    /// The whole, for `--output json`.
    #[serde(skip)]
    pub json: Value,
    /// Where the hub's pages are.
    #[serde(skip)]
    pub base: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Detail {
    /// JSON Pointer into the body.
    pub pointer: Option<String>,
    /// Name of a parameter.
    pub parameter: Option<String>,
    /// What is wrong; of a route, its line with a caret.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn read(body: &Value, base: &str) -> Option<Self> {
        let mut problem = Self::deserialize(body).ok()?;
        problem.json = body.clone();
        problem.base = base.to_owned();
        (!problem.title.is_empty()).then_some(problem)
    }

    /// True when the hub's policy forbids it.
    #[must_use]
    pub fn is_policy(&self) -> bool {
        self.code == ErrorCode::PolicyDenied.name()
    }

    /// True when there is nothing of the name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == ErrorCode::NotFound.name()
    }

    /// For people, several lines.
    #[must_use]
    pub fn report(&self) -> String {
        let mut lines = vec![self.title.clone()];
        if !self.detail.is_empty() {
            lines.push(format!("  {}", self.detail));
        }
        for error in &self.errors {
            error.report(&self.detail, &mut lines);
        }
        if let Some(trace) = self.trace_id.as_ref().filter(|_| self.status >= 500) {
            lines.push(format!("  the hub's log has the cause under {trace}"));
        }
        if self.page.starts_with('/') {
            lines.push(format!("  more: {}{}", self.base, self.page));
        }
        lines.join("\n")
    }
}

impl Detail {
    fn report(&self, said: &str, lines: &mut Vec<String>) {
        if !said.contains(&self.message) {
            let place = self.pointer.as_deref().or(self.parameter.as_deref()).unwrap_or_default();
            if place.is_empty() || self.message.contains('\n') {
                // A caret keeps its place only when its lines stand as they are.
                lines.extend(self.message.lines().map(|line| format!("  {line}")));
            } else {
                lines.push(format!("  {place}: {}", self.message));
            }
        }
        if let Some(help) = self.help.as_ref().filter(|help| !self.message.contains(*help)) {
            lines.push(format!("  help: {help}"));
        }
    }
}
