//! Between packets and messages.
//!
//! In: a PUBLISH becomes a message or a request, its claims checked against the proven identity. Out: a
//! delivery becomes a PUBLISH on the topic of its input. On the hot path of both directions: one
//! allocation for a message in (none when the properties are those of the message before), one for a
//! message out.

use crate::error::{Error, check_size};
use bytes::{BufMut, BytesMut};
use weir_core::id::{Identity, InputName, OutputName};
use weir_core::message::Message;
use weir_core::message::StampedMessage;
use weir_core::properties::{Key, Properties, PropertiesBuilder};
use weir_core::topic::{self, TopicError, bag};
use weir_mqtt_codec::{Delivery, Publish, TopicName, put_publish_header};

/// Application properties that keep the flags of a packet, as in IoT Edge.
const RETAIN: &str = "mqtt-retain";
const DUP: &str = "mqtt-dup";

/// What a client's PUBLISH asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked<'a> {
    /// To be routed.
    Telemetry(Message),
    /// The twin.
    TwinGet {
        /// To be answered under this request id.
        rid: &'a str,
    },
    /// The body is a patch of the reported properties.
    TwinPatch {
        /// None: not to be answered.
        rid: Option<&'a str>,
    },
    /// The body answers a direct method.
    MethodResponse {
        /// The method's status.
        status: i32,
        /// The request id of the call.
        rid: &'a str,
    },
}

/// Makes messages of what one client publishes.
#[derive(Debug)]
pub(crate) struct Translator {
    identity: Identity,
    /// The last telemetry topic and what was in it: most clients send one topic again and again.
    topic: Vec<u8>,
    properties: Properties,
    output: Option<OutputName>,
}

impl Translator {
    /// For a client of this identity.
    pub(crate) fn new(identity: Identity) -> Self {
        let (topic, properties) = (Vec::new(), Properties::default());
        Self { identity, topic, properties, output: None }
    }

    /// Reads a PUBLISH of QoS 0 or 1.
    ///
    /// # Errors
    /// When the topic cannot be taken or is another's, or the message is too large: the connection
    /// is to be closed without an acknowledgement.
    pub(crate) fn read<'a>(&mut self, publish: &'a Publish) -> Result<Asked<'a>, Error> {
        if publish.topic.as_bytes() != self.topic {
            let asked = topic::parse_publish(publish.topic.as_str())?;
            if !asked.is_own(&self.identity) {
                return Err(Error::Foreign);
            }
            let bag = match asked {
                topic::Publish::Telemetry { bag, .. } => bag::decode_bag(bag)?,
                topic::Publish::TwinGet { rid } => return Ok(Asked::TwinGet { rid }),
                topic::Publish::TwinPatch { rid } => return Ok(Asked::TwinPatch { rid }),
                topic::Publish::MethodResponse { status, rid } => {
                    return Ok(Asked::MethodResponse { status, rid });
                }
            };
            (self.properties, self.output) = (bag.properties, bag.output);
            self.topic.clear();
            self.topic.extend_from_slice(publish.topic.as_bytes());
        }
        let properties = flagged(&self.properties, publish.retain, publish.delivery.dup())?;
        let message =
            Message { body: publish.payload.clone(), properties, output: self.output.clone() };
        check_size(&message)?;
        Ok(Asked::Telemetry(message))
    }
}

/// The properties with those for the packet's flags.
fn flagged(properties: &Properties, retain: bool, dup: bool) -> Result<Properties, Error> {
    if !retain && !dup {
        return Ok(properties.clone());
    }
    let mut builder = PropertiesBuilder::default();
    for (name, _) in [(RETAIN, retain), (DUP, dup)].into_iter().filter(|(_, set)| *set) {
        builder.push(Key::Application(name), Some("true"))?;
    }
    for (key, value) in properties.iter() {
        builder.push(key, value)?;
    }
    Ok(builder.build())
}

