//! From packets to the caller's buffer (`Vec<u8>` or `BytesMut`, which grow as needed).
//!
//! [`Packet::encode`] writes any packet. Heads that deliver or acknowledge in bulk use the functions
//! for PUBLISH headers and PUBACKs, which need no [`Packet`]. On an error nothing has been written.

use bytes::BufMut;

use crate::publish::{DUP, RETAIN};
use crate::{Delivery, Error, MAX_REMAINING_LENGTH, Packet, PacketId, PacketKind, TopicName};

impl Packet {
    /// Appends the packet to `out`.
    ///
    /// # Errors
    ///
    /// [`Error::PacketTooLarge`] over 256 MiB, [`Error::FieldTooLong`] for a password or will of more
    /// than 65,535 bytes, and the errors for a list without entries.
    pub fn encode(&self, out: &mut impl BufMut) -> Result<(), Error> {
        match self {
            Self::Connect(connect) => connect.encode(out)?,
            Self::UnsupportedConnect(connect) => connect.encode(out)?,
            Self::Connack(connack) => connack.encode(out),
            Self::Publish(publish) => {
                let payload_bytes = publish.payload.len();
                put_publish_header(
                    &publish.topic,
                    publish.delivery,
                    publish.retain,
                    payload_bytes,
                    out,
                )?;
                out.put_slice(&publish.payload);
            }
            Self::Puback(id) => put_puback(*id, out),
            Self::Pubrec(id) => put_with_id(PacketKind::Pubrec, *id, out),
            Self::Pubrel(id) => put_with_id(PacketKind::Pubrel, *id, out),
            Self::Pubcomp(id) => put_with_id(PacketKind::Pubcomp, *id, out),
            Self::Subscribe(subscribe) => subscribe.encode(out)?,
            Self::Suback(suback) => suback.encode(out)?,
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(out)?,
            Self::Unsuback(id) => put_with_id(PacketKind::Unsuback, *id, out),
            Self::Pingreq | Self::Pingresp | Self::Disconnect => {
                out.put_slice(&[self.kind().first_byte(), 0]);
            }
        }
        Ok(())
    }
}

/// Appends all of a PUBLISH but its payload; the next `payload_bytes` bytes that the caller sends are
/// the payload, from wherever it lies.
///
/// # Errors
///
/// [`Error::PacketTooLarge`] over 256 MiB.
pub fn put_publish_header(
    topic: &TopicName,
    delivery: Delivery,
    retain: bool,
    payload_bytes: usize,
    out: &mut impl BufMut,
) -> Result<(), Error> {
    let flags = (delivery.qos() as u8) << 1
        | if delivery.dup() { DUP } else { 0 }
        | if retain { RETAIN } else { 0 };
    let topic = topic.as_bytes();
    let id = delivery.packet_id();
    let bytes = field_bytes(topic)? + if id.is_some() { 2 } else { 0 } + payload_bytes;
    put_header(PacketKind::Publish.first_byte() | flags, bytes, out)?;
    put_field(topic, out);
    if let Some(id) = id {
        out.put_u16(id.get());
    }
    Ok(())
}

/// Appends one PUBACK.
pub fn put_puback(id: PacketId, out: &mut impl BufMut) {
    put_with_id(PacketKind::Puback, id, out);
}

/// Appends a PUBACK for each id, in order: the answers to a group that has been committed.
pub fn put_pubacks(ids: impl IntoIterator<Item = PacketId>, out: &mut impl BufMut) {
    const AT_ONCE: usize = 64;
    let mut block = [0; 4 * AT_ONCE];
    let mut ids = ids.into_iter();
    loop {
        let mut filled = 0;
        for (packet, id) in block.chunks_exact_mut(4).zip(&mut ids) {
            packet.copy_from_slice(&with_id(PacketKind::Puback, id));
            filled += 4;
        }
        out.put_slice(&block[..filled]);
        if filled < block.len() {
            return;
        }
    }
}

