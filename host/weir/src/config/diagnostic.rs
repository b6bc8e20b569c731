//! Why a configuration is refused, shown at the place.

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
    SourceSpan,
};
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
    /// A key or value is not one that the hub takes.
    #[error(transparent)]
    Refused(Box<Refusal>),
}

impl Error {
    /// The error as people see it: for a refusal the lines of the file with a caret.
    #[must_use]
    pub fn report(&self, colour: bool) -> String {
        match self {
            Self::Unreadable { path, cause } => {
                format!("could not read the configuration file {}: {cause}\n", path.display())
            }
            Self::Refused(refusal) => refusal.render(colour),
        }
    }
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
