//! IoT Hub's topics, both ways: what a client's topic asks for, and the topics of what it gets.
//!
//! Called by the MQTT head for every PUBLISH and SUBSCRIBE. Pure functions on text. Invariants:
//!
//! 1. A topic only claims an identity; [`Publish::is_own`] compares it with the proven one.
//! 2. Ids stand in topics as they are, never percent-encoded; only the property bag is encoded, and
//!    there `+` is a plus sign.
//! 3. Every topic that is built fits MQTT's 65,535 bytes.
//!
//! The property bag is in [`bag`], filters in [`filter`].

pub mod bag;
pub mod filter;

use crate::id::{DeviceId, Identity, InputName, ModuleId};
use crate::message::StampedMessage;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use std::fmt::{self, Write};

/// Longest topic of MQTT 3.1.1: its length is two bytes [MQTT-1.5.3-3].
pub const MAX_TOPIC_TEXT: usize = 65_535;
/// Longest request id; the SDKs send UUIDs.
pub const MAX_REQUEST_ID: usize = 256;
/// Status that a method's answer gets when it names none (IoT Edge's).
pub const NO_STATUS: i32 = 400_000;

/// What a PUBLISH of a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publish<'a> {
    /// A message of a device or, with `module`, of a module.
    Telemetry {
        /// The device in the topic: a claim.
        device: &'a str,
        /// The module in the topic: a claim.
        module: Option<&'a str>,
        /// The property bag, still encoded, without the slash that the Node SDK appends.
        bag: &'a str,
    },
    /// The client wants its twin.
    TwinGet {
        /// To be echoed byte for byte.
        rid: &'a str,
    },
    /// The client patches its reported properties.
    TwinPatch {
        /// To be echoed byte for byte; without one the patch is applied and not answered.
        rid: Option<&'a str>,
    },
    /// The client answers a direct method.
    MethodResponse {
        /// The method's status; [`NO_STATUS`] when the topic has none or it is not a number.
        status: i32,
        /// The request id of the call.
        rid: &'a str,
    },
}

/// A topic that cannot be taken, or built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not one of IoT Hub's topics for clients to publish to.
    #[error("{} is not a topic that clients publish to", Excerpt(topic))]
    Unknown {
        /// The topic's beginning.
        topic: String,
    },
    /// A slash inside the property bag.
    #[error("the property bag has a '/' that is not written %2F")]
    Slash,
    /// No `$rid` where an answer needs one.
    #[error("{operation} has no $rid")]
    NoRequestId {
        /// `twin GET` or `method response`.
        operation: &'static str,
    },
    /// A `$rid` over [`MAX_REQUEST_ID`].
    #[error("the $rid has {bytes} bytes; {MAX_REQUEST_ID} are allowed")]
    LongRequestId {
        /// Its length.
        bytes: usize,
    },
    /// With its properties the message's topic is longer than [`MAX_TOPIC_TEXT`].
    #[error("the properties make a topic of {bytes} bytes; {MAX_TOPIC_TEXT} are possible")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// A text cut short and quoted, so that it cannot forge a log line.
struct Excerpt<'a>(&'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl TopicError {
    fn unknown(topic: &str) -> Self {
        Self::Unknown { topic: topic.chars().take(80).collect() }
    }
}

impl Publish<'_> {
    /// True when the topic names no identity, or exactly this one.
    #[must_use]
    pub fn is_own(&self, identity: &Identity) -> bool {
        match self {
            Self::Telemetry { device, module, .. } => {
                *device == identity.device.as_str()
                    && *module == identity.module.as_ref().map(ModuleId::as_str)
            }
            Self::TwinGet { .. } | Self::TwinPatch { .. } | Self::MethodResponse { .. } => true,
        }
    }
}

