//! Packet ids of what clients had not acknowledged when their connection ended.
//!
//! What is sent again on the next connection has the same id [MQTT-4.4.0-1], and so a PUBACK that comes
//! late settles what it was meant for. Held in memory only: after a restart of the hub messages come
//! again with other ids.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use weir_core::id::Identity;
use weir_core::limits;
use weir_mqtt_codec::PacketId;

/// Something that is the same when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Resent {
    /// A message for an input, by the number of its delivery.
    Input(u64),
    /// A command, by its sequence.
    Command(u64),
}

/// The ids of all clients that are away.
#[derive(Debug, Default)]
pub(crate) struct Unacknowledged(Mutex<HashMap<Identity, HashMap<Resent, PacketId>>>);

impl Unacknowledged {
    /// Notes what a client has not acknowledged. There are no more of them than the hub serves clients,
    /// each with no more than its window.
    pub(crate) fn keep(&self, client: &Identity, sent: HashMap<Resent, PacketId>) {
        let mut all = self.lock();
        if !sent.is_empty() && (all.len() < limits::MAX_CLIENTS || all.contains_key(client)) {
            all.insert(client.clone(), sent);
        }
    }

    /// Takes what was noted last.
    pub(crate) fn take(&self, client: &Identity) -> HashMap<Resent, PacketId> {
        self.lock().remove(client).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, HashMap<Resent, PacketId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
