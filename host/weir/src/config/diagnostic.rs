//! Why a configuration is refused, shown at the place.

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    SourceSpan,
};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("could not read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// Keys or values that the hub does not take; at least one.
    #[error("{}", sentences(.0))]
    Refused(Vec<Refusal>),
}

impl Error {
    /// The error as people see it: for a refusal the lines of the file with a caret.
    #[must_use]
    pub fn report(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { path, cause } => {
                format!("could not read the configuration file {}: {cause}\n", path.display())
            }
            Self::Refused(refusals) => {
                let all: Vec<String> =
                    refusals.iter().map(|refusal| refusal.render(colour)).collect();
                all.join("\n")
            }
        }
    }

    /// The error for programs: what is wrong, and where.
    #[must_use]
    pub fn json(&self) -> Value {
        match self {
            Self::Unreadable { .. } => json!({ "title": self.report(false).trim_end() }),
            Self::Refused(refusals) => {
                let all: Vec<Value> = refusals.iter().map(Refusal::json).collect();
                json!({ "title": "the configuration is refused", "errors": all })
            }
        }
    }
}

fn sentences(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A key or value that is refused.
#[derive(Debug)]
pub struct Refusal {
    pub(super) message: String,
    pub(super) label: String,
    pub(super) help: Option<String>,
    pub(super) origin: Origin,
}

/// Where the refused value comes from.
#[derive(Debug)]
pub(super) enum Origin {
    File {
        source: NamedSource<String>,
        span: Range<usize>,
    },
    /// A variable of the environment, by name.
    Variable(String),
    /// A value that nobody wrote.
    Default,
}

impl Refusal {
    /// Where it stands in the file; what stands elsewhere comes last.
    pub(super) fn place(&self) -> usize {
        match &self.origin {
            Origin::File { span, .. } => span.start,
            Origin::Variable(_) | Origin::Default => usize::MAX,
        }
    }

    fn json(&self) -> Value {
        let place = match &self.origin {
            Origin::File { source, span } => {
                let before = source.inner().get(..span.start).unwrap_or_default();
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                json!({ "file": source.name(), "line": line, "column": column })
            }
            Origin::Variable(name) => json!({ "variable": name }),
            Origin::Default => json!({}),
        };
        let mut json = json!({ "message": self.message, "help": self.help });
        if let (Value::Object(all), Value::Object(place)) = (&mut json, place) {
            all.extend(place);
        }
        json
    }

    fn render(&self, colour: bool) -> String {
        let theme = if colour {
            GraphicalTheme::ascii()
        } else {
            // Carets and no colour: readable in any log and on any serial line.
            GraphicalTheme::none()
        };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(100).with_links(false);
        let mut text = String::new();
        match handler.render_report(&mut text, self) {
            Ok(()) => text,
            Err(_) => format!("{self}\n"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Variable(name) => write!(f, "environment variable {name}: {}", self.message),
            Origin::File { .. } | Origin::Default => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Refusal {}

impl Diagnostic for Refusal {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        match &self.origin {
            Origin::File { source, .. } => Some(source),
            Origin::Variable(_) | Origin::Default => None,
        }
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let Origin::File { span, .. } = &self.origin else { return None };
        let span = SourceSpan::from(span.clone());
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some(self.label.clone()), span))))
    }
}
