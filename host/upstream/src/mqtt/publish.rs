//! From a message to a PUBLISH: the topic, the property bag, the payload.
//!
//! The topic is the configured template with its placeholders filled in. With `properties = "topic"` one
//! more level follows, IoT Hub's property bag: `name=value` joined by `&`, both percent-encoded, a null
//! value as a bare name. It begins with what the hub knows: `weir-message-id` (the same on every
//! delivery, so that a receiver can drop duplicates), `$.cdid` and `$.cmid` (the sender), `$.on` (the
//! output) and `weir-origin-device`, `weir-origin-module` (the first sender, where modules have sent
//! the message on). The sender's properties follow, system properties by their short names (`$.ct`).
//! Of a repeated name the first counts, so that a sender cannot forge the hub's. The level is there,
//! and never empty, for every message, so that one filter fits all.

use bytes::BytesMut;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write;
use weir_core::error_code::ErrorCode;
use weir_core::message::StampedMessage;
use weir_core::port::Outcome;
use weir_core::properties::{Key, Properties};
use weir_mqtt_codec::{Delivery, PacketId, TopicName, put_publish_header};

use crate::{Error, MqttConfig, PropertyForm, envelope};

/// What may not stand in a level of a topic, and `%`, so that values can be read back.
const IN_LEVEL: &AsciiSet = &CONTROLS.add(b'+').add(b'#').add(b'/').add(b'%');
/// What JavaScript's `encodeURIComponent` leaves, as the Azure SDKs do.
const IN_BAG: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

const ABSENT: &str = "-";

#[derive(Debug)]
pub(super) struct Publisher {
    template: Vec<Part>,
    properties: PropertyForm,
    max_packet_bytes: usize,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    Device,
    Module,
    Output,
}

impl Publisher {
    pub(super) fn new(config: &MqttConfig, hub_name: &str) -> Result<Self, Error> {
        let template = parse(&config.topic, hub_name)
            .map_err(|problem| Error::Setting { key: "topic", problem })?;
        let MqttConfig { properties, max_packet_bytes, .. } = *config;
        Ok(Self { template, properties, max_packet_bytes })
    }

    /// Appends the PUBLISH, or says why the message can never be one.
    pub(super) fn put(
        &self,
        message: &StampedMessage,
        id: PacketId,
        dup: bool,
        out: &mut BytesMut,
    ) -> Result<(), Outcome> {
        let topic = self.topic(message);
        let topic = TopicName::try_from(topic).map_err(|error| too_large(error.to_string()))?;
        let envelope = match self.properties {
            PropertyForm::Topic | PropertyForm::None => None,
            PropertyForm::Envelope => {
                let mut line = Vec::new();
                envelope::put(message, &mut line);
                Some(line)
            }
        };
        let payload: &[u8] = envelope.as_ref().map_or(message.body(), Vec::as_slice);
        // Type and length 5 bytes at most, length of the topic 2, packet id 2.
        let bytes = topic.as_bytes().len() + payload.len() + 9;
        if bytes > self.max_packet_bytes {
            let limit = self.max_packet_bytes;
            return Err(too_large(format!("the packet has {bytes} bytes; {limit} are allowed")));
        }
        let delivery = Delivery::AtLeastOnce { id, dup };
        put_publish_header(&topic, delivery, false, payload.len(), out)
            .map_err(|error| too_large(error.to_string()))?;
        out.extend_from_slice(payload);
        Ok(())
    }

    fn topic(&self, message: &StampedMessage) -> String {
        let mut topic = String::with_capacity(128);
        for part in &self.template {
            match part {
                Part::Text(text) => topic.push_str(text),
                Part::Device => put_value(message.device().as_str(), &mut topic),
                Part::Module => put_optional(message.module(), &mut topic),
                Part::Output => put_optional(message.output(), &mut topic),
            }
        }
        if self.properties == PropertyForm::Topic {
            put_bag(message, &mut topic);
        }
        topic
    }
}

fn too_large(reason: String) -> Outcome {
    Outcome::Reject { reason, code: Some(ErrorCode::TooLarge.name().to_owned()) }
}

fn put_optional(value: Option<&impl AsRef<str>>, topic: &mut String) {
    put_value(value.map_or(ABSENT, AsRef::as_ref), topic);
}

fn put_value(value: &str, topic: &mut String) {
    // Topics that begin with `$` belong to the broker [MQTT-4.7.2-1].
    let rest = match value.strip_prefix('$') {
        Some(rest) if topic.is_empty() => {
            topic.push_str("%24");
            rest
        }
        _ => value,
    };
    topic.extend(utf8_percent_encode(rest, IN_LEVEL));
}

