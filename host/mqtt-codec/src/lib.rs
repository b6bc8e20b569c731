//! MQTT 3.1.1 packets: bytes to [`Packet`] and back. No I/O, no sessions, no time.
//!
//! The MQTT head decodes what clients send and encodes what it answers; the MQTT upstream does the
//! reverse; so every packet goes both ways. Invariants:
//!
//! 1. [`decode`] takes a packet from the buffer whole or not at all, and never looks past it.
//! 2. A packet over [`Limits`] is refused from its fixed header, before its body arrives. Nothing is
//!    allocated for bytes that were only announced.
//! 3. Topic and payload of a PUBLISH are slices of the read buffer: no copy, no allocation. They keep
//!    that buffer alive. Packets whose fields outlive a read (CONNECT, SUBSCRIBE, UNSUBSCRIBE) are
//!    copied once, so that a kept filter does not pin a whole read buffer.
//! 4. What the types can hold can be written: texts fit their length field, ids are not zero, topics
//!    have no wildcards. [`Packet::encode`] fails only on what is too large or empty.
//! 5. Every rule of the standard that one packet alone can break is checked, each with a variant of
//!    [`Error`]. Rules that need the connection's past (CONNECT first and once, who may send what,
//!    ids in use) belong to the session.
//!
//! Packets of MQTT 5 will be a module beside these; fixed header, texts, topics and filters are shared.
#![forbid(unsafe_code)]

mod connect;
mod decode;
mod encode;
mod error;
pub mod filter;
mod header;
mod publish;
mod read;
mod subscribe;
mod text;
mod topic;

use std::num::NonZeroU16;

pub use connect::{Connack, Connect, Login, Refusal, UnsupportedConnect, Will};
pub use decode::{decode, missing_bytes};
pub use encode::{put_puback, put_pubacks, put_publish_header};
pub use error::Error;
pub use filter::TopicFilter;
pub use header::PacketKind;
pub use publish::{Delivery, Publish};
pub use subscribe::{Granted, Suback, Subscribe, Subscription, Unsubscribe};
pub use text::Text;
pub use topic::TopicName;

/// The id that joins a packet to its acknowledgement; never zero [MQTT-2.3.1-1].
pub type PacketId = NonZeroU16;

/// The largest remaining length that four bytes can say (MQTT 3.1.1, table 2.4).
pub const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// What a peer may send in one packet. The session chooses: smaller before CONNECT than after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole packet, fixed header included.
    pub max_packet_bytes: usize,
    /// Entries in one SUBSCRIBE, UNSUBSCRIBE or SUBACK.
    pub max_filters: usize,
}

/// Quality of service of a message or a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0: delivered at most once, not acknowledged.
    AtMostOnce = 0,
    /// 1: delivered at least once, acknowledged by PUBACK.
    AtLeastOnce = 1,
    /// 2: delivered exactly once. Recognised here so that a session can refuse it.
    ExactlyOnce = 2,
}

impl Qos {
    /// The level of a number on the wire; `None` for 3 and above.
    pub(crate) fn from_wire(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// One MQTT 3.1.1 control packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A client opens the session, in MQTT 3.1.1.
    Connect(Box<Connect>),
    /// A client opens the session in another version; to be answered with
    /// [`Refusal::ProtocolVersion`] [MQTT-3.1.2-2].
    UnsupportedConnect(UnsupportedConnect),
    /// The server's answer to CONNECT.
    Connack(Connack),
    /// A message.
    Publish(Publish),
    /// A message of QoS 1 is taken over.
    Puback(PacketId),
    /// QoS 2, first answer.
    Pubrec(PacketId),
    /// QoS 2, second step.
    Pubrel(PacketId),
    /// QoS 2, last answer.
    Pubcomp(PacketId),
    /// A client asks for topics.
    Subscribe(Subscribe),
    /// The server's answer to SUBSCRIBE.
    Suback(Suback),
    /// A client no longer wants topics.
    Unsubscribe(Unsubscribe),
    /// The server's answer to UNSUBSCRIBE.
    Unsuback(PacketId),
    /// A client asks whether the server is there.
    Pingreq,
    /// The server's answer to PINGREQ.
    Pingresp,
    /// A client leaves in good order: its will is dropped [MQTT-3.14.4-3].
    Disconnect,
}

impl Packet {
    /// Which control packet this is, for logs and for rules about who may send what.
    #[must_use]
    pub fn kind(&self) -> PacketKind {
        match self {
            Self::Connect(_) | Self::UnsupportedConnect(_) => PacketKind::Connect,
            Self::Connack(_) => PacketKind::Connack,
            Self::Publish(_) => PacketKind::Publish,
            Self::Puback(_) => PacketKind::Puback,
            Self::Pubrec(_) => PacketKind::Pubrec,
            Self::Pubrel(_) => PacketKind::Pubrel,
            Self::Pubcomp(_) => PacketKind::Pubcomp,
            Self::Subscribe(_) => PacketKind::Subscribe,
            Self::Suback(_) => PacketKind::Suback,
            Self::Unsubscribe(_) => PacketKind::Unsubscribe,
            Self::Unsuback(_) => PacketKind::Unsuback,
            Self::Pingreq => PacketKind::Pingreq,
            Self::Pingresp => PacketKind::Pingresp,
            Self::Disconnect => PacketKind::Disconnect,
        }
    }
}
