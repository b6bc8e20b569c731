//! What can be seen of the queues: usage, single entries, dead letters, health.

use crate::message::{DeadLetterId, EndpointId, RouteNumber};
use serde::Serialize;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::id::Sequence;
use weir_core::record::Record;

/// What a queue does when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// New messages are refused.
    Reject,
    /// The oldest entries of the lowest priority leave, counted.
    DropOldest,
}

/// Size limit of a queue.
///
/// An entry counts with its record as it stands on disk plus [`ENTRY_OVERHEAD_BYTES`], in every
/// queue it waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct QueueLimit {
    /// Bytes; `None` leaves only the limit of the whole store.
    pub max_bytes: Option<u64>,
    /// What happens at the limit.
    pub when_full: WhenFull,
}

impl Default for QueueLimit {
    fn default() -> Self {
        Self { max_bytes: None, when_full: WhenFull::Reject }
    }
}

/// Disk space of an entry besides its record: length, checksum, number and its share of the index.
pub const ENTRY_OVERHEAD_BYTES: u64 = 20;

/// A queue's figures; kept in memory and cheap to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueUsage {
    /// The queue.
    pub endpoint: EndpointId,
    /// Its name.
    pub name: String,
    /// Entries that have not left, in flight included.
    pub messages: u64,
    /// Their size, as [`QueueLimit`] counts.
    pub bytes: u64,
    /// Entries held by the consumer.
    pub held: u64,
    /// Entries that wait for their next attempt, or behind one of the same sender.
    pub retrying: u64,
    /// Entries handed out and not settled.
    pub in_flight: u64,
    /// When the oldest waiting entry was taken in, as far as it is known in memory.
    pub oldest: Option<Timestamp>,
    /// Entries that expired since the start, by route.
    pub expired: Vec<(RouteNumber, u64)>,
    /// Entries dropped since the start because the queue was full.
    pub dropped: u64,
    /// Entries lost since the start because the file is damaged.
    pub damaged: u64,
    /// Dead letters of the queue that left since the start because all of them together were too many
    /// or too large.
    pub dead_letters_dropped: u64,
    /// Its limit.
    pub limit: QueueLimit,
}

/// Figures of the whole store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The queues, by number.
    pub queues: Vec<QueueUsage>,
    /// Bytes of the database file in use (the log beside it, at most about 32 MiB, and the reserve
    /// are not counted).
    pub bytes: u64,
    /// Their limit.
    pub max_bytes: u64,
}

/// State of an entry in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// Not handed out yet.
    Waiting,
    /// Handed out, not settled.
    InFlight,
    /// Held by the consumer.
    Held,
    /// To be delivered again.
    Retrying,
}

/// An entry as it is seen without taking it.
#[derive(Debug, Clone, PartialEq)]
pub struct Peeked {
    /// Its place in the order of acceptance.
    pub sequence: Sequence,
    /// The priority of its lane.
    pub priority: u32,
    /// When it expires.
    pub expires: Timestamp,
    /// The route that sent it here.
    pub route: RouteNumber,
    /// What it waits for.
    pub state: EntryState,
    /// Attempts so far.
    pub attempts: u32,
    /// The message.
    pub record: Record,
}

/// Where a stored message is.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its place in the order of acceptance.
    pub sequence: Sequence,
    /// The message.
    pub record: Record,
    /// The queues in which it has not been settled.
    pub places: Vec<Place>,
}

/// A queue in which a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The queue.
    pub endpoint: EndpointId,
    /// The priority of its lane.
    pub priority: u32,
    /// What it waits for.
    pub state: EntryState,
}

/// A message that could not be delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its number.
    pub id: DeadLetterId,
    /// The queue it was in.
    pub endpoint: EndpointId,
    /// Its place in the order of acceptance.
    pub sequence: Sequence,
    /// The route that had sent it there.
    pub route: RouteNumber,
    /// When it was given up.
    pub at: Timestamp,
    /// Deliveries before that.
    pub attempts: u32,
    /// For people.
    pub reason: String,
    /// For machines.
    pub code: Option<String>,
    /// The module version that failed on it.
    pub module_digest: Option<Digest>,
    /// The message.
    pub record: Record,
}

/// A number that damage may have made unknowable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// Exactly so many.
    Known(u64),
    /// At least so many: a part could not even be counted.
    AtLeast(u64),
}

/// What was found when the store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpenReport {
    /// True when there was no store in the directory.
    pub created: bool,
    /// Set when the file was damaged.
    pub damage: Option<Damage>,
    /// False when the time for checking was over before the whole file was read; what was not
    /// checked is checked when it is read.
    pub checked_whole: bool,
    /// Entries waiting in all queues.
    pub entries: u64,
}

/// A damaged file that was put aside, and what could be taken from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Folder below `quarantine/` that holds the damaged file.
    pub quarantined: String,
    /// What is wrong with it.
    pub what: String,
    /// Messages taken over.
    pub salvaged_messages: u64,
    /// Messages that are gone.
    pub lost_messages: Count,
    /// Rows of other tables taken over.
    pub salvaged_rows: u64,
    /// Tables of which a part could not be read.
    pub damaged_tables: Vec<String>,
}

/// Whether messages can be taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// False while the disk is full, read-only or failing.
    pub writable: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Since when it is so.
    pub since: Timestamp,
    /// Entries lost since the start because damage was met when they were read.
    pub damaged_entries: u64,
    /// What was found at the start.
    pub opened: OpenReport,
}
