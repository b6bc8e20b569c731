//! Conditions on messages, beyond the golden data.

use super::super::sample::Sample;
use super::super::{CompileOptions, Condition, ErrorKind, ParseError, SeenState, Truth};
use serde_json::{Value, json};

fn sample(message: Value) -> Sample {
    Sample::from_json(&message).unwrap()
}

fn weather() -> Sample {
    sample(json!({
        "properties": {"key1": "value1", "key2": "3", "empty": null, "$own": "app", "e": "x"},
        "systemProperties": {
            "own": "system", "contentType": "APPLICATION/JSON", "contentEncoding": "UTF-8"
        },
        "body": {
            "t": 50, "name": "é", "flag": true, "off": false, "none": null,
            "list": [[1, 2], [3]], "when": "2017-03-09T00:00:00Z", "deep": {"a": 1}
        },
    }))
}

fn truth(condition: &str) -> Truth {
    let condition = Condition::compile(condition, CompileOptions::MANIFEST).unwrap();
    let message = weather();
    let verdict = condition.explain(&message);
    assert_eq!(verdict.result, condition.evaluate(&message), "{verdict:?}");
    verdict.result
}

fn refused(condition: &str) -> ParseError {
    Condition::compile(condition, CompileOptions::MANIFEST).unwrap_err()
}

fn all(expected: Truth, conditions: &[&str]) {
    for condition in conditions {
        assert_eq!(truth(condition), expected, "{condition}");
    }
}

#[test]
fn logic_has_three_values_and_null() {
    all(
        Truth::True,
        &[
            "undefined or true",
            "none = 'x' OR true",
            "not null",
            "null or true",
            "(null and true) = null",
            "(null or null) = null",
            "(null and undefined) = null",
        ],
    );
    all(Truth::False, &["null", "null and null", "false and undefined", "null or false"]);
    all(
        Truth::Undefined,
        &["", "  ", "3", "'text'", "undefined", "undefined or false", "true and undefined", "key1"],
    );
}

#[test]
fn a_body_value_in_logic_counts_only_when_it_is_a_boolean() {
    all(Truth::True, &["$body.flag", "NOT $body.off", "$body.flag AND key2 = '3'"]);
    all(Truth::True, &["$body.t OR true", "key2 = '3' AND $body.flag", "$body.flag OR key1"]);
    all(
        Truth::Undefined,
        &["$body.t", "$body.nowhere", "NOT $body.nowhere", "NOT $body.none", "$body.flag AND key1"],
    );
    all(Truth::False, &["$body.nowhere AND false"]);
}

#[test]
fn body_values_have_dynamic_types() {
    all(
        Truth::True,
        &[
            "$body.t = 50",
            "$body.t % 7 = 1",
            "- $body.t = -50",
            "$body.t <> '50'",
            "$body.t < 'a'",
            "$body.nowhere = null",
            "$body.none > 'zzz'",
            "$body.list[0][1] = 2",
            "$body.list[7] = null",
            "($body.nowhere ?? 'x') = null",
            "length($body.name) = 1",
            "as_number($body.t) = 50",
            "is_null($body.none)",
            "is_null($body.nowhere)",
            "is_number($body.t)",
            "$body.name = 'é'",
        ],
    );
    all(Truth::False, &["$body.t = '50'", "is_null($body.t)", "$body.none = empty"]);
    all(
        Truth::Undefined,
        &[
            "$body.deep = 1",
            "$body.list <> 1",
            "$body.when <> 'x'",
            "$body.name + 1 = 2",
            "is_null($body.deep)",
            "is_bool($body.deep)",
        ],
    );
}

