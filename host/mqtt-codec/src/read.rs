//! Reading fields out of one whole packet, with offsets for errors.
//!
//! Used by the packets' own `decode` functions. Fields are slices of the packet: nothing is copied.

use bytes::{Buf, Bytes};

use crate::{Error, PacketId, PacketKind, Text, TopicFilter, TopicName};

/// A packet and the place up to which it has been read.
pub(crate) struct Reader {
    packet: Bytes,
    at: usize,
}

impl Reader {
    /// Reads `packet` (all of it, fixed header included) from byte `at` on.
    #[inline]
    pub(crate) fn new(packet: Bytes, at: usize) -> Self {
        Self { packet, at }
    }

    /// Where the next field begins.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.at == self.packet.len()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        let byte = *self.packet.get(self.at).ok_or(Error::Truncated { at: self.at })?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        let bytes = self.packet[self.at..].first_chunk().ok_or(Error::Truncated { at: self.at })?;
        self.at += 2;
        Ok(u16::from_be_bytes(*bytes))
    }

    #[inline]
    pub(crate) fn packet_id(&mut self, kind: PacketKind) -> Result<PacketId, Error> {
        PacketId::new(self.u16()?).ok_or(Error::ZeroPacketId { kind })
    }

    /// A field with a two-byte length before it.
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<Bytes, Error> {
        let begin = self.at;
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.packet.len() {
            return Err(Error::Truncated { at: begin });
        }
        let field = self.packet.slice(self.at..end);
        self.at = end;
        Ok(field)
    }

    #[inline]
    pub(crate) fn text(&mut self) -> Result<Text, Error> {
        let field = self.binary()?;
        let at = self.at - field.len();
        Text::from_field(field, at)
    }

    #[inline]
    pub(crate) fn topic_name(&mut self) -> Result<TopicName, Error> {
        let field = self.binary()?;
        let at = self.at - field.len();
        TopicName::from_field(field, at)
    }

    #[inline]
    pub(crate) fn topic_filter(&mut self) -> Result<TopicFilter, Error> {
        let field = self.binary()?;
        let at = self.at - field.len();
        TopicFilter::from_field(field, at)
    }

    /// All that follows, as it is.
    #[inline]
    pub(crate) fn into_rest(mut self) -> Bytes {
        self.packet.advance(self.at);
        self.packet
    }

    /// Makes sure that the packet ends here.
    #[inline]
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.is_at_end() { Ok(()) } else { Err(Error::TrailingBytes { at: self.at }) }
    }
}
