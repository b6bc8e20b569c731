//! JSON from callers, read strictly.
//!
//! A body is read twice: once to see that it is JSON without repeated keys and not too deep, once into
//! the wanted type. What serde would take silently (a key twice, of which one wins) is refused here
//! with its place, and so are unknown fields by the types themselves.

use crate::body;
use crate::problem::{Detail, Problem};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, de};
use std::collections::HashSet;
use std::fmt;
use weir_core::error_code::ErrorCode;
use weir_core::limits;

/// A JSON body, in or out.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        parse(&text(request).await?).map(Self)
    }
}

/// The text of a JSON body, for rules that read it themselves.
///
/// # Errors
/// Another content type, or as [`body::read`].
pub(crate) async fn text(request: Request) -> Result<Bytes, Problem> {
    let merge_patch = request.method() == axum::http::Method::PATCH;
    if !is_json(request.headers(), merge_patch) {
        let or = if merge_patch { " or application/merge-patch+json" } else { "" };
        let what = format!("the body must have the content type application/json{or}");
        return Err(Problem::new(ErrorCode::UnsupportedMediaType, what).parameter("content-type"));
    }
    body::read(request.into_body(), limits::API_BODY_BYTES).await
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
            Err(error) => Problem::fault(&error).into_response(),
        }
    }
}

fn is_json(headers: &HeaderMap, merge_patch: bool) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok())
    else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || merge_patch && essence.eq_ignore_ascii_case("application/merge-patch+json")
}

/// The value of a strict JSON text.
///
/// # Errors
/// What is wrong and where, as a 400.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    check(bytes)?;
    // A derived reader would take a list for an object, member by member.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::invalid("the body must be a JSON object"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let mut pointer = String::new();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => {
                    pointer.push_str(&format!("/{index}"));
                }
                serde_path_to_error::Segment::Map { key } => push(&mut pointer, key),
                serde_path_to_error::Segment::Enum { .. }
                | serde_path_to_error::Segment::Unknown => {}
            }
        }
        Problem::invalid(without_types(&without_place(&error.into_inner()))).at(pointer)
    })
}

fn push(pointer: &mut String, key: &str) {
    pointer.push('/');
    pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
}

/// The message without serde's `at line 1 column 2`, which says little of a body on one line.
pub(crate) fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The message without the names of Rust's types.
pub(crate) fn without_types(text: &str) -> String {
    let Some((before, wanted)) = text.rsplit_once("expected ") else { return text.to_owned() };
    let wanted = match wanted {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        wanted => match wanted.strip_prefix("struct ") {
            Some(_) => "an object",
            None => wanted,
        },
    };
    format!("{before}expected {wanted}")
}

/// Whether the bytes are one JSON value with unique keys.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Problem> {
    let mut found = Found { path: Vec::new(), fault: None };
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Walk(&mut found).deserialize(&mut reader).and_then(|()| reader.end());
    let Err(error) = read else { return Ok(()) };
    match found.fault {
        Some(Fault::Duplicate(pointer)) => {
            Err(Problem::new(ErrorCode::DuplicateKey, format!("{pointer} is named twice"))
                .at(pointer))
        }
        Some(Fault::Depth) => Err(Problem::invalid(format!(
            "the JSON is nested more than {} deep",
            limits::JSON_DEPTH
        ))),
        None => {
            let message = without_place(&error);
            let column = u32::try_from(error.column()).ok().filter(|column| *column > 0);
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(Problem::invalid(format!("the body is no JSON: {message} ({place})"))
                .with(Detail { column, message, ..Detail::default() }))
        }
    }
}

enum Fault {
    Duplicate(String),
    Depth,
}

struct Found {
    path: Vec<String>,
    fault: Option<Fault>,
}

impl Found {
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        self.path.iter().for_each(|key| push(&mut pointer, key));
        pointer
    }
}