fn put_bag(message: &StampedMessage, topic: &mut String) {
    if !topic.ends_with('/') {
        topic.push('/');
    }
    // Writing to a text cannot fail.
    _ = write!(topic, "weir-message-id={}", message.id().0);
    put_pair("$.cdid", Some(message.device().as_str()), topic);
    let origin = message.origin();
    for (name, value) in [
        ("$.cmid", message.module().map(AsRef::as_ref)),
        ("$.on", message.output().map(AsRef::as_ref)),
        ("weir-origin-device", origin.map(|origin| origin.device.as_str())),
        ("weir-origin-module", origin.and_then(|origin| origin.module.as_ref()?.as_str().into())),
    ] {
        if let Some(value) = value {
            put_pair(name, Some(value), topic);
        }
    }
    put_properties(message.properties(), topic);
}

fn put_properties(properties: &Properties, topic: &mut String) {
    for (key, value) in properties.iter() {
        let name = match key {
            Key::Application(name) => name,
            Key::System(property) => property.short_name().unwrap_or_else(|| property.name()),
        };
        put_pair(name, value, topic);
    }
}

fn put_pair(name: &str, value: Option<&str>, topic: &mut String) {
    topic.push('&');
    topic.extend(utf8_percent_encode(name, IN_BAG));
    if let Some(value) = value {
        topic.push('=');
        topic.extend(utf8_percent_encode(value, IN_BAG));
    }
}

/// Reads a template; `{hub}` is filled in at once.
fn parse(template: &str, hub_name: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let (name, after) = behind.split_once('}').ok_or("a `{` is not closed")?;
        put_text(before, &mut text)?;
        rest = after;
        let part = match name {
            "hub" => {
                put_value(hub_name, &mut text);
                continue;
            }
            "device" => Part::Device,
            "module" => Part::Module,
            "output" => Part::Output,
            name => {
                return Err(format!(
                    "{{{name}}} is none of {{hub}}, {{device}}, {{module}}, {{output}}"
                ));
            }
        };
        if !text.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut text)));
        }
        parts.push(part);
    }
    put_text(rest, &mut text)?;
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    if parts.is_empty() { Err("must not be empty".to_owned()) } else { Ok(parts) }
}

