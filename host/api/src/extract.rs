//! What handlers take out of a request's path and query, with problems instead of plain texts.

use crate::problem::Problem;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use weir_core::error_code::ErrorCode;

/// Names in the path, percent-decoded and checked.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(PathRejection::FailedToDeserializePathParams(refused)) => {
                let (message, parameter) = match refused.into_kind() {
                    ErrorKind::DeserializeError { key, message, .. } => (message, Some(key)),
                    ErrorKind::InvalidUtf8InPathParam { key } => {
                        ("the name is no UTF-8".to_owned(), Some(key))
                    }
                    ErrorKind::ParseErrorAtKey { key, value, .. } => {
                        (format!("{value:?} is no number"), Some(key))
                    }
                    ErrorKind::ParseError { value, .. } => {
                        (format!("{value:?} is no number"), None)
                    }
                    other => (other.to_string(), None),
                };
                let problem = Problem::new(ErrorCode::InvalidName, message);
                let names = RawPathParams::from_request_parts(parts, state).await.ok();
                let only =
                    names.as_ref().and_then(|names| match names.iter().collect::<Vec<_>>()[..] {
                        [(name, _)] => Some(name.to_owned()),
                        _ => None,
                    });
                let parameter = parameter.or(only);
                Err(match parameter {
                    Some(parameter) => problem.parameter(parameter),
                    None => problem,
                })
            }
            Err(other) => Err(Problem::fault(&other)),
        }
    }
}

/// Parameters of the query; unknown ones are refused by the types.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(refused) => {
                let text = refused.body_text();
                let text = text.strip_prefix("Failed to deserialize query string: ");
                Err(query(text.unwrap_or_default()))
            }
        }
    }
}

/// A reader's words about the query, without Rust's.
fn query(text: &str) -> Problem {
    let (name, what) = text.split_once(": ").unwrap_or(("", text));
    let what = match what {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "this is no whole number, 0 or more"
        }
        "number too large to fit in target type" => "the number is too large",
        what => what,
    };
    if let Some(twice) = what.strip_prefix("duplicate field `").and_then(|it| it.strip_suffix('`'))
    {
        return Problem::invalid(format!("query: {twice} is given twice")).parameter(twice);
    }
    match name {
        "" => Problem::invalid(format!("query: {what}")),
        name => Problem::invalid(format!("query: {name}: {what}")).parameter(name),
    }
}
