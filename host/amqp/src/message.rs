//! Messages of AMQP 1.0: their sections, and what they are for the hub.
//!
//! [`Parts`] splits an encoded message without copying it; [`read_telemetry`] makes the hub's messages of
//! it, one or, of Azure's batch format, many; [`write_delivery`] writes a message for a client. The
//! mapping is IoT Edge's.

use crate::codec::{Compound, Malformed, Reader, Value, Writer};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt::Write as _;
use weir_core::clock::Timestamp;
use weir_core::id::{IdError, OutputName};
use weir_core::limits;
use weir_core::message::{Message, StampedMessage};
use weir_core::properties::{Key, Properties, PropertiesBuilder, PropertiesError, SystemProperty};
use weir_core::topic::bag::{ORIGIN_DEVICE, ORIGIN_MODULE};

/// The standard's own format.
const STANDARD_FORMAT: u32 = 0;
/// Azure's batch: each data section is an encoded message.
const BATCH_FORMAT: u32 = 0x8001_3700;

const OUTPUT_NAME: &str = "iothub-outputname";

/// A message that cannot be taken; the delivery is rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Its bytes.
    #[error("the message cannot be read")]
    Malformed(#[from] Malformed),
    /// Neither one message nor a batch.
    #[error("messages of the format {0:#x} are not known")]
    Format(u32),
    /// A body that is not bytes or text.
    #[error("the message has a body that is neither data nor text")]
    Body,
    /// The name of an output.
    #[error("the message's iothub-outputname is not one")]
    Output(#[from] IdError),
    /// More than a message may have.
    #[error("the message's properties are too many")]
    Properties(#[from] PropertiesError),
    /// Over the limit for a message.
    #[error("a message of {bytes} bytes is over {}", limits::MAX_MESSAGE_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

impl Unreadable {
    /// The condition that the client is told.
    pub(crate) fn condition(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "amqp:decode-error",
            Self::Format(_) => "amqp:not-implemented",
            Self::Body | Self::Output(_) => "com.microsoft:argument-error",
            Self::Properties(_) | Self::TooLarge { .. } => "amqp:link:message-size-exceeded",
        }
    }
}

/// What a message's body is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Body<'a> {
    None,
    /// Data sections in order.
    Data(Vec<&'a [u8]>),
    /// One value.
    Value(Value<'a>),
    /// Sequences of values.
    Sequence,
}

/// A field of the properties section, and its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) value: Value<'a>,
    pub(crate) encoded: &'a [u8],
}

const MESSAGE_ID: usize = 0;
const CORRELATION_ID: usize = 5;
const EXPIRY: usize = 8;
const FIELDS: usize = 13;

/// The sections of a message.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    annotations: Option<Compound<'a>>,
    fields: [Option<Field<'a>>; FIELDS],
    application: Option<Compound<'a>>,
    pub(crate) body: Body<'a>,
}

impl<'a> Parts<'a> {
    /// Splits an encoded message.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut parts =
            Self { annotations: None, fields: [None; FIELDS], application: None, body: Body::None };
        let mut reader = Reader(bytes);
        while !reader.is_empty() {
            let section = reader.descriptor()?;
            let value = reader.value()?;
            match (section, value) {
                // Header, delivery annotations, footer.
                (0x70 | 0x71 | 0x78, _) => {}
                (0x72, Value::Map(map)) => parts.annotations = Some(map),
                (0x73, Value::List(list)) => parts.read_fields(list)?,
                (0x74, Value::Map(map)) => parts.application = Some(map),
                (0x75, Value::Binary(data)) => match &mut parts.body {
                    Body::Data(sections) => sections.push(data),
                    _ => parts.body = Body::Data(vec![data]),
                },
                (0x76, Value::List(_)) => parts.body = Body::Sequence,
                (0x77, value) => parts.body = Body::Value(value),
                _ => return Err(Malformed::Expected("a section of a message")),
            }
        }
        Ok(parts)
    }

    fn read_fields(&mut self, list: Compound<'a>) -> Result<(), Malformed> {
        let mut reader = list.reader();
        for field in self.fields.iter_mut().take(list.count()) {
            let before = reader.clone();
            let value = reader.value()?;
            let encoded = &before.0[..before.0.len() - reader.0.len()];
            *field = (value != Value::Null).then_some(Field { value, encoded });
        }
        Ok(())
    }

    /// The message id, to be repeated as the answer's correlation id in the same type.
    pub(crate) fn message_id(&self) -> Option<Field<'a>> {
        self.fields[MESSAGE_ID]
    }

    /// The correlation id.
    pub(crate) fn correlation_id(&self) -> Option<Field<'a>> {
        self.fields[CORRELATION_ID]
    }

    /// When the message expires, in microseconds since 1970.
    pub(crate) fn expiry(&self) -> Option<i64> {
        match self.fields[EXPIRY]?.value {
            Value::Timestamp(millis) => Some(millis.saturating_mul(1000)),
            _ => None,
        }
    }

    /// An application property.
    pub(crate) fn application(&self, wanted: &str) -> Option<Value<'a>> {
        find(self.application?, wanted)
    }

    /// A message annotation.
    pub(crate) fn annotation(&self, wanted: &str) -> Option<Value<'a>> {
        find(self.annotations?, wanted)
    }

    /// The body's bytes: data sections joined, a text or bytes as they are, nothing when there is none.
    pub(crate) fn bytes(&self) -> Option<Cow<'a, [u8]>> {
        match &self.body {
            Body::None => Some(Cow::Borrowed(&[])),
            Body::Data(sections) => Some(match sections[..] {
                [one] => Cow::Borrowed(one),
                _ => Cow::Owned(sections.concat()),
            }),
            Body::Value(Value::Binary(bytes)) => Some(Cow::Borrowed(bytes)),
            Body::Value(Value::String(text)) => Some(Cow::Borrowed(text.as_bytes())),
            Body::Value(Value::Null) => Some(Cow::Borrowed(&[])),
            Body::Value(_) | Body::Sequence => None,
        }
    }
}

