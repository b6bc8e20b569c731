//! The values that go into the queue and come out of it.

use crate::Error;
use crate::document::Write;
use smallvec::SmallVec;
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::id::Sequence;
use weir_core::message::StampedMessage;
use weir_core::module_state::StateChange;
use weir_core::record::Record;

/// A queue, by the number of its interned name; the number stays over restarts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct EndpointId(pub u32);

/// A route, by the number of its interned name; the number stays over restarts.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct RouteNumber(pub u32);

/// Number of a dead letter; never given twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct DeadLetterId(pub u64);

/// Where a message goes. A message has at most one target for each endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The queue.
    pub endpoint: EndpointId,
    /// Lower numbers are handed out first.
    pub priority: u32,
    /// From this time on the entry is no longer delivered; [`Timestamp::NEVER`] for none.
    pub expires: Timestamp,
    /// The route that sent it there.
    pub route: RouteNumber,
}

/// A message and the queues it goes to, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The message.
    pub message: StampedMessage,
    /// Revision of the route table that chose the targets.
    pub table: u32,
    /// The queues.
    pub targets: SmallVec<[Target; 2]>,
}

/// What became of a batch of appends: a prefix of it is stored and committed.
#[derive(Debug)]
pub struct Appended {
    /// Length of the stored prefix.
    pub accepted: usize,
    /// Sequence of the first of them; the others follow without a gap.
    pub first: Option<Sequence>,
    /// Set when the prefix is not the whole batch.
    pub refused: Option<Refused>,
}

/// The part of a batch that is not stored.
#[derive(Debug)]
pub struct Refused {
    /// Why its first message was refused; the ones behind it are refused to keep the order.
    pub why: Why,
    /// The messages, untouched, for a later try.
    pub rest: Vec<Append>,
}

/// Why messages are not stored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Why {
    /// The queue is at its limit and refuses.
    #[error("a queue is full")]
    Full {
        /// The queue.
        endpoint: EndpointId,
    },
    /// All queues together are at their limit.
    #[error("the store is full")]
    StoreFull,
    /// The disk cannot be written, or the writer has ended.
    #[error("the store cannot be written")]
    Unavailable(#[source] Arc<Error>),
    /// Something before it on its chain was refused.
    #[error("what came before it was refused")]
    Broken,
}

/// A message handed out by a [`crate::Reader`].
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its place in the order of acceptance; names it within the endpoint.
    pub sequence: Sequence,
    /// The priority of its lane.
    pub priority: u32,
    /// 1 on first delivery, and one more after each that counted: it ended in
    /// [`Disposition::Retry`], was put back as counted, or was under way when the hub was killed.
    /// Having been held does not count: nothing failed. Whether this is the first is said by
    /// `redelivered`.
    pub attempt: u32,
    /// When it expires.
    pub expires: Timestamp,
    /// The route that sent it here.
    pub route: RouteNumber,
    /// The message.
    pub record: Record,
    /// True when it is known to have been handed out before.
    pub redelivered: bool,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq)]
pub enum Disposition {
    /// It leaves the queue.
    Done,
    /// It is delivered again, first and in order.
    Retry {
        /// Not before this time.
        not_before: Timestamp,
        /// Later messages of the same sender wait until it has left the queue or is held.
        hold_sender: bool,
    },
    /// It stays, undelivered, until a later change settles it or
    /// [`crate::Reader::redeliver_held`] or a restart gives it out again, without counting an
    /// attempt. It expires meanwhile.
    Hold,
    /// It leaves the queue and a copy goes to the dead letters.
    Dead {
        /// For people.
        reason: String,
        /// For machines.
        code: Option<String>,
        /// The module version that failed on it.
        module_digest: Option<Digest>,
    },
}

/// Everything that one step did: committed whole or not at all.
#[derive(Debug, Default)]
pub struct Change {
    /// Entries and what becomes of them. Those that are no longer there (purged, expired, settled
    /// before) are ignored and counted in [`Committed::unknown`].
    pub settle: Vec<(EndpointId, Sequence, Disposition)>,
    /// Messages that go on.
    pub append: Vec<Append>,
    /// Changes of a module's state.
    pub state: Option<(String, Vec<StateChange>)>,
    /// Dead letters that go on as the messages of `append`, and so leave.
    pub replayed: Vec<DeadLetterId>,
    /// Documents that are written, in order.
    pub documents: Vec<Write>,
}

/// A change that is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Sequence of the first appended message; the others follow without a gap.
    pub first: Option<Sequence>,
    /// Entries to settle that were no longer there.
    pub unknown: usize,
    /// Revision of the first document; the others follow without a gap.
    pub revision: Option<u64>,
}

/// A change that did not happen, and comes back untouched.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A message of it does not fit; without an endpoint: all queues together are full.
    #[error("a queue is full")]
    Full {
        /// The queue.
        endpoint: Option<EndpointId>,
        /// The change.
        change: Box<Change>,
    },
    /// A document is not what the change expected.
    #[error("a document was changed in the meantime")]
    Mismatch {
        /// Which of the documents.
        at: usize,
        /// The present revision, if the document is there.
        present: Option<u64>,
        /// The change.
        change: Box<Change>,
    },
    /// The disk cannot be written, or the writer has ended.
    #[error("the store cannot be written")]
    Unavailable {
        /// Why.
        #[source]
        cause: Arc<Error>,
        /// The change.
        change: Box<Change>,
    },
    /// Something before it on its chain was refused.
    #[error("what came before it was refused")]
    Broken {
        /// The change.
        change: Box<Change>,
    },
}
