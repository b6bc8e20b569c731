//! The fixed header: kind, flags and length of a packet, known before its body arrives.
//!
//! Used by `decode`. All that can be refused from these two to five bytes is refused here, so that a
//! peer cannot make the hub wait for, or hold, a body that it would refuse anyway.

use std::fmt;

use crate::{Error, Limits};

/// The fourteen control packets (MQTT 3.1.1, table 2.1); the value is the number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum PacketKind {
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Pingreq = 12,
    Pingresp = 13,
    Disconnect = 14,
}

impl PacketKind {
    fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            _ => return None,
        })
    }

    /// The first byte of this packet; without the flags of a PUBLISH.
    pub(crate) fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.fixed_flags()
    }

    /// The flags that all packets of this kind carry; those of a PUBLISH are its own.
    fn fixed_flags(self) -> u8 {
        match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            Self::Connect
            | Self::Connack
            | Self::Publish
            | Self::Puback
            | Self::Pubrec
            | Self::Pubcomp
            | Self::Suback
            | Self::Unsuback
            | Self::Pingreq
            | Self::Pingresp
            | Self::Disconnect => 0,
        }
    }

    /// Bytes of the body, for the kinds that have no choice.
    fn fixed_body_bytes(self) -> Option<usize> {
        match self {
            Self::Pingreq | Self::Pingresp | Self::Disconnect => Some(0),
            Self::Connack
            | Self::Puback
            | Self::Pubrec
            | Self::Pubrel
            | Self::Pubcomp
            | Self::Unsuback => Some(2),
            Self::Connect | Self::Publish | Self::Subscribe | Self::Suback | Self::Unsubscribe => {
                None
            }
        }
    }
}

impl fmt::Display for PacketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
        })
    }
}

/// A fixed header that breaks no rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FixedHeader {
    pub(crate) kind: PacketKind,
    /// Low four bits of the first byte.
    pub(crate) flags: u8,
    /// Bytes of the header itself, 2 to 5.
    pub(crate) bytes: usize,
    pub(crate) body_bytes: usize,
}

impl FixedHeader {
    /// Bytes of the whole packet.
    pub(crate) fn packet_bytes(&self) -> usize {
        self.bytes + self.body_bytes
    }

    /// Reads the header at the start of `buffer`; `None` when it is not all there yet.
    ///
    /// # Errors
    ///
    /// As soon as the bytes that are there break a rule or a limit.
    #[inline]
    pub(crate) fn peek(buffer: &[u8], limits: &Limits) -> Result<Option<Self>, Error> {
        let Some((&first, rest)) = buffer.split_first() else { return Ok(None) };
        let flags = first & 0x0f;
        let kind = PacketKind::from_wire(first >> 4)
            .ok_or(Error::ReservedPacketType(first >> 4))
            .and_then(|kind| check_flags(kind, flags).map(|()| kind))?;
        let Some((body_bytes, length_bytes)) = remaining_length(rest)? else { return Ok(None) };
        let header = Self { kind, flags, bytes: 1 + length_bytes, body_bytes };
        if let Some(expected) = kind.fixed_body_bytes()
            && body_bytes != expected
        {
            return Err(Error::BodyLength { kind, expected, found: body_bytes });
        }
        if header.packet_bytes() > limits.max_packet_bytes {
            let (bytes, limit) = (header.packet_bytes(), limits.max_packet_bytes);
            return Err(Error::PacketTooLarge { bytes, limit });
        }
        Ok(Some(header))
    }
}

fn check_flags(kind: PacketKind, flags: u8) -> Result<(), Error> {
    if kind == PacketKind::Publish {
        return match flags >> 1 {
            0b011 | 0b111 => Err(Error::PublishQos3),
            0b100 => Err(Error::DupWithQos0),
            _ => Ok(()),
        };
    }
    if flags == kind.fixed_flags() { Ok(()) } else { Err(Error::HeaderFlags { kind, flags }) }
}

/// The remaining length and the bytes that say it; `None` when more bytes are needed.
///
/// Longer forms than necessary are taken: only MQTT 5 forbids them.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Error> {
    let mut length = 0;
    for (place, &byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(Some((length, place + 1)));
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(Error::RemainingLengthTooLong) }
}