/// Appends the PUBLISH of a message for an input of the client's module.
///
/// # Errors
/// When topic and properties do not fit MQTT; `out` is as it was.
pub(crate) fn put_input(
    client: &Identity,
    input: &InputName,
    message: &StampedMessage,
    delivery: Delivery,
    out: &mut BytesMut,
) -> Result<(), Undeliverable> {
    let module = client.module.as_ref().ok_or(Undeliverable::Device)?;
    let mut topic = String::new();
    topic::push_input_topic(&client.device, module, input, message, &mut topic)?;
    put_text(topic, message.body(), delivery, out)
}

/// Appends the PUBLISH of a command for the client.
///
/// # Errors
/// When topic and properties do not fit MQTT; `out` is as it was.
pub(crate) fn put_command(
    client: &Identity,
    message: &StampedMessage,
    delivery: Delivery,
    out: &mut BytesMut,
) -> Result<(), Undeliverable> {
    let mut topic = String::new();
    topic::push_devicebound_topic(client, message, &mut topic)?;
    put_text(topic, message.body(), delivery, out)
}

/// Appends a PUBLISH.
///
/// # Errors
/// When topic or body do not fit MQTT; `out` is as it was.
pub(crate) fn put_text(
    topic: String,
    body: &[u8],
    delivery: Delivery,
    out: &mut BytesMut,
) -> Result<(), Undeliverable> {
    let topic = TopicName::try_from(topic)?;
    out.reserve(topic.as_bytes().len() + body.len() + 9);
    put_publish_header(&topic, delivery, false, body.len(), out)?;
    out.put_slice(body);
    Ok(())
}