fn find<'a>(map: Compound<'a>, wanted: &str) -> Option<Value<'a>> {
    let mut found = None;
    let walked = map.pairs(|key, value| {
        if let Value::String(name) | Value::Symbol(name) = key
            && name == wanted
        {
            found = found.or(Some(value));
        }
        Ok(())
    });
    walked.ok().and(found)
}

/// The messages of one delivery, all or none.
///
/// # Errors
/// [`Unreadable`]: the delivery is to be rejected.
pub(crate) fn read_telemetry(
    payload: &Bytes,
    format: u32,
    out: &mut Vec<Message>,
) -> Result<(), Unreadable> {
    match format {
        STANDARD_FORMAT => out.push(read_one(payload)?),
        BATCH_FORMAT => match Parts::read(payload)?.body {
            Body::Data(messages) => {
                for message in messages {
                    out.push(read_one(&payload.slice_ref(message))?);
                }
            }
            Body::None => {}
            Body::Value(_) | Body::Sequence => return Err(Unreadable::Body),
        },
        other => return Err(Unreadable::Format(other)),
    }
    Ok(())
}

fn read_one(payload: &Bytes) -> Result<Message, Unreadable> {
    let parts = Parts::read(payload)?;
    let body = match parts.bytes().ok_or(Unreadable::Body)? {
        Cow::Borrowed(bytes) => payload.slice_ref(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    let room = payload.len() - body.len();
    let (properties, output) = read_properties(&parts, room)?;
    let message = Message { body, properties, output };
    match message.size_bytes() {
        bytes if bytes > limits::MAX_MESSAGE_BYTES => Err(Unreadable::TooLarge { bytes }),
        _ => Ok(message),
    }
}

const FIELD_PROPERTIES: [(usize, SystemProperty); 8] = [
    (MESSAGE_ID, SystemProperty::MessageId),
    (1, SystemProperty::UserId),
    (2, SystemProperty::To),
    (CORRELATION_ID, SystemProperty::CorrelationId),
    (6, SystemProperty::ContentType),
    (7, SystemProperty::ContentEncoding),
    (EXPIRY, SystemProperty::ExpiryTime),
    (9, SystemProperty::CreationTime),
];

const APPLICATION_PROPERTIES: [(&str, SystemProperty); 4] = [
    ("iothub-message-schema", SystemProperty::MessageSchema),
    ("iothub-creation-time-utc", SystemProperty::CreationTime),
    ("iothub-operation", SystemProperty::Operation),
    ("iothub-ack", SystemProperty::Ack),
];

const ANNOTATIONS: [(&str, SystemProperty); 2] = [
    ("dt-subject", SystemProperty::Component),
    ("iothub-interface-id", SystemProperty::InterfaceId),
];

fn read_properties(
    parts: &Parts<'_>,
    room: usize,
) -> Result<(Properties, Option<OutputName>), Unreadable> {
    let mut builder = PropertiesBuilder::with_capacity(room.min(limits::MAX_PROPERTIES_BYTES));
    let mut output = None;
    let mut failed = None;
    if let Some(map) = parts.application {
        map.pairs(|key, value| {
            if failed.is_none() {
                failed = read_application(key, value, &mut builder, &mut output).err();
            }
            Ok(())
        })?;
    }
    if let Some(failed) = failed {
        return Err(failed);
    }
    for (at, property) in FIELD_PROPERTIES {
        if let Some(field) = parts.fields[at] {
            builder.push(Key::System(property), text_of(field.value).as_deref())?;
        }
    }
    for (name, property) in ANNOTATIONS {
        if let Some(value) = parts.annotation(name) {
            builder.push(Key::System(property), text_of(value).as_deref())?;
        }
    }
    Ok((builder.build(), output))
}

fn read_application(
    key: Value<'_>,
    value: Value<'_>,
    builder: &mut PropertiesBuilder,
    output: &mut Option<OutputName>,
) -> Result<(), Unreadable> {
    let (Value::String(name) | Value::Symbol(name)) = key else {
        return Err(Malformed::Expected("the name of a property").into());
    };
    let text = text_of(value);
    if name == OUTPUT_NAME {
        // An empty name is none.
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            *output = Some(text.parse()?);
        }
        return Ok(());
    }
    if name.eq_ignore_ascii_case(ORIGIN_DEVICE) || name.eq_ignore_ascii_case(ORIGIN_MODULE) {
        return Ok(());
    }
    let known = APPLICATION_PROPERTIES.iter().find(|(known, _)| *known == name);
    let key = known.map_or(Key::Application(name), |(_, property)| Key::System(*property));
    Ok(builder.push(key, text.as_deref())?)
}

/// A simple value as text; none for null and for what is not simple.
pub(crate) fn text_of<'a>(value: Value<'a>) -> Option<Cow<'a, str>> {
    Some(match value {
        Value::String(text) | Value::Symbol(text) => Cow::Borrowed(text),
        Value::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        Value::Unsigned(value) => Cow::Owned(value.to_string()),
        Value::Signed(value) => Cow::Owned(value.to_string()),
        Value::Float(value) => Cow::Owned(value.to_string()),
        Value::Double(value) => Cow::Owned(value.to_string()),
        Value::Char(value) => Cow::Owned(char::from_u32(value)?.to_string()),
        Value::Timestamp(millis) => {
            Cow::Owned(Timestamp::from_micros(millis.saturating_mul(1000)).to_string())
        }
        Value::Uuid(bytes) => Cow::Owned(uuid_text(bytes)),
        Value::Binary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(hex(bytes)),
        },
        Value::Decimal(_)
        | Value::Null
        | Value::List(_)
        | Value::Map(_)
        | Value::Array
        | Value::Described(_) => return None,
    })
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

