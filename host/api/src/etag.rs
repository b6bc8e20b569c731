//! `ETag`, `If-Match` and `If-None-Match` (RFC 9110, 8.8.3 and 13.1).
//!
//! The tag of a resource that can be changed is its revision in the store; every other answer to a GET
//! is tagged by its bytes.

use crate::problem::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use weir_hub::Expect;

/// The tag of a revision.
pub(crate) fn of_revision(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// The tag of bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    format!("\"{}\"", &weir_hub::digest_of(bytes).hex()[..32])
}

/// What a change expects to find, from the request's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Precondition(pub(crate) Expect);

/// Headers of a change.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "for the document; read by [`Precondition`]")]
pub(crate) struct IfMatch {
    /// Change only this version: the `ETag` of a GET, or `*` for any that is there.
    #[param(rename = "if-match")]
    if_match: Option<String>,
    /// `*`: create, do not replace.
    #[param(rename = "if-none-match")]
    if_none_match: Option<String>,
}

/// No document has it: revisions begin at 1.
const NEVER: Expect = Expect::Revision(0);

impl<S: Sync> FromRequestParts<S> for Precondition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        expectation(&parts.headers).map(Self)
    }
}

fn expectation(headers: &HeaderMap) -> Result<Expect, Problem> {
    let if_match = single(headers, header::IF_MATCH)?;
    let if_none_match = single(headers, header::IF_NONE_MATCH)?;
    match (if_match, if_none_match) {
        (None, None) => Ok(Expect::Any),
        (Some("*"), None) => Ok(Expect::Present),
        (Some(tag), None) => Ok(revision(tag)?.map_or(NEVER, Expect::Revision)),
        (None, Some("*")) => Ok(Expect::Absent),
        (None, Some(_)) => Err(Problem::invalid(
            "If-None-Match of a change can only be *, which means: create, do not replace",
        )
        .parameter("if-none-match")),
        (Some(_), Some(_)) => {
            Err(Problem::invalid("If-Match and If-None-Match contradict each other")
                .parameter("if-match"))
        }
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(&name).iter();
    let Some(first) = values.next() else { return Ok(None) };
    match (first.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => {
            Err(Problem::invalid(format!("{name} must be one entity tag")).parameter(name.as_str()))
        }
    }
}

/// The revision in a tag; none for a well-formed tag that this hub does not give, a weak one for
/// example, which If-Match never matches.
fn revision(tag: &str) -> Result<Option<u64>, Problem> {
    let weak = tag.starts_with("W/");
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.filter(|inner| !inner.contains('"')).ok_or_else(|| {
        Problem::invalid("If-Match must be one entity tag in quotes, for example \"17\", or *")
            .parameter("if-match")
    })?;
    let canonical = |revision: &u64| revision.to_string() == inner;
    Ok(inner.parse().ok().filter(canonical).filter(|_| !weak))
}

/// True when `If-None-Match` names `tag`; the comparison is weak, as for every GET.
pub(crate) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let strong = |text: &str| text.trim().trim_start_matches("W/").to_owned();
    let Ok(tag) = tag.to_str().map(strong) else { return false };
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|known| known.trim() == "*" || strong(known) == tag)
}

/// An answer with the revision that a later change can name.
#[derive(Debug)]
pub(crate) struct Tagged<T>(pub(crate) u64, pub(crate) T);

impl<T: IntoResponse> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let mut response = self.1.into_response();
        if let Ok(tag) = HeaderValue::from_str(&of_revision(self.0)) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// Marks an answer whose tag says nothing of its counters: a GET is always answered whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Volatile;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    fn expects(name: HeaderName, value: &str) -> Option<Expect> {
        expectation(&headers(&[(name, value)])).ok()
    }

    #[test]
    fn a_strong_tag_names_a_revision_and_others_match_nothing() {
        assert_eq!(expectation(&HeaderMap::new()).unwrap(), Expect::Any);
        for (value, expected) in [
            ("\"17\"", Some(Expect::Revision(17))),
            (" \"17\" ", Some(Expect::Revision(17))),
            ("*", Some(Expect::Present)),
            ("W/\"17\"", Some(NEVER)),
            ("\"017\"", Some(NEVER)),
            ("\"abc\"", Some(NEVER)),
            ("17", None),
            ("\"1\", \"2\"", None),
            ("", None),
        ] {
            assert_eq!(expects(header::IF_MATCH, value), expected, "{value:?}");
        }
        assert_eq!(expects(header::IF_NONE_MATCH, "*"), Some(Expect::Absent));
        assert_eq!(expects(header::IF_NONE_MATCH, "\"1\""), None);
        let both = headers(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]);
        assert!(expectation(&both).is_err());
        let twice = headers(&[(header::IF_MATCH, "\"1\""), (header::IF_MATCH, "\"2\"")]);
        assert!(expectation(&twice).is_err());
    }

    #[test]
    fn a_get_is_not_modified_when_any_named_tag_is_the_present_one() {
        let tag = HeaderValue::from_static("\"17\"");
        let known = |value: &str| is_known(&headers(&[(header::IF_NONE_MATCH, value)]), &tag);
        assert!(known("\"17\"") && known("W/\"17\"") && known("\"1\", \"17\"") && known("*"));
        assert!(!known("\"1\"") && !known("17") && !known(""));
        assert!(!is_known(&HeaderMap::new(), &tag));
    }
}
