//! What can be wrong with a packet: one variant for each rule, with the clause that states it.
//!
//! Whoever decodes closes the connection on any of these [MQTT-4.8.0-1]; there is no way to go on in
//! the same stream. Offsets (`at`) count from the first byte of the packet; from the first byte of
//! the text when a [`Text`](crate::Text), topic or filter is made by hand.

use crate::PacketKind;

/// A packet, text, topic or filter breaks a rule of MQTT 3.1.1 or a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Packet types 0 and 15 are reserved (section 2.2.1).
    #[error("packet type {0} is reserved")]
    ReservedPacketType(u8),
    /// The low four bits of the first byte are fixed for all packets but PUBLISH [MQTT-2.2.2-2],
    /// [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1].
    #[error("{kind} must not have the header flags {flags:#06b}")]
    HeaderFlags {
        /// The packet.
        kind: PacketKind,
        /// The four bits as received.
        flags: u8,
    },
    /// Both QoS bits of a PUBLISH are set [MQTT-3.3.1-4].
    #[error("PUBLISH has QoS 3")]
    PublishQos3,
    /// DUP is set on a message that is never sent again [MQTT-3.3.1-2].
    #[error("PUBLISH has DUP set with QoS 0")]
    DupWithQos0,
    /// The remaining length does not end after four bytes (section 2.2.3).
    #[error("remaining length is longer than four bytes")]
    RemainingLengthTooLong,
    /// The packet would be larger than [`Limits::max_packet_bytes`](crate::Limits), or larger than
    /// MQTT can say (when encoding).
    #[error("packet of {bytes} bytes is over the limit of {limit}")]
    PacketTooLarge {
        /// Size of the whole packet, as announced.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A packet whose body has a fixed size announces another one (its section of chapter 3).
    #[error("{kind} has a body of {found} bytes, not {expected}")]
    BodyLength {
        /// The packet.
        kind: PacketKind,
        /// Bytes that the packet has by definition.
        expected: usize,
        /// Bytes announced.
        found: usize,
    },
    /// A field ends after the packet does.
    #[error("field at byte {at} is cut short by the end of the packet")]
    Truncated {
        /// Where the field begins.
        at: usize,
    },
    /// Bytes follow the last field.
    #[error("unexpected bytes from byte {at} on")]
    TrailingBytes {
        /// The first of them.
        at: usize,
    },
    /// A text is not well-formed UTF-8, or encodes a surrogate [MQTT-1.5.3-1].
    #[error("text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first wrong byte.
        at: usize,
    },
    /// A text contains U+0000 [MQTT-1.5.3-2].
    #[error("text contains the null character at byte {at}")]
    NullCharacter {
        /// The null byte.
        at: usize,
    },
    /// A text or binary field does not fit its two-byte length (section 1.5.3); encoding only.
    #[error("field of {bytes} bytes is longer than 65535")]
    FieldTooLong {
        /// Its length.
        bytes: usize,
    },
    /// A packet id is zero [MQTT-2.3.1-1].
    #[error("{kind} has packet id 0")]
    ZeroPacketId {
        /// The packet.
        kind: PacketKind,
    },
    /// A topic name has no characters [MQTT-4.7.3-1].
    #[error("topic name is empty")]
    TopicEmpty,
    /// A topic name contains `+` or `#` [MQTT-3.3.2-2], [MQTT-4.7.1-1].
    #[error("topic name contains a wildcard at byte {at}")]
    TopicWildcard {
        /// The wildcard.
        at: usize,
    },
    /// A topic filter has no characters [MQTT-4.7.3-1].
    #[error("topic filter is empty")]
    FilterEmpty,
    /// `#` is not the last character of a filter, or shares its level [MQTT-4.7.1-2].
    #[error("`#` at byte {at} does not stand alone in the last level")]
    FilterHash {
        /// The `#`.
        at: usize,
    },
    /// `+` shares its level [MQTT-4.7.1-3].
    #[error("`+` at byte {at} does not stand alone in its level")]
    FilterPlus {
        /// The `+`.
        at: usize,
    },
    /// A SUBSCRIBE without a filter [MQTT-3.8.3-3].
    #[error("SUBSCRIBE has no topic filter")]
    SubscribeEmpty,
    /// The requested QoS of a subscription is not 0, 1 or 2, or a reserved bit is set
    /// [MQTT-3-8.3-4].
    #[error("subscription asks for QoS {value:#04x} at byte {at}")]
    SubscriptionQos {
        /// The byte's place.
        at: usize,
        /// The byte.
        value: u8,
    },
    /// An UNSUBSCRIBE without a filter [MQTT-3.10.3-2].
    #[error("UNSUBSCRIBE has no topic filter")]
    UnsubscribeEmpty,
    /// A SUBACK without a return code; there is one for each filter asked for [MQTT-3.8.4-5].
    #[error("SUBACK has no return code")]
    SubackEmpty,
    /// A return code of a SUBACK is none of 0, 1, 2 and 0x80 [MQTT-3.9.3-2].
    #[error("SUBACK has return code {value:#04x} at byte {at}")]
    SubackCode {
        /// The byte's place.
        at: usize,
        /// The byte.
        value: u8,
    },
    /// More entries than [`Limits::max_filters`](crate::Limits).
    #[error("{kind} has more than {limit} entries")]
    TooManyFilters {
        /// The packet.
        kind: PacketKind,
        /// What is allowed.
        limit: usize,
    },
    /// The protocol name is neither `MQTT` nor the `MQIsdp` of version 3.1 [MQTT-3.1.2-1].
    #[error("CONNECT is not for the MQTT protocol")]
    ProtocolName,
    /// The reserved connect flag is set [MQTT-3.1.2-3].
    #[error("CONNECT has the reserved flag set")]
    ConnectReservedFlag,
    /// A will QoS without a will [MQTT-3.1.2-13].
    #[error("CONNECT has a will QoS without a will")]
    WillQosWithoutWill,
    /// Both will QoS bits are set [MQTT-3.1.2-14].
    #[error("CONNECT has will QoS 3")]
    WillQos3,
    /// Will retain without a will [MQTT-3.1.2-15].
    #[error("CONNECT has will retain without a will")]
    WillRetainWithoutWill,
    /// A password without a user name [MQTT-3.1.2-22].
    #[error("CONNECT has a password without a user name")]
    PasswordWithoutUserName,
    /// Bits 7 to 1 of the acknowledge flags are reserved (section 3.2.2.1).
    #[error("CONNACK has the flags {flags:#010b}")]
    ConnackFlags {
        /// The byte as received.
        flags: u8,
    },
    /// Return codes 6 to 255 are reserved (table 3.1).
    #[error("CONNACK has return code {code}")]
    ConnackCode {
        /// The byte as received.
        code: u8,
    },
    /// A refusal says that a session is present [MQTT-3.2.2-4].
    #[error("CONNACK refuses, and has session present set")]
    SessionPresentWithRefusal,
}
