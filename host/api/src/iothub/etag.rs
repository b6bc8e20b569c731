//! `If-Match` as the service SDKs write it, and the tags they get.
//!
//! A tag is the base64 of a number, as IoT Hub's. The SDKs put quotes around everything, `*` included;
//! scripts leave them away.

use super::refusal::Refusal;
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use weir_hub::Expect;

/// The tag of a revision.
pub(super) fn of_revision(revision: u64) -> String {
    STANDARD.encode(revision.to_string())
}

/// What `If-Match` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IfMatch {
    /// There is none: create.
    Absent,
    /// `*`: whatever version is there.
    Any,
    /// This one, without quotes.
    Tag(String),
}

impl IfMatch {
    /// For a document that is created without `If-Match` and changed with it.
    pub(super) fn expect(&self) -> Expect {
        match self {
            Self::Absent => Expect::Absent,
            Self::Any => Expect::Present,
            Self::Tag(tag) => revision(tag),
        }
    }

    /// For a change of what must be there anyhow.
    pub(super) fn expect_present(&self) -> Expect {
        match self {
            Self::Absent => Expect::Present,
            Self::Any | Self::Tag(_) => self.expect(),
        }
    }
}

/// The revision of a tag; one that no document has when the tag is not one of ours.
pub(super) fn revision(tag: &str) -> Expect {
    let number = STANDARD.decode(tag).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let number = number.and_then(|text| text.parse().ok());
    Expect::Revision(number.filter(|number| of_revision(*number) == tag).unwrap_or(0))
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let mut values = parts.headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(Self::Absent) };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        text.map(read).ok_or_else(|| Refusal::invalid("If-Match must be one etag, or *"))
    }
}

fn read(text: &str) -> IfMatch {
    let text = text.trim();
    let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match quoted.unwrap_or(text) {
        "*" => IfMatch::Any,
        tag => IfMatch::Tag(tag.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_do_not_count() {
        assert_eq!(read("\"*\""), IfMatch::Any);
        assert_eq!(read("*"), IfMatch::Any);
        assert_eq!(read("\"NQ==\""), IfMatch::Tag("NQ==".into()));
        assert_eq!(read("NQ=="), IfMatch::Tag("NQ==".into()));
    }

    #[test]
    fn a_tag_names_its_revision_and_any_other_text_none() {
        assert_eq!(revision(&of_revision(5)), Expect::Revision(5));
        assert_eq!(of_revision(5), "NQ==");
        for tag in ["", "5", "NQ", "MDU=", "AAAAAAAAAAE=", "x"] {
            assert_eq!(revision(tag), Expect::Revision(0), "{tag}");
        }
    }
}
