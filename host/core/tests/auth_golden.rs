//! IoT Edge's own cases of tokens and audiences. Signatures are checked where the cryptography is.
#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use serde_json::Value;
use weir_core::id::Identity;
use weir_core::sas::{Audience, SasToken};

const CASES: &str = include_str!("../../../tests/golden/iotedge/auth.json");
const HOSTS: [&str; 2] = ["testiothub.azure-devices.net", "edgehub1"];

fn cases(group: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let cases = all[group].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{group}");
    cases
}

#[test]
fn tokens() {
    for case in cases("sas_parse") {
        assert!(case["result"].as_str().unwrap().ends_with("Exception"), "{case}");
        assert!(SasToken::parse(case["token"].as_str().unwrap()).is_err(), "{case}");
    }
}

#[test]
fn audiences() {
    for case in cases("audience") {
        let client = case["client"].as_str().unwrap();
        let identity = match client.split_once('/') {
            Some((device, module)) => {
                Identity::module(device.parse().unwrap(), module.parse().unwrap())
            }
            None => Identity::device(client.parse().unwrap()),
        };
        let valid = Audience::parse(case["audience"].as_str().unwrap()).is_ok_and(|audience| {
            audience.is_for_host(&HOSTS) && audience.signer_for(&identity).is_some()
        });
        assert_eq!(valid, case["valid"].as_bool().unwrap(), "{case}");
    }
}