/// Reads the topic of a client's PUBLISH.
///
/// # Errors
/// [`TopicError`]: the connection is to be closed without an acknowledgement.
pub fn parse_publish(topic: &str) -> Result<Publish<'_>, TopicError> {
    if let Some(rest) = topic.strip_prefix("devices/") {
        return telemetry(rest).unwrap_or_else(|| Err(TopicError::unknown(topic)));
    }
    topic
        .strip_prefix("$iothub/")
        .and_then(request)
        .unwrap_or_else(|| Err(TopicError::unknown(topic)))
}

type Parsed<'a> = Option<Result<Publish<'a>, TopicError>>;

/// `{d}/messages/events…` or `{d}/modules/{m}/messages/events…`.
fn telemetry(rest: &str) -> Parsed<'_> {
    let (device, rest) = rest.split_once('/')?;
    let (module, rest) = match rest.strip_prefix("modules/") {
        Some(rest) => rest.split_once('/').map(|(module, rest)| (Some(module), rest))?,
        None => (None, rest),
    };
    if device.is_empty() || module == Some("") {
        return None;
    }
    let rest = rest.strip_prefix("messages/events")?;
    let bag = match rest.strip_prefix('/') {
        Some(bag) => bag.strip_suffix('/').unwrap_or(bag),
        None if rest.is_empty() => "",
        None => return None,
    };
    if bag.contains('/') {
        return Some(Err(TopicError::Slash));
    }
    Some(Ok(Publish::Telemetry { device, module, bag }))
}

fn request(rest: &str) -> Parsed<'_> {
    if let Some(rest) = rest.strip_prefix("twin/GET") {
        let query = Query::after_slash(rest)?;
        return Some(query.needed_rid("twin GET").map(|rid| Publish::TwinGet { rid }));
    }
    if let Some(rest) = rest.strip_prefix("twin/PATCH/properties/reported") {
        let query = Query::after_slash(rest)?;
        return Some(query.rid().map(|rid| Publish::TwinPatch { rid }));
    }
    let rest = rest.strip_prefix("methods/res/")?;
    let (status, query) = match rest.split_once('?') {
        Some((status, query)) => (status, Query(query)),
        None => (rest, Query("")),
    };
    let status = status.strip_suffix('/').unwrap_or(status);
    if status.contains('/') {
        return None;
    }
    let status = status.parse().unwrap_or(NO_STATUS);
    let rid = query.needed_rid("method response");
    Some(rid.map(|rid| Publish::MethodResponse { status, rid }))
}

/// What stands behind the `?` of a topic: pairs that are not percent-encoded.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// `/?a=b`, `/` or nothing.
    fn after_slash(rest: &'a str) -> Option<Self> {
        if rest.is_empty() {
            return Some(Self(""));
        }
        let rest = rest.strip_prefix('/')?;
        match rest.strip_prefix('?') {
            Some(query) => Some(Self(query)),
            None => rest.is_empty().then_some(Self("")),
        }
    }

    /// The pairs in their order; a pair without `=` has an empty value.
    pub fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn rid(self) -> Result<Option<&'a str>, TopicError> {
        let rid = self.pairs().find(|(name, _)| *name == "$rid").map(|(_, value)| value);
        match rid.filter(|rid| !rid.is_empty()) {
            Some(rid) if rid.len() > MAX_REQUEST_ID => {
                Err(TopicError::LongRequestId { bytes: rid.len() })
            }
            rid => Ok(rid),
        }
    }

    fn needed_rid(self, operation: &'static str) -> Result<&'a str, TopicError> {
        self.rid()?.ok_or(TopicError::NoRequestId { operation })
    }
}

/// Appends the topic of a message for a module's input:
/// `devices/{d}/modules/{m}/inputs/{input}/{bag}`.
///
/// The bag is exactly one level, which both SDKs rely on.
///
/// # Errors
/// [`TopicError::TooLong`]; `out` is as it was.
pub fn push_input_topic(
    device: &DeviceId,
    module: &ModuleId,
    input: &InputName,
    message: &StampedMessage,
    out: &mut String,
) -> Result<(), TopicError> {
    let start = out.len();
    for part in ["devices/", device.as_str(), "/modules/", module.as_str(), "/inputs/"] {
        out.push_str(part);
    }
    out.push_str(input.as_str());
    out.push('/');
    bag::push_bag(message, out);
    checked(start, out)
}

