//! The properties of a message, in one buffer.
//!
//! A message with ten properties costs one allocation, is cloned by counting a reference, and is
//! written to disk as it stands. Looking one up walks the buffer: messages have few properties.
//!
//! Form of an entry: `tag u8`, then for tags that carry a name `length u16, name`, then
//! `length u32, value`; all little-endian, texts in UTF-8, length `u32::MAX` for a null value.

use crate::limits;
use bytes::Bytes;
use std::fmt;

/// System properties that clients may set or that routes may ask for.
///
/// The second column is the name in a route's condition, the third the short name in an MQTT
/// property bag (IoT Edge's own tables).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
#[expect(missing_docs, reason = "the table below names them")]
pub enum SystemProperty {
    MessageId = 1,
    CorrelationId,
    UserId,
    To,
    ExpiryTime,
    ContentType,
    ContentEncoding,
    CreationTime,
    MessageSchema,
    InterfaceId,
    Component,
    Ack,
    Operation,
    MessageType,
    ModelId,
}

struct Row(SystemProperty, &'static str, Option<&'static str>);

const TABLE: &[Row] = &[
    Row(SystemProperty::MessageId, "messageId", Some("$.mid")),
    Row(SystemProperty::CorrelationId, "correlationId", Some("$.cid")),
    Row(SystemProperty::UserId, "userId", Some("$.uid")),
    Row(SystemProperty::To, "to", Some("$.to")),
    Row(SystemProperty::ExpiryTime, "absolute-expiry-time", Some("$.exp")),
    Row(SystemProperty::ContentType, "contentType", Some("$.ct")),
    Row(SystemProperty::ContentEncoding, "contentEncoding", Some("$.ce")),
    Row(SystemProperty::CreationTime, "creationTime", Some("$.ctime")),
    Row(SystemProperty::MessageSchema, "messageSchema", Some("$.schema")),
    Row(SystemProperty::InterfaceId, "iothub-interface-id", Some("$.ifid")),
    Row(SystemProperty::Component, "dt-subject", Some("$.sub")),
    Row(SystemProperty::Ack, "ack", Some("ack")),
    Row(SystemProperty::Operation, "operation", Some("iothub-operation")),
    Row(SystemProperty::MessageType, "messageType", None),
    Row(SystemProperty::ModelId, "modelId", None),
];

impl SystemProperty {
    /// By its name in a route's condition; `cid` is taken for the correlation id as in IoT Edge.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("cid") {
            return Some(Self::CorrelationId);
        }
        TABLE.iter().find(|row| row.1.eq_ignore_ascii_case(name)).map(|row| row.0)
    }

    /// By its short name in an MQTT property bag.
    #[must_use]
    pub fn from_short_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.2 == Some(name)).map(|row| row.0)
    }

    /// The name in a route's condition.
    #[must_use]
    pub fn name(self) -> &'static str {
        TABLE[self as usize - 1].1
    }

    /// The short name in an MQTT property bag; none for those that only the hub sets.
    #[must_use]
    pub fn short_name(self) -> Option<&'static str> {
        TABLE[self as usize - 1].2
    }

    fn from_tag(tag: u8) -> Option<Self> {
        TABLE.get(usize::from(tag).checked_sub(1)?).map(|row| row.0)
    }
}

/// Name of one property.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key<'a> {
    /// Set by the sender's application.
    Application(&'a str),
    /// Known to the hub.
    System(SystemProperty),
}

/// An encoded list that is damaged or larger than a message may be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// Not an encoded list (a damaged file).
    #[error("the encoded properties are damaged")]
    Damaged,
    /// Over [`limits::MAX_PROPERTIES_BYTES`].
    #[error("the properties have more than {} bytes", limits::MAX_PROPERTIES_BYTES)]
    TooLarge,
    /// Over [`limits::MAX_PROPERTIES`].
    #[error("there are more than {} properties", limits::MAX_PROPERTIES)]
    TooMany,
}

const APPLICATION: u8 = 0;
const NULL: u32 = u32::MAX;

/// All properties of a message; cheap to clone, never changed.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Properties(Bytes);

impl Properties {
    /// From the encoded form, checked whole.
    ///
    /// # Errors
    /// [`PropertiesError::Damaged`] when the bytes are not such a list.
    pub fn from_encoded(bytes: Bytes) -> Result<Self, PropertiesError> {
        let mut walk = Walk(&bytes);
        while !walk.0.is_empty() {
            walk.entry().ok_or(PropertiesError::Damaged)?;
        }
        Ok(Self(bytes))
    }

