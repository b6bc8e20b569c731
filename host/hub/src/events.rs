//! What happens in the hub, for those who look on: a bounded ring of events.
//!
//! Whoever changes something calls [`Hub::tell`](crate::Hub::tell); followers read the ring at their own
//! pace. Nobody waits for a follower, and no follower has a queue of its own: who is slower than the
//! ring is told that something is missing. Invariants:
//!
//! 1. Events have the order in which they were told, and an [`EventId`] is never given twice, also not
//!    by a later start of the hub.
//! 2. A follower gets every event of its topics once, or is told that some are lost.
//! 3. No event carries a secret or a message's body.

use crate::sync::lock;
use serde::Serialize;
use serde_json::Value;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use weir_core::clock::Timestamp;
use weir_core::limits;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// A twin has changed.
    Twin,
    /// The link to the upstream.
    Link,
    /// A client came or went.
    Client,
    /// A Wasm module's state or version.
    Module,
    /// A queue fills up or drains.
    Queue,
    /// Somebody has changed something through the API.
    Audit,
}

impl Topic {
    /// Every topic with its name.
    pub const NAMES: [(Self, &'static str); 6] = [
        (Self::Twin, "twin"),
        (Self::Link, "link"),
        (Self::Client, "client"),
        (Self::Module, "module"),
        (Self::Queue, "queue"),
        (Self::Audit, "audit"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(topic, _)| *topic == self).map_or("", |(_, name)| name)
    }
}

/// A text that is no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no topic; there are twin, link, client, module, queue and audit")]
pub struct TopicError(String);

impl FromStr for Topic {
    type Err = TopicError;
    fn from_str(text: &str) -> Result<Self, TopicError> {
        let found = Self::NAMES.iter().find(|(_, name)| *name == text);
        found.map(|(topic, _)| *topic).ok_or_else(|| TopicError(text.chars().take(32).collect()))
    }
}

/// Names an event: the hub's start and the event's number within it, written `7-123`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// How often the hub's store had been opened.
    pub start: u32,
    /// From 1.
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.number)
    }
}

/// A text that names no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event's id has the form <start>-<number>, for example 7-123")]
pub struct EventIdError;

impl FromStr for EventId {
    type Err = EventIdError;
    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let (start, number) = text.split_once('-').ok_or(EventIdError)?;
        let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
        if !digits(start) || !digits(number) {
            return Err(EventIdError);
        }
        let start = start.parse().map_err(|_| EventIdError)?;
        Ok(Self { start, number: number.parse().map_err(|_| EventIdError)? })
    }
}

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub id: EventId,
    /// When.
    pub at: Timestamp,
    /// What it is about.
    pub topic: Topic,
    /// What happened, in one or two words: `connected`, `state-changed`.
    pub what: &'static str,
    /// Whom or what it happened to: an identity, a module, a queue, a path of the API.
    pub subject: String,
    /// More, as the kind of event has it; an object or null.
    pub data: Value,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Events {
    start: u32,
    ring: Mutex<Ring>,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    last: u64,
}

impl Events {
    pub(crate) fn of_start(start: u32) -> Self {
        Self { start, ring: Mutex::default(), last: watch::Sender::new(0) }
    }

    pub(crate) fn tell(
        &self,
        at: Timestamp,
        topic: Topic,
        what: &'static str,
        subject: String,
        data: Value,
    ) {
        let mut ring = lock(&self.ring);
        ring.last += 1;
        let id = EventId { start: self.start, number: ring.last };
        if ring.events.len() == limits::EVENTS {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::new(Event { id, at, topic, what, subject, data }));
        // Under the lock, so that the numbers are seen in their order.
        self.last.send_replace(ring.last);
    }

    /// Follows the events after `after`, or those from now on.
    pub(crate) fn follow(&self, after: Option<EventId>, topics: Vec<Topic>) -> Place {
        let last = self.last.subscribe();
        let place = match after {
            None => Some(lock(&self.ring).last),
            // Of another start nothing is known any more, and of the future nothing yet.
            Some(id) if id.start == self.start && id.number <= lock(&self.ring).last => {
                Some(id.number)
            }
            Some(_) => None,
        };
        Place { topics, lost: place.is_none(), seen: place.unwrap_or(0), last }
    }

    fn next(&self, place: &mut Place) -> Option<Followed> {
        let ring = lock(&self.ring);
        place.last.mark_unchanged();
        let oldest = ring.last + 1 - ring.events.len() as u64;
        if place.seen + 1 < oldest {
            place.seen = oldest - 1;
            place.lost = true;
        }
        if std::mem::take(&mut place.lost) {
            let id = EventId { start: self.start, number: place.seen };
            return Some(Followed::Lost { until: id });
        }
        while place.seen < ring.last {
            let at = usize::try_from(place.seen + 1 - oldest).unwrap_or(usize::MAX);
            place.seen += 1;
            if let Some(event) = ring.events.get(at)
                && (place.topics.is_empty() || place.topics.contains(&event.topic))
            {
                return Some(Followed::Event(Arc::clone(event)));
            }
        }
        None
    }
}

