//! How messages stand on disk.
//!
//! The *body* of a segment is the entries of its messages one after another: `length u32, checksum
//! u32, record`, little-endian. It is cut into *slots* of one size, each a row that fills a page, so
//! that a slot of settled messages is overwritten in place: no page is allocated or freed in steady
//! state, and a group of a hundred small messages costs two pages. The *directory* row says what is
//! in the body and for whom ([`directory`]).
//!
//! Every checksum is seeded with the store's own number and covers the sequence, so that pages of
//! another store, or old pages of this one, are never taken for messages.

pub(crate) mod body;
pub(crate) mod build;
pub(crate) mod cache;
pub(crate) mod directory;
pub(crate) mod varint;

/// The store's own number: a random value that seeds every checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u32);

impl Seed {
    /// Checksum of bytes that stand under a key.
    pub(crate) fn checksum_of(self, key: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.checksum(bytes), &key.to_le_bytes())
    }

    /// Checksum of an entry's record before its sequence is known; see [`Seed::with_sequence`].
    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }

    /// Adds the sequence to a checksum made by [`Seed::checksum`].
    pub(crate) fn with_sequence(checksum: u32, sequence: u64) -> u32 {
        crc32c::crc32c_append(checksum, &sequence.to_le_bytes())
    }

    /// Checksum of the numbers of a row.
    pub(crate) fn checksum_of_row(self, numbers: &[i64]) -> i64 {
        let checksum = numbers
            .iter()
            .fold(self.0, |sum, number| crc32c::crc32c_append(sum, &number.to_le_bytes()));
        i64::from(checksum)
    }
}