/// The usual form, in lower case.
pub(crate) fn uuid_text(bytes: [u8; 16]) -> String {
    let digits = hex(&bytes);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-")
}

/// What the hub says of a delivery beside the message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Envelope<'a> {
    /// Set for a module's input.
    pub(crate) input: Option<&'a str>,
    pub(crate) sequence: u64,
    /// Also the delivery tag.
    pub(crate) lock: [u8; 16],
    /// 1 on first delivery.
    pub(crate) attempt: u32,
    pub(crate) enqueued: Timestamp,
}

/// A message as a client gets it.
pub(crate) fn write_delivery(message: &StampedMessage, envelope: Envelope<'_>) -> Bytes {
    let properties = message.properties();
    let mut writer =
        Writer::with_capacity(message.body().len() + 2 * properties.encoded().len() + 512);
    writer.descriptor(0x72);
    let mut map = writer.map();
    if let Some(input) = envelope.input {
        writer.symbol("x-opt-input-name");
        writer.string(input);
        map.add(2);
    }
    writer.symbol("iothub-connection-device-id");
    writer.string(message.device().as_str());
    if let Some(module) = message.module() {
        writer.symbol("iothub-connection-module-id");
        writer.string(module.as_str());
        map.add(2);
    }
    writer.symbol("x-opt-sequence-number");
    writer.ulong(envelope.sequence);
    writer.symbol("x-opt-lock-token");
    writer.uuid(envelope.lock);
    writer.symbol("iothub-enqueuedtime");
    writer.timestamp(envelope.enqueued.as_micros().div_euclid(1000));
    writer.symbol("iothub-deliverycount");
    writer.int(i32::try_from(envelope.attempt.saturating_sub(1)).unwrap_or(i32::MAX));
    map.add(10);
    for (name, property) in ANNOTATIONS {
        if let Some(text) = properties.system(property) {
            writer.symbol(name);
            writer.string(text);
            map.add(2);
        }
    }
    writer.close(&map);
    write_fields(&mut writer, properties);
    write_application(&mut writer, message);
    writer.descriptor(0x75);
    writer.binary(message.body());
    writer.finish()
}

