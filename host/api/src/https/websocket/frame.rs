//! WebSocket frames (RFC 6455 section 5) of a client, decoded piece by piece, and of a server, written.
//!
//! No I/O. The payload is handed on as it comes and never gathered, so neither the length that a frame
//! declares nor the number of frames in a message costs memory. Used by [`super::stream`].

use bytes::{BufMut, Bytes, BytesMut};
use weir_core::limits;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// Longest payload of a control frame (section 5.5).
const CONTROL_BYTES: usize = 125;

/// Why a connection is closed (section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Code {
    /// The purpose is fulfilled.
    Normal = 1000,
    /// A frame breaks the protocol.
    Protocol = 1002,
    /// Text, where only bytes are spoken [MQTT-6.0.0-1].
    Unsupported = 1003,
    /// A frame or message above the limits.
    TooBig = 1009,
}

/// A frame that cannot be taken; the connection ends with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client broke the WebSocket protocol: {what}")]
pub(crate) struct Violation {
    pub(crate) code: Code,
    what: &'static str,
}

fn violation<T>(code: Code, what: &'static str) -> Result<T, Violation> {
    Err(Violation { code, what })
}

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next bytes of the stream.
    Data(BytesMut),
    /// To be answered with a pong that carries the same.
    Ping(Bytes),
    /// The client ends the connection.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

/// A frame whose head has been read.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    fin: bool,
    mask: [u8; 4],
    length: u64,
}

/// The rest of a data frame.
#[derive(Debug, Clone, Copy)]
struct Payload {
    mask: [u8; 4],
    left: u64,
}

/// Reads the frames of one client.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    payload: Option<Payload>,
    /// A message has begun and not ended.
    open: bool,
    /// Bytes of this message so far.
    message: u64,
}

impl Decoder {
    /// Takes what it can out of `incoming`. None: more bytes are needed.
    ///
    /// # Errors
    /// [`Violation`]; the decoder is not to be used again.
    pub(crate) fn decode(&mut self, incoming: &mut BytesMut) -> Result<Option<Event>, Violation> {
        loop {
            if let Some(payload) = &mut self.payload {
                if payload.left == 0 {
                    self.payload = None;
                    continue;
                }
                if incoming.is_empty() {
                    return Ok(None);
                }
                return Ok(Some(Event::Data(payload.take(incoming))));
            }
            let Some((frame, head)) = self.head(incoming)? else { return Ok(None) };
            if frame.kind == Kind::Data {
                self.begin(frame)?;
                drop(incoming.split_to(head));
                continue;
            }
            let length = usize::try_from(frame.length).unwrap_or(usize::MAX);
            if incoming.len() - head < length {
                return Ok(None);
            }
            drop(incoming.split_to(head));
            let mut control = incoming.split_to(length);
            unmask(&mut control, frame.mask);
            match frame.kind {
                Kind::Ping => return Ok(Some(Event::Ping(control.freeze()))),
                Kind::Close => return Ok(Some(Event::Close)),
                Kind::Pong | Kind::Data => {}
            }
        }
    }

    /// The head of a frame and its length; none while bytes are missing (section 5.2).
    fn head(&self, bytes: &[u8]) -> Result<Option<(Frame, usize)>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return violation(Code::Protocol, "an extension that was not agreed on");
        }
        let kind = self.kind(first)?;
        if second & MASKED == 0 {
            return violation(Code::Protocol, "a frame of a client without a mask");
        }
        let (length, shortest, rest) = match second & !MASKED {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), 126, rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), 1 << 16, rest),
                None => return Ok(None),
            },
            length => (u64::from(length), 0, rest),
        };
        if length < shortest {
            return violation(Code::Protocol, "a length that is not written in its shortest form");
        }
        if kind != Kind::Data && length > CONTROL_BYTES as u64 {
            return violation(Code::Protocol, "a control frame that is too long");
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let frame = Frame { kind, fin: first & FIN != 0, mask: *mask, length };
        Ok(Some((frame, bytes.len() - rest.len())))
    }

    fn begin(&mut self, frame: Frame) -> Result<(), Violation> {
        self.message = self.message.saturating_add(frame.length);
        if frame.length > limits::WEBSOCKET_FRAME_BYTES {
            return violation(Code::TooBig, "a frame is too large");
        }
        if self.message > limits::WEBSOCKET_MESSAGE_BYTES {
            return violation(Code::TooBig, "a message is too large");
        }
        self.open = !frame.fin;
        if frame.fin {
            self.message = 0;
        }
        self.payload = Some(Payload { mask: frame.mask, left: frame.length });
        Ok(())
    }

    /// Opcode and its rules: a message begins with a frame that says what it is, and goes on with frames
    /// that do not (section 5.4).
    fn kind(&self, first: u8) -> Result<Kind, Violation> {
        let fin = first & FIN != 0;
        match (first & 0x0f, fin) {
            (0, _) if self.open => Ok(Kind::Data),
            (0, _) => violation(Code::Protocol, "a message goes on that has not begun"),
            (1, _) => violation(Code::Unsupported, "text, where bytes are expected"),
            (2, _) if self.open => violation(Code::Protocol, "a message begins inside another"),
            (2, _) => Ok(Kind::Data),
            (8, true) => Ok(Kind::Close),
            (9, true) => Ok(Kind::Ping),
            (10, true) => Ok(Kind::Pong),
            _ => violation(Code::Protocol, "an unknown or divided control frame"),
        }
    }
}

