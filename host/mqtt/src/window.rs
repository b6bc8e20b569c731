//! The in-flight window: deliveries of QoS 1 that the client has not acknowledged, by packet id.
//!
//! Used by `outbound`. Invariants:
//!
//! 1. Two deliveries under way never share an id [MQTT-2.3.1-4].
//! 2. An id comes again as late as possible, 65,535 deliveries later, and every connection begins
//!    elsewhere, so that a client's belated PUBACK, which some send on the next connection, does not
//!    settle another message.
//! 3. Ids of an earlier connection are given to nothing else, as long as this one lasts.

use std::collections::VecDeque;
use weir_core::limits;
use weir_mqtt_codec::PacketId;

/// Ids 1 to 65,535.
const IDS: u64 = u16::MAX as u64;

/// What was sent and not acknowledged, in the order of sending.
#[derive(Debug)]
pub(crate) struct Window<T> {
    sent: VecDeque<Sent<T>>,
    /// Counts deliveries; says the next id.
    next: u64,
    /// Of an earlier connection.
    reserved: Vec<PacketId>,
}

#[derive(Debug)]
struct Sent<T> {
    number: u64,
    id: PacketId,
    value: T,
}

impl<T> Window<T> {
    /// An empty window; the first id follows from `start`.
    pub(crate) fn starting_at(start: u64) -> Self {
        Self { sent: VecDeque::new(), next: start, reserved: Vec::new() }
    }

    /// True while one more delivery may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.sent.len() < limits::CLIENT_WINDOW
    }

    /// Notes a delivery and gives the id it is to be sent with.
    pub(crate) fn send(&mut self, value: T) -> PacketId {
        while self.is_taken(self.next) {
            self.next += 1;
        }
        let (number, id) = (self.next, id_of(self.next));
        self.next += 1;
        self.sent.push_back(Sent { number, id, value });
        id
    }

    /// Keeps ids of an earlier connection for what comes again.
    pub(crate) fn reserve(&mut self, ids: impl IntoIterator<Item = PacketId>) {
        self.reserved.extend(ids);
    }

    /// Notes a delivery that is to be sent with the id that it had; false when that is taken.
    pub(crate) fn send_again(&mut self, id: PacketId, value: T) -> bool {
        let is_free = self.sent.iter().all(|sent| sent.id != id);
        if is_free {
            self.sent.push_back(Sent { number: self.next, id, value });
        }
        is_free
    }

    /// Only a delivery that has waited for a whole round of ids can have this number's id, and those
    /// stand in front.
    fn is_taken(&self, number: u64) -> bool {
        let a_round_ago = |sent: &&Sent<T>| sent.number + IDS <= number;
        self.sent.iter().take_while(a_round_ago).any(|sent| sent.id == id_of(number))
            || self.reserved.contains(&id_of(number))
    }

    /// Takes out what was sent with this id; none when nothing was.
    pub(crate) fn acknowledge(&mut self, id: PacketId) -> Option<T> {
        // Clients acknowledge in order, so it is nearly always the first.
        let at = self.sent.iter().position(|sent| sent.id == id)?;
        self.sent.remove(at).map(|sent| sent.value)
    }

    /// Takes out all that was not acknowledged, oldest first.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (PacketId, T)> {
        self.sent.drain(..).map(|sent| (sent.id, sent.value))
    }
}

fn id_of(number: u64) -> PacketId {
    let id = u16::try_from(number % IDS + 1).expect("a remainder of 65,535 fits");
    PacketId::new(id).expect("one was added")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn ids_begin_at_one_and_end_at_65535() {
        let mut window = Window::starting_at(0);
        for expected in (1..=u16::MAX).chain([1, 2]) {
            let id = window.send(());
            assert_eq!(id.get(), expected);
            assert_eq!(window.acknowledge(id), Some(()));
        }
    }

    #[test]
    fn a_delivery_that_waits_for_ever_keeps_its_id() {
        let mut window = Window::starting_at(0);
        let stuck = [window.send('a'), window.send('b')];
        for _ in 0..3 * IDS {
            let id = window.send('c');
            assert!(!stuck.contains(&id));
            assert_eq!(window.acknowledge(id), Some('c'));
        }
        assert_eq!(window.acknowledge(stuck[1]), Some('b'));
        assert_eq!(window.acknowledge(stuck[1]), None, "a second acknowledgement means nothing");
    }

    #[test]
    fn ids_of_an_earlier_connection_are_for_what_comes_again() {
        let id = |number| PacketId::new(number).unwrap();
        let mut window = Window::starting_at(0);
        assert_eq!(window.send('a'), id(1));
        window.reserve([id(1), id(2), id(4)]);
        assert!(!window.send_again(id(1), 'b'), "it is under way with another");
        assert!(window.send_again(id(2), 'c'));
        assert_eq!((window.send('d'), window.send('e')), (id(3), id(5)));
        assert_eq!(window.acknowledge(id(2)), Some('c'));
        for number in 6..=u16::MAX {
            assert_eq!(window.send('f'), id(number));
            window.acknowledge(id(number));
        }
        assert_eq!(window.send('g'), id(6), "1, 2 and 4 are kept, 3 and 5 under way");
    }

    #[test]
    fn the_window_is_full_at_its_limit() {
        let mut window = Window::starting_at(0);
        for number in 0..limits::CLIENT_WINDOW {
            assert!(window.has_room());
            window.send(number);
        }
        assert!(!window.has_room());
        let all: Vec<_> = (0..limits::CLIENT_WINDOW).collect();
        assert_eq!(window.drain().map(|(_, number)| number).collect::<Vec<_>>(), all);
        assert!(window.has_room());
    }

    proptest! {
        #[test]
        fn it_is_a_map_from_unique_ids(start in 0..4 * IDS, steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..300)) {
            let mut window = Window::starting_at(start);
            let mut model = BTreeMap::new();
            for (at, (send, pick)) in steps.into_iter().enumerate() {
                if send && window.has_room() {
                    let id = window.send(at);
                    prop_assert_eq!(model.insert(id, at), None);
                } else if !model.is_empty() {
                    let id = *pick.get(&model.keys().copied().collect::<Vec<_>>());
                    prop_assert_eq!(window.acknowledge(id), model.remove(&id));
                }
            }
            let mut rest: Vec<_> = model.into_values().collect();
            rest.sort_unstable();
            prop_assert_eq!(window.drain().map(|(_, at)| at).collect::<Vec<_>>(), rest);
        }
    }
}