fn put_with_id(kind: PacketKind, id: PacketId, out: &mut impl BufMut) {
    out.put_slice(&with_id(kind, id));
}

fn with_id(kind: PacketKind, id: PacketId) -> [u8; 4] {
    let [high, low] = id.get().to_be_bytes();
    [kind.first_byte(), 2, high, low]
}

/// Appends a fixed header for a body of `body_bytes`.
pub(crate) fn put_header(first: u8, body_bytes: usize, out: &mut impl BufMut) -> Result<(), Error> {
    if body_bytes > MAX_REMAINING_LENGTH {
        return Err(Error::PacketTooLarge { bytes: body_bytes, limit: MAX_REMAINING_LENGTH });
    }
    let mut header = [first, 0, 0, 0, 0];
    let mut rest = body_bytes;
    let mut end = 1;
    loop {
        let [low, ..] = rest.to_le_bytes();
        rest >>= 7;
        header[end] = low & 0x7f | if rest > 0 { 0x80 } else { 0 };
        end += 1;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&header[..end]);
    Ok(())
}

/// Bytes of a field with its two-byte length.
pub(crate) fn field_bytes(field: &[u8]) -> Result<usize, Error> {
    let bytes = field.len();
    if bytes > usize::from(u16::MAX) { Err(Error::FieldTooLong { bytes }) } else { Ok(bytes + 2) }
}

/// Appends a field whose length `field_bytes` has checked.
pub(crate) fn put_field(field: &[u8], out: &mut impl BufMut) {
    let length = u16::try_from(field.len()).expect("the length has been checked");
    out.put_u16(length);
    out.put_slice(field);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Publish;

    #[test]
    fn length_takes_the_bytes_of_table_2_4() {
        for (length, expected) in [
            (0, &[0x00][..]),
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xff, 0xff, 0x7f]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
        ] {
            let mut out = Vec::new();
            put_header(0x30, length, &mut out).unwrap();
            assert_eq!(&out[1..], expected, "{length}");
        }
    }

    #[test]
    fn message_over_the_largest_length_is_not_written() {
        let topic: TopicName = "t".parse().unwrap();
        let mut out = Vec::new();
        let result = put_publish_header(
            &topic,
            Delivery::AtMostOnce,
            false,
            MAX_REMAINING_LENGTH - 2,
            &mut out,
        );
        let (bytes, limit) = (MAX_REMAINING_LENGTH + 1, MAX_REMAINING_LENGTH);
        assert_eq!(result, Err(Error::PacketTooLarge { bytes, limit }));
        assert_eq!(out, []);
    }

    #[test]
    fn header_and_payload_apart_are_the_packet() {
        let publish = Publish {
            topic: "a/b".parse().unwrap(),
            payload: Bytes::from_static(b"21"),
            delivery: Delivery::AtLeastOnce { id: PacketId::new(258).unwrap(), dup: true },
            retain: true,
        };
        let mut whole = Vec::new();
        Packet::Publish(publish.clone()).encode(&mut whole).unwrap();
        let mut parts = Vec::new();
        put_publish_header(&publish.topic, publish.delivery, publish.retain, 2, &mut parts)
            .unwrap();
        parts.extend_from_slice(b"21");
        assert_eq!(whole, parts);
        assert_eq!(whole, b"\x3b\x09\x00\x03a/b\x01\x0221");
    }

    #[test]
    fn bulk_pubacks_are_single_ones_in_order() {
        for count in [0, 1, 63, 64, 65, 200] {
            let ids = (1..=count).map(|id| PacketId::new(id).unwrap());
            let (mut bulk, mut single) = (Vec::new(), Vec::new());
            put_pubacks(ids.clone(), &mut bulk);
            ids.for_each(|id| put_puback(id, &mut single));
            assert_eq!(bulk, single);
        }
    }
}
