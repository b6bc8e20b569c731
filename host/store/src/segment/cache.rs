//! The bytes of what was committed last, so that a consumer that keeps up never reads the disk.
//!
//! A chunk is the batch as its sender encoded it: nothing is copied. The oldest chunks go first.

use super::body::{ENTRY_HEAD, Encoded};
use bytes::Bytes;
use std::collections::BTreeMap;
use weir_core::limits;
use weir_core::record::{self, Record};

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    ends: Vec<u32>,
}

/// Chunks by the sequence of their first message.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    chunks: BTreeMap<u64, Chunk>,
    bytes: usize,
}

impl Cache {
    /// Adds the first `accepted` entries of a committed batch.
    pub(crate) fn add(&mut self, first: u64, encoded: Encoded, accepted: usize) {
        let Encoded { bytes, mut ends } = encoded;
        ends.truncate(accepted);
        let chunk = Chunk { bytes: bytes.into(), ends };
        self.bytes += chunk_bytes(&chunk);
        self.chunks.insert(first, chunk);
        while self.bytes > limits::SEGMENT_CACHE_BYTES {
            match self.chunks.pop_first() {
                Some((_, chunk)) => self.bytes -= chunk_bytes(&chunk),
                None => break,
            }
        }
    }

    /// The record of a message, if it is here.
    pub(crate) fn record(&self, sequence: u64) -> Option<Record> {
        let (first, chunk) = self.chunks.range(..=sequence).next_back()?;
        let index = usize::try_from(sequence - first).ok()?;
        let end = *chunk.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| chunk.ends[before] as usize);
        record::decode(chunk.bytes.slice(start + ENTRY_HEAD..end)).ok()
    }
}

fn chunk_bytes(chunk: &Chunk) -> usize {
    // The map's node and the chunk itself count too: single messages make many small chunks.
    chunk.bytes.len() + chunk.ends.len() * 4 + 128
}
