//! Why a message went where it went, and what became of it.
//!
//! Every accepted message leaves a small trace of its routing here; the place is found by its number
//! without a search. The ring keeps the last [`weir_core::limits::EXPLANATIONS`] messages at least.
//! For older ones that are still stored the same table routes them again; that gives the same
//! answer, because routing is a pure function of table and message.

use crate::sync::lock;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use weir_core::clock::Timestamp;
use weir_core::id::{Identity, MessageId, ModuleId};
use weir_core::route::Trace;

/// More than the promise, and a power of two, so that a number names its place.
const PLACES: usize = weir_core::limits::EXPLANATIONS.next_power_of_two();
/// Places per lock: neighbours are written together by one sender.
const SHARD: usize = 256;

/// What a consumer did with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// A module dropped it.
    Dropped,
    /// A module passed it on.
    Passed,
    /// A module sent others in its place.
    Replaced,
    /// A module keeps it.
    Held,
    /// It comes again later.
    Retried,
    /// It was set aside as a dead letter or dropped by policy.
    Rejected,
    /// A client or the upstream took it.
    Delivered,
}

/// What is known of one accepted message.
#[derive(Debug, Clone)]
pub(crate) struct Footprint {
    pub(crate) id: MessageId,
    pub(crate) enqueued: Timestamp,
    pub(crate) sender: Identity,
    /// Revision of the table that routed it.
    pub(crate) table: u32,
    pub(crate) trace: Trace,
    /// What became of it, by consumer; none stands for a client or the upstream.
    pub(crate) fates: Vec<(Option<ModuleId>, Fate)>,
    /// Client's own message id, for look-ups by people.
    pub(crate) client_id: Option<Arc<str>>,
}

/// The ring of footprints.
#[derive(Debug)]
pub(crate) struct Explanations {
    shards: Vec<Mutex<Vec<Option<Box<Footprint>>>>>,
    newest: std::sync::atomic::AtomicU64,
}

impl Default for Explanations {
    fn default() -> Self {
        Self {
            shards: (0..PLACES / SHARD).map(|_| Mutex::new(Vec::new())).collect(),
            newest: std::sync::atomic::AtomicU64::new(0),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder of a small number")]
fn place(id: MessageId) -> (usize, usize) {
    let place = (id.0 % PLACES as u64) as usize;
    (place / SHARD, place % SHARD)
}

impl Explanations {
    /// Remembers how a message was routed.
    pub(crate) fn note(&self, footprint: Footprint) {
        self.newest.fetch_max(footprint.id.0, std::sync::atomic::Ordering::Relaxed);
        let (shard, at) = place(footprint.id);
        let mut shard = lock(&self.shards[shard]);
        if shard.is_empty() {
            shard.resize_with(SHARD, || None);
        }
        match &mut shard[at] {
            Some(old) => **old = footprint,
            empty => *empty = Some(Box::new(footprint)),
        }
    }

    /// Remembers what a consumer did.
    pub(crate) fn settle(&self, id: MessageId, module: Option<&ModuleId>, fate: Fate) {
        let (shard, at) = place(id);
        let mut shard = lock(&self.shards[shard]);
        if let Some(Some(footprint)) = shard.get_mut(at)
            && footprint.id == id
            && footprint.fates.len() < 16
        {
            footprint.fates.push((module.cloned(), fate));
        }
    }

    /// The footprint of a message, if it is among the last.
    pub(crate) fn find(&self, id: MessageId) -> Option<Footprint> {
        let (shard, at) = place(id);
        let shard = lock(&self.shards[shard]);
        shard.get(at)?.as_deref().filter(|footprint| footprint.id == id).cloned()
    }

    /// The message accepted last.
    pub(crate) fn newest(&self) -> Option<MessageId> {
        match self.newest.load(std::sync::atomic::Ordering::Relaxed) {
            0 => None,
            id => Some(MessageId(id)),
        }
    }

    /// The newest message with this id given by its client.
    pub(crate) fn find_client_id(&self, wanted: &str) -> Option<MessageId> {
        self.shards
            .iter()
            .flat_map(|shard| {
                lock(shard)
                    .iter()
                    .flatten()
                    .filter(|footprint| footprint.client_id.as_deref() == Some(wanted))
                    .map(|footprint| footprint.id)
                    .collect::<Vec<_>>()
            })
            .max()
    }
}

/// Names of the modules' fates as a map for the API.
pub(crate) fn fates(footprint: &Footprint) -> Vec<HashMap<&'static str, String>> {
    footprint
        .fates
        .iter()
        .map(|(module, fate)| {
            let consumer = module.as_ref().map_or("client or upstream".to_owned(), ToString::to_string);
            let fate = serde_json::to_string(fate).unwrap_or_default();
            HashMap::from([("consumer", consumer), ("fate", fate.trim_matches('"').to_owned())])
        })
        .collect()
}
