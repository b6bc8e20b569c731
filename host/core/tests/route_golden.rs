//! The route language against the data of Azure IoT Edge's own unit tests
//! (`tests/golden/iotedge`). Every section of the files is read; none may be empty.

use std::time::Duration;

use serde_json::Value;
use weir_core::route::hub_config::{FaultKind, HubConfig, TimeToLive};
use weir_core::route::sample::Sample;
use weir_core::route::{
    CompileOptions, Condition, ErrorKind, Facts, Lookup, Route, Sink, Source, SourcePattern, Truth,
    check_body_path, check_twin_path, parse_queue_id, queue_id,
};

fn golden(file: &str) -> Value {
    let path = format!("{}/../../tests/golden/iotedge/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the golden data is in the repository");
    serde_json::from_str(&text).expect("the golden data is JSON")
}

fn section<'a>(data: &'a Value, name: &str) -> &'a [Value] {
    let cases = data[name].as_array().unwrap_or_else(|| panic!("no section {name}"));
    assert!(!cases.is_empty(), "{name}");
    cases
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no {key} in {case}"))
}

#[test]
fn no_section_is_left_out() {
    let sections = |file: &str| {
        let data = golden(file);
        data.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        sections("route-parsing.json"),
        [
            "about",
            "endpoints",
            "invalid_routes",
            "json_paths",
            "message_source_from_system_properties",
            "queue_ids",
            "source_matches",
            "twin_json_paths",
            "valid_routes",
        ]
    );
    assert_eq!(
        sections("routing-conditions.json"),
        ["about", "arithmetic", "cases", "literal_errors", "literals", "messages"]
    );
    assert_eq!(sections("edgehub-desired.json"), ["about", "cases"]);
}

#[test]
fn valid_routes_have_the_parts_of_the_original() {
    let data = golden("route-parsing.json");
    for case in section(&data, "valid_routes") {
        let route = Route::parse(text(case, "route")).unwrap_or_else(|e| panic!("{}", e.caret()));
        assert_eq!(route.source().path(), text(case, "source"), "{case}");
        assert_eq!(route.condition_text(), text(case, "condition"), "{case}");
        let sink =
            Sink::from_function(text(case, "endpoint_function"), text(case, "endpoint_address"));
        assert_eq!(route.sink(), &sink.unwrap(), "{case}");
    }
}

#[test]
fn invalid_routes_are_refused() {
    let data = golden("route-parsing.json");
    for case in section(&data, "invalid_routes") {
        assert_eq!(text(case, "expect"), "parse_error");
        assert!(Route::parse(text(case, "route")).is_err(), "{case}");
    }
}

#[test]
fn source_patterns_match_as_in_the_original() {
    let data = golden("route-parsing.json");
    for case in section(&data, "source_matches") {
        let pattern = SourcePattern::new(text(case, "pattern"));
        let path = text(case, "message_source");
        let expected = case["match"].as_bool().unwrap();
        assert_eq!(pattern.matches(Source::Path(path)), expected, "{case}");
        let source = match path {
            "/messages" => Source::Device,
            "/twinChangeNotifications" => Source::TwinChange,
            "/messages/modules/ModId1/outputs/Op1" => {
                Source::Module { module: "ModId1", output: Some("Op1") }
            }
            other => panic!("{other}"),
        };
        assert_eq!(pattern.matches(source), expected, "{case}");
    }
}

#[test]
fn body_and_twin_paths_are_checked_as_in_the_original() {
    let data = golden("route-parsing.json");
    for case in section(&data, "json_paths") {
        let valid = case["valid"].as_bool().unwrap();
        assert_eq!(check_body_path(text(case, "path")).is_ok(), valid, "{case}");
    }
    for case in section(&data, "twin_json_paths") {
        let valid = case["valid"].as_bool().unwrap();
        assert_eq!(check_twin_path(text(case, "path")).is_ok(), valid, "{case}");
    }
}

#[test]
fn endpoints_are_made_as_in_the_original() {
    let data = golden("route-parsing.json");
    for case in section(&data, "endpoints") {
        let sink = match case["system_endpoint"].as_str() {
            Some(name) => Sink::from_system_name(name),
            None => Sink::from_function(
                case["function"].as_str().unwrap_or_default(),
                text(case, "address"),
            ),
        };
        assert_eq!(sink.is_ok(), case["valid"].as_bool().unwrap(), "{case}");
        if let Some(id) = case["endpoint_id"].as_str() {
            let sink = sink.unwrap();
            assert_eq!(sink.endpoint_id(text(case, "edge_device")), id);
            let Sink::ModuleInput { input, .. } = sink else { panic!("{case}") };
            assert_eq!(input, text(case, "input"));
        }
    }
}

#[test]
fn the_source_of_a_message_follows_from_its_system_properties() {
    let data = golden("route-parsing.json");
    for case in section(&data, "message_source_from_system_properties") {
        let value = |name: &str| case["systemProperties"][name].as_str();
        let source = match (value("messageType"), value("connectionModuleId")) {
            (Some("twinChangeNotification"), _) => Source::TwinChange,
            (_, Some(module)) => Source::Module { module, output: value("outputName") },
            _ => Source::Device,
        };
        assert_eq!(source.to_string(), text(case, "message_source"), "{case}");
    }
}

