//! The bytes of a stamped message: what stands in the store's segments and in dead letters.
//!
//! `version u8, flags u8, hops u8, reserved u8, id u64, enqueued i64, table u32,` then length-prefixed
//! texts (`u8`): device, and as the flags say module, output, origin device, origin module; then
//! `u32` properties length, the properties, and the body up to the end. Little-endian. The checksum
//! around it belongs to the store.

use crate::clock::Timestamp;
use crate::id::{Identity, MessageId};
use crate::message::{Message, MessageKind, Stamp, StampedMessage};
use crate::properties::Properties;
use bytes::{Buf, BufMut, Bytes};

const VERSION: u8 = 1;
const HAS_MODULE: u8 = 1;
const HAS_OUTPUT: u8 = 2;
const HAS_ORIGIN: u8 = 4;
const ORIGIN_HAS_MODULE: u8 = 8;
const TWIN_CHANGE: u8 = 16;
const FIXED_BYTES: usize = 24;

/// Bytes that are no record: a damaged file, or one of a later version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a stored message cannot be read")]
pub struct RecordError;

/// A message together with the revision of the route table that routed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The message.
    pub message: StampedMessage,
    /// Revision of the route table, so that its routing can be explained later.
    pub table: u32,
}

/// Length of the record in bytes.
#[must_use]
pub fn encoded_len(message: &StampedMessage) -> usize {
    let texts: usize = texts(message).map(|text| 1 + text.len()).sum();
    FIXED_BYTES + texts + 4 + message.properties().encoded().len() + message.body().len()
}

fn texts(message: &StampedMessage) -> impl Iterator<Item = &str> {
    let origin = message.origin();
    [
        Some(message.device().as_str()),
        message.module().map(AsRef::as_ref),
        message.output().map(AsRef::as_ref),
        origin.map(|origin| origin.device.as_str()),
        origin.and_then(|origin| origin.module.as_ref()).map(AsRef::as_ref),
    ]
    .into_iter()
    .flatten()
}

/// Appends the record of `message`.
pub fn encode(message: &StampedMessage, table: u32, out: &mut Vec<u8>) {
    let mut flags = 0;
    flags |= if message.module().is_some() { HAS_MODULE } else { 0 };
    flags |= if message.output().is_some() { HAS_OUTPUT } else { 0 };
    if let Some(origin) = message.origin() {
        flags |= HAS_ORIGIN;
        flags |= if origin.module.is_some() { ORIGIN_HAS_MODULE } else { 0 };
    }
    flags |= if message.kind() == MessageKind::TwinChange { TWIN_CHANGE } else { 0 };
    out.put_slice(&[VERSION, flags, message.hops(), 0]);
    out.put_u64_le(message.id().0);
    out.put_i64_le(message.enqueued().as_micros());
    out.put_u32_le(table);
    for text in texts(message) {
        out.put_u8(u8::try_from(text.len()).expect("an id has at most 128 bytes"));
        out.put_slice(text.as_bytes());
    }
    let properties = message.properties().encoded();
    out.put_u32_le(u32::try_from(properties.len()).expect("properties have a limit"));
    out.put_slice(properties);
    out.put_slice(message.body());
}

/// Reads a record; properties and body share the memory of `bytes`.
///
/// # Errors
/// [`RecordError`] when the bytes are no record of this version.
pub fn decode(mut bytes: Bytes) -> Result<Record, RecordError> {
    if bytes.len() < FIXED_BYTES || bytes[0] != VERSION {
        return Err(RecordError);
    }
    let (flags, hops) = (bytes[1], bytes[2]);
    bytes.advance(4);
    let id = MessageId(bytes.get_u64_le());
    let enqueued = Timestamp::from_micros(bytes.get_i64_le());
    let table = bytes.get_u32_le();
    let device = text(&mut bytes)?;
    let module = if flags & HAS_MODULE != 0 { Some(text(&mut bytes)?) } else { None };
    let output = if flags & HAS_OUTPUT != 0 { Some(text(&mut bytes)?) } else { None };
    let origin = match flags & HAS_ORIGIN != 0 {
        true => {
            let device = text(&mut bytes)?;
            let module = match flags & ORIGIN_HAS_MODULE != 0 {
                true => Some(text(&mut bytes)?),
                false => None,
            };
            Some(Identity { device, module })
        }
        false => None,
    };
    let length = bytes.try_get_u32_le().map_err(|_| RecordError)? as usize;
    if bytes.len() < length {
        return Err(RecordError);
    }
    let properties = Properties::from_encoded(bytes.split_to(length)).map_err(|_| RecordError)?;
    let kind = match flags & TWIN_CHANGE != 0 {
        true => MessageKind::TwinChange,
        false => MessageKind::Telemetry,
    };
    let sender = Identity { device, module };
    let stamp = Stamp { id, enqueued, sender, kind, hops, origin };
    let message = Message { body: bytes, properties, output };
    Ok(Record { message: StampedMessage::from_parts(stamp, message), table })
}

fn text<T: std::str::FromStr>(bytes: &mut Bytes) -> Result<T, RecordError> {
    let length = usize::from(bytes.try_get_u8().map_err(|_| RecordError)?);
    let (text, _) = bytes.split_at_checked(length).ok_or(RecordError)?;
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    bytes.advance(length);
    value.ok_or(RecordError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::properties::{Key, PropertiesBuilder};
    use proptest::prelude::*;

    fn stamped(module: bool, output: bool, hop: bool, body: Vec<u8>) -> StampedMessage {
        let mut builder = PropertiesBuilder::default();
        builder.push(Key::Application("k"), Some("v")).unwrap();
        let sender = Identity {
            device: "pump-1".parse().unwrap(),
            module: module.then(|| "filter".parse().unwrap()),
        };
        let message = Message {
            body: body.into(),
            properties: builder.build(),
            output: output.then(|| "alerts".parse().unwrap()),
        };
        let first = message.clone().stamp(&sender, MessageId(7), Timestamp::from_secs(9));
        match hop {
            true => first.forward(message, &sender, MessageId(8), Timestamp::from_secs(10)),
            false => first,
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_it_was_written(module: bool, output: bool, hop: bool, table: u32, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let message = stamped(module, output, hop, body);
            let mut bytes = Vec::new();
            encode(&message, table, &mut bytes);
            prop_assert_eq!(bytes.len(), encoded_len(&message));
            prop_assert_eq!(decode(bytes.into()).unwrap(), Record { message, table });
        }

        #[test]
        fn a_damaged_record_is_an_error_or_a_message_but_never_a_panic(cut in 0usize..90, flip in 0usize..90, bit in 0u8..8) {
            let mut bytes = Vec::new();
            encode(&stamped(true, true, true, vec![1; 20]), 1, &mut bytes);
            let at = flip % bytes.len();
            bytes[at] ^= 1 << bit;
            bytes.truncate(bytes.len() - cut % bytes.len());
            drop(decode(bytes.into()));
        }
    }
}
