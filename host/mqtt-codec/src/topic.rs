//! Topic names: what a message is published to.

use bytes::Bytes;

use crate::text::{check_utf8, checked_text};
use crate::{Error, Text};

/// A topic name: text of at least one character, without the wildcards `+` and `#`
/// [MQTT-3.3.2-2], [MQTT-4.7.3-1].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Text);

impl TopicName {
    /// Checks the bytes of a field that begins at byte `at` of its packet.
    #[inline]
    pub(crate) fn from_field(field: Bytes, at: usize) -> Result<Self, Error> {
        check_utf8(&field, at)?;
        if field.is_empty() || has_forbidden(&field) {
            return Err(fault(&field, at));
        }
        Ok(Self(Text::from_checked(field)))
    }
}

fn is_forbidden(byte: u8) -> bool {
    matches!(byte, 0 | b'+' | b'#')
}

/// Whether any byte is forbidden, eight bytes at a time: this runs for every message, and the
/// compiler's own vectorising of the plain loop comes and goes with its surroundings.
fn has_forbidden(field: &[u8]) -> bool {
    let Some(last) = field.last_chunk() else {
        return field.iter().any(|byte| is_forbidden(*byte));
    };
    // The last word overlaps the one before it where the length is no multiple of eight.
    let words = field.as_chunks().0;
    words.iter().fold(marks_forbidden(*last), |marks, word| marks | marks_forbidden(*word)) != 0
}

/// Not zero if one of eight bytes is forbidden.
fn marks_forbidden(word: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // `+` and `#` differ in one bit; without it both are `#`, and zero after the exclusive or.
    let word = u64::from_ne_bytes(word);
    let wildcards = (word & (EACH * 0xf7)) ^ (EACH * 0x23);
    let borrows = |word: u64| word.wrapping_sub(EACH) & !word;
    (borrows(word) | borrows(wildcards)) & (EACH * 0x80)
}

#[cold]
fn fault(field: &[u8], at: usize) -> Error {
    match field.iter().position(|byte| is_forbidden(*byte)) {
        None => Error::TopicEmpty,
        Some(place) if field[place] == 0 => Error::NullCharacter { at: at + place },
        Some(place) => Error::TopicWildcard { at: at + place },
    }
}

checked_text!(TopicName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_names_are_refused_where_they_are_wrong() {
        for (name, error) in [
            ("", Error::TopicEmpty),
            ("a/+/b", Error::TopicWildcard { at: 2 }),
            ("a/b#", Error::TopicWildcard { at: 3 }),
            ("é\0", Error::NullCharacter { at: 2 }),
        ] {
            assert_eq!(name.parse::<TopicName>().unwrap_err(), error, "{name:?}");
        }
    }

    #[test]
    fn forbidden_bytes_are_found_at_every_place_and_no_other_byte_is() {
        for length in 1..40 {
            for place in 0..length {
                for byte in 0..=0x7f {
                    let mut name = vec![b'a'; length];
                    name[place] = byte;
                    let expected = byte != 0 && byte != b'+' && byte != b'#';
                    let taken = TopicName::from_field(Bytes::from(name), 0).is_ok();
                    assert_eq!(taken, expected, "{byte} at {place} of {length}");
                }
            }
        }
    }

    #[test]
    fn names_that_look_odd_but_are_legal_are_taken() {
        for name in ["/", " ", "//", "$iothub/twin/GET/?$rid=1", "é/x", "a b/%2B"] {
            assert_eq!(name.parse::<TopicName>().unwrap().as_str(), name);
        }
    }
}