fn write_fields(writer: &mut Writer, properties: &Properties) {
    writer.descriptor(0x73);
    let mut list = writer.list();
    list.add(10);
    for at in 0..10 {
        let property = FIELD_PROPERTIES.iter().find(|(field, _)| *field == at);
        let text = property.and_then(|(_, property)| properties.system(*property));
        match (at, text) {
            (_, None) => writer.null(),
            (1, Some(text)) => writer.binary(text.as_bytes()),
            (6 | 7, Some(text)) if text.is_ascii() => writer.symbol(text),
            (6 | 7, Some(_)) => writer.null(),
            (8 | 9, Some(text)) => match millis(text) {
                Some(millis) => writer.timestamp(millis),
                None => writer.null(),
            },
            (_, Some(text)) => writer.string(text),
        }
    }
    writer.close(&list);
}

/// A time as clients write it: RFC 3339; without a zone it means UTC.
fn millis(text: &str) -> Option<i64> {
    Timestamp::parse(text).map(|time| time.as_micros().div_euclid(1000))
}

fn write_application(writer: &mut Writer, message: &StampedMessage) {
    writer.descriptor(0x74);
    let mut map = writer.map();
    let mut push = |name: &str, value: Option<&str>| {
        writer.string(name);
        match value {
            Some(text) => writer.string(text),
            None => writer.null(),
        }
        map.add(2);
    };
    for (key, value) in message.properties().iter() {
        match key {
            Key::Application(name) => push(name, value),
            Key::System(property) => {
                let known = APPLICATION_PROPERTIES.iter().find(|(_, known)| *known == property);
                // The creation time stands in the properties section.
                if let Some((name, _)) = known
                    && property != SystemProperty::CreationTime
                {
                    push(name, value);
                }
            }
        }
    }
    if let Some(origin) = message.origin() {
        push(ORIGIN_DEVICE, Some(origin.device.as_str()));
        if let Some(module) = &origin.module {
            push(ORIGIN_MODULE, Some(module.as_str()));
        }
    }
    writer.close(&map);
}
