//! When an identity was seen last, connected or not, over restarts.
//!
//! Told by [`Hub::connect`], the end of a session and each single request; read by the API. Only
//! identities of the registry are kept, so it is bounded by that. What changes is written once a minute
//! in one transaction: after a kill the last minute may be missing, and nothing waits for it.

use crate::Hub;
use crate::sync::lock;
use crate::tasks::Stop;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::warn;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;
use weir_store::{Expect, Write};

const KIND: &str = "presence";
const FLUSH: Duration = Duration::from_secs(60);

/// When an identity was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Presence {
    /// True while a session is open.
    #[serde(skip)]
    pub connected: bool,
    /// The protocol it used last: `mqtt`, `amqp`, `https`, …
    pub protocol: String,
    /// When its last session began, or its last single request came.
    pub since: Timestamp,
    /// When something came from it last.
    pub last_seen: Timestamp,
    /// When its last session ended; none while it is connected, and where the hub was killed before it
    /// could note that.
    #[serde(default)]
    pub left: Option<Timestamp>,
}

/// When something came from a client last; cheap enough for every message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen(Arc<AtomicI64>);

impl Seen {
    pub(crate) fn note(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Known {
    protocol: String,
    since: Timestamp,
    seen: Seen,
    left: Option<Timestamp>,
    /// The open session.
    session: Option<u64>,
}

impl Known {
    fn presence(&self) -> Presence {
        Presence {
            connected: self.session.is_some(),
            protocol: self.protocol.clone(),
            since: self.since,
            last_seen: self.seen.get(),
            left: self.left,
        }
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Presences {
    known: Mutex<HashMap<Identity, Known>>,
    /// To be written; of those no longer known the document goes.
    changed: Mutex<BTreeSet<Identity>>,
}

impl Presences {
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        let mut after: Option<String> = None;
        loop {
            let page =
                hub.store().documents(KIND, "", after.as_deref(), limits::PAGE_ITEMS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            for document in &page {
                let stored = serde_json::from_str::<Presence>(&document.body).ok();
                let identity = crate::commands::identity_of(&document.key);
                let (Some(stored), Some(identity)) = (stored, identity) else { continue };
                if hub.identities().get(&identity).is_none() {
                    lock(&self.changed).insert(identity);
                    continue;
                }
                let Presence { protocol, since, last_seen, left, .. } = stored;
                let seen = Seen::default();
                seen.note(last_seen);
                let known = Known { protocol, since, seen, left, session: None };
                lock(&self.known).insert(identity, known);
            }
        }
    }

    fn note(&self, identity: &Identity, known: Known) -> Seen {
        let seen = known.seen.clone();
        lock(&self.known).insert(identity.clone(), known);
        lock(&self.changed).insert(identity.clone());
        seen
    }

    /// A session begins.
    pub(crate) fn came(
        &self,
        hub: &Hub,
        identity: &Identity,
        protocol: &str,
        session: Option<u64>,
    ) -> Seen {
        let (seen, now) = (Seen::default(), hub.clock().now());
        seen.note(now);
        if hub.identities().get(identity).is_none() {
            return seen;
        }
        let protocol = protocol.to_owned();
        self.note(identity, Known { protocol, since: now, seen, left: None, session })
    }

    /// A single request came; a session that is open counts for more.
    pub(crate) fn visited(&self, hub: &Hub, identity: &Identity, protocol: &str) -> Seen {
        let open = {
            let known = lock(&self.known);
            known.get(identity).filter(|known| known.session.is_some()).map(|k| k.seen.clone())
        };
        match open {
            Some(seen) => {
                seen.note(hub.clock().now());
                seen
            }
            None => self.came(hub, identity, protocol, None),
        }
    }

    /// A session has ended, which may not be the latest. True when nobody of this identity is left.
    pub(crate) fn left(&self, identity: &Identity, session: u64, now: Timestamp) {
        if let Some(known) = lock(&self.known).get_mut(identity)
            && known.session == Some(session)
        {
            known.session = None;
            known.left = Some(now);
            lock(&self.changed).insert(identity.clone());
        }
    }

    /// The identity was deleted.
    pub(crate) fn forget(&self, identity: &Identity) {
        if lock(&self.known).remove(identity).is_some() {
            lock(&self.changed).insert(identity.clone());
        }
    }

    fn get(&self, identity: &Identity) -> Option<Presence> {
        lock(&self.known).get(identity).map(Known::presence)
    }

    /// Up to a page of what is to be written.
    fn take_changed(&self) -> Vec<Write> {
        let identities: Vec<Identity> = {
            let mut changed = lock(&self.changed);
            let first = changed.iter().take(limits::PAGE_ITEMS).cloned().collect();
            let rest = changed.iter().skip(limits::PAGE_ITEMS).cloned().collect();
            *changed = rest;
            first
        };
        let write = |identity: Identity| {
            let presence = self.get(&identity);
            let body = presence.map(|p| serde_json::to_string(&p).expect("texts and numbers"));
            Write { kind: KIND, key: identity.to_string(), body, expect: Expect::Any }
        };
        identities.into_iter().map(write).collect()
    }

    async fn flush(&self, hub: &Hub) {
        loop {
            let writes = self.take_changed();
            if writes.is_empty() {
                return;
            }
            if let Err(error) = hub.store().write(writes).await {
                // A full disk has more pressing worries; what changes next is written again.
                warn!(%error, "who was seen when cannot be written");
                return;
            }
        }
    }
}

impl Hub {
    /// When an identity was there; none when it never was.
    #[must_use]
    pub fn presence(&self, identity: &Identity) -> Option<Presence> {
        self.presences().get(identity)
    }

    /// All that were ever there, in order of names.
    #[must_use]
    pub fn presence_of_all(&self) -> Vec<(Identity, Presence)> {
        let known = lock(&self.presences().known);
        let mut all: Vec<_> =
            known.iter().map(|(identity, known)| (identity.clone(), known.presence())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

/// Writes what has changed, as long as the hub runs and once more when it stops.
pub(crate) async fn run(hub: Hub, stop: Stop) {
    loop {
        tokio::select! {
            () = stop.draining() => break,
            () = tokio::time::sleep(FLUSH) => hub.presences().flush(&hub).await,
        }
    }
    // Sessions end with the hub.
    let now = hub.clock().now();
    let open: Vec<(Identity, u64)> = {
        let known = lock(&hub.presences().known);
        let open = known.iter().filter_map(|(who, known)| Some((who.clone(), known.session?)));
        open.collect()
    };
    for (identity, session) in open {
        hub.presences().left(&identity, session, now);
    }
    hub.presences().flush(&hub).await;
}
