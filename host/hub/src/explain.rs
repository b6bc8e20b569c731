//! Why a message went where it went, and what became of it.
//!
//! Every message leaves a small trace of its routing here, which counts when the message is accepted:
//! when its commit is known, or a consumer has it. The place is found by its number without a search.
//! The ring keeps the last [`weir_core::limits::EXPLANATIONS`] messages at least.
//! For older ones that are still stored the same table routes them again; that gives the same
//! answer, because routing is a pure function of table and message.

use crate::Hub;
use crate::sync::lock;
use serde::Serialize;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use weir_core::clock::Timestamp;
use weir_core::id::{Identity, MessageId, ModuleId};
use weir_core::record::Record;
use weir_core::route::{RouteVerdict, Trace, Truth};

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

#[derive(Debug)]
struct Noted {
    footprint: Footprint,
    /// It is on disk, or it was when a consumer got it, or no route wanted it.
    accepted: bool,
}

/// The ring of footprints.
#[derive(Debug)]
pub(crate) struct Explanations {
    shards: Vec<Mutex<Vec<Option<Box<Noted>>>>>,
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
    /// Remembers how a message was routed that may be accepted.
    pub(crate) fn note(&self, footprint: Footprint) {
        let (shard, at) = place(footprint.id);
        let mut shard = lock(&self.shards[shard]);
        if shard.is_empty() {
            shard.resize_with(SHARD, || None);
        }
        let noted = Noted { footprint, accepted: false };
        match &mut shard[at] {
            Some(old) => **old = noted,
            empty => *empty = Some(Box::new(noted)),
        }
    }

    /// Messages whose numbers follow each other are accepted, but for those that were forgotten.
    pub(crate) fn accept(&self, ids: Range<u64>) {
        let mut newest = 0;
        let mut first = ids.start;
        while first < ids.end {
            let (shard, at) = place(MessageId(first));
            let mut shard = lock(&self.shards[shard]);
            // One lock for neighbours.
            for (id, noted) in (first..ids.end).zip(shard.iter_mut().skip(at)) {
                if let Some(noted) = noted.as_mut().filter(|noted| noted.footprint.id.0 == id) {
                    noted.accepted = true;
                    newest = id;
                }
            }
            first += (SHARD - at) as u64;
        }
        self.newest.fetch_max(newest, std::sync::atomic::Ordering::Relaxed);
    }

    /// A message was dropped before it was accepted.
    pub(crate) fn forget(&self, id: MessageId) {
        let (shard, at) = place(id);
        let mut shard = lock(&self.shards[shard]);
        if let Some(place) = shard.get_mut(at) {
            place.take_if(|noted| noted.footprint.id == id);
        }
    }

    /// Remembers what a consumer did.
    pub(crate) fn settle(&self, id: MessageId, module: Option<&ModuleId>, fate: Fate) {
        let (shard, at) = place(id);
        let mut shard = lock(&self.shards[shard]);
        let Some(Some(noted)) = shard.get_mut(at) else { return };
        let footprint = &mut noted.footprint;
        if footprint.id != id {
            return;
        }
        noted.accepted = true;
        if footprint.fates.len() < 16
            // What was undone and done again is told once.
            && footprint.fates.last().is_none_or(|last| last != &(module.cloned(), fate))
        {
            footprint.fates.push((module.cloned(), fate));
        }
    }

    /// The footprint of an accepted message, if it is among the last.
    pub(crate) fn find(&self, id: MessageId) -> Option<Footprint> {
        let (shard, at) = place(id);
        let shard = lock(&self.shards[shard]);
        let noted = shard.get(at)?.as_deref()?;
        let found = noted.accepted && noted.footprint.id == id;
        found.then(|| noted.footprint.clone())
    }

    /// The message accepted last.
    pub(crate) fn newest(&self) -> Option<MessageId> {
        match self.newest.load(std::sync::atomic::Ordering::Relaxed) {
            0 => None,
            id => Some(MessageId(id)),
        }
    }

    /// The newest accepted message with this id given by its client.
    pub(crate) fn find_client_id(&self, wanted: &str) -> Option<MessageId> {
        self.shards
            .iter()
            .flat_map(|shard| {
                lock(shard)
                    .iter()
                    .flatten()
                    .filter(|noted| noted.accepted)
                    .filter(|noted| noted.footprint.client_id.as_deref() == Some(wanted))
                    .map(|noted| noted.footprint.id)
                    .collect::<Vec<_>>()
            })
            .max()
    }
}

/// What a consumer did, for the API.
#[derive(Debug, Clone, Serialize)]
pub struct FateView {
    /// The module; absent for a client or the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleId>,
    /// What it did.
    pub fate: Fate,
}

