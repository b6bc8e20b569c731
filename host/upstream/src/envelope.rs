//! A message as one line of JSON: a line of the file upstream, a payload of the MQTT upstream.
//!
//! ```json
//! {"id":"0000010000000000","enqueued":"2026-01-02T03:04:05.678901Z","kind":"telemetry",
//!  "device":"edge","module":"filter","output":"alerts","origin":{"device":"pump-1"},
//!  "properties":{"colour":"blue"},"system":{"contentType":"application/json"},"body":{"t":21.5}}
//! ```
//!
//! `module`, `output`, `origin` and its `module` are left out where there is none; a null property is
//! `null`. The body is in one of three members: `body`, the JSON text as it was sent (line breaks
//! between its parts become spaces), when the content type says JSON, it is JSON, and it is nested
//! no deeper than readers can be trusted with; else `bodyText` when it is UTF-8; else `bodyBase64`.
//! The id is the hub's number in the form that `weir explain` takes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{SerializeMap, Serializer};
use serde::{Serialize, ser};
use serde_json::value::RawValue;
use weir_core::id::Identity;
use weir_core::limits::JSON_DEPTH;
use weir_core::message::{MessageKind, StampedMessage};
use weir_core::properties::{Key, Properties, SystemProperty};

/// Appends the line without a line break.
pub(crate) fn put(message: &StampedMessage, out: &mut Vec<u8>) {
    let mut json = serde_json::Serializer::new(out);
    Line(message).serialize(&mut json).expect("texts and maps with text keys are always JSON");
}

struct Line<'a>(&'a StampedMessage);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("id", &Shown(message.id()))?;
        line.serialize_entry("enqueued", &Shown(message.enqueued()))?;
        line.serialize_entry("kind", kind(message.kind()))?;
        line.serialize_entry("device", message.device())?;
        if let Some(module) = message.module() {
            line.serialize_entry("module", module)?;
        }
        if let Some(output) = message.output() {
            line.serialize_entry("output", output)?;
        }
        if let Some(origin) = message.origin() {
            line.serialize_entry::<_, Identity>("origin", origin)?;
        }
        line.serialize_entry("properties", &Application(message.properties()))?;
        line.serialize_entry("system", &System(message.properties()))?;
        put_body(message, &mut line)?;
        line.end()
    }
}

fn kind(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Telemetry => "telemetry",
        MessageKind::TwinChange => "twinChange",
    }
}

/// A value as the text that it shows itself as, without a copy of that text.
struct Shown<T>(T);

impl<T: std::fmt::Display> Serialize for Shown<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Application<'a>(&'a Properties);

impl Serialize for Application<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter_map(|(key, value)| match key {
            Key::Application(name) => Some((name, value)),
            Key::System(_) => None,
        }))
    }
}

struct System<'a>(&'a Properties);

impl Serialize for System<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().filter_map(|(key, value)| match key {
            Key::Application(_) => None,
            Key::System(property) => Some((property.name(), value)),
        }))
    }
}

fn put_body<M: SerializeMap>(message: &StampedMessage, line: &mut M) -> Result<(), M::Error> {
    let Ok(text) = std::str::from_utf8(message.body()) else {
        return line.serialize_entry("bodyBase64", &STANDARD.encode(message.body()));
    };
    if !says_json(message.properties()) || depth(text) > JSON_DEPTH {
        return line.serialize_entry("bodyText", text);
    }
    match serde_json::from_str::<&RawValue>(text) {
        Ok(raw) if memchr::memchr2(b'\n', b'\r', raw.get().as_bytes()).is_none() => {
            line.serialize_entry("body", raw)
        }
        // In JSON a bare line break can only stand between parts, where a space does as well.
        Ok(raw) => {
            let joined = raw.get().replace(['\n', '\r'], " ");
            let raw = RawValue::from_string(joined).map_err(ser::Error::custom)?;
            line.serialize_entry("body", &raw)
        }
        Err(_) => line.serialize_entry("bodyText", text),
    }
}