    /// The encoded form.
    #[must_use]
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order they were set. `None` as value is a null.
    pub fn iter(&self) -> impl Iterator<Item = (Key<'_>, Option<&str>)> {
        let mut walk = Walk(&self.0);
        std::iter::from_fn(move || walk.entry())
    }

    /// The value of a system property.
    #[must_use]
    pub fn system(&self, wanted: SystemProperty) -> Option<&str> {
        let mut walk = Walk(&self.0);
        let entry = std::iter::from_fn(|| walk.raw()).find(|entry| entry.tag == wanted as u8)?;
        std::str::from_utf8(entry.value?).ok()
    }

    /// The value of an application property; the name is compared without regard to ASCII case,
    /// as in a route's condition. The outer `None`: there is no such property; the inner: null.
    #[must_use]
    pub fn application(&self, name: &str) -> Option<Option<&str>> {
        let mut walk = Walk(&self.0);
        let entry = std::iter::from_fn(|| walk.raw()).find(|entry| {
            entry.tag == APPLICATION && entry.name.eq_ignore_ascii_case(name.as_bytes())
        })?;
        Some(entry.value.and_then(|value| std::str::from_utf8(value).ok()))
    }

    /// The same properties with some application properties set and some removed.
    ///
    /// # Errors
    /// [`PropertiesError::TooLarge`].
    pub fn annotated<'a>(
        &self,
        set: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        unset: &[String],
    ) -> Result<Self, PropertiesError> {
        let mut builder = PropertiesBuilder::default();
        for (key, value) in self.iter() {
            let replaced = match key {
                Key::Application(own) => {
                    unset.iter().any(|name| name == own) || set.clone().any(|(name, _)| name == own)
                }
                Key::System(_) => false,
            };
            if !replaced {
                builder.push(key, value)?;
            }
        }
        for (name, value) in set {
            builder.push(Key::Application(name), Some(value))?;
        }
        Ok(builder.build())
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

struct Walk<'a>(&'a [u8]);

/// An entry whose texts have not been looked at: a search compares bytes and checks only what it
/// returns.
struct Raw<'a> {
    tag: u8,
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Walk<'a> {
    /// The next entry; none at the end or where the bytes are no entry.
    fn entry(&mut self) -> Option<(Key<'a>, Option<&'a str>)> {
        let Raw { tag, name, value } = self.raw()?;
        let key = match tag {
            APPLICATION => Key::Application(std::str::from_utf8(name).ok()?),
            _ => Key::System(SystemProperty::from_tag(tag)?),
        };
        let value = match value {
            Some(text) => Some(std::str::from_utf8(text).ok()?),
            None => None,
        };
        Some((key, value))
    }

    fn raw(&mut self) -> Option<Raw<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        self.0 = rest;
        let name = match tag {
            APPLICATION => {
                let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
                self.take(usize::from(length))?
            }
            _ => &[],
        };
        let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        let value = match length {
            NULL => None,
            _ => Some(self.take(length as usize)?),
        };
        Some(Raw { tag, name, value })
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

/// Collects properties in order; a name may be set once, a second value is ignored (of repeated
/// keys in a property bag the first counts).
#[derive(Debug, Default)]
pub struct PropertiesBuilder {
    bytes: Vec<u8>,
    count: usize,
}

impl PropertiesBuilder {
    /// Bytes of an entry beside its name and value, at most.
    pub const ENTRY_OVERHEAD: usize = 7;

