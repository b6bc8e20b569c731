//! IoT Edge's own cases of twins: validation of reported properties, merging, comparing.
#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use serde_json::{Map, Value};
use weir_core::twin::{Patch, Section, diff, merge};

const CASES: &str = include_str!("../../../tests/golden/iotedge/twins.json");

fn cases(group: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let cases = all[group].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{group}");
    cases
}

fn object<'a>(case: &'a Value, name: &str) -> &'a Map<String, Value> {
    case[name].as_object().unwrap()
}

#[test]
fn reported_properties() {
    for case in cases("reported_validation") {
        let read = Patch::parse(Section::Reported, case["reported"].to_string().as_bytes());
        assert_eq!(read.is_ok(), case["valid"].as_bool().unwrap(), "{case}: {read:?}");
    }
}

#[test]
fn merges() {
    // A merge that keeps nulls is for patches that wait for a cloud.
    let deleting = |case: &Value| case["null_deletes"].as_bool().unwrap();
    for case in cases("merge").into_iter().filter(deleting) {
        let mut result = object(&case, "base").clone();
        merge(&mut result, object(&case, "patch"));
        let mut expected = case["result"].clone();
        if case["note"].as_str().is_some_and(|note| note.starts_with("nulls inside a subtree")) {
            // Different on purpose: see docs/compatibility.md.
            remove_nulls(&mut expected);
        }
        assert_eq!(Value::Object(result), expected, "{case}");
    }
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}

#[test]
fn differences() {
    for case in cases("diff") {
        let patch = diff(object(&case, "from"), object(&case, "to"));
        assert_eq!(&patch, object(&case, "patch"), "{case}");
    }
}

#[test]
fn metadata_at_the_top_is_left_out() {
    // What lies deeper is refused: IoT Edge's own validation does not let it in either.
    for case in cases("strip_metadata") {
        let read = Patch::parse(Section::Reported, case["in"].to_string().as_bytes());
        match object(&case, "out").values().any(Value::is_object) {
            true => assert_eq!(read.unwrap_err().pointer, "/dontStripThis/$metadata"),
            false => assert_eq!(read.unwrap().as_map(), object(&case, "out")),
        }
    }
}