/// Walks over a value and keeps nothing of it.
struct Walk<'a>(&'a mut Found);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Walk<'_> {
    fn enter<E: de::Error>(&mut self, key: String) -> Result<(), E> {
        self.0.path.push(key);
        if self.0.path.len() > limits::JSON_DEPTH {
            self.0.fault = Some(Fault::Depth);
            return Err(E::custom("too deep"));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            self.enter(key.clone())?;
            if !seen.insert(key) {
                self.0.fault = Some(Fault::Duplicate(self.0.pointer()));
                return Err(de::Error::custom("named twice"));
            }
            map.next_value_seed(Walk(self.0))?;
            self.0.path.pop();
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let mut at = 0usize;
        loop {
            self.enter(at.to_string())?;
            if list.next_element_seed(Walk(self.0))?.is_none() {
                self.0.path.pop();
                return Ok(());
            }
            self.0.path.pop();
            at += 1;
        }
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::Value;

    fn refusal(text: &[u8]) -> (ErrorCode, Option<String>) {
        let problem = parse::<Value>(text).unwrap_err();
        (problem.code(), problem.body().errors.first().and_then(|one| one.pointer.clone()))
    }

    #[test]
    fn a_key_that_is_named_twice_is_refused_with_its_place_at_any_depth() {
        for (text, pointer) in [
            (r#"{"a":1,"a":2}"#, "/a"),
            (r#"{"a":{"b":[0,{"c":1,"c":1}]}}"#, "/a/b/1/c"),
            (r#"{"a/b":1,"a\u002fb":2}"#, "/a~1b"),
            (r#"{"":0,"":0}"#, "/"),
        ] {
            let expected = (ErrorCode::DuplicateKey, Some(pointer.to_owned()));
            assert_eq!(refusal(text.as_bytes()), expected, "{text}");
        }
        assert!(parse::<Value>(br#"{"a":{"x":1},"b":{"x":1}}"#).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let bottomless = "[".repeat(100_000);
        let cases: [&[u8]; 17] = [
            b"[]",
            b"[{}]",
            b"1",
            b"",
            b" ",
            b"{",
            b"nul",
            b"NaN",
            b"Infinity",
            b"1e999",
            b"-1e999",
            b"01",
            br#""\ud800""#,
            b"\"\xff\"",
            b"{} {}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":1,}",
        ];
        for text in cases.into_iter().chain([deep.as_bytes(), bottomless.as_bytes()]) {
            assert_eq!(
                refusal(text).0,
                ErrorCode::InvalidRequest,
                "{:?}",
                &text[..text.len().min(20)]
            );
        }
    }

    #[test]
    fn the_deepest_allowed_nesting_is_read() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(parse::<Value>(nested(limits::JSON_DEPTH).as_bytes()).is_ok());
        assert!(parse::<Value>(nested(limits::JSON_DEPTH + 1).as_bytes()).is_err());
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Inner {
            known: u32,
        }
        #[derive(Debug, Deserialize)]
        #[expect(dead_code, reason = "only read")]
        struct Outer {
            inner: Vec<Inner>,
        }
        let problem = parse::<Outer>(br#"{"inner":[{"known":1},{"knwon":1}]}"#).unwrap_err();
        assert!(problem.body().detail.contains("knwon"), "{:?}", problem.body());
        assert!(!problem.body().detail.contains("line"), "{:?}", problem.body());
        let pointer = problem.body().errors[0].pointer.as_deref();
        assert!(pointer.is_some_and(|pointer| pointer.starts_with("/inner/1")), "{pointer:?}");
    }

    #[test]
    fn only_json_is_taken_for_json() {
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            headers
        };
        assert!(is_json(&with("application/json"), false));
        assert!(is_json(&with("Application/JSON; charset=utf-8"), false));
        assert!(is_json(&with("application/merge-patch+json"), true));
        assert!(!is_json(&with("application/merge-patch+json"), false));
        assert!(!is_json(&with("text/plain"), false));
        assert!(!is_json(&HeaderMap::new(), false));
    }
}