    /// A builder that does not grow before it holds `bytes` (names, values and
    /// [`Self::ENTRY_OVERHEAD`] for each).
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), count: 0 }
    }

    /// Appends a property.
    ///
    /// # Errors
    /// [`PropertiesError::TooLarge`] and [`PropertiesError::TooMany`].
    pub fn push(&mut self, key: Key<'_>, value: Option<&str>) -> Result<(), PropertiesError> {
        if self.has(key) {
            return Ok(());
        }
        if self.count == limits::MAX_PROPERTIES {
            return Err(PropertiesError::TooMany);
        }
        self.count += 1;
        match key {
            Key::Application(name) => {
                let length = u16::try_from(name.len()).map_err(|_| PropertiesError::TooLarge)?;
                self.bytes.push(APPLICATION);
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(name.as_bytes());
            }
            Key::System(property) => self.bytes.push(property as u8),
        }
        match value {
            Some(text) => {
                let length = u32::try_from(text.len()).map_err(|_| PropertiesError::TooLarge)?;
                self.bytes.extend_from_slice(&length.to_le_bytes());
                self.bytes.extend_from_slice(text.as_bytes());
            }
            None => self.bytes.extend_from_slice(&NULL.to_le_bytes()),
        }
        match self.bytes.len() > limits::MAX_PROPERTIES_BYTES {
            true => Err(PropertiesError::TooLarge),
            false => Ok(()),
        }
    }

    fn has(&self, wanted: Key<'_>) -> bool {
        let (tag, name) = match wanted {
            Key::Application(name) => (APPLICATION, name.as_bytes()),
            Key::System(property) => (property as u8, &[][..]),
        };
        let mut walk = Walk(&self.bytes);
        std::iter::from_fn(|| walk.raw()).any(|entry| entry.tag == tag && entry.name == name)
    }

    /// The finished list.
    #[must_use]
    pub fn build(self) -> Properties {
        Properties(self.bytes.into_boxed_slice().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Properties {
        let mut builder = PropertiesBuilder::default();
        builder.push(Key::System(SystemProperty::ContentType), Some("application/json")).unwrap();
        builder.push(Key::Application("Colour"), Some("blue")).unwrap();
        builder.push(Key::Application("empty"), None).unwrap();
        builder.build()
    }

    #[test]
    fn the_table_is_in_the_order_of_the_tags() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, at + 1, "{}", row.1);
            assert_eq!(SystemProperty::from_name(row.1), Some(row.0));
        }
    }

    #[test]
    fn application_names_are_found_without_regard_to_case() {
        assert_eq!(sample().application("colour"), Some(Some("blue")));
        assert_eq!(sample().application("EMPTY"), Some(None));
        assert_eq!(sample().application("absent"), None);
    }

    #[test]
    fn of_a_repeated_name_the_first_counts() {
        let mut builder = PropertiesBuilder::default();
        builder.push(Key::Application("a"), Some("1")).unwrap();
        builder.push(Key::Application("a"), Some("2")).unwrap();
        assert_eq!(builder.build().application("a"), Some(Some("1")));
    }

    #[test]
    fn the_number_of_properties_is_limited() {
        let mut builder = PropertiesBuilder::default();
        for number in 0..limits::MAX_PROPERTIES {
            builder.push(Key::Application(&number.to_string()), Some("")).unwrap();
        }
        assert_eq!(builder.push(Key::Application("0"), Some("again")), Ok(()));
        let one_more = builder.push(Key::Application("more"), None);
        assert_eq!(one_more, Err(PropertiesError::TooMany));
    }

    #[test]
    fn annotating_replaces_adds_and_removes_and_keeps_the_rest() {
        let changed = sample()
            .annotated([("Colour", "red"), ("new", "1")].into_iter(), &["empty".to_owned()])
            .unwrap();
        let all: Vec<_> = changed.iter().collect();
        assert_eq!(
            all,
            [
                (Key::System(SystemProperty::ContentType), Some("application/json")),
                (Key::Application("Colour"), Some("red")),
                (Key::Application("new"), Some("1")),
            ]
        );
    }

    proptest! {
        #[test]
        fn what_was_pushed_comes_back(pairs in proptest::collection::btree_map("[a-z]{1,9}", proptest::option::of(".{0,20}"), 0..8)) {
            let mut builder = PropertiesBuilder::default();
            for (key, value) in &pairs {
                builder.push(Key::Application(key), value.as_deref()).unwrap();
            }
            let properties = Properties::from_encoded(builder.build().encoded().clone()).unwrap();
            let back: Vec<_> = properties.iter().collect();
            let put: Vec<_> = pairs.iter().map(|(k, v)| (Key::Application(k.as_str()), v.as_deref())).collect();
            prop_assert_eq!(back, put);
        }

        #[test]
        fn damaged_bytes_are_refused_or_read_but_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(properties) = Properties::from_encoded(bytes.into()) {
                for entry in properties.iter() {
                    std::hint::black_box(entry);
                }
            }
        }
    }
}
