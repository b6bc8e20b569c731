//! Source patterns: `FROM /messages/modules/filter/*`.
//!
//! A pattern is a prefix of whole segments of the message's source path, compared without regard
//! to case. Patterns are split when the route is read, so that matching a message compares a module
//! and an output name at most. A star that is not at the end is an ordinary name and so catches
//! nothing on the edge.

use std::fmt;

use super::facts::Source;

pub(crate) const TWIN_CHANGE: &str = "/twinChangeNotifications";

/// The `FROM` part of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePattern {
    /// Without the star and slash at the end; `/` for everything.
    path: String,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Everything,
    Messages,
    Modules,
    Module(String),
    Outputs(String),
    Output {
        module: String,
        output: String,
    },
    TwinChange,
    /// A path that no message of the edge has.
    Other,
}

impl SourcePattern {
    /// From the text of a source, such as `/messages/*`.
    pub fn new(text: &str) -> Self {
        let text = text.trim().trim_end_matches('*');
        let path = match text.trim_end_matches('/') {
            "" => "/",
            path => path,
        };
        Self { path: path.to_owned(), shape: Shape::of(path) }
    }

    /// The pattern without the star and slash at its end; `/` for everything.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a message from `source` is caught.
    pub fn matches(&self, source: Source<'_>) -> bool {
        match source {
            Source::Path(path) => self.matches_path(path),
            Source::TwinChange => matches!(self.shape, Shape::Everything | Shape::TwinChange),
            Source::Device => matches!(self.shape, Shape::Everything | Shape::Messages),
            Source::Module { module, output } => self.matches_module(module, output),
        }
    }

    fn matches_module(&self, module: &str, output: Option<&str>) -> bool {
        let output = output.filter(|name| !name.is_empty());
        match &self.shape {
            Shape::Everything | Shape::Messages | Shape::Modules => true,
            Shape::Module(wanted) => same_name(wanted, module),
            Shape::Outputs(wanted) => output.is_some() && same_name(wanted, module),
            Shape::Output { module: wanted, output: wanted_output } => {
                output.is_some_and(|name| is_prefix(wanted_output, name))
                    && same_name(wanted, module)
            }
            Shape::TwinChange | Shape::Other => false,
        }
    }

    fn matches_path(&self, path: &str) -> bool {
        self.path == "/" || is_prefix(&self.path, path.trim())
    }
}

impl Shape {
    fn of(path: &str) -> Self {
        let Some(path) = path.strip_prefix('/') else { return Shape::Other };
        let mut segments = path.splitn(5, '/');
        let mut next = || segments.next().unwrap_or_default();
        let (first, second, module, fourth, output) = (next(), next(), next(), next(), next());
        if path.is_empty() {
            return Shape::Everything;
        }
        if same_name(path, &TWIN_CHANGE[1..]) {
            return Shape::TwinChange;
        }
        if !same_name(first, "messages") {
            return Shape::Other;
        }
        match (second, module, fourth, output) {
            ("", "", "", "") => Shape::Messages,
            (second, ..) if !same_name(second, "modules") => Shape::Other,
            (_, "", "", "") => Shape::Modules,
            (_, module, "", "") => Shape::Module(module.to_owned()),
            (_, _, fourth, _) if !same_name(fourth, "outputs") => Shape::Other,
            (_, module, _, "") => Shape::Outputs(module.to_owned()),
            (_, module, _, output) => {
                Shape::Output { module: module.to_owned(), output: output.to_owned() }
            }
        }
    }
}

/// Whether `prefix` is `path` or whole first segments of it.
fn is_prefix(prefix: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let mut rest = path.chars();
    for wanted in prefix.chars() {
        match rest.next() {
            Some(found) if same_char(wanted, found) => {}
            _ => return false,
        }
    }
    let rest = rest.as_str();
    rest.is_empty() || rest.starts_with('/')
}

fn same_name(left: &str, right: &str) -> bool {
    left.eq_ignore_ascii_case(right)
        || (!left.is_ascii() && left.chars().count() == right.chars().count())
            && left.chars().zip(right.chars()).all(|(a, b)| same_char(a, b))
}

fn same_char(left: char, right: char) -> bool {
    left == right
        || left.eq_ignore_ascii_case(&right)
        || (!left.is_ascii() && left.to_uppercase().eq(right.to_uppercase()))
}

impl fmt::Display for SourcePattern {
    /// With the star that people write at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Shape::Everything => f.write_str("/*"),
            Shape::Output { .. } | Shape::TwinChange => f.write_str(&self.path),
            _ => write!(f, "{}/*", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: Source<'_> = Source::Module { module: "Filter", output: None };
    const OUTPUT: Source<'_> = Source::Module { module: "Filter", output: Some("Hot") };

    fn caught(pattern: &str) -> Vec<&'static str> {
        let pattern = SourcePattern::new(pattern);
        let all = [
            ("twin", Source::TwinChange),
            ("device", Source::Device),
            ("module", MODULE),
            ("output", OUTPUT),
        ];
        for (_, source) in all {
            let path = source.to_string();
            assert_eq!(
                pattern.matches(source),
                pattern.matches(Source::Path(&path)),
                "{pattern:?} on {path}"
            );
        }
        all.into_iter().filter(|(_, source)| pattern.matches(*source)).map(|(n, _)| n).collect()
    }

    #[test]
    fn patterns_are_prefixes_of_whole_segments_without_regard_to_case() {
        for (pattern, expected) in [
            ("/*", &["twin", "device", "module", "output"][..]),
            ("/", &["twin", "device", "module", "output"]),
            ("/messages/*", &["device", "module", "output"]),
            ("/MESSAGES", &["device", "module", "output"]),
            ("/messages/modules/*", &["module", "output"]),
            ("/messages/modules/filter/*", &["module", "output"]),
            ("/messages/modules/filter/outputs/*", &["output"]),
            ("/messages/modules/filter/outputs/HOT", &["output"]),
            ("/messages/modules/filter/outputs/ho", &[]),
            ("/messages/modules/filt", &[]),
            ("/messages/modules/filter/inputs/*", &[]),
            ("/mess*", &[]),
            ("/messages/events", &[]),
            ("/*/messages/*", &[]),
            ("/messages/*/filter", &[]),
            ("/TwinChangeNotifications", &["twin"]),
            ("/twinChangeNotifications/*", &["twin"]),
            ("/deviceLifecycleEvents", &[]),
        ] {
            assert_eq!(caught(pattern), expected, "{pattern}");
        }
    }

    #[test]
    fn an_empty_output_name_counts_as_none() {
        let pattern = SourcePattern::new("/messages/modules/filter/outputs/*");
        assert!(!pattern.matches(Source::Module { module: "filter", output: Some("") }));
    }

    #[test]
    fn an_output_name_may_hold_slashes() {
        let pattern = SourcePattern::new("/messages/modules/m/outputs/a");
        assert!(pattern.matches(Source::Module { module: "m", output: Some("a/b") }));
        assert!(!pattern.matches(Source::Module { module: "m", output: Some("ab") }));
    }
}