#[test]
fn a_body_is_read_only_with_the_right_content_type_and_encoding() {
    let condition = Condition::compile("$body.a = 1", CompileOptions::MANIFEST).unwrap();
    let verdict = |kind: &str, encoding: &str, body: Value| {
        let message = sample(json!({
            "systemProperties": {"contentType": kind, "contentEncoding": encoding}, "body": body,
        }));
        let verdict = condition.explain(&message);
        let super::super::Reason::Condition { seen, .. } = verdict.reason else { panic!() };
        (verdict.result, seen[0].state)
    };
    let good = json!({"a": 1});
    let json = "application/json";
    assert_eq!(verdict(json, "Utf-8", good.clone()), (Truth::True, SeenState::Value));
    for (kind, encoding, body, state) in [
        ("application/json; charset=utf-8", "utf-8", good.clone(), SeenState::BodyContentType),
        (json, "ascii", good.clone(), SeenState::BodyContentEncoding),
        (json, "utf-16", good, SeenState::BodyNotJson),
        (json, "utf-8", json!([1]), SeenState::BodyNotJson),
        (json, "utf-8", json!("random"), SeenState::BodyNotJson),
    ] {
        assert_eq!(verdict(kind, encoding, body), (Truth::Undefined, state), "{kind} {encoding}");
    }
}

#[test]
fn an_application_property_hides_a_system_property_and_a_body_query() {
    all(Truth::True, &["$own = 'app'", "{$own} = 'system'", "{ $OWN } = 'system'"]);
    let message = sample(json!({
        "properties": {"$BODY.a": "property"},
        "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"},
        "body": {"a": "body"},
    }));
    for (condition, expected) in
        [("$body.a = 'property'", Truth::True), ("{$body.a} = 'body'", Truth::True)]
    {
        let condition = Condition::compile(condition, CompileOptions::MANIFEST).unwrap();
        assert_eq!(condition.evaluate(&message), expected);
    }
}

#[test]
fn without_body_query_a_path_is_a_system_property() {
    let options = CompileOptions { body_query: false, ..CompileOptions::MANIFEST };
    assert!(Condition::compile("$body.t >= 50", options).is_err());
    let text = Condition::compile("$body.t = '50'", options).unwrap();
    assert_eq!(text.evaluate(&weather()), Truth::Undefined);
}

#[test]
fn words_that_look_like_numbers_or_calculations_are_read_as_the_original_does() {
    // `e5` is a number without a value, `3+4` a name, and numbers too great are infinite.
    assert_eq!(refused("e5 = 'x'").kind(), ErrorKind::Type);
    assert_eq!(refused("3+4 = 7").kind(), ErrorKind::Type);
    assert!(refused("3+4 = 7").help().unwrap().contains("operators need spaces"));
    all(Truth::True, &["is_defined(10e1000)", "10e1000 = 1 / 0", "as_number('10e1000') = 1/0"]);
    all(Truth::False, &["is_defined(e5)", "is_defined(-undefined)"]);
}

#[test]
fn type_errors_point_at_the_wrong_operand_and_say_how_to_convert() {
    for (condition, column, help) in [
        ("3 + key1 = 4", 5, "a property is a text: write as_number(key1)"),
        ("3 = key1", 5, "a property is a text: write as_number(key1)"),
        ("key1 > 3", 1, "a property is a text: write as_number(key1)"),
        ("3 > '4'", 5, "a number is written without quotes: 4"),
        ("key1 AND true", 1, "a property is a text: write key1 = 'true'"),
        ("TRUE AND true", 1, "'TRUE' is read as a property; write true in small letters"),
        ("key1 = false", 8, "a property is a text: compare it with the text 'false'"),
        ("abs(key1) = 3", 5, "a property is a text: write as_number(key1)"),
        ("start_with(key1, 'v')", 1, "did you mean starts_with?"),
        ("(key1 ?? 12.34)", 2, "a property is a text: write as_number(key1)"),
        ("(key1 ?? null)", 10, ""),
        ("undefined and \"hello\"", 15, ""),
    ] {
        let error = refused(condition);
        assert_eq!(error.column(), column, "{condition}\n{}", error.caret());
        assert_eq!(error.help().unwrap_or_default(), help, "{condition}");
    }
}

#[test]
fn arguments_are_counted_and_typed() {
    for condition in [
        "concat('a') = 'a'",
        "concat('a', 3) = 'a'",
        "substring('hello') = 'h'",
        "length(null) = 0",
        "is_null()",
        "is_defined(key1, key2)",
        "as_number(true) = 1",
        "power(2) = 4",
    ] {
        assert_eq!(refused(condition).kind(), ErrorKind::Arguments, "{condition}");
    }
    assert_eq!(refused("nosuch(1)").kind(), ErrorKind::UnknownFunction);
    assert_eq!(refused("$body.").kind(), ErrorKind::Path);
    assert_eq!(refused("$body.a[] = 1").kind(), ErrorKind::Path);
}