/// `application/json` or `…+json`, whatever its parameters, in an encoding that leaves it readable.
fn says_json(properties: &Properties) -> bool {
    let media = properties.system(SystemProperty::ContentType).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim();
    let is_json = media.eq_ignore_ascii_case("application/json")
        || media.len() > 5 && media.as_bytes()[media.len() - 5..].eq_ignore_ascii_case(b"+json");
    let encoding = properties.system(SystemProperty::ContentEncoding).unwrap_or("utf-8");
    is_json && (encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8"))
}

/// How deep brackets are nested, outside of strings; meaningful for JSON only.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use weir_core::clock::Timestamp;
    use weir_core::id::MessageId;
    use weir_core::message::Message;
    use weir_core::properties::PropertiesBuilder;

    fn line(content_type: Option<&str>, body: &[u8]) -> Value {
        let mut properties = PropertiesBuilder::default();
        if let Some(text) = content_type {
            properties.push(Key::System(SystemProperty::ContentType), Some(text)).unwrap();
        }
        let message =
            Message { body: body.to_vec().into(), properties: properties.build(), output: None };
        let sender = Identity::device("pump-1".parse().unwrap());
        let mut out = Vec::new();
        put(&message.stamp(&sender, MessageId(7), Timestamp::from_secs(9)), &mut out);
        assert!(!out.contains(&b'\n'));
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_says_all_that_is_known_of_a_message() {
        let mut properties = PropertiesBuilder::default();
        properties.push(Key::Application("colour"), Some("dark \"blue\"")).unwrap();
        properties.push(Key::System(SystemProperty::CorrelationId), Some("c")).unwrap();
        properties.push(Key::Application("none"), None).unwrap();
        let message = Message {
            body: "21".into(),
            properties: properties.build(),
            output: Some("alerts".parse().unwrap()),
        };
        let sensor = Identity::device("pump-1".parse().unwrap());
        let filter = Identity::module("edge".parse().unwrap(), "filter".parse().unwrap());
        let first = Message::default().stamp(&sensor, MessageId(1), Timestamp::from_secs(1));
        let sent = first.forward(message, &filter, MessageId(1 << 60), Timestamp::from_secs(2));
        let mut out = Vec::new();
        put(&sent, &mut out);
        assert_eq!(
            serde_json::from_slice::<Value>(&out).unwrap(),
            json!({
                "id": "1000000000000000", "enqueued": "1970-01-01T00:00:02Z",
                "kind": "telemetry", "device": "edge", "module": "filter", "output": "alerts",
                "origin": {"device": "pump-1"},
                "properties": {"colour": "dark \"blue\"", "none": null},
                "system": {"correlationId": "c"}, "bodyText": "21",
            })
        );
    }

    #[test]
    fn the_body_stands_in_the_member_that_fits_it() {
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        for (content_type, body, member, value) in [
            (
                Some("application/json"),
                &b"{\"a\":\r\n [1, \"x\\n[\"]}"[..],
                "body",
                json!({"a": [1, "x\n["]}),
            ),
            (Some("Application/JSON; charset=utf-8"), b"\"x\"", "body", json!("x")),
            (Some("application/cloudevents+json"), b" 1.50 ", "body", json!(1.5)),
            (Some("application/json"), b"{\"a\":", "bodyText", json!("{\"a\":")),
            (Some("application/json"), b"", "bodyText", json!("")),
            (Some("application/json"), deep.as_bytes(), "bodyText", json!(deep)),
            (Some("text/plain"), b"1", "bodyText", json!("1")),
            (None, "é\n".as_bytes(), "bodyText", json!("é\n")),
            (Some("application/json"), b"\xff\x00", "bodyBase64", json!("/wA=")),
        ] {
            let line = line(content_type, body);
            assert_eq!(line[member], value, "{line}");
            let members = ["body", "bodyText", "bodyBase64"];
            assert_eq!(members.iter().filter(|name| line.get(name).is_some()).count(), 1);
        }
    }

    #[test]
    fn numbers_of_a_json_body_keep_their_digits() {
        let mut out = Vec::new();
        let mut properties = PropertiesBuilder::default();
        let key = Key::System(SystemProperty::ContentType);
        properties.push(key, Some("application/json")).unwrap();
        let body = "[1.10, 123456789012345678901234567890]";
        let message = Message { body: body.into(), properties: properties.build(), output: None };
        let sender = Identity::device("d".parse().unwrap());
        put(&message.stamp(&sender, MessageId(1), Timestamp::default()), &mut out);
        assert!(String::from_utf8(out).unwrap().contains(body));
    }

    proptest! {
        #[test]
        fn any_body_gives_one_line_that_reads_back(body in proptest::collection::vec(any::<u8>(), 0..64), json: bool) {
            let line = line(json.then_some("application/json"), &body);
            let text = line["bodyText"].as_str().map(|text| text.as_bytes().to_vec());
            let binary = line["bodyBase64"].as_str().map(|text| STANDARD.decode(text).unwrap());
            if let Some(back) = text.or(binary) {
                prop_assert_eq!(back, body);
            } else {
                prop_assert_eq!(&line["body"], &serde_json::from_slice::<Value>(&body).unwrap());
            }
        }
    }
}
