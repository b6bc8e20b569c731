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
                let text =
                    text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
                Err(Problem::invalid(format!("query: {text}")))
            }
        }
    }
}
