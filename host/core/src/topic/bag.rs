//! The property bag: `key=value` pairs joined by `&`, percent-encoded, at the end of a topic.
//!
//! Reading takes what a client may say about its own message; what only the hub may say (who sent
//! it) is dropped. Writing puts the stamped sender in, whatever the properties say.

use crate::id::{IdError, Identity, OutputName};
use crate::message::StampedMessage;
use crate::properties::{Key, Properties, PropertiesBuilder, PropertiesError, SystemProperty};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use smallvec::SmallVec;

/// Property that names the device of the first sender of a message that modules have sent on.
pub const ORIGIN_DEVICE: &str = "weir-origin-device";
/// Property that names the module of the first sender, if it was one.
pub const ORIGIN_MODULE: &str = "weir-origin-module";

const OUTPUT: &str = "$.on";
const SENDER_DEVICE: &str = "$.cdid";
const SENDER_MODULE: &str = "$.cmid";
/// What the SDKs call [`SystemProperty::Ack`] in a cloud-to-device message.
const COMMAND_ACK: &str = "iothub-ack";

/// What a client said beside the body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bag {
    /// Application and system properties.
    pub properties: Properties,
    /// The output that a module named.
    pub output: Option<OutputName>,
}

/// A property bag that cannot be read. Pairs are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BagError {
    /// Decoding the percent signs gives no UTF-8.
    #[error("pair {pair} of the property bag is not UTF-8")]
    Text {
        /// Which.
        pair: usize,
    },
    /// `$.on` is no output name.
    #[error("pair {pair} of the property bag names no output")]
    Output {
        /// Which.
        pair: usize,
        /// Why not.
        #[source]
        cause: IdError,
    },
    /// More or larger properties than a message may have.
    #[error("pair {pair} of the property bag is one too many")]
    Limit {
        /// Which.
        pair: usize,
        /// Which limit.
        #[source]
        cause: PropertiesError,
    },
}

/// Reads the bag of a client's message; one allocation, however many pairs.
///
/// Of repeated keys the first counts. A key without `=` has a null value. A percent sign that begins
/// no escape stands for itself, as in the original.
///
/// # Errors
/// [`BagError`] names the pair.
pub fn decode_bag(bag: &str) -> Result<Bag, BagError> {
    if bag.is_empty() {
        return Ok(Bag::default());
    }
    let pairs = memchr::memchr_iter(b'&', bag.as_bytes()).count() + 1;
    let known = pairs.min(crate::limits::MAX_PROPERTIES);
    let bytes = bag.len() + known * PropertiesBuilder::ENTRY_OVERHEAD;
    let mut builder = PropertiesBuilder::with_capacity(bytes);
    let mut output = None;
    let mut key_bytes = Scratch::new();
    let mut value_bytes = Scratch::new();
    for (at, text) in bag.split('&').enumerate() {
        if text.is_empty() {
            continue;
        }
        let pair = at + 1;
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let key = decode(key, &mut key_bytes).ok_or(BagError::Text { pair })?;
        let value = match value {
            Some(value) => Some(decode(value, &mut value_bytes).ok_or(BagError::Text { pair })?),
            None => None,
        };
        if key == OUTPUT {
            let name = value.filter(|name| !name.is_empty() && output.is_none());
            if let Some(name) = name {
                output = Some(name.parse().map_err(|cause| BagError::Output { pair, cause })?);
            }
        } else if !only_the_hub_sets(key) {
            let key = match SystemProperty::from_short_name(key) {
                Some(property) => Key::System(property),
                None => Key::Application(key),
            };
            builder.push(key, value).map_err(|cause| BagError::Limit { pair, cause })?;
        }
    }
    Ok(Bag { properties: builder.build(), output })
}

/// Decoded texts are short; longer ones go to the heap.
type Scratch = SmallVec<[u8; 128]>;

fn decode<'a>(text: &'a str, scratch: &'a mut Scratch) -> Option<&'a str> {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return Some(text);
    }
    scratch.clear();
    scratch.extend(percent_decode_str(text));
    std::str::from_utf8(scratch).ok()
}

