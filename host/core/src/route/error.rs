//! Errors of the route language, with the place in the text and the likely right word.
//!
//! One type for syntax and compile errors: the person who wrote the route sees no difference.

use serde::Serialize;

/// A stretch of text, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Texts are bounded by `MAX_TEXT_BYTES`, which is far below `u32::MAX`.
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(start), end: place(end) }
    }

    pub(crate) fn to(self, end: Span) -> Self {
        Self { start: self.start, end: end.end }
    }

    pub(crate) fn start(self) -> usize {
        self.start as usize
    }

    pub(crate) fn end(self) -> usize {
        self.end as usize
    }

    /// The text below this span; empty when the span is not of this text.
    pub fn of(self, text: &str) -> &str {
        text.get(self.start()..self.end()).unwrap_or_default()
    }
}

/// What kind of fault a route has; stable words for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The text does not follow the grammar.
    Syntax,
    UnterminatedString,
    /// A character that belongs to no word of the language.
    UnknownSymbol,
    /// Operands of types that do not go together.
    Type,
    /// Wrong number or type of arguments of a function.
    Arguments,
    UnknownFunction,
    /// A function that exists, but not for this kind of route.
    FunctionNotAvailable,
    /// `$body` path or twin path that is not understood.
    Path,
    /// Neither `$upstream` nor `BrokeredEndpoint("/modules/m/inputs/i")`.
    UnknownSink,
    TooLong,
    TooDeep,
}

/// Why a route or condition was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} at column {}", .0.message, .0.column)]
pub struct ParseError(Box<Detail>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    kind: ErrorKind,
    message: String,
    help: Option<String>,
    expected: Vec<&'static str>,
    span: Span,
    line: u32,
    column: u32,
    text: String,
}

impl ParseError {
    pub(crate) fn new(kind: ErrorKind, text: &str, span: Span, message: impl Into<String>) -> Self {
        let before = text.get(..span.start()).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self(Box::new(Detail {
            kind,
            message: message.into(),
            help: None,
            expected: Vec::new(),
            span,
            line: count(before.matches('\n').count() + 1),
            column: count(before[line_start..].chars().count() + 1),
            text: text.to_owned(),
        }))
    }

    pub(crate) fn expecting(mut self, expected: &[&'static str]) -> Self {
        self.0.expected = expected.to_vec();
        self
    }

    /// A word that cannot be read at all keeps to itself: what was expected there does not help.
    pub(crate) fn with_help(mut self, help: impl Into<Option<String>>) -> Self {
        if !matches!(self.0.kind, ErrorKind::UnterminatedString | ErrorKind::UnknownSymbol) {
            self.0.help = help.into();
        }
        self
    }

    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The fault in words, without its place.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What to write instead, where that can be guessed.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// The words that could have stood here.
    pub fn expected(&self) -> &[&'static str] {
        &self.0.expected
    }

    /// Line of the fault, from 1.
    pub fn line(&self) -> u32 {
        self.0.line
    }

    /// Column of the fault in its line, from 1, in characters.
    pub fn column(&self) -> u32 {
        self.0.column
    }

    /// The wrong words, in bytes of the text.
    pub fn span(&self) -> Span {
        self.0.span
    }

    /// The wrong word itself.
    pub(crate) fn word(&self) -> &str {
        self.0.span.of(&self.0.text)
    }

    /// The line of the fault with `^` under the wrong word, then what is wrong and what may help.
    pub fn caret(&self) -> String {
        let detail = &self.0;
        let at = detail.text.get(..detail.span.start()).map_or(0, str::len);
        let line_start = detail.text[..at].rfind('\n').map_or(0, |n| n + 1);
        let line = detail.text[line_start..].lines().next().unwrap_or_default();
        let before = detail.text[line_start..at].chars().count();
        let wrong = detail.span.of(&detail.text).lines().next().unwrap_or_default();
        let wrong = wrong.chars().count().max(1);

        // A long line is cut around the fault, so that the caret stays in sight.
        const CONTEXT: usize = 48;
        let skip = before.saturating_sub(CONTEXT);
        let length = line.chars().count();
        let take = (before - skip) + wrong.min(CONTEXT) + CONTEXT;
        let lead = if skip > 0 { "…" } else { "" };
        let tail = if skip + take < length { "…" } else { "" };
        // Control characters would move the caret, or the terminal's cursor.
        let shown: String = line
            .chars()
            .skip(skip)
            .take(take)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let indent = lead.chars().count() + before - skip;
        let mut out = format!(
            "{lead}{shown}{tail}\n{:indent$}{} {}",
            "",
            "^".repeat(wrong.min(CONTEXT)),
            detail.message
        );
        if let Some(help) = &detail.help {
            out.push_str(&format!("\n{:indent$}help: {help}", ""));
        }
        out
    }
}

impl Serialize for ParseError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            kind: ErrorKind,
            message: &'a str,
            line: u32,
            column: u32,
            length: usize,
            expected: &'a [&'static str],
            #[serde(skip_serializing_if = "Option::is_none")]
            help: Option<&'a str>,
            caret: String,
        }
        View {
            kind: self.kind(),
            message: self.message(),
            line: self.line(),
            column: self.column(),
            length: self.0.span.of(&self.0.text).chars().count(),
            expected: self.expected(),
            help: self.help(),
            caret: self.caret(),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caret_stands_under_the_wrong_word_in_characters() {
        let text = "FROM /é INOT $upstream";
        let at = text.find("INOT").unwrap();
        let error = ParseError::new(ErrorKind::Syntax, text, Span::new(at, at + 4), "wrong");
        assert_eq!(error.column(), 9);
        assert_eq!(error.caret(), "FROM /é INOT $upstream\n        ^^^^ wrong");
    }

    #[test]
    fn long_and_multi_line_texts_show_the_surroundings_only() {
        let text = format!("first\n{}bad{}", "a".repeat(300), "b".repeat(300));
        let at = text.find("bad").unwrap();
        let error = ParseError::new(ErrorKind::Syntax, &text, Span::new(at, at + 3), "wrong");
        assert_eq!((error.line(), error.column()), (2, 301));
        let caret = error.caret();
        let (shown, marks) = caret.split_once('\n').unwrap();
        assert!(shown.starts_with('…') && shown.ends_with('…') && shown.chars().count() < 120);
        let column = marks.find('^').unwrap();
        assert_eq!(shown.chars().skip(column).take(3).collect::<String>(), "bad");
    }
}