fn put_text(text: &str, out: &mut String) -> Result<(), String> {
    match text.chars().find(|c| matches!(c, '+' | '#' | '}') || c.is_control()) {
        Some(c) => Err(format!("{c:?} cannot stand in a topic")),
        None => {
            out.push_str(text);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use weir_core::clock::Timestamp;
    use weir_core::id::{Identity, MessageId};
    use weir_core::message::Message;
    use weir_core::properties::{PropertiesBuilder, SystemProperty};
    use weir_mqtt_codec::{Limits, Packet, Publish, decode};

    const ID: PacketId = PacketId::MIN;

    fn publisher(topic: &str, properties: PropertyForm) -> Publisher {
        let mut config = MqttConfig::new("broker");
        config.topic = topic.to_owned();
        config.properties = properties;
        Publisher::new(&config, "edge+1").unwrap()
    }

    fn sent(publisher: &Publisher, message: &StampedMessage) -> Publish {
        let mut out = BytesMut::new();
        publisher.put(message, ID, false, &mut out).unwrap();
        let limits = Limits { max_packet_bytes: 1 << 20, max_filters: 1 };
        let Some(Packet::Publish(publish)) = decode(&mut out, &limits).unwrap() else {
            panic!("a PUBLISH is written")
        };
        assert!(out.is_empty());
        publish
    }

    fn message(sender: &Identity, properties: PropertiesBuilder) -> StampedMessage {
        let message = Message {
            body: Bytes::from_static(b"21"),
            properties: properties.build(),
            output: sender.module.as_ref().map(|_| "a b".parse().unwrap()),
        };
        message.stamp(sender, MessageId(7), Timestamp::from_secs(1))
    }

    fn pump() -> Identity {
        Identity::device("pump%1".parse().unwrap())
    }

    #[test]
    fn placeholders_are_filled_with_values_made_safe() {
        let module = Identity::module("d".parse().unwrap(), "$m".parse().unwrap());
        for (template, sender, topic) in [
            ("weir/{hub}/{device}/{module}/{output}", pump(), "weir/edge%2B1/pump%251/-/-"),
            ("weir/{device}/{module}/{output}", module.clone(), "weir/d/$m/a b"),
            ("{module}", module, "%24m"),
            ("fixed", pump(), "fixed"),
            ("$share/{device}{device}", pump(), "$share/pump%251pump%251"),
        ] {
            let message = message(&sender, PropertiesBuilder::default());
            let publish = sent(&publisher(template, PropertyForm::None), &message);
            assert_eq!(publish.topic.as_str(), topic);
            assert_eq!(publish.payload, "21");
        }
    }

    #[test]
    fn properties_follow_as_the_last_level() {
        let mut properties = PropertiesBuilder::default();
        properties.push(Key::System(SystemProperty::ContentType), Some("text/plain")).unwrap();
        properties.push(Key::Application("a/ö"), Some("1+1=2&#")).unwrap();
        properties.push(Key::Application("null"), None).unwrap();
        properties.push(Key::Application("empty"), Some("")).unwrap();
        properties.push(Key::System(SystemProperty::ModelId), Some("m")).unwrap();
        let publish = sent(
            &publisher("devices/{device}/messages/events/", PropertyForm::Topic),
            &message(&pump(), properties),
        );
        assert_eq!(
            publish.topic.as_str(),
            "devices/pump%251/messages/events/weir-message-id=7&%24.cdid=pump%251\
             &%24.ct=text%2Fplain&a%2F%C3%B6=1%2B1%3D2%26%23&null&empty=&modelId=m"
        );
    }

    #[test]
    fn sender_output_and_origin_stand_before_what_a_sender_may_forge() {
        let module = Identity::module("d".parse().unwrap(), "m".parse().unwrap());
        let first = message(&pump(), PropertiesBuilder::default());
        let mut forged = PropertiesBuilder::default();
        forged.push(Key::Application("weir-origin-device"), Some("other")).unwrap();
        let emitted = message(&module, forged).message().clone();
        let sent_on = first.forward(emitted, &module, MessageId(8), Timestamp::from_secs(2));
        let publish = sent(&publisher("t", PropertyForm::Topic), &sent_on);
        assert_eq!(
            publish.topic.as_str(),
            "t/weir-message-id=8&%24.cdid=d&%24.cmid=m&%24.on=a%20b\
             &weir-origin-device=pump%251&weir-origin-device=other"
        );
    }

    #[test]
    fn the_envelope_is_the_line_of_the_file() {
        let message = message(&pump(), PropertiesBuilder::default());
        let mut line = Vec::new();
        envelope::put(&message, &mut line);
        let publish = sent(&publisher("t", PropertyForm::Envelope), &message);
        assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("t", &line[..]));
    }

    #[test]
    fn a_message_that_fits_no_packet_or_topic_is_rejected_and_writes_nothing() {
        let mut small = publisher("t", PropertyForm::None);
        small.max_packet_bytes = 11;
        let mut out = BytesMut::new();
        let fitting = message(&pump(), PropertiesBuilder::default());
        assert!(matches!(small.put(&fitting, ID, false, &mut out), Err(Outcome::Reject { .. })));
        let mut properties = PropertiesBuilder::default();
        properties.push(Key::Application("a"), Some(&"x".repeat(65_536))).unwrap();
        let long = message(&pump(), properties);
        let topic = publisher("t", PropertyForm::Topic);
        assert!(matches!(topic.put(&long, ID, false, &mut out), Err(Outcome::Reject { .. })));
        assert!(out.is_empty());
    }

    #[test]
    fn wrong_templates_are_refused_with_what_is_wrong() {
        for (template, problem) in [
            ("", "empty"),
            ("a/{devise}", "{devise} is none of"),
            ("a/{device", "not closed"),
            ("a/#", "'#' cannot"),
            ("a/+/b", "'+' cannot"),
            ("a}", "'}' cannot"),
            ("a\0", "cannot stand"),
        ] {
            let error = parse(template, "hub").unwrap_err();
            assert!(error.contains(problem), "{template}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_properties_make_a_topic(pairs in proptest::collection::btree_map(".{0,9}", proptest::option::of(".{0,20}"), 0..8)) {
            let mut properties = PropertiesBuilder::default();
            for (name, value) in &pairs {
                properties.push(Key::Application(name), value.as_deref()).unwrap();
            }
            let publish = sent(&publisher("t", PropertyForm::Topic), &message(&pump(), properties));
            let bag = publish.topic.as_str().strip_prefix("t/").unwrap();
            let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned();
            let back: Vec<_> = bag.split('&').skip(2).map(|pair| match pair.split_once('=') {
                Some((name, value)) => (decoded(name), Some(decoded(value))),
                None => (decoded(pair), None),
            }).collect();
            prop_assert_eq!(back, pairs.into_iter().collect::<Vec<_>>());
        }
    }
}