impl Payload {
    fn take(&mut self, incoming: &mut BytesMut) -> BytesMut {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(incoming.len());
        let mut piece = incoming.split_to(length);
        unmask(&mut piece, self.mask);
        self.mask.rotate_left(length % 4);
        self.left -= length as u64;
        piece
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    for piece in bytes.chunks_mut(4) {
        piece.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

/// Appends a binary frame, a message by itself.
pub(crate) fn put_data(bytes: &[u8], out: &mut BytesMut) {
    put(2, bytes, out);
}

/// Appends a pong; `bytes` are those of the ping.
pub(crate) fn put_pong(bytes: &[u8], out: &mut BytesMut) {
    put(10, bytes, out);
}

/// Appends the end of the connection.
pub(crate) fn put_close(code: Code, out: &mut BytesMut) {
    put(8, &(code as u16).to_be_bytes(), out);
}

fn put(opcode: u8, bytes: &[u8], out: &mut BytesMut) {
    out.reserve(bytes.len() + 10);
    out.put_u8(FIN | opcode);
    match bytes.len() {
        length @ 0..126 => out.put_u8(length.to_le_bytes()[0]),
        length => match u16::try_from(length) {
            Ok(length) => {
                out.put_u8(126);
                out.put_u16(length);
            }
            Err(_) => {
                out.put_u8(127);
                out.put_u64(length as u64);
            }
        },
    }
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put(0, payload, &mut out);
        let head = out.len() - payload.len();
        let mut bytes = out.to_vec();
        bytes[0] = first;
        bytes[1] |= MASKED;
        let mask = [1, 2, 3, 4];
        unmask(&mut bytes[head..], mask);
        bytes.splice(head..head, mask);
        bytes
    }

    /// Everything that comes out, the data joined.
    fn read(pieces: &[&[u8]]) -> Result<(Vec<u8>, Vec<Event>), Violation> {
        let (mut decoder, mut incoming) = (Decoder::default(), BytesMut::new());
        let (mut data, mut events) = (Vec::new(), Vec::new());
        for piece in pieces {
            incoming.extend_from_slice(piece);
            while let Some(event) = decoder.decode(&mut incoming)? {
                match event {
                    Event::Data(bytes) => data.extend_from_slice(&bytes),
                    event => events.push(event),
                }
            }
        }
        Ok((data, events))
    }

    proptest! {
        #[test]
        fn the_bytes_of_a_message_come_out_however_they_are_divided(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
            cut in 1usize..64,
        ) {
            let mut sent = Vec::new();
            for (at, part) in parts.iter().enumerate() {
                let first = if at == 0 { 2 } else { 0 };
                let fin = if at + 1 == parts.len() { FIN } else { 0 };
                sent.extend(frame(first | fin, part));
                // Control frames may stand between the parts.
                sent.extend(frame(FIN | 9, b"still there?"));
            }
            let pieces: Vec<&[u8]> = sent.chunks(cut).collect();
            let (data, events) = read(&pieces).unwrap();
            prop_assert_eq!(data, parts.concat());
            prop_assert_eq!(events.len(), parts.len());
        }

        #[test]
        fn no_input_panics_or_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let (mut decoder, mut incoming) = (Decoder::default(), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = decoder.decode(&mut incoming) {}
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_named() {
        let mut unmasked = frame(FIN | 2, b"x");
        unmasked[1] &= !MASKED;
        let long = |length: &[u8]| [&[FIN | 2, MASKED | 127], length, &[0; 4]].concat();
        let cases: [(&str, Vec<u8>, Code); 12] = [
            ("no mask", unmasked, Code::Protocol),
            ("compressed", frame(FIN | 0x40 | 2, b"x"), Code::Protocol),
            ("text", frame(FIN | 1, b"x"), Code::Unsupported),
            ("begins with a continuation", frame(FIN, b"x"), Code::Protocol),
            ("begins twice", [frame(2, b"x"), frame(2, b"x")].concat(), Code::Protocol),
            ("divided ping", frame(9, b"x"), Code::Protocol),
            ("long ping", frame(FIN | 9, &[0; 126]), Code::Protocol),
            ("unknown control", frame(FIN | 11, b""), Code::Protocol),
            ("unknown data", frame(FIN | 3, b""), Code::Protocol),
            ("long length", long(&[0, 0, 0, 0, 0, 0, 0, 1]), Code::Protocol),
            ("huge", long(&[0x7f, 0, 0, 0, 0, 0, 0, 0]), Code::TooBig),
            ("more than there is", long(&[255; 8]), Code::TooBig),
        ];
        for (name, bytes, code) in cases {
            assert_eq!(read(&[&bytes]).unwrap_err().code, code, "{name}");
        }
    }

    #[test]
    fn a_message_without_end_is_cut_off() {
        let part = vec![0; usize::try_from(limits::WEBSOCKET_FRAME_BYTES).unwrap()];
        let mut parts = vec![frame(2, &part)];
        while (parts.len() * part.len()) as u64 <= limits::WEBSOCKET_MESSAGE_BYTES {
            parts.push(frame(0, &part));
        }
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        assert_eq!(read(&parts).unwrap_err().code, Code::TooBig);
        assert!(read(&parts[..parts.len() - 1]).is_ok());
    }

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        for (length, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = BytesMut::new();
            put_data(&vec![7; length], &mut out);
            assert_eq!(out.len(), head + length);
        }
    }
}