/// Names whose values say who sent a message: taken from nobody.
fn only_the_hub_sets(key: &str) -> bool {
    key == SENDER_DEVICE
        || key == SENDER_MODULE
        || key.eq_ignore_ascii_case(ORIGIN_DEVICE)
        || key.eq_ignore_ascii_case(ORIGIN_MODULE)
}

/// RFC 3986's unreserved characters stay; `/` must not, it would be another level of the topic.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends the bag of a delivery: application properties, the first sender if there is one, system
/// properties by their short names, and always the sender.
pub fn push_bag(message: &StampedMessage, out: &mut String) {
    out.reserve(message.properties().encoded().len() + 96);
    let mut push = pairs(out);
    push_application(message, &mut push);
    if let Some(Identity { device, module }) = message.origin() {
        push(ORIGIN_DEVICE, device.as_str());
        if let Some(module) = module {
            push(ORIGIN_MODULE, module.as_str());
        }
    }
    for (key, value) in message.properties().iter() {
        if let Key::System(property) = key
            && let Some(name) = delivered_name(property)
        {
            push(name, value.unwrap_or_default());
        }
    }
    push(SENDER_DEVICE, message.device().as_str());
    if let Some(module) = message.module() {
        push(SENDER_MODULE, module.as_str());
    }
}

/// Appends the bag of a cloud-to-device message: as for a delivery, but nobody is named as the sender, and
/// the wish for feedback has the longer name that receivers know.
pub fn push_command_bag(message: &StampedMessage, out: &mut String) {
    out.reserve(message.properties().encoded().len() + 96);
    let mut push = pairs(out);
    push_application(message, &mut push);
    for (key, value) in message.properties().iter() {
        if let Key::System(property) = key
            && let Some(name) = delivered_name(property)
        {
            let name = if property == SystemProperty::Ack { COMMAND_ACK } else { name };
            push(name, value.unwrap_or_default());
        }
    }
}

/// Writes pairs; every pair has an `=`, because the Node SDK reads a bare key as the text `undefined`.
fn pairs(out: &mut String) -> impl FnMut(&str, &str) {
    let start = out.len();
    move |key, value| {
        if out.len() > start {
            out.push('&');
        }
        push_encoded(key, out);
        out.push('=');
        push_encoded(value, out);
    }
}

fn push_application(message: &StampedMessage, push: &mut impl FnMut(&str, &str)) {
    for (key, value) in message.properties().iter() {
        if let Key::Application(name) = key
            && name != OUTPUT
            && !only_the_hub_sets(name)
        {
            push(name, value.unwrap_or_default());
        }
    }
}

fn push_encoded(text: &str, out: &mut String) {
    out.extend(utf8_percent_encode(text, ENCODED));
}

