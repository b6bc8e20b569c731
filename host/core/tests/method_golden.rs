//! The body of a method call against the data of Azure IoT Edge's own unit tests
//! (`tests/golden/iotedge/direct-methods.json`).

use serde_json::{Value, json};
use weir_core::method::MethodCall;

#[test]
fn a_call_is_valid_here_as_it_is_in_iot_edge() {
    let path = "/../../tests/golden/iotedge/direct-methods.json";
    let text = std::fs::read_to_string(format!("{}{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let data: Value = serde_json::from_str(&text).unwrap();
    let cases = data["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let mut body = case.clone();
        let valid = body.as_object_mut().unwrap().remove("valid").unwrap();
        body["payload"] = json!({"prop": "val"});
        let call = MethodCall::from_json(body.to_string().as_bytes());
        assert_eq!(Value::Bool(call.is_ok()), valid, "{case}: {call:?}");
    }
}