/// Where a follower is.
#[derive(Debug)]
pub(crate) struct Place {
    /// None: all.
    topics: Vec<Topic>,
    /// Something is missing, and the follower has not been told.
    lost: bool,
    /// Number of the last event that was looked at.
    seen: u64,
    last: watch::Receiver<u64>,
}

/// What a follower gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// The next event.
    Event(Arc<Event>),
    /// Events up to this one may be missing.
    Lost {
        /// The last of them.
        until: EventId,
    },
}

/// A follower of events.
pub struct Follower {
    hub: crate::Hub,
    place: Place,
}

impl Follower {
    pub(crate) fn new(hub: crate::Hub, place: Place) -> Self {
        Self { hub, place }
    }

    /// The next event; waits for it. Cancel-safe.
    pub async fn next(&mut self) -> Followed {
        loop {
            if let Some(followed) = self.hub.events().next(&mut self.place) {
                return followed;
            }
            if self.place.last.changed().await.is_err() {
                // The hub is gone; its followers go with it.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &Events, count: u64) {
        for number in 0..count {
            let topic = if number % 2 == 0 { Topic::Twin } else { Topic::Audit };
            events.tell(Timestamp::from_secs(1), topic, "changed", number.to_string(), Value::Null);
        }
    }

    fn numbers(events: &Events, place: &mut Place) -> Vec<u64> {
        std::iter::from_fn(|| events.next(place))
            .map(|followed| match followed {
                Followed::Event(event) => event.id.number,
                Followed::Lost { until } => until.number + 1_000_000,
            })
            .collect()
    }

    #[test]
    fn a_follower_gets_what_is_told_after_it_came_in_order() {
        let events = Events::of_start(7);
        told(&events, 3);
        let mut place = events.follow(None, Vec::new());
        assert_eq!(events.next(&mut place), None);
        told(&events, 2);
        assert_eq!(numbers(&events, &mut place), [4, 5]);
    }

    #[test]
    fn who_comes_back_goes_on_where_it_was() {
        let events = Events::of_start(7);
        told(&events, 5);
        let mut place = events.follow(Some("7-2".parse().unwrap()), Vec::new());
        assert_eq!(numbers(&events, &mut place), [3, 4, 5]);
        let mut place = events.follow(Some("7-5".parse().unwrap()), Vec::new());
        assert_eq!(numbers(&events, &mut place), [0; 0]);
    }

    #[test]
    fn only_the_topics_asked_for_come() {
        let events = Events::of_start(7);
        let mut place = events.follow(None, vec![Topic::Audit]);
        told(&events, 5);
        assert_eq!(numbers(&events, &mut place), [2, 4]);
    }

    #[test]
    fn who_is_too_slow_is_told_that_something_is_missing_and_gets_the_rest() {
        let events = Events::of_start(7);
        let mut place = events.follow(None, Vec::new());
        let ring = limits::EVENTS as u64;
        told(&events, ring + 3);
        let got = numbers(&events, &mut place);
        assert_eq!(got[0], 1_000_003, "events 1 to 3 are gone");
        assert_eq!(got[1..], (4..=ring + 3).collect::<Vec<_>>()[..]);
    }

    #[test]
    fn an_id_of_another_start_is_answered_with_what_there_is() {
        let events = Events::of_start(7);
        told(&events, 2);
        for id in ["6-1", "7-9", "8-1"] {
            let mut place = events.follow(Some(id.parse().unwrap()), Vec::new());
            assert_eq!(numbers(&events, &mut place), [1_000_000, 1, 2], "{id}");
        }
    }

    #[test]
    fn ids_read_as_they_print_and_nothing_else_does() {
        let id = EventId { start: 7, number: 123 };
        assert_eq!(id.to_string(), "7-123");
        assert_eq!("7-123".parse(), Ok(id));
        for text in ["", "7", "-", "7-", "-1", "+7-1", "7--1", "7-1-1", "99999999999-1"] {
            assert_eq!(text.parse::<EventId>(), Err(EventIdError), "{text}");
        }
    }

    #[test]
    fn topics_read_as_they_print() {
        for (topic, name) in Topic::NAMES {
            assert_eq!(name.parse(), Ok(topic));
            assert_eq!(topic.name(), name);
            assert_eq!(serde_json::to_value(topic).unwrap(), name);
        }
        assert!("Twin".parse::<Topic>().is_err());
    }
}
