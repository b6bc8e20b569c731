//! Who is connected: one session for each identity, the newer one wins.
//!
//! A head calls [`Clients::enter`] after a client has proven who it is. The [`Seat`] of a module is
//! where its connected client sits as the consumer of the module's inputs; the dispatchers of these
//! inputs watch the seat.

use crate::authenticate::Proof;
use crate::sync::lock;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use weir_core::clock::Timestamp;
use weir_core::id::{Identity, ModuleId};
use weir_core::port::Consumer;

/// Why a session must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The same identity has connected again.
    TakenOver,
    /// The token has expired.
    Expired,
    /// The identity was disabled or deleted, or its keys changed.
    Revoked,
}

/// The consumer that sits at a module's inputs; none while no client is there.
pub(crate) type Seat = watch::Sender<Option<Arc<dyn Consumer>>>;

/// One connected client, as the API shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ClientView {
    /// Who.
    #[serde(flatten)]
    pub identity: Identity,
    /// `mqtt`, …
    pub protocol: &'static str,
    /// Since when.
    pub since: String,
    /// Address of the other side.
    pub peer: String,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    leave: watch::Sender<Option<Leave>>,
    protocol: &'static str,
    since: Timestamp,
    peer: String,
    proof: Proof,
}

/// What is known of who comes in.
pub(crate) struct Arrival<'a> {
    pub(crate) protocol: &'static str,
    pub(crate) peer: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) proof: Proof,
}

/// The registry of connected clients.
#[derive(Default)]
pub(crate) struct Clients {
    entries: Mutex<HashMap<Identity, Entry>>,
    seats: Mutex<HashMap<ModuleId, Arc<Seat>>>,
    next: AtomicU64,
}

/// A place in the registry; given back when dropped.
pub(crate) struct Place {
    clients: Arc<Clients>,
    identity: Identity,
    number: u64,
    leave: watch::Receiver<Option<Leave>>,
}

impl Clients {
    /// Takes the identity's place; whoever had it is asked to leave. None when the hub is full.
    pub(crate) fn enter(
        self: &Arc<Self>,
        identity: &Identity,
        arrival: Arrival<'_>,
        limit: usize,
    ) -> Option<Place> {
        let (leave, receiver) = watch::channel(None);
        let mut entries = lock(&self.entries);
        // Under the lock, so that the numbers have the order in which places are taken.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match entries.get(identity) {
            Some(older) => {
                older.leave.send_replace(Some(Leave::TakenOver));
            }
            None if entries.len() >= limit => return None,
            None => {}
        }
        let Arrival { protocol, peer, now, proof } = arrival;
        let entry = Entry { number, leave, protocol, since: now, peer: peer.to_owned(), proof };
        entries.insert(identity.clone(), entry);
        let (clients, identity) = (Arc::clone(self), identity.clone());
        Some(Place { clients, identity, number, leave: receiver })
    }

    /// Asks the client of an identity to leave, if it is there.
    pub(crate) fn dismiss(&self, identity: &Identity, why: Leave) {
        if let Some(entry) = lock(&self.entries).get(identity) {
            entry.leave.send_replace(Some(why));
        }
    }

    /// What the connected client's proof rests on.
    pub(crate) fn proof(&self, identity: &Identity) -> Option<Proof> {
        lock(&self.entries).get(identity).map(|entry| entry.proof)
    }

    /// The client of a session has proven itself anew.
    pub(crate) fn renew(&self, identity: &Identity, number: u64, proof: Proof) {
        if let Some(entry) = lock(&self.entries).get_mut(identity)
            && entry.number == number
        {
            entry.proof = proof;
        }
    }

    /// Whether the client of an identity is there.
    pub(crate) fn has(&self, identity: &Identity) -> bool {
        lock(&self.entries).contains_key(identity)
    }

    /// How many are connected.
    pub(crate) fn count(&self) -> usize {
        lock(&self.entries).len()
    }

    /// Everyone who is connected, in order of names.
    pub(crate) fn list(&self) -> Vec<ClientView> {
        let mut all: Vec<ClientView> = lock(&self.entries)
            .iter()
            .map(|(identity, entry)| ClientView {
                identity: identity.clone(),
                protocol: entry.protocol,
                since: entry.since.to_string(),
                peer: entry.peer.clone(),
            })
            .collect();
        all.sort_by(|a, b| a.identity.cmp(&b.identity));
        all
    }

    /// The seat of a module.
    pub(crate) fn seat(&self, module: &ModuleId) -> Arc<Seat> {
        Arc::clone(
            lock(&self.seats)
                .entry(module.clone())
                .or_insert_with(|| Arc::new(watch::Sender::new(None))),
        )
    }
}

impl Place {
    /// Who sits here.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Grows from one session to the next.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Resolves when the client must leave. Cancel-safe.
    pub(crate) fn left(&self) -> impl Future<Output = Leave> + Send + use<> {
        let mut leave = self.leave.clone();
        async move {
            match leave.wait_for(Option::is_some).await {
                Ok(why) => why.unwrap_or(Leave::TakenOver),
                // The entry was replaced: somebody newer is there.
                Err(_) => Leave::TakenOver,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut entries = lock(&self.clients.entries);
        if entries.get(&self.identity).is_some_and(|entry| entry.number == self.number) {
            entries.remove(&self.identity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pump() -> Identity {
        Identity::device("pump".parse().unwrap())
    }

    fn arrival(peer: &str) -> Arrival<'_> {
        let now = Timestamp::from_secs(0);
        Arrival { protocol: "mqtt", peer, now, proof: Proof::Trusted }
    }

    #[tokio::test]
    async fn the_newer_connection_wins_and_the_older_is_asked_to_leave() {
        let clients = Arc::new(Clients::default());
        let old = clients.enter(&pump(), arrival("a"), 5).unwrap();
        let new = clients.enter(&pump(), arrival("b"), 5).unwrap();
        assert_eq!(old.left().await, Leave::TakenOver);
        drop(old);
        assert_eq!(clients.count(), 1, "the newer keeps its place when the older leaves");
        drop(new);
        assert_eq!(clients.count(), 0);
    }

    #[test]
    fn a_full_hub_lets_nobody_in_but_those_who_are_there() {
        let clients = Arc::new(Clients::default());
        let _first = clients.enter(&pump(), arrival("a"), 1).unwrap();
        let other = Identity::device("valve".parse().unwrap());
        assert!(clients.enter(&other, arrival("b"), 1).is_none());
        assert!(clients.enter(&pump(), arrival("c"), 1).is_some());
    }
}
