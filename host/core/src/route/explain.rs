//! Why a route took a message or did not, as values and in words.
//!
//! The API, the command line and the console print these values. Made from a [`super::trace::Trace`]
//! only, so they say what the router decided, not what it would decide now.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value as Json;

use super::body::BodyProblem;
use super::eval::{Seen, Witness};
use super::program::Program;
use super::trace::Outcome;
use super::value::Truth;

/// What one route did with a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteVerdict {
    pub name: String,
    /// The route as it was written.
    pub route: String,
    /// Where it leads: `$upstream`, or `BrokeredEndpoint(...)`.
    pub sink: String,
    /// The message is taken only when this is `true`.
    pub matched: Truth,
    pub reason: Reason,
    /// The reason in words.
    pub text: String,
}

/// Result of a condition alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConditionVerdict {
    pub result: Truth,
    pub reason: Reason,
    pub text: String,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Reason {
    /// The route has no condition and takes everything from its source.
    Unconditional { source: String },
    /// The message came from elsewhere.
    SourceDiffers { expected: String, actual: String },
    /// The first part of the condition that made it what it is.
    Condition {
        expression: String,
        /// Column of the expression in the condition, from 1, in characters.
        column: usize,
        /// Length of the expression in characters.
        length: usize,
        seen: Vec<SeenValue>,
    },
}

/// A value that was seen in the deciding expression.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenValue {
    pub expression: String,
    pub state: SeenState,
    /// The value, cut to 64 bytes; present when `state` is `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Json>,
    /// The value is longer than shown.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SeenState {
    Value,
    Null,
    Undefined,
    /// There is no such property.
    NotSet,
    /// Nothing stands at the body path (null in a condition).
    NotInBody,
    /// An object or a list stands at the body path.
    Structure,
    /// A date stands at the body path.
    Date,
    /// The body cannot be queried.
    BodyContentType,
    BodyContentEncoding,
    BodyNotJson,
}

/// An expression longer than this is cut in the text.
const MAX_SHOWN_CHARS: usize = 160;

/// The part of a route or condition that spans refer to.
#[derive(Clone, Copy)]
pub(crate) struct ConditionText<'t> {
    /// What the spans of the program refer to.
    pub(crate) text: &'t str,
    /// Byte where the condition begins in it.
    pub(crate) start: usize,
}

pub(crate) fn condition_reason(
    program: &Program,
    text: ConditionText<'_>,
    node: u16,
    witnesses: &[Witness],
) -> Reason {
    let span = program.span(node);
    let expression = span.of(text.text);
    let before = text.text.get(text.start..span.start()).unwrap_or_default();
    Reason::Condition {
        expression: expression.to_owned(),
        column: before.chars().count() + 1,
        length: expression.chars().count(),
        seen: witnesses
            .iter()
            .map(|w| SeenValue::new(program.span(w.node).of(text.text), &w.seen))
            .collect(),
    }
}

impl SeenValue {
    fn new(expression: &str, seen: &Seen) -> Self {
        let (state, value) = match seen {
            Seen::NotSet => (SeenState::NotSet, None),
            Seen::Undefined => (SeenState::Undefined, None),
            Seen::Null => (SeenState::Null, None),
            Seen::Bool(value) => (SeenState::Value, Some(Json::from(*value))),
            Seen::Number(value) => (SeenState::Value, Some(number(*value))),
            Seen::Text(text) | Seen::LongText(text) => {
                (SeenState::Value, Some(Json::from(text.as_str())))
            }
            Seen::Missing => (SeenState::NotInBody, None),
            Seen::Structure => (SeenState::Structure, None),
            Seen::Date => (SeenState::Date, None),
            Seen::Unreadable(BodyProblem::ContentType) => (SeenState::BodyContentType, None),
            Seen::Unreadable(BodyProblem::ContentEncoding) => {
                (SeenState::BodyContentEncoding, None)
            }
            Seen::Unreadable(BodyProblem::NotJson) => (SeenState::BodyNotJson, None),
        };
        Self {
            expression: expression.to_owned(),
            state,
            value,
            truncated: matches!(seen, Seen::LongText(_)),
        }
    }

    fn words(&self) -> String {
        let name = shortened(&self.expression);
        match (self.state, &self.value) {
            (SeenState::Value, Some(value)) => {
                format!("{name} was {value}{}", if self.truncated { "…" } else { "" })
            }
            (SeenState::Value | SeenState::Undefined, _) => format!("{name} is undefined"),
            (SeenState::Null, _) => format!("{name} is null"),
            (SeenState::NotSet, _) => format!("{name} is not set"),
            (SeenState::NotInBody, _) => format!("{name} is not in the body"),
            (SeenState::Structure, _) => format!("{name} is an object or a list"),
            (SeenState::Date, _) => format!("{name} is a date, which a condition cannot compare"),
            (SeenState::BodyContentType, _) => {
                format!("{name} cannot be read: contentType is not application/json")
            }
            (SeenState::BodyContentEncoding, _) => {
                format!("{name} cannot be read: contentEncoding is not utf-8, utf-16 or utf-32")
            }
            (SeenState::BodyNotJson, _) => {
                format!("{name} cannot be read: the body is not a JSON object")
            }
        }
    }
}

/// A whole number without a decimal point; JSON has no infinity, so that is a text.
fn number(value: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        return Json::from(value as i64);
    }
    match serde_json::Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None => Json::from(if value > 0.0 { "Infinity" } else { "-Infinity" }),
    }
}

/// The reason in words; `outcome` says what it led to.
pub(crate) fn words(outcome: Outcome, reason: &Reason) -> String {
    let mut text = match outcome.truth() {
        Truth::True => "matched: ".to_owned(),
        Truth::False | Truth::Undefined => "not matched: ".to_owned(),
    };
    match reason {
        Reason::Unconditional { source } => {
            text.push_str("takes every message from ");
            text.push_str(source);
        }
        Reason::SourceDiffers { expected, actual } => {
            text.push_str("takes messages from ");
            text.push_str(expected);
            text.push_str(", this one came from ");
            text.push_str(actual);
        }
        Reason::Condition { expression, seen, .. } => {
            // Writing to a string does not fail.
            let _written = write!(text, "{} is {}", shortened(expression), outcome.truth());
            for (i, value) in seen.iter().enumerate() {
                text.push_str(if i == 0 { "; " } else { ", " });
                text.push_str(&value.words());
            }
        }
    }
    text
}

/// On one line, and not too long.
fn shortened(expression: &str) -> String {
    let line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
