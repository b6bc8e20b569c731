//! A message as it was received, and as it is routed.
//!
//! [`Message`] is what a client sent. Only [`Message::stamp`] makes a [`StampedMessage`], with the
//! identity that the connection has proven; the router and the queue take nothing else. So whatever
//! a client writes into topics or properties, the sender that others see is the true one.

use crate::clock::Timestamp;
use crate::id::{DeviceId, Identity, MessageId, ModuleId, OutputName};
use crate::properties::{Properties, SystemProperty};
use crate::route::{Facts, Lookup, Source};
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a client sent. Nothing in it says who the client is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// The payload, untouched.
    pub body: Bytes,
    /// Application and system properties that the client may set.
    pub properties: Properties,
    /// Set when a module names an output.
    pub output: Option<OutputName>,
}

/// Where in the routes' sources a message belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// Telemetry of a device or a module.
    Telemetry,
    /// An accepted patch of reported properties.
    TwinChange,
}

/// A message with its proven sender, ready for the routes and the queue. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StampedMessage {
    id: MessageId,
    enqueued: Timestamp,
    sender: Identity,
    kind: MessageKind,
    hops: u8,
    origin: Option<Identity>,
    message: Message,
}

/// The fields of a stamped message that the stamp decides; used to write and read records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) id: MessageId,
    pub(crate) enqueued: Timestamp,
    pub(crate) sender: Identity,
    pub(crate) kind: MessageKind,
    pub(crate) hops: u8,
    pub(crate) origin: Option<Identity>,
}

impl Message {
    /// The hub's seal: who sent it, when it was taken in, and its number.
    #[must_use]
    pub fn stamp(self, sender: &Identity, id: MessageId, now: Timestamp) -> StampedMessage {
        StampedMessage {
            id,
            enqueued: now,
            sender: sender.clone(),
            kind: MessageKind::Telemetry,
            hops: 0,
            origin: None,
            message: self,
        }
    }

    /// As [`Message::stamp`], for the message that tells of an accepted patch of reported properties.
    #[must_use]
    pub fn stamp_twin_change(
        self,
        reporter: &Identity,
        id: MessageId,
        now: Timestamp,
    ) -> StampedMessage {
        StampedMessage { kind: MessageKind::TwinChange, ..self.stamp(reporter, id, now) }
    }

    /// Bytes that count against the message limit: body, property names and values.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.body.len() + self.properties.encoded().len()
    }
}

impl StampedMessage {
    pub(crate) fn from_parts(stamp: Stamp, message: Message) -> Self {
        let Stamp { id, enqueued, sender, kind, hops, origin } = stamp;
        Self { id, enqueued, sender, kind, hops, origin, message }
    }

    /// What a module sends on because of this message: stamped anew with the module's identity, one
    /// hop further, the first sender kept.
    #[must_use]
    pub fn forward(
        &self,
        message: Message,
        module: &Identity,
        id: MessageId,
        now: Timestamp,
    ) -> Self {
        Self {
            hops: self.hops.saturating_add(1),
            origin: Some(self.origin.clone().unwrap_or_else(|| self.sender.clone())),
            ..message.stamp(module, id, now)
        }
    }

    /// The same message, as one that has come through so many modules at least.
    #[must_use]
    pub fn after_hops(self, hops: u8) -> Self {
        Self { hops: self.hops.max(hops), ..self }
    }

    /// The same message taken in again (a dead letter that is replayed): a new number and time.
    #[must_use]
    pub fn replayed(&self, id: MessageId, now: Timestamp) -> Self {
        Self { id, enqueued: now, hops: 0, ..self.clone() }
    }

    /// Number of the accepted message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// When the hub took it in.
    #[must_use]
    pub fn enqueued(&self) -> Timestamp {
        self.enqueued
    }

    /// Who sent it.
    #[must_use]
    pub fn sender(&self) -> &Identity {
        &self.sender
    }

    /// The sending device, or the device of the sending module.
    #[must_use]
    pub fn device(&self) -> &DeviceId {
        &self.sender.device
    }

    /// The sending module.
    #[must_use]
    pub fn module(&self) -> Option<&ModuleId> {
        self.sender.module.as_ref()
    }

    /// The output that a module named.
    #[must_use]
    pub fn output(&self) -> Option<&OutputName> {
        self.message.output.as_ref()
    }

