//! The current route table and what it means for the queues.
//!
//! One value, replaced whole when routes change: a message is routed by exactly one revision, and
//! carries its number, so that its routing can be explained after the routes have changed.

use smallvec::SmallVec;
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::message::StampedMessage;
use weir_core::route::{RouteTable, Trace};
use weir_store::{Append, EndpointId, RouteNumber, Target};

/// A route table together with the queues its endpoints stand for.
#[derive(Debug)]
pub(crate) struct Routing {
    /// Number of this table in the store.
    pub(crate) revision: u32,
    /// The rules.
    pub(crate) table: RouteTable,
    /// Queue of each of the table's endpoints.
    pub(crate) endpoints: Vec<EndpointId>,
    /// The store's number of each of the table's routes.
    pub(crate) routes: Vec<RouteNumber>,
    /// Time to live of messages whose route sets none.
    pub(crate) default_ttl: Option<Duration>,
}

impl Routing {
    /// A table without routes.
    pub(crate) fn empty() -> Self {
        Self {
            revision: 0,
            table: RouteTable::empty(),
            endpoints: Vec::new(),
            routes: Vec::new(),
            default_ttl: None,
        }
    }

    /// Where `message` goes, as the store takes it; none when no route wants it. The trace says why.
    pub(crate) fn append(&self, message: StampedMessage) -> (Option<Append>, Trace) {
        let mut trace = Trace::default();
        let chosen = self.table.select_traced(&message, &mut trace);
        let targets: SmallVec<[Target; 2]> = chosen
            .iter()
            .map(|chosen| Target {
                endpoint: self.endpoints[usize::from(chosen.sink.0)],
                priority: chosen.priority.get(),
                expires: self.expiry(message.enqueued(), chosen.time_to_live),
                route: self.routes[usize::from(chosen.route)],
            })
            .collect();
        match targets.is_empty() {
            true => (None, trace),
            false => (Some(Append { message, table: self.revision, targets }), trace),
        }
    }

    fn expiry(&self, enqueued: Timestamp, ttl: Option<Duration>) -> Timestamp {
        match ttl.or(self.default_ttl) {
            Some(ttl) => enqueued.after(ttl),
            None => Timestamp::NEVER,
        }
    }
}