#[test]
fn twin_change_includes_needs_a_twin_change_source() {
    let condition = "twin_change_includes(properties.reported.a.b)";
    assert_eq!(refused(condition).kind(), ErrorKind::FunctionNotAvailable);
    let message = |body: Value| {
        sample(json!({
            "source": "/twinChangeNotifications",
            "systemProperties": {"contentType": "application/json", "contentEncoding": "utf-8"},
            "body": body,
        }))
    };
    let twin = message(json!({"properties": {"reported": {"a": {"b": null}}}}));
    let options = CompileOptions::for_message(super::super::Facts::source(&twin));
    let compiled = Condition::compile(condition, options).unwrap();
    assert_eq!(compiled.evaluate(&twin), Truth::True, "a path is included even when null");
    assert_eq!(compiled.evaluate(&message(json!({"properties": {}}))), Truth::False);
    assert_eq!(compiled.evaluate(&message(json!("no json"))), Truth::Undefined);
    for path in [
        "properties.a",
        "properties.reported",
        "'tags.a'",
        "tags.a[0].b",
        "123",
        "",
        "tags.a, tags.b",
    ] {
        let condition = format!("twin_change_includes({path})");
        assert!(Condition::compile(&condition, options).is_err(), "{condition}");
    }
}

#[test]
fn a_verdict_says_what_decided() {
    let text = |condition: &str| {
        let condition = Condition::compile(condition, CompileOptions::MANIFEST).unwrap();
        condition.explain(&weather()).text
    };
    for (condition, words) in [
        ("key1 = 'x'", "not matched: key1 = 'x' is false; key1 was \"value1\""),
        (
            "key2 = '3' AND as_number(key2) > 25 AND key1 = 'a'",
            "not matched: as_number(key2) > 25 is false; as_number(key2) was 3",
        ),
        ("nokey = 'a'", "not matched: nokey = 'a' is undefined; nokey is not set"),
        (
            "as_number(key1) > 3",
            "not matched: as_number(key1) > 3 is undefined; key1 was \"value1\"",
        ),
        ("key1 = 'a' OR key2 = '3'", "matched: key2 = '3' is true; key2 was \"3\""),
        (
            "key1 = 'a' OR key2 = 'b'",
            "not matched: key1 = 'a' OR key2 = 'b' is false; key1 was \"value1\", key2 was \"3\"",
        ),
        ("$body.nowhere > 3 AND $body.t = 1", "not matched: $body.t = 1 is false; $body.t was 50"),
        (
            "$body.nowhere = 3",
            "not matched: $body.nowhere = 3 is false; $body.nowhere is not in the body",
        ),
        (
            "$body.deep = 3",
            "not matched: $body.deep = 3 is undefined; $body.deep is an object or a list",
        ),
        ("NOT is_defined(key1)", "not matched: NOT is_defined(key1) is false; key1 was \"value1\""),
        (
            "key1 = 'a' OR KEY1 = 'b' OR key2 = 'c'",
            "not matched: key1 = 'a' OR KEY1 = 'b' OR key2 = 'c' is false; \
             key1 was \"value1\", key2 was \"3\"",
        ),
        ("$body.t / 0 < 1", "not matched: $body.t / 0 < 1 is false; $body.t / 0 was \"Infinity\""),
        (
            "starts_with(key1, 'val')",
            "matched: starts_with(key1, 'val') is true; key1 was \"value1\"",
        ),
        ("empty = 'a'", "not matched: empty = 'a' is undefined; empty is null"),
    ] {
        assert_eq!(text(condition), words, "{condition}");
    }
}

#[test]
fn long_texts_are_cut_in_a_verdict() {
    let message = sample(json!({"properties": {"a": "é".repeat(100)}}));
    let condition = Condition::compile("a = 'x'", CompileOptions::MANIFEST).unwrap();
    let super::super::Reason::Condition { seen, .. } = condition.explain(&message).reason else {
        panic!()
    };
    assert_eq!(seen[0].value, Some(json!("é".repeat(32))));
    assert!(seen[0].truncated);
}