/// A message that can never be sent to this client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Undeliverable {
    #[error("a device has no inputs")]
    Device,
    #[error("the message does not fit an MQTT topic: {0}")]
    Topic(#[from] TopicError),
    #[error("the message does not fit an MQTT packet: {0}")]
    Packet(#[from] weir_mqtt_codec::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use weir_core::clock::Timestamp;
    use weir_core::id::MessageId;
    use weir_core::limits;
    use weir_core::properties::SystemProperty;
    use weir_mqtt_codec::{Limits, Packet, PacketId, decode};

    fn module() -> Identity {
        Identity::module("E".parse().unwrap(), "M".parse().unwrap())
    }

    fn publish(topic: &str, retain: bool, dup: bool) -> Publish {
        let delivery = Delivery::AtLeastOnce { id: PacketId::new(1).unwrap(), dup };
        let payload = Bytes::from_static(b"21");
        Publish { topic: topic.parse().unwrap(), payload, delivery, retain }
    }

    fn telemetry(translator: &mut Translator, publish: &Publish) -> Message {
        match translator.read(publish).unwrap() {
            Asked::Telemetry(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn output_and_properties_come_from_the_topic() {
        let mut translator = Translator::new(module());
        let topic = "devices/E/modules/M/messages/events/%24.on=out1&%24.ct=text&a=b%20c";
        for _ in 0..2 {
            let message = telemetry(&mut translator, &publish(topic, false, false));
            assert_eq!(message.output, Some("out1".parse().unwrap()));
            assert_eq!(message.properties.system(SystemProperty::ContentType), Some("text"));
            assert_eq!(message.properties.application("a"), Some(Some("b c")));
            assert_eq!(message.body, "21");
        }
    }

    #[test]
    fn nothing_of_the_message_before_is_left() {
        let mut translator = Translator::new(module());
        let first = "devices/E/modules/M/messages/events/%24.on=out1&a=1";
        telemetry(&mut translator, &publish(first, false, false));
        let second = "devices/E/modules/M/messages/events/";
        let message = telemetry(&mut translator, &publish(second, false, false));
        assert_eq!((message.output, message.properties.iter().count()), (None, 0));
    }

    #[test]
    fn a_topic_that_failed_fails_again() {
        let mut translator = Translator::new(module());
        telemetry(&mut translator, &publish("devices/E/modules/M/messages/events/", false, false));
        for _ in 0..2 {
            let foreign = publish("devices/E/modules/N/messages/events/", false, false);
            assert!(matches!(translator.read(&foreign), Err(Error::Foreign)));
            let wrong = publish("devices/E/modules/M/messages/events/a=%ff", false, false);
            assert!(matches!(translator.read(&wrong), Err(Error::Bag(_))));
        }
    }

    #[test]
    fn flags_of_the_packet_become_properties() {
        let mut translator = Translator::new(module());
        let topic = "devices/E/modules/M/messages/events/a=1";
        for (retain, dup) in [(true, false), (false, true), (true, true), (false, false)] {
            let properties = telemetry(&mut translator, &publish(topic, retain, dup)).properties;
            let expected = |set: bool| set.then_some(Some("true"));
            assert_eq!(properties.application(RETAIN), expected(retain));
            assert_eq!(properties.application(DUP), expected(dup));
            assert_eq!(properties.application("a"), Some(Some("1")));
        }
    }

    #[test]
    fn a_message_may_have_256_kib_and_not_a_byte_more() {
        let mut translator = Translator::new(module());
        let mut message = publish("devices/E/modules/M/messages/events/", false, false);
        message.payload = vec![0; limits::MAX_MESSAGE_BYTES].into();
        telemetry(&mut translator, &message);
        message.payload = vec![0; limits::MAX_MESSAGE_BYTES + 1].into();
        let error = translator.read(&message).unwrap_err();
        assert!(matches!(error, Error::MessageTooLarge { bytes: 262_145 }));
    }

    proptest! {
        #[test]
        fn whatever_was_sent_before_a_message_is_read_alike(topics in prop::collection::vec(prop::sample::select(vec![
            "devices/E/modules/M/messages/events/a=1",
            "devices/E/modules/M/messages/events/%24.on=x",
            "devices/E/modules/N/messages/events/a=1",
            "$iothub/twin/GET/?$rid=1",
            "$iothub/methods/res/200/?$rid=1",
            "elsewhere",
        ]), 1..12)) {
            let mut used = Translator::new(module());
            for topic in topics {
                let packet = publish(topic, false, false);
                let fresh = Translator::new(module()).read(&packet).map_err(|e| e.to_string()).map(|asked| format!("{asked:?}"));
                let again = used.read(&packet).map_err(|e| e.to_string()).map(|asked| format!("{asked:?}"));
                prop_assert_eq!(again, fresh);
            }
        }

        #[test]
        fn a_delivery_is_one_packet_that_says_sender_and_input(input in "[a-zA-Z0-9 ~;&|<>{}$%-]{1,20}", value in any::<String>(), body in prop::collection::vec(any::<u8>(), 0..300), dup in any::<bool>()) {
            let mut builder = PropertiesBuilder::default();
            builder.push(Key::Application("k"), Some(&value)).unwrap();
            let sent = Message { body: body.clone().into(), properties: builder.build(), output: None };
            let sender = Identity::module("E".parse().unwrap(), "sender".parse().unwrap());
            let stamped = sent.stamp(&sender, MessageId(1), Timestamp::from_secs(1));
            let delivery = Delivery::AtLeastOnce { id: PacketId::new(7).unwrap(), dup };
            let mut out = BytesMut::new();
            put_input(&module(), &input.parse().unwrap(), &stamped, delivery, &mut out).unwrap();
            let limits = Limits { max_packet_bytes: 1 << 20, max_filters: 1 };
            let Some(Packet::Publish(back)) = decode(&mut out, &limits).unwrap() else { panic!() };
            prop_assert!(out.is_empty());
            prop_assert_eq!(back.delivery, delivery);
            prop_assert_eq!(back.payload, body);
            let levels: Vec<&str> = back.topic.as_str().split('/').collect();
            prop_assert_eq!(levels.len(), 7);
            prop_assert_eq!(&levels[..6], ["devices", "E", "modules", "M", "inputs", &input]);
            prop_assert!(levels[6].ends_with("&%24.cdid=E&%24.cmid=sender"));
            let properties = bag::decode_bag(levels[6]).unwrap().properties;
            prop_assert_eq!(properties.application("k"), Some(Some(value.as_str())));
        }
    }
}
