//! From a read buffer to packets.
//!
//! Called by whoever reads a connection, in a loop until it answers `None`; then the caller reads
//! more. A packet is decided by its own bytes alone, however they were split on the way.

use bytes::{Buf, Bytes, BytesMut};

use crate::header::FixedHeader;
use crate::read::Reader;
use crate::{
    Connack, Connect, Error, Limits, Packet, PacketId, PacketKind, Publish, Suback, Subscribe,
    Unsubscribe,
};

/// Takes the first packet out of `buffer`; `None`, with `buffer` as it was, when it is not whole.
///
/// A PUBLISH is not copied: its topic and payload share the buffer, so that a caller who keeps them
/// for long keeps the whole read buffer.
///
/// # Errors
///
/// When the packet breaks a rule or a limit, as early as the fixed header shows it. The connection is
/// to be closed [MQTT-4.8.0-1]: after an error the content of `buffer` means nothing.
pub fn decode(buffer: &mut BytesMut, limits: &Limits) -> Result<Option<Packet>, Error> {
    let Some(header) = FixedHeader::peek(buffer, limits)? else { return Ok(None) };
    if buffer.len() < header.packet_bytes() {
        return Ok(None);
    }
    let packet = match header.kind {
        PacketKind::Publish => {
            let packet = buffer.split_to(header.packet_bytes()).freeze();
            let reader = Reader::new(packet, header.bytes);
            return Publish::decode(&header, reader).map(|publish| Some(Packet::Publish(publish)));
        }
        PacketKind::Connect => Connect::decode(copied(buffer, &header))?,
        PacketKind::Subscribe => {
            Packet::Subscribe(Subscribe::decode(copied(buffer, &header), limits)?)
        }
        PacketKind::Unsubscribe => {
            Packet::Unsubscribe(Unsubscribe::decode(copied(buffer, &header), limits)?)
        }
        PacketKind::Suback => Packet::Suback(Suback::decode(copied(buffer, &header), limits)?),
        PacketKind::Connack => Packet::Connack(Connack::decode(two_bytes(buffer, &header))?),
        PacketKind::Puback => Packet::Puback(packet_id(buffer, &header)?),
        PacketKind::Pubrec => Packet::Pubrec(packet_id(buffer, &header)?),
        PacketKind::Pubrel => Packet::Pubrel(packet_id(buffer, &header)?),
        PacketKind::Pubcomp => Packet::Pubcomp(packet_id(buffer, &header)?),
        PacketKind::Unsuback => Packet::Unsuback(packet_id(buffer, &header)?),
        PacketKind::Pingreq => Packet::Pingreq,
        PacketKind::Pingresp => Packet::Pingresp,
        PacketKind::Disconnect => Packet::Disconnect,
    };
    buffer.advance(header.packet_bytes());
    Ok(Some(packet))
}

/// Bytes that are missing from the first packet in `buffer`: 0 when it is whole, exact once the fixed
/// header is there, and before that what the header needs at least.
///
/// For sizing the next read. Reserve no more than a read's worth at a time: the number is the peer's
/// claim, only bounded by [`Limits::max_packet_bytes`].
///
/// # Errors
///
/// As [`decode`], for what the fixed header shows.
pub fn missing_bytes(buffer: &[u8], limits: &Limits) -> Result<usize, Error> {
    Ok(match FixedHeader::peek(buffer, limits)? {
        Some(header) => header.packet_bytes().saturating_sub(buffer.len()),
        None if buffer.is_empty() => 2,
        None => 1,
    })
}

/// A reader over a copy of the packet: its fields will be kept longer than the read buffer should be.
fn copied(buffer: &BytesMut, header: &FixedHeader) -> Reader {
    Reader::new(Bytes::copy_from_slice(&buffer[..header.packet_bytes()]), header.bytes)
}

/// The body of a packet whose fixed header has been checked to announce two bytes.
fn two_bytes(buffer: &BytesMut, header: &FixedHeader) -> [u8; 2] {
    [buffer[header.bytes], buffer[header.bytes + 1]]
}

fn packet_id(buffer: &BytesMut, header: &FixedHeader) -> Result<PacketId, Error> {
    PacketId::new(u16::from_be_bytes(two_bytes(buffer, header)))
        .ok_or(Error::ZeroPacketId { kind: header.kind })
}
