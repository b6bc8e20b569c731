//! The reading end of one queue.
use crate::message::{EndpointId, Entry};
use weir_core::id::Sequence;

/// Hands out the entries of one queue; there is one reader for each at a time. Dropping it gives
/// back what is in flight, without counting an attempt.
#[derive(Debug)]
pub struct Reader {}

impl Reader {
    /// The queue.
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        todo!()
    }

    /// The next entries that are due, at least one, all of one priority: the lowest number that has
    /// any. Entries to be delivered again come first. A single entry may exceed `max_bytes`.
    ///
    /// Cancel-safe: nothing is taken unless the future completes. Empty only after the store was
    /// closed.
    pub async fn next(&self, max_messages: usize, max_bytes: usize) -> Vec<Entry> {
        let _ = (max_messages, max_bytes);
        todo!()
    }

    /// These were not settled after all: they are delivered again, first and in order; `counted`
    /// says whether the delivery counts as an attempt. Those not in flight are ignored.
    pub fn put_back(&self, entries: &[Sequence], counted: bool) {
        let _ = (entries, counted);
        todo!()
    }

    /// Held entries are handed out again, first and in order (the module that held them restarts).
    pub fn redeliver_held(&self) {
        todo!()
    }
}