/// Name under which a receiver gets a system property; none for those it does not get.
fn delivered_name(property: SystemProperty) -> Option<&'static str> {
    match property {
        SystemProperty::InterfaceId | SystemProperty::MessageType | SystemProperty::ModelId => None,
        SystemProperty::MessageId
        | SystemProperty::CorrelationId
        | SystemProperty::UserId
        | SystemProperty::To
        | SystemProperty::ExpiryTime
        | SystemProperty::ContentType
        | SystemProperty::ContentEncoding
        | SystemProperty::CreationTime
        | SystemProperty::MessageSchema
        | SystemProperty::Component
        | SystemProperty::Ack
        | SystemProperty::Operation => property.short_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::id::MessageId;
    use crate::message::Message;
    use proptest::prelude::*;

    fn edge(module: &str) -> Identity {
        Identity::module("edge".parse().unwrap(), module.parse().unwrap())
    }

    fn bag_of(message: &StampedMessage) -> String {
        let mut bag = String::new();
        push_bag(message, &mut bag);
        bag
    }

    fn stamped(properties: Properties, sender: &Identity) -> StampedMessage {
        let message = Message { properties, ..Message::default() };
        message.stamp(sender, MessageId(1), Timestamp::from_secs(1))
    }

    fn decoded(bag: &str) -> Vec<(String, Option<String>)> {
        let name = |key: Key<'_>| match key {
            Key::Application(name) => name.to_owned(),
            Key::System(property) => format!("system {}", property.name()),
        };
        let properties = decode_bag(bag).unwrap().properties;
        properties.iter().map(|(k, v)| (name(k), v.map(str::to_owned))).collect()
    }

    fn pair(name: &str, value: &str) -> (String, Option<String>) {
        (name.to_owned(), Some(value.to_owned()))
    }

    #[test]
    fn the_bag_of_the_python_sdk_is_read() {
        let bag = "%24.on=out1&%24.mid=m&%24.cid=c&%24.uid=u&%24.ct=application%2Fjson&%24.ce=utf-8&%24.exp=2026-01-01T00%3A00%3A00&colour=blue&tag=x";
        assert_eq!(decode_bag(bag).unwrap().output, Some("out1".parse().unwrap()));
        assert_eq!(
            decoded(bag),
            [
                pair("system messageId", "m"),
                pair("system correlationId", "c"),
                pair("system userId", "u"),
                pair("system contentType", "application/json"),
                pair("system contentEncoding", "utf-8"),
                pair("system absolute-expiry-time", "2026-01-01T00:00:00"),
                pair("colour", "blue"),
                pair("tag", "x"),
            ]
        );
    }

    #[test]
    fn the_bag_of_the_node_sdk_is_read() {
        assert_eq!(
            decoded("sp%20ace=v%20a%2Fl%26u%3De%2B%25&uni=%C3%A4%C3%9F%E2%9C%93"),
            [pair("sp ace", "v a/l&u=e+%"), pair("uni", "äß✓")]
        );
    }

    #[test]
    fn a_plus_sign_is_a_plus_sign() {
        assert_eq!(decoded("a+b=c+d&a%2Bb=other"), [pair("a+b", "c+d")]);
    }

    #[test]
    fn odd_pairs_are_read_as_the_original_reads_them() {
        assert_eq!(decoded("bare"), [("bare".to_owned(), None)]);
        assert_eq!(decoded("empty="), [pair("empty", "")]);
        assert_eq!(decoded("&a=1&&b=x=y&"), [pair("a", "1"), pair("b", "x=y")]);
        assert_eq!(decoded("=v"), [pair("", "v")]);
        assert_eq!(decoded("a=100%&b=%zz"), [pair("a", "100%"), pair("b", "%zz")]);
        assert_eq!(decoded("a=1&a=2"), [pair("a", "1")]);
    }

    #[test]
    fn a_client_cannot_say_who_sent_a_message() {
        let forged = "%24.cdid=x&$.cmid=y&Weir-Origin-Device=x&weir-origin-module=y&%24.on=";
        assert_eq!(decode_bag(forged), Ok(Bag::default()));
    }

    #[test]
    fn an_error_names_the_pair() {
        assert_eq!(decode_bag("a=1&b=%ff"), Err(BagError::Text { pair: 2 }));
        assert_eq!(decode_bag("%ff=1"), Err(BagError::Text { pair: 1 }));
        assert!(matches!(decode_bag("a=1&%24.on=a%2Fb"), Err(BagError::Output { pair: 2, .. })));
        let many: Vec<String> =
            (0..=crate::limits::MAX_PROPERTIES).map(|n| n.to_string()).collect();
        let cause = PropertiesError::TooMany;
        assert_eq!(decode_bag(&many.join("&")), Err(BagError::Limit { pair: 1001, cause }));
    }

    #[test]
    fn a_delivery_ends_with_the_stamped_sender() {
        let bag = decode_bag("%24.mid=mid-1&%24.ct=application%2Fjson&colour=blue&tag=T").unwrap();
        assert_eq!(
            bag_of(&stamped(bag.properties, &edge("sender"))),
            "colour=blue&tag=T&%24.mid=mid-1&%24.ct=application%2Fjson&%24.cdid=edge&%24.cmid=sender"
        );
        let leaf = Identity::device("leaf".parse().unwrap());
        assert_eq!(bag_of(&stamped(Properties::default(), &leaf)), "%24.cdid=leaf");
    }

    #[test]
    fn the_first_sender_is_told_when_modules_sent_a_message_on() {
        let leaf = Identity::device("leaf".parse().unwrap());
        let first = stamped(Properties::default(), &leaf);
        let now = Timestamp::from_secs(2);
        let on = first.forward(Message::default(), &edge("filter"), MessageId(2), now);
        assert_eq!(bag_of(&on), "weir-origin-device=leaf&%24.cdid=edge&%24.cmid=filter");
    }

    #[test]
    fn a_command_has_the_names_that_the_sdks_read() {
        let bag = "$.mid=m&$.cid=c&$.uid=u&$.to=%2Fdevices%2FD&$.ct=t&$.ce=utf-8&$.exp=e&ack=full&a=b%2Fc";
        let bag = decode_bag(bag).unwrap();
        let message = stamped(bag.properties, &edge("m"));
        let mut written = String::new();
        push_command_bag(&message, &mut written);
        let mut pairs: Vec<_> = written.split('&').collect();
        pairs.sort_unstable();
        assert_eq!(
            pairs,
            [
                "%24.ce=utf-8",
                "%24.cid=c",
                "%24.ct=t",
                "%24.exp=e",
                "%24.mid=m",
                "%24.to=%2Fdevices%2FD",
                "%24.uid=u",
                "a=b%2Fc",
                "iothub-ack=full",
            ]
        );
    }

    #[test]
    fn properties_made_inside_the_hub_cannot_forge_a_sender() {
        let mut builder = PropertiesBuilder::default();
        for name in ["$.cdid", "$.cmid", "$.on", "WEIR-origin-device", "weir-origin-module", "k"] {
            builder.push(Key::Application(name), Some("x")).unwrap();
        }
        let message = stamped(builder.build(), &edge("m"));
        assert_eq!(bag_of(&message), "k=x&%24.cdid=edge&%24.cmid=m");
    }

    #[test]
    fn what_a_receiver_does_not_get_is_left_out_and_null_is_empty() {
        let bag = decode_bag("%24.ifid=i&%24.sub=c&null").unwrap();
        let leaf = Identity::device("leaf".parse().unwrap());
        assert_eq!(bag_of(&stamped(bag.properties, &leaf)), "null=&%24.sub=c&%24.cdid=leaf");
    }

    fn key() -> impl Strategy<Value = String> {
        prop_oneof!["[a-zA-Z0-9 /&=%+#?$.ä✓-]{0,12}", any::<String>()].prop_filter(
            "a free name",
            |name| {
                name != OUTPUT
                    && !only_the_hub_sets(name)
                    && SystemProperty::from_short_name(name).is_none()
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_delivered_reads_back_as_what_was_sent(
            own in proptest::collection::vec((key(), any::<String>()), 0..6),
            id in proptest::option::of(any::<String>()),
            ack in proptest::option::of("[a-z/&]{0,9}"),
        ) {
            // In the order of a delivery: application properties first.
            let mut builder = PropertiesBuilder::default();
            for (name, value) in &own {
                builder.push(Key::Application(name), Some(value)).unwrap();
            }
            for (name, value) in [(SystemProperty::MessageId, &id), (SystemProperty::Ack, &ack)] {
                if let Some(value) = value {
                    builder.push(Key::System(name), Some(value)).unwrap();
                }
            }
            let sent = builder.build();
            let bag = bag_of(&stamped(sent.clone(), &edge("m")));
            prop_assert!(bag.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/'));
            prop_assert!(bag.split('&').all(|pair| pair.contains('=')));
            prop_assert_eq!(decode_bag(&bag).unwrap(), Bag { properties: sent, output: None });
        }

        #[test]
        fn any_bag_is_read_or_refused_but_never_panics(bag in any::<String>(), escapes in "[%a-f0-9&=$.on]{0,40}") {
            drop(decode_bag(&bag));
            drop(decode_bag(&escapes));
        }
    }
}
