//! What routes did with a message, as the hub says it, with a caret under what decided.

use crate::output::Console;
use serde_json::Value;
use std::io;
use weir_core::route::Route;

/// Prints one line for each route, and what decided below it.
pub(super) fn show(routes: &[Value], console: &mut Console<'_>) -> io::Result<()> {
    for verdict in routes {
        let text = |key: &str| verdict.get(key).and_then(Value::as_str).unwrap_or_default();
        let matched = match matched(verdict) {
            "true" => "took it",
            "false" => "did not",
            other => other,
        };
        console.line(&format!("{matched:9}  {}: {}", text("name"), text("route")))?;
        let route = Route::parse(text("route"));
        let condition = route.as_ref().map(Route::condition_text).unwrap_or_default();
        match caret(verdict, condition) {
            Some((indent, marks)) => {
                console.line(&format!("             {condition}"))?;
                console.line(&format!("             {:indent$}{marks} {}", "", text("text")))?;
            }
            None => console.line(&format!("             {}", text("text")))?,
        }
    }
    Ok(())
}

/// `true`, `false` or `undefined`.
fn matched(verdict: &Value) -> &str {
    match verdict.get("matched") {
        Some(Value::String(text)) => text,
        Some(Value::Bool(true)) => "true",
        Some(Value::Bool(false)) => "false",
        _ => "undefined",
    }
}

/// Where the deciding expression stands in the condition: the indent, and the carets.
pub(super) fn caret(verdict: &Value, condition: &str) -> Option<(usize, String)> {
    let reason = verdict.get("reason")?;
    let number = |key: &str| reason.get(key)?.as_u64().and_then(|n| usize::try_from(n).ok());
    let (column, length) = (number("column")?, number("length")?);
    // A condition over several lines, or one that does not fit, is left without carets.
    let fits = column >= 1 && column - 1 + length <= condition.chars().count();
    (fits && !condition.contains('\n')).then(|| (column - 1, "^".repeat(length)))
}
