//! IoT Edge's own cases of the MQTT surface: user names, topics, short names, filters.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]

use serde_json::Value;
use weir_core::id::Identity;
use weir_core::properties::{Key, SystemProperty};
use weir_core::topic::bag::decode_bag;
use weir_core::topic::filter::{FilterUse, classify_filter};
use weir_core::topic::{Publish, method_topic, parse_publish};
use weir_core::user_name::UserName;

const CASES: &str = include_str!("../../../tests/golden/iotedge/mqtt.json");

fn cases(group: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(CASES).unwrap();
    let cases = all[group].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{group}");
    cases
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}

#[test]
fn user_names() {
    for case in cases("usernames") {
        let given = text(&case, "username");
        let read = UserName::parse(given);
        assert_eq!(read.is_ok(), case["valid"].as_bool().unwrap(), "{given}: {read:?}");
        let Ok(read) = read else { continue };
        assert_eq!(read.identity.device.as_str(), text(&case, "deviceId"), "{given}");
        let module = read.identity.module.as_ref().map_or("", |module| module.as_str());
        assert_eq!(module, text(&case, "moduleId"), "{given}");
        assert_eq!(read.product.unwrap_or_default(), text(&case, "productInfo"), "{given}");
        assert_eq!(read.model.unwrap_or_default(), text(&case, "modelId"), "{given}");
    }
}

#[test]
fn twin_and_method_topics() {
    for case in cases("twin_topics") {
        let topic = text(&case, "topic");
        let rid = text(&case["properties"], "$rid");
        let expected = match text(&case, "operation") {
            "TwinGetState" => Publish::TwinGet { rid },
            "TwinPatchReportedState" => Publish::TwinPatch { rid: Some(rid) },
            "DirectMethodResponse" => {
                let status = text(&case, "subresource").parse().unwrap();
                Publish::MethodResponse { status, rid }
            }
            other => panic!("{other}"),
        };
        assert_eq!(parse_publish(topic), Ok(expected), "{topic}");
    }
}

#[test]
fn method_requests() {
    for case in cases("method_request_topics") {
        let topic = method_topic(text(&case, "method"), text(&case, "correlationId"));
        assert_eq!(topic, text(&case, "topic"));
    }
}

/// The case has a topic template of its own; what stands in its place for the bag is put into ours.
#[test]
fn parameters_in_a_topic() {
    let case = cases("parse_topics").into_iter().find(|case| text(case, "topic").contains('='));
    let case = case.unwrap();
    let (_, parameters) = text(&case, "topic").split_once("/d/").unwrap();
    let topic = format!("devices/bee/messages/events/{parameters}");
    let Publish::Telemetry { bag, .. } = parse_publish(&topic).unwrap() else { panic!("{topic}") };
    let properties = decode_bag(bag).unwrap().properties;
    for name in ["p1", "p2"] {
        assert_eq!(properties.application(name), Some(case["properties"][name].as_str()));
    }
    let id = properties.system(SystemProperty::MessageId);
    assert_eq!(id, case["properties"]["$.mid"].as_str());
}

#[test]
fn inbound_short_names() {
    let all: Value = serde_json::from_str(CASES).unwrap();
    for (short, name) in all["inbound_short_names"].as_object().unwrap() {
        let name = name.as_str().unwrap().split(' ').next().unwrap();
        let bag = decode_bag(&format!("{short}=v")).unwrap();
        if name == "outputName" {
            assert_eq!(bag.output.unwrap().as_str(), "v");
            continue;
        }
        let known = SystemProperty::from_name(name).unwrap_or_else(|| panic!("{name}"));
        let read: Vec<_> = bag.properties.iter().collect();
        assert_eq!(read, [(Key::System(known), Some("v"))], "{short}");
    }
}

#[test]
fn outbound_short_names() {
    let all: Value = serde_json::from_str(CASES).unwrap();
    for (name, short) in all["outbound_short_names"].as_object().unwrap() {
        if let Some(known) = SystemProperty::from_name(name) {
            assert_eq!(known.short_name(), short.as_str(), "{name}");
        } else {
            // The sender's ids, which a delivery takes from the stamp.
            assert!(matches!(short.as_str(), Some("$.cdid" | "$.cmid")), "{name}");
        }
    }
}

#[test]
fn filters() {
    let identity = Identity::device("d1".parse().unwrap());
    for case in cases("subscription_rules") {
        let expected = match text(&case, "kind") {
            "Methods" => FilterUse::Methods,
            "DesiredPropertyUpdates" => FilterUse::TwinDesired,
            "Unknown" => FilterUse::Unknown,
            other => panic!("{other}"),
        };
        assert_eq!(classify_filter(&identity, text(&case, "filter")), expected);
    }
}
