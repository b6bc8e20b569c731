//! A stored message as it is shown: its outside always, its inside to those who may read messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use weir_core::id::Identity;
use weir_core::message::StampedMessage;
use weir_core::properties::Key;
use weir_hub::{Area, Caller, Level, Scope};

/// A message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Message)]
pub(super) struct MessageView {
    /// The hub's number of the message.
    id: String,
    /// When the hub took it in.
    enqueued: String,
    /// `device` or `device/module`.
    sender: String,
    /// The first sender, when modules have sent it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// The output that a module named.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// Modules that it has come through.
    hops: u8,
    /// Size of the body.
    body_bytes: usize,
    /// What is in it; only with the scope `messages:read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Content>,
}

/// What is in a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageContent)]
struct Content {
    /// Set by the sender's application.
    #[schema(value_type = Object)]
    properties: Map<String, Value>,
    /// By their routing names.
    #[schema(value_type = Object)]
    system_properties: Map<String, Value>,
    /// The body, as `encoding` says.
    body: String,
    /// `utf-8` or `base64`.
    encoding: &'static str,
    /// The body is longer; lists show its beginning.
    truncated: bool,
}

/// True when the caller may see what is in messages.
pub(super) fn may_read(caller: &Caller) -> bool {
    caller.may(Scope { area: Area::Messages, level: Level::Read })
}

/// `inside` is the most bytes of the body; none shows nothing of what is in it.
pub(super) fn view(message: &StampedMessage, inside: Option<usize>) -> MessageView {
    MessageView {
        id: message.id().to_string(),
        enqueued: message.enqueued().to_string(),
        sender: message.sender().to_string(),
        origin: message.origin().map(Identity::to_string),
        output: message.output().map(ToString::to_string),
        hops: message.hops(),
        body_bytes: message.body().len(),
        content: inside.map(|most| content(message, most)),
    }
}

fn content(message: &StampedMessage, most: usize) -> Content {
    let (mut properties, mut system_properties) = (Map::new(), Map::new());
    for (key, value) in message.properties().iter() {
        let value = value.map_or(Value::Null, Value::from);
        match key {
            Key::Application(name) => properties.insert(name.to_owned(), value),
            Key::System(known) => system_properties.insert(known.name().to_owned(), value),
        };
    }
    let (shown, truncated) = match message.body().get(..most) {
        Some(beginning) if beginning.len() < message.body().len() => (beginning, true),
        _ => (&message.body()[..], false),
    };
    let (body, encoding) = match text(shown, truncated) {
        Some(text) => (text.to_owned(), "utf-8"),
        None => (STANDARD.encode(shown), "base64"),
    };
    Content { properties, system_properties, body, encoding, truncated }
}

/// The bytes as text; a character that was cut at the end is left out.
fn text(bytes: &[u8], cut: bool) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if cut && error.error_len().is_none() => {
            std::str::from_utf8(&bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::clock::Timestamp;
    use weir_core::id::MessageId;
    use weir_core::message::Message;

    fn shown(body: &[u8], most: usize) -> (String, &'static str, bool) {
        let sender = Identity::device("pump".parse().unwrap());
        let message = Message { body: body.to_vec().into(), ..Message::default() };
        let message = message.stamp(&sender, MessageId(1), Timestamp::from_secs(1));
        let content = content(&message, most);
        (content.body, content.encoding, content.truncated)
    }

    #[test]
    fn bodies_are_shown_as_text_where_they_are_and_cut_between_characters() {
        assert_eq!(shown(b"abc", 10), ("abc".to_owned(), "utf-8", false));
        assert_eq!(shown("aéb".as_bytes(), 2), ("a".to_owned(), "utf-8", true));
        assert_eq!(shown(b"\xff\x00", 10), ("/wA=".to_owned(), "base64", false));
        assert_eq!(shown(b"", 10), (String::new(), "utf-8", false));
    }

    #[test]
    fn the_inside_is_left_out_for_those_who_may_not_read_it() {
        let sender = Identity::device("pump".parse().unwrap());
        let message = Message { body: (&b"secret"[..]).into(), ..Message::default() };
        let message = message.stamp(&sender, MessageId(1), Timestamp::from_secs(1));
        let json = serde_json::to_string(&view(&message, None)).unwrap();
        assert!(!json.contains("secret") && !json.contains("content"), "{json}");
    }
}
