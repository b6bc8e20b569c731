//! Words of a valid condition that most likely mean something else.

use serde::Serialize;

use super::ast::{Expr, ExprKind};
use super::compile::looks_like_operators;
use super::statement::Route;
use super::suggest::{self, SYSTEM_PROPERTIES};

/// A hint at a likely mistake; the route is used all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Column in the route, from 1, in characters.
    pub column: usize,
    pub message: String,
}

impl Route {
    /// Likely mistakes in the condition.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut found = Vec::new();
        if let Some(condition) = self.condition() {
            walk(condition, self.text(), &mut found);
        }
        found
    }
}

fn walk(expr: &Expr, text: &str, found: &mut Vec<Warning>) {
    let message = match &expr.kind {
        ExprKind::Property(name) => property(name),
        ExprKind::Dollar(name) | ExprKind::Braced(name) => system(name),
        // The argument of `twin_change_includes` is a path, and others are walked.
        ExprKind::Call { args, .. } => {
            args.iter().for_each(|arg| walk(arg, text, found));
            None
        }
        ExprKind::Negate(operand) | ExprKind::Not(operand) => {
            walk(operand, text, found);
            None
        }
        ExprKind::Binary { left, right, .. } => {
            walk(left, text, found);
            walk(right, text, found);
            None
        }
        ExprKind::And(operands) | ExprKind::Or(operands) => {
            operands.iter().for_each(|operand| walk(operand, text, found));
            None
        }
        ExprKind::Literal(_) => None,
    };
    if let Some(message) = message {
        let before = text.get(..expr.span.start()).unwrap_or_default();
        found.push(Warning { column: before.chars().count() + 1, message });
    }
}

fn property(name: &str) -> Option<String> {
    let literal =
        ["true", "false", "null", "undefined"].into_iter().find(|w| w.eq_ignore_ascii_case(name));
    match literal {
        Some(word) => Some(format!("'{name}' is a property here; the literal is {word}")),
        None if looks_like_operators(name) => {
            Some(format!("'{name}' is the name of a property here; operators need spaces"))
        }
        None => None,
    }
}

fn system(name: &str) -> Option<String> {
    let bare = name.strip_prefix('$').unwrap_or(name);
    let begins =
        |prefix: &str| bare.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(prefix));
    if begins("body.") {
        return None;
    }
    if bare.eq_ignore_ascii_case("body") {
        return Some("$body alone is undefined; name a path: $body.temperature".to_owned());
    }
    if begins("twin.") {
        return Some("$twin queries are not available on the edge: always undefined".to_owned());
    }
    let likely = suggest::closest(bare, SYSTEM_PROPERTIES)?;
    (!likely.eq_ignore_ascii_case(bare))
        .then(|| format!("there is no system property {name}; did you mean ${likely}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_mistakes_are_named_and_good_names_are_not() {
        let warnings = |condition: &str| {
            let route = format!("FROM /* WHERE {condition} INTO $upstream");
            Route::parse(&route).unwrap().warnings()
        };
        for (condition, column, word) in [
            ("a = TRUE", 19, "literal is true"),
            ("'a'||'b' = 'ab'", 15, "operators need spaces"),
            ("$contentTyp = 'x'", 15, "$contentType"),
            ("NOT is_defined({$connectionModulId})", 30, "$connectionModuleId"),
            ("$twin.tags.x = 'a'", 15, "not available"),
            ("$body = 'a'", 15, "name a path"),
        ] {
            let found = warnings(condition);
            assert_eq!(found.len(), 1, "{condition}: {found:?}");
            assert_eq!(found[0].column, column, "{condition}");
            assert!(found[0].message.contains(word), "{condition}: {}", found[0].message);
        }
        for condition in ["my-alert = 'a'", "$contenttype = 'x'", "$custom = 'x'", "$body.a = 1"] {
            assert_eq!(warnings(condition), [], "{condition}");
        }
    }
}