/// Appends the topic of a cloud-to-device message: `devices/{d}/messages/devicebound/{bag}`, for a module
/// (which IoT Hub does not offer) `devices/{d}/modules/{m}/messages/devicebound/{bag}`. The bag has the
/// last level to itself, which both SDKs rely on.
///
/// # Errors
/// [`TopicError::TooLong`]; `out` is as it was.
pub fn push_devicebound_topic(
    receiver: &Identity,
    message: &StampedMessage,
    out: &mut String,
) -> Result<(), TopicError> {
    let start = out.len();
    out.push_str("devices/");
    out.push_str(receiver.device.as_str());
    if let Some(module) = &receiver.module {
        out.push_str("/modules/");
        out.push_str(module.as_str());
    }
    out.push_str("/messages/devicebound/");
    bag::push_command_bag(message, out);
    checked(start, out)
}

fn checked(start: usize, out: &mut String) -> Result<(), TopicError> {
    let bytes = out.len() - start;
    if bytes > MAX_TOPIC_TEXT {
        out.truncate(start);
        return Err(TopicError::TooLong { bytes });
    }
    Ok(())
}

/// Topic of the answer to a twin request; IoT Hub adds the new version to the answer of a patch.
#[must_use]
pub fn twin_response_topic(status: u16, rid: &str, version: Option<u64>) -> String {
    let mut topic = format!("$iothub/twin/res/{status}/?$rid={rid}");
    if let Some(version) = version {
        write!(topic, "&$version={version}").expect("a String takes any text");
    }
    topic
}

