//! A file with routes: lines of text, JSON by name, or a whole deployment.

use super::Error;
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

/// What stands in a file with routes.
#[derive(Debug, PartialEq)]
pub(super) enum RoutesFile {
    /// Names and texts.
    Lines(Vec<(String, String)>),
    /// Routes by name, or the desired properties of `$edgeHub`.
    Json(Value),
}

/// Reads a file.
pub(super) fn read(file: impl AsRef<Path>) -> Result<RoutesFile, Error> {
    let file = file.as_ref();
    let text = fs::read_to_string(file).map_err(|cause| Error::Input {
        doing: format!("read the routes {}", file.display()),
        cause,
    })?;
    RoutesFile::of(&text)
}

impl RoutesFile {
    fn of(text: &str) -> Result<Self, Error> {
        if !text.trim_start().starts_with('{') {
            return Ok(Self::Lines(lines(text)));
        }
        let mut json: Value = serde_json::from_str(text)
            .map_err(|error| Error::Form(format!("the routes are no JSON: {error}")))?;
        let manifest = json.pointer_mut("/modulesContent/$edgeHub/properties.desired");
        Ok(Self::Json(manifest.map(Value::take).unwrap_or(json)))
    }

    /// The routes by name, as the API takes them.
    pub(super) fn named(self) -> Value {
        match self {
            Self::Lines(lines) => lines
                .into_iter()
                .map(|(name, route)| (name, Value::from(route)))
                .collect::<Map<_, _>>()
                .into(),
            Self::Json(mut json) => match json.get_mut("schemaVersion").is_some() {
                true => json.get_mut("routes").map(Value::take).unwrap_or_default(),
                false => json,
            },
        }
    }
}

/// `name: FROM …` or just `FROM …`, one route a line; `#` begins a comment.
fn lines(text: &str) -> Vec<(String, String)> {
    let mut routes = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let named = line.split_once(':').filter(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        });
        routes.push(match named {
            Some((name, route)) => (name.to_owned(), route.trim().to_owned()),
            None => (format!("line-{}", at + 1), line.to_owned()),
        });
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(text: &str) -> Value {
        RoutesFile::of(text).unwrap().named()
    }

    #[test]
    fn routes_are_found_in_lines_in_json_and_in_a_deployment() {
        let lines = "# all\nr1: FROM /a INTO $upstream\n\nFROM /b WHERE x = ':' INTO $upstream\n";
        let expected = json!({
            "r1": "FROM /a INTO $upstream", "line-4": "FROM /b WHERE x = ':' INTO $upstream",
        });
        assert_eq!(named(lines), expected);
        assert_eq!(
            named(r#"{"a": "FROM /* INTO $upstream"}"#),
            json!({"a": "FROM /* INTO $upstream"})
        );
        let manifest = r#"{"modulesContent": {"$edgeHub": {"properties.desired":
            {"schemaVersion": "1.1", "routes": {"a": "FROM /* INTO $upstream"}}}}}"#;
        assert_eq!(named(manifest), json!({"a": "FROM /* INTO $upstream"}));
        assert!(RoutesFile::of("{").is_err());
    }
}
