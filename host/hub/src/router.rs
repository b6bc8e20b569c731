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
    /// Where `message` goes; `trace` says why.
    pub(crate) fn targets(&self, message: &StampedMessage) -> (SmallVec<[Target; 2]>, Trace) {
        let (selection, trace) = self.table.select(message);
        let targets = selection
            .iter()
            .map(|chosen| Target {
                endpoint: self.endpoints[chosen.sink.index()],
                priority: chosen.priority,
                expires: self.expiry(message.enqueued(), chosen.ttl),
                route: self.routes[chosen.route.index()],
            })
            .collect();
        (targets, trace)
    }

    /// The message as the store takes it; none when no route wants it.
    pub(crate) fn append(&self, message: StampedMessage) -> (Option<Append>, Trace) {
        let (targets, trace) = self.targets(&message);
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
