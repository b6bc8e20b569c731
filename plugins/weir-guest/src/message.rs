//! Short words for what modules do most with messages and outcomes.

use crate::bindings::weir::module::types;
use crate::{Annotation, Body, Field, Outcome, OutputMessage, Reject, Retry};
use std::ops::Deref;

/// A message with its fields; everything else of it is reached through [`Deref`].
#[derive(Debug)]
pub struct Message<'a> {
    message: types::Message,
    /// One value for each pointer in the specification's `fields`, in that order.
    pub fields: &'a [Field],
}

impl Deref for Message<'_> {
    type Target = types::Message;
    fn deref(&self) -> &types::Message {
        &self.message
    }
}

/// A batch as the hub delivers it, message by message.
#[doc(hidden)]
pub fn messages(
    batch: Vec<types::Message>,
    fields: &[Field],
) -> impl ExactSizeIterator<Item = Message<'_>> {
    let width = fields.len() / batch.len().max(1);
    batch.into_iter().enumerate().map(move |(at, message)| Message {
        message,
        fields: &fields[at * width..(at + 1) * width],
    })
}

impl Field {
    /// The number, when it is one.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Number(number) => Some(*number),
            Self::Absent | Self::Null | Self::Boolean(_) | Self::Text(_) | Self::Json(_) => None,
        }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl Message<'_> {
    /// The number at one of the specification's `fields`, when there is one.
    #[must_use]
    pub fn number(&self, field: usize) -> Option<f64> {
        self.fields.get(field).and_then(Field::number)
    }

    /// The text at one of the specification's `fields`, when there is one.
    #[must_use]
    pub fn text(&self, field: usize) -> Option<&str> {
        self.fields.get(field).and_then(Field::text)
    }

    /// An application property.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        find(&self.properties, name)
    }

    /// A system property.
    #[must_use]
    pub fn system(&self, name: &str) -> Option<&str> {
        find(&self.system, name)
    }

    /// The body's bytes; a body that stayed in the hub is read whole.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        match self.message.body {
            Body::None => Vec::new(),
            Body::Inline(bytes) => bytes,
            Body::Text(text) => text.into_bytes(),
            Body::Large(payload) => {
                let size = usize::try_from(payload.size()).unwrap_or(usize::MAX);
                let mut whole = Vec::with_capacity(size);
                while whole.len() < size {
                    let piece = payload.read(whole.len() as u64, 64 * 1024);
                    if piece.is_empty() {
                        break;
                    }
                    whole.extend_from_slice(&piece);
                }
                whole
            }
        }
    }
}

fn find<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

impl Outcome {
    /// Goes on to `output` with one property set.
    #[must_use]
    pub fn annotate(output: u16, name: &str, value: &str) -> Self {
        let set = vec![(name.to_owned(), value.to_owned())];
        Self::Annotate(Annotation { output, set, unset: Vec::new() })
    }

    /// To be delivered again, and the later messages of its sender with it. What was sent with
    /// [`crate::hub::send`] in this call goes on all the same, and is sent again then.
    #[must_use]
    pub fn retry(reason: &str) -> Self {
        Self::Retry(Retry { reason: reason.to_owned(), after_ms: None })
    }

    /// The message is at fault.
    #[must_use]
    pub fn reject(reason: &str) -> Self {
        Self::Reject(Reject { reason: reason.to_owned(), code: None })
    }
}

impl OutputMessage {
    /// A message without properties.
    #[must_use]
    pub fn new(output: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { output, body: body.into(), properties: Vec::new(), system: Vec::new() }
    }
}
