//! PUBLISH: the packet of the hot path (MQTT 3.1.1, section 3.3).

use std::fmt;

use bytes::Bytes;

use crate::header::FixedHeader;
use crate::read::Reader;
use crate::{Error, PacketId, PacketKind, Qos, TopicName};

pub(crate) const DUP: u8 = 0b1000;
pub(crate) const RETAIN: u8 = 0b0001;

/// A message from or to a client.
#[derive(Clone, PartialEq, Eq)]
pub struct Publish {
    /// Shares the read buffer.
    pub topic: TopicName,
    /// Shares the read buffer.
    pub payload: Bytes,
    /// QoS, with what belongs to it.
    pub delivery: Delivery,
    /// To be kept for later subscribers.
    pub retain: bool,
}

/// The QoS of a message, with the packet id and DUP that only QoS 1 and 2 have [MQTT-2.3.1-5],
/// [MQTT-3.3.1-2].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce {
        /// Comes back in the PUBACK.
        id: PacketId,
        /// Set when the packet may have been sent before.
        dup: bool,
    },
    /// QoS 2.
    ExactlyOnce {
        /// Comes back in the PUBREC.
        id: PacketId,
        /// Set when the packet may have been sent before.
        dup: bool,
    },
}

impl Delivery {
    /// The QoS.
    #[must_use]
    pub fn qos(self) -> Qos {
        match self {
            Self::AtMostOnce => Qos::AtMostOnce,
            Self::AtLeastOnce { .. } => Qos::AtLeastOnce,
            Self::ExactlyOnce { .. } => Qos::ExactlyOnce,
        }
    }

    /// The packet id; `None` at QoS 0.
    #[must_use]
    pub fn packet_id(self) -> Option<PacketId> {
        match self {
            Self::AtMostOnce => None,
            Self::AtLeastOnce { id, .. } | Self::ExactlyOnce { id, .. } => Some(id),
        }
    }

    /// Whether the packet may have been sent before.
    #[must_use]
    pub fn dup(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce { dup, .. } | Self::ExactlyOnce { dup, .. } => dup,
        }
    }
}

impl Publish {
    /// Reads a PUBLISH whose flags `header` has checked.
    #[inline]
    pub(crate) fn decode(header: &FixedHeader, mut reader: Reader) -> Result<Self, Error> {
        let topic = reader.topic_name()?;
        let dup = header.flags & DUP != 0;
        let delivery = match header.flags >> 1 & 0b11 {
            0 => Delivery::AtMostOnce,
            1 => Delivery::AtLeastOnce { id: reader.packet_id(PacketKind::Publish)?, dup },
            _ => Delivery::ExactlyOnce { id: reader.packet_id(PacketKind::Publish)?, dup },
        };
        let retain = header.flags & RETAIN != 0;
        Ok(Self { topic, payload: reader.into_rest(), delivery, retain })
    }
}

impl fmt::Debug for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publish")
            .field("topic", &self.topic)
            .field("payload_bytes", &self.payload.len())
            .field("delivery", &self.delivery)
            .field("retain", &self.retain)
            .finish()
    }
}