    /// Telemetry or a twin change.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// How many modules it has come through.
    #[must_use]
    pub fn hops(&self) -> u8 {
        self.hops
    }

    /// The first sender, when modules have sent it on.
    #[must_use]
    pub fn origin(&self) -> Option<&Identity> {
        self.origin.as_ref()
    }

    /// The payload.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.message.body
    }

    /// The properties as the sender set them.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.message.properties
    }

    /// Body and properties without the stamp.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.message
    }
}

impl Facts for StampedMessage {
    fn source(&self) -> Source<'_> {
        match (self.kind, &self.sender.module) {
            (MessageKind::TwinChange, _) => Source::TwinChange,
            (MessageKind::Telemetry, None) => Source::Device,
            (MessageKind::Telemetry, Some(module)) => Source::Module {
                module: module.as_str(),
                output: self.message.output.as_ref().map(OutputName::as_str),
            },
        }
    }

    fn property(&self, name: &str) -> Lookup<'_> {
        match self.properties().application(name) {
            None => Lookup::Absent,
            Some(None) => Lookup::Null,
            Some(Some(text)) => Lookup::Text(Cow::Borrowed(text)),
        }
    }

    fn system_property(&self, name: &str) -> Lookup<'_> {
        let text = |text: &'_ str| -> Lookup<'_> { Lookup::Text(Cow::Owned(text.to_owned())) };
        if name.eq_ignore_ascii_case("connectionDeviceId") {
            return Lookup::Text(Cow::Borrowed(self.sender.device.as_str()));
        }
        if name.eq_ignore_ascii_case("connectionModuleId") {
            return match &self.sender.module {
                Some(module) => Lookup::Text(Cow::Borrowed(module.as_str())),
                None => Lookup::Absent,
            };
        }
        if name.eq_ignore_ascii_case("outputName") {
            return match &self.message.output {
                Some(output) => Lookup::Text(Cow::Borrowed(output.as_str())),
                None => Lookup::Absent,
            };
        }
        if name.eq_ignore_ascii_case("enqueuedTime") {
            return text(&self.enqueued.to_string());
        }
        if name.eq_ignore_ascii_case("edgeMessageId") {
            return text(&self.id.to_string());
        }
        match SystemProperty::from_name(name).and_then(|known| self.properties().system(known)) {
            Some(value) => Lookup::Text(Cow::Borrowed(value)),
            None => Lookup::Absent,
        }
    }

    fn body(&self) -> &[u8] {
        &self.message.body
    }
}

/// Gives every accepted message its number; one for each start of the hub.
#[derive(Debug)]
pub struct MessageNumbers(AtomicU64);

impl MessageNumbers {
    /// The numbers of the hub's `start`-th start.
    #[must_use]
    pub fn of_start(start: u32) -> Self {
        Self(AtomicU64::new(MessageId::first_of_start(start).0))
    }

    /// `count` numbers in a row; the first is given.
    pub fn take(&self, count: usize) -> MessageId {
        MessageId(self.0.fetch_add(count as u64, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(module: &str) -> Identity {
        Identity::module("edge".parse().unwrap(), module.parse().unwrap())
    }

    #[test]
    fn a_forwarded_message_keeps_its_first_sender_and_counts_hops() {
        let now = Timestamp::from_secs(1);
        let sensor = Identity::device("sensor".parse().unwrap());
        let first = Message::default().stamp(&sensor, MessageId(1), now);
        let second = first.forward(Message::default(), &edge("a"), MessageId(2), now);
        let third = second.forward(Message::default(), &edge("b"), MessageId(3), now);
        assert_eq!(third.origin(), Some(&sensor));
        assert_eq!(third.sender(), &edge("b"));
        assert_eq!(third.hops(), 2);
    }

    #[test]
    fn numbers_of_a_later_start_are_larger() {
        let early = MessageNumbers::of_start(1);
        early.take(1000);
        assert!(MessageNumbers::of_start(2).take(1) > early.take(1));
    }

    #[test]
    fn the_sender_in_a_condition_is_the_stamped_one() {
        let message = Message::default().stamp(&edge("a"), MessageId(1), Timestamp::from_secs(1));
        assert!(matches!(
            message.system_property("connectionModuleId"),
            Lookup::Text(text) if text == "a"
        ));
        assert!(matches!(message.system_property("outputName"), Lookup::Absent));
    }
}
