//! What must hold for any bytes at all: used by the fuzz target, and by the crate's tests for the
//! checked-in corpus and for random bytes.

use bytes::BytesMut;
use weir_mqtt_codec::{Error, Limits, Packet, decode, missing_bytes};

/// Small, so that short inputs reach them.
pub(crate) const LIMITS: Limits = Limits { max_packet_bytes: 4096, max_filters: 8 };

/// How a stream of packets ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// After a whole packet.
    Clean,
    /// In the middle of a packet, of which so many bytes are missing.
    Part(usize),
    /// With a packet that is refused.
    Bad(Error),
}

/// Decodes `data` whole, byte by byte and in uneven pieces, and checks each step.
///
/// Answers the packets and how the stream ended. Panics when a promise of the crate does not hold.
pub(crate) fn check(data: &[u8]) -> (Vec<Packet>, End) {
    let whole = decode_in_pieces(data, data.len().max(1));
    assert_eq!(decode_in_pieces(data, 1), whole, "split into bytes");
    assert_eq!(decode_in_pieces(data, 3), whole, "split into pieces of three");
    for packet in &whole.0 {
        assert_survives_encoding(packet);
    }
    whole
}

fn decode_in_pieces(data: &[u8], piece_bytes: usize) -> (Vec<Packet>, End) {
    let mut buffer = BytesMut::new();
    let mut packets = Vec::new();
    for piece in data.chunks(piece_bytes) {
        buffer.extend_from_slice(piece);
        loop {
            match decode_one(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(error) => return (packets, End::Bad(error)),
            }
        }
    }
    if buffer.is_empty() {
        return (packets, End::Clean);
    }
    let missing = missing_bytes(&buffer, &LIMITS).expect("decode had no objection");
    (packets, End::Part(missing))
}

/// Decodes one packet, checking how much of the buffer it takes.
fn decode_one(buffer: &mut BytesMut) -> Result<Option<Packet>, Error> {
    let before = buffer.clone();
    let missing = missing_bytes(buffer, &LIMITS);
    let result = decode(buffer, &LIMITS);
    match (&result, missing) {
        (Err(error), Err(early)) => assert_eq!(*error, early),
        (Err(_), missing) => assert_eq!(missing, Ok(0), "refused before it was whole"),
        (Ok(None), missing) => {
            let missing = missing.expect("a packet to wait for has a legal header");
            assert!(missing > 0, "a whole packet was not decoded");
            assert!(before.len() + missing <= LIMITS.max_packet_bytes, "waits for too much");
            assert_eq!(*buffer, before, "an incomplete packet was touched");
        }
        (Ok(Some(_)), missing) => {
            assert_eq!(missing, Ok(0));
            let taken = before.len() - buffer.len();
            assert!((2..=LIMITS.max_packet_bytes).contains(&taken), "{taken} bytes taken");
            assert_eq!(*buffer, before[taken..], "the next packet was touched");
            assert_eq!(missing_bytes(&before[..taken], &LIMITS), Ok(0));
            assert_eq!(missing_bytes(&before[..taken - 1], &LIMITS), Ok(1));
        }
    }
    result
}

fn assert_survives_encoding(packet: &Packet) {
    let mut bytes = BytesMut::new();
    packet.encode(&mut bytes).expect("what was decoded can be encoded");
    let again = decode(&mut bytes, &LIMITS).expect("what was encoded can be decoded");
    assert_eq!(again.as_ref(), Some(packet));
    assert!(bytes.is_empty(), "encoded more than the packet");
}