/// A queue in which the message waits.
#[derive(Debug, Clone, Serialize)]
pub struct PlaceView {
    /// The queue.
    pub queue: String,
    /// The priority it waits at.
    pub priority: u32,
    /// What it waits for.
    pub state: weir_store::EntryState,
}

/// The whole explanation of a message.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The message's number.
    pub id: String,
    /// When the hub took it in.
    pub enqueued: String,
    /// Who sent it.
    pub sender: String,
    /// Revision of the route table that routed it.
    pub table: u32,
    /// What every route did, and why.
    pub routes: Vec<RouteVerdict>,
    /// Where it waits now.
    pub places: Vec<PlaceView>,
    /// What was done with it so far, as far as the hub remembers.
    pub fates: Vec<FateView>,
    /// All of it in one sentence.
    pub summary: String,
}

/// Which message to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageName {
    /// The one accepted last.
    Last,
    /// By the hub's number.
    Number(MessageId),
    /// By the id that its sender gave it; the newest of the last messages.
    Client(String),
}

impl MessageName {
    /// `last`, a number of 16 hexadecimal digits, or a sender's own id.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match (text, u64::from_str_radix(text, 16)) {
            ("last", _) => Self::Last,
            (_, Ok(number)) if text.len() == 16 => Self::Number(MessageId(number)),
            _ => Self::Client(text.to_owned()),
        }
    }
}

impl Hub {
    /// Explains a message: exact for all that is stored and for the last
    /// [`weir_core::limits::EXPLANATIONS`]; none for older ones.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn explain(
        &self,
        name: &MessageName,
    ) -> Result<Option<Explanation>, weir_store::Error> {
        let id = match name {
            MessageName::Last => self.explanations().newest(),
            MessageName::Number(id) => Some(*id),
            MessageName::Client(text) => self.explanations().find_client_id(text),
        };
        let Some(id) = id else { return Ok(None) };
        let found = self.store().find(id).await?;
        let footprint = match (self.explanations().find(id), &found) {
            (Some(footprint), _) => footprint,
            (None, Some(found)) => match self.route_again(&found.record).await? {
                Some(footprint) => footprint,
                None => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        let routes = match self.routing().table.explain(&footprint.trace) {
            Some(routes) => Some(routes),
            None => {
                let table = self.routes().table(self, footprint.table).await?;
                table.and_then(|table| table.explain(&footprint.trace))
            }
        };
        let places = found.map(|found| found.places).unwrap_or_default();
        let places = places
            .into_iter()
            .map(|place| PlaceView {
                queue: self.endpoint_name(place.endpoint).unwrap_or_default(),
                priority: place.priority,
                state: place.state,
            })
            .collect();
        Ok(routes.map(|routes| explanation(footprint, routes, places)))
    }

    /// A stored message that is older than the ring: the same table gives the same answer.
    async fn route_again(&self, record: &Record) -> Result<Option<Footprint>, weir_store::Error> {
        let Some(table) = self.routes().table(self, record.table).await? else { return Ok(None) };
        let mut trace = Trace::default();
        table.select_traced(&record.message, &mut trace);
        Ok(Some(Footprint {
            id: record.message.id(),
            enqueued: record.message.enqueued(),
            sender: record.message.sender().clone(),
            table: record.table,
            trace,
            fates: Vec::new(),
            client_id: None,
        }))
    }
}

fn explanation(
    footprint: Footprint,
    routes: Vec<RouteVerdict>,
    places: Vec<PlaceView>,
) -> Explanation {
    let taken: Vec<&str> = routes
        .iter()
        .filter(|verdict| verdict.matched == Truth::True)
        .map(|verdict| verdict.name.as_str())
        .collect();
    let mut summary = match taken.is_empty() {
        true => format!("no route took it ({} routes)", routes.len()),
        false => format!("taken by {}", taken.join(", ")),
    };
    for place in &places {
        summary.push_str(&format!("; waits in {}", place.queue));
    }
    for (module, fate) in &footprint.fates {
        let words = serde_json::to_value(fate).ok();
        let words =
            words.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        match module {
            Some(module) => summary.push_str(&format!("; {words} by module {module}")),
            None => summary.push_str(&format!("; {words}")),
        }
    }
    Explanation {
        id: footprint.id.to_string(),
        enqueued: footprint.enqueued.to_string(),
        sender: footprint.sender.to_string(),
        table: footprint.table,
        routes,
        places,
        fates: footprint
            .fates
            .into_iter()
            .map(|(module, fate)| FateView { module, fate })
            .collect(),
        summary,
    }
}