#[test]
fn queues_are_named_as_in_the_original() {
    let data = golden("route-parsing.json");
    for case in section(&data, "queue_ids") {
        let (endpoint, queue) = (text(case, "endpoint"), text(case, "queue_id"));
        let priority = u32::try_from(case["priority"].as_u64().unwrap()).unwrap();
        assert_eq!(queue_id(endpoint, priority), queue, "{case}");
        assert_eq!(parse_queue_id(queue), (endpoint, priority), "{case}");
    }
}

#[test]
fn conditions_have_the_results_of_the_original() {
    let data = golden("routing-conditions.json");
    for case in section(&data, "cases") {
        let message = match &case["message"] {
            Value::String(name) => &data["messages"][name],
            message => message,
        };
        let message = Sample::from_json(message).unwrap();
        let options = CompileOptions::for_message(message.source());
        let result = match Condition::compile(text(case, "condition"), options) {
            Ok(condition) => {
                let verdict = condition.explain(&message);
                assert_eq!(verdict.result, condition.evaluate(&message), "{case}");
                verdict.result.to_string()
            }
            Err(_) => "compile_error".to_owned(),
        };
        assert_eq!(result, text(case, "expect"), "{case}");
    }
}

/// A message without anything.
struct Nothing;

impl Facts for Nothing {
    fn source(&self) -> Source<'_> {
        Source::Device
    }

    fn property(&self, _name: &str) -> Lookup<'_> {
        Lookup::Absent
    }

    fn system_property(&self, _name: &str) -> Lookup<'_> {
        Lookup::Absent
    }

    fn body(&self) -> &[u8] {
        b""
    }
}

/// Whether an expression has a value, found by comparing it.
fn has_value(expression: &str, value: &Value) -> Truth {
    let condition = match value {
        Value::String(text) if text == "NaN" => format!("is_defined({expression}) = false"),
        Value::String(text) if text == "Infinity" => format!("({expression}) = 1 / 0"),
        Value::String(text) => format!("({expression}) = '{text}'"),
        // Sums of decimals are compared within rounding.
        number => format!("abs(({expression}) - {number}) < 1e-9"),
    };
    Condition::compile(&condition, CompileOptions::MANIFEST)
        .unwrap_or_else(|e| panic!("{}", e.caret()))
        .evaluate(&Nothing)
}

#[test]
fn literals_and_arithmetic_have_the_values_of_the_original() {
    let data = golden("routing-conditions.json");
    for name in ["literals", "arithmetic"] {
        for case in section(&data, name) {
            assert_eq!(has_value(text(case, "expression"), &case["value"]), Truth::True, "{case}");
        }
    }
}

#[test]
fn errors_of_literals_are_told_as_in_the_original() {
    let data = golden("routing-conditions.json");
    for case in section(&data, "literal_errors") {
        let expression = text(case, "expression");
        let error = Condition::compile(expression, CompileOptions::MANIFEST).unwrap_err();
        let expected = match text(case, "error_message") {
            "Syntax error: unterminated string" => ErrorKind::UnterminatedString,
            "Syntax error: invalid symbol '@'" => ErrorKind::UnknownSymbol,
            "Syntax error." => ErrorKind::Syntax,
            other => panic!("{other}"),
        };
        assert_eq!(error.kind(), expected, "{case}: {error}");
    }
}

#[test]
fn desired_properties_are_accepted_or_refused_as_in_the_original() {
    let data = golden("edgehub-desired.json");
    for case in section(&data, "cases") {
        match (text(case, "expect"), HubConfig::parse(&case["desired"])) {
            ("ok", Ok(config)) => {
                for (name, expected) in case["routes"].as_object().into_iter().flatten() {
                    let route = config.table.routes().find(|r| r.name == *name).unwrap();
                    assert_eq!(route.route.text(), text(expected, "route"));
                    assert_eq!(u64::from(route.priority.get()), expected["priority"]);
                    let ttl = route.time_to_live.map_or(0, |ttl| ttl.as_secs());
                    assert_eq!(ttl, expected["timeToLiveSecs"]);
                }
                if let Some(seconds) = case["global_ttl"].as_u64() {
                    let expected = TimeToLive::Limited(Duration::from_secs(seconds));
                    assert_eq!(config.time_to_live, expected);
                }
            }
            ("InvalidSchemaVersionException", Err(error)) => {
                let refused = matches!(error.faults[0].kind, FaultKind::SchemaVersion(_));
                assert!(refused, "{case}: {error:?}");
            }
            ("JsonReaderException", Err(error)) => {
                let refused = matches!(error.faults[0].kind, FaultKind::WrongType { .. });
                assert!(refused, "{case}: {error:?}");
            }
            (expected, config) => panic!("{case}: expected {expected}, got {config:?}"),
        }
    }
}