/// Topic of a patch of desired properties.
#[must_use]
pub fn desired_topic(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// What cannot stand in a level of a topic, and what a decoder would take for an escape.
const METHOD_NAME: &AsciiSet = &CONTROLS.add(b'/').add(b'+').add(b'#').add(b'?').add(b'%');

/// Topic of a direct method's call. The Node SDK does not decode the name, so only what a topic
/// cannot hold is encoded; `*` of component commands stays.
#[must_use]
pub fn method_topic(name: &str, rid: &str) -> String {
    format!("$iothub/methods/POST/{}/?$rid={rid}", utf8_percent_encode(name, METHOD_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::id::MessageId;
    use crate::message::Message;
    use crate::properties::{Key, PropertiesBuilder};
    use proptest::prelude::*;

    fn bag_of(topic: &str) -> &str {
        match parse_publish(topic).unwrap() {
            Publish::Telemetry { bag, .. } => bag,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn telemetry_is_read_in_every_spelling() {
        for (topic, device, module, bag) in [
            ("devices/d/messages/events", "d", None, ""),
            ("devices/d/messages/events/", "d", None, ""),
            ("devices/d/messages/events/a=1", "d", None, "a=1"),
            ("devices/d/messages/events/a=1/", "d", None, "a=1"),
            ("devices/d/modules/m/messages/events", "d", Some("m"), ""),
            ("devices/d/modules/m/messages/events/", "d", Some("m"), ""),
            (
                "devices/d/modules/m/messages/events/%24.on=out1&tag=x/",
                "d",
                Some("m"),
                "%24.on=out1&tag=x",
            ),
            ("devices/d/modules/$edgeAgent/messages/events/", "d", Some("$edgeAgent"), ""),
            ("devices/modules/messages/events/", "modules", None, ""),
        ] {
            let expected = Publish::Telemetry { device, module, bag };
            assert_eq!(parse_publish(topic), Ok(expected), "{topic}");
        }
    }

    #[test]
    fn only_one_trailing_slash_is_taken_off() {
        assert_eq!(bag_of("devices/d/messages/events/a=%2F/"), "a=%2F");
        assert_eq!(parse_publish("devices/d/messages/events/a=1//"), Err(TopicError::Slash));
        assert_eq!(parse_publish("devices/d/messages/events/ct=a/b"), Err(TopicError::Slash));
    }

    #[test]
    fn twin_and_method_topics_are_read() {
        for (topic, expected) in [
            ("$iothub/twin/GET/?$rid=a-1", Publish::TwinGet { rid: "a-1" }),
            ("$iothub/twin/GET/?$version=2&$rid=7", Publish::TwinGet { rid: "7" }),
            (
                "$iothub/twin/PATCH/properties/reported/?$rid=b&$version=3",
                Publish::TwinPatch { rid: Some("b") },
            ),
            ("$iothub/twin/PATCH/properties/reported/", Publish::TwinPatch { rid: None }),
            ("$iothub/methods/res/200/?$rid=1", Publish::MethodResponse { status: 200, rid: "1" }),
            ("$iothub/methods/res/-3/?$rid=1", Publish::MethodResponse { status: -3, rid: "1" }),
            (
                "$iothub/methods/res/?$rid=1",
                Publish::MethodResponse { status: NO_STATUS, rid: "1" },
            ),
            (
                "$iothub/methods/res/ok/?$rid=1",
                Publish::MethodResponse { status: NO_STATUS, rid: "1" },
            ),
        ] {
            assert_eq!(parse_publish(topic), Ok(expected), "{topic}");
        }
    }

    #[test]
    fn a_request_that_cannot_be_answered_is_refused() {
        for topic in ["$iothub/twin/GET/", "$iothub/twin/GET/?$rid=", "$iothub/methods/res/200/"] {
            assert!(matches!(parse_publish(topic), Err(TopicError::NoRequestId { .. })), "{topic}");
        }
        let long = format!("$iothub/twin/GET/?$rid={}", "r".repeat(257));
        assert_eq!(parse_publish(&long), Err(TopicError::LongRequestId { bytes: 257 }));
    }

    #[test]
    fn what_is_no_topic_of_the_hub_is_named_in_the_error() {
        for topic in [
            "",
            "some/topic",
            "devices",
            "devices//messages/events/",
            "devices/d/modules//messages/events/",
            "devices/d/modules/messages/events/",
            "devices/d/messages/eventsX",
            "devices/d/messages/devicebound/",
            "devices/d/modules/m/inputs/in1/",
            "Devices/d/messages/events/",
            "/devices/d/messages/events/",
            "$iothub/twin/GETX/?$rid=1",
            "$iothub/twin/GET/x",
            "$iothub/twin/PATCH/properties/desired/?$rid=1",
            "$iothub/methods/res/200/x/?$rid=1",
        ] {
            let error = parse_publish(topic).unwrap_err();
            assert!(matches!(error, TopicError::Unknown { .. }), "{topic}: {error}");
            assert!(error.to_string().contains(topic), "{error}");
        }
        let error = parse_publish("a\nforged line").unwrap_err();
        assert_eq!(error.to_string(), r#""a\nforged line" is not a topic that clients publish to"#);
    }

    #[test]
    fn topics_of_answers_are_those_of_iot_hub() {
        assert_eq!(twin_response_topic(200, "r", None), "$iothub/twin/res/200/?$rid=r");
        assert_eq!(
            twin_response_topic(204, "r", Some(3)),
            "$iothub/twin/res/204/?$rid=r&$version=3"
        );
        assert_eq!(desired_topic(2), "$iothub/twin/PATCH/properties/desired/?$version=2");
        assert_eq!(
            method_topic("component*reboot", "9"),
            "$iothub/methods/POST/component*reboot/?$rid=9"
        );
        assert_eq!(method_topic("a/#b", "9"), "$iothub/methods/POST/a%2F%23b/?$rid=9");
    }

    fn message(value: &str) -> StampedMessage {
        let mut builder = PropertiesBuilder::default();
        builder.push(Key::Application("k"), Some(value)).unwrap();
        let message = Message { properties: builder.build(), ..Message::default() };
        let sender = Identity::module("E".parse().unwrap(), "sender".parse().unwrap());
        message.stamp(&sender, MessageId(1), Timestamp::from_secs(1))
    }

    #[test]
    fn a_delivery_has_exactly_one_level_after_the_input() {
        let mut topic = String::new();
        let (device, module, input) = ("E".parse(), "M".parse(), "in1".parse());
        let (device, module, input) = (device.unwrap(), module.unwrap(), input.unwrap());
        push_input_topic(&device, &module, &input, &message("a/b"), &mut topic).unwrap();
        assert_eq!(topic, "devices/E/modules/M/inputs/in1/k=a%2Fb&%24.cdid=E&%24.cmid=sender");
    }

    #[test]
    fn a_command_names_its_receiver_and_no_sender() {
        let device = Identity::device("D".parse().unwrap());
        let module = Identity::module("E".parse().unwrap(), "M".parse().unwrap());
        for (receiver, expected) in [
            (device, "devices/D/messages/devicebound/k=a%2Fb"),
            (module, "devices/E/modules/M/messages/devicebound/k=a%2Fb"),
        ] {
            let mut topic = String::new();
            push_devicebound_topic(&receiver, &message("a/b"), &mut topic).unwrap();
            assert_eq!(topic, expected);
        }
    }

    #[test]
    fn properties_that_fit_no_topic_are_an_error_and_leave_nothing_behind() {
        let mut topic = "before".to_owned();
        let long = message(&"ä".repeat(20_000));
        let receiver = Identity::device("D".parse().unwrap());
        let error = push_devicebound_topic(&receiver, &long, &mut topic).unwrap_err();
        assert!(matches!(error, TopicError::TooLong { bytes } if bytes > 120_000), "{error}");
        assert_eq!(topic, "before");
    }

    fn identity() -> impl Strategy<Value = Identity> {
        // Names that are also words of the grammar are the ones that could be confused.
        let name = prop::sample::select(vec!["a", "b", "modules", "messages", "events", "devices"]);
        (name.clone(), prop::option::of(name)).prop_map(|(device, module)| Identity {
            device: device.parse().unwrap(),
            module: module.map(|module| module.parse().unwrap()),
        })
    }

    fn events_topic(identity: &Identity) -> String {
        match &identity.module {
            Some(module) => {
                format!("devices/{}/modules/{module}/messages/events/", identity.device)
            }
            None => format!("devices/{}/messages/events/", identity.device),
        }
    }

    proptest! {
        #[test]
        fn a_topic_of_another_identity_is_never_taken_as_ones_own(own in identity(), other in identity()) {
            let topic = events_topic(&other);
            prop_assert_eq!(parse_publish(&topic).unwrap().is_own(&own), own == other);
        }

        #[test]
        fn any_text_is_read_or_refused_but_never_panics(topic in "(devices/|\\$iothub/(twin/(GET|PATCH/properties/reported)|methods/res))?[a-z/?$=&%é#]{0,40}") {
            drop(parse_publish(&topic));
        }

        #[test]
        fn what_is_read_adds_up_to_the_topic(device in "[a-zA-Z0-9$%]{1,9}", module in prop::option::of("[a-zA-Z0-9$%]{1,9}"), bag in "[a-z=&%0-9 ]{0,20}") {
            let path = match &module {
                Some(module) => format!("devices/{device}/modules/{module}/messages/events/{bag}"),
                None => format!("devices/{device}/messages/events/{bag}"),
            };
            let read = parse_publish(&path).unwrap();
            prop_assert_eq!(read, Publish::Telemetry { device: &device, module: module.as_deref(), bag: &bag });
        }
    }
}
