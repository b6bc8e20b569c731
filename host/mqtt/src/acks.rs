//! PUBACKs that are owed, in the order in which the packets came.
//!
//! A message is acknowledged when it is on disk, and so is a patch of the twin; a request that changes
//! nothing is ready at once, but not before the packets that came ahead of it [MQTT-4.6.0-2].

use bytes::BytesMut;
use std::collections::VecDeque;
use weir_mqtt_codec::{PacketId, put_pubacks};

/// What an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Nothing.
    Now,
    /// The message is on disk.
    Stored,
    /// The patch of the twin is done.
    Reported,
}

/// One packet that the client has sent.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// None at QoS 0: it is counted, and nothing is sent.
    id: Option<PacketId>,
    until: Until,
}

/// What is owed to one client.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    owed: VecDeque<Owed>,
    /// Messages and patches that are done and wait for what came ahead of them.
    stored: usize,
    reported: usize,
    ready: Vec<PacketId>,
}

impl Acks {
    /// A packet has come that is acknowledged then; none at QoS 0.
    pub(crate) fn owe(&mut self, id: Option<PacketId>, until: Until) {
        self.owed.push_back(Owed { id, until });
    }

    /// How many packets are not acknowledged yet.
    pub(crate) fn len(&self) -> usize {
        self.owed.len()
    }

    /// So many more of the messages are on disk, in order of arrival.
    pub(crate) fn stored(&mut self, messages: usize) {
        self.stored += messages;
    }

    /// The oldest patch that was owed for is done.
    pub(crate) fn reported(&mut self) {
        self.reported += 1;
    }

    /// Writes what may go now.
    pub(crate) fn write(&mut self, out: &mut BytesMut) {
        while let Some(first) = self.owed.front() {
            let done = match first.until {
                Until::Now => None,
                Until::Stored => Some(&mut self.stored),
                Until::Reported => Some(&mut self.reported),
            };
            if let Some(done) = done {
                if *done == 0 {
                    break;
                }
                *done -= 1;
            }
            self.ready.extend(first.id);
            self.owed.pop_front();
        }
        put_pubacks(self.ready.drain(..), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u16) -> PacketId {
        PacketId::new(number).unwrap()
    }

    fn ids_in(out: &BytesMut) -> Vec<u16> {
        out.chunks(4).map(|puback| u16::from_be_bytes([puback[2], puback[3]])).collect()
    }

    #[test]
    fn nothing_is_acknowledged_before_the_messages_ahead_of_it() {
        let (mut acks, mut out) = (Acks::default(), BytesMut::new());
        acks.owe(Some(id(1)), Until::Stored);
        acks.owe(Some(id(2)), Until::Now);
        acks.owe(None, Until::Stored);
        acks.owe(Some(id(3)), Until::Stored);
        let mut after = |messages| {
            acks.stored(messages);
            acks.write(&mut out);
            ids_in(&out)
        };
        assert!(after(0).is_empty());
        assert_eq!(after(1), [1, 2]);
        assert_eq!(after(1), [1, 2], "a message of QoS 0 is counted and not acknowledged");
        assert_eq!(after(1), [1, 2, 3]);
    }

    #[test]
    fn a_patch_and_the_messages_around_it_wait_for_each_other() {
        let (mut acks, mut out) = (Acks::default(), BytesMut::new());
        for (number, until) in [(1, Until::Stored), (2, Until::Reported), (3, Until::Stored)] {
            acks.owe(Some(id(number)), until);
        }
        acks.reported();
        acks.write(&mut out);
        assert!(out.is_empty());
        acks.stored(1);
        acks.write(&mut out);
        assert_eq!(ids_in(&out), [1, 2]);
        for (number, until) in [(4, Until::Reported), (5, Until::Stored)] {
            acks.owe(Some(id(number)), until);
        }
        acks.stored(2);
        acks.write(&mut out);
        assert_eq!(ids_in(&out), [1, 2, 3]);
        acks.reported();
        acks.write(&mut out);
        assert_eq!(ids_in(&out), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_request_with_nothing_ahead_is_acknowledged_at_once() {
        let (mut acks, mut out) = (Acks::default(), BytesMut::new());
        acks.owe(Some(id(9)), Until::Now);
        acks.write(&mut out);
        assert_eq!(ids_in(&out), [9]);
    }

    proptest! {
        #[test]
        fn acknowledgements_are_in_order_whatever_is_done_first(packets in prop::collection::vec((1u16.., 0u8..4), 0..80), turns in prop::collection::vec(any::<bool>(), 0..200)) {
            let (mut acks, mut out) = (Acks::default(), BytesMut::new());
            let (mut stored, mut reported) = (0, 0);
            for (number, kind) in &packets {
                let until = match kind {
                    0 | 1 => Until::Stored,
                    2 => Until::Reported,
                    _ => Until::Now,
                };
                stored += usize::from(until == Until::Stored);
                reported += usize::from(until == Until::Reported);
                acks.owe((*kind > 0).then(|| id(*number)), until);
            }
            let expected: Vec<u16> = packets.iter().filter(|(_, kind)| *kind > 0).map(|(number, _)| *number).collect();
            for report in turns {
                if report && reported > 0 {
                    reported -= 1;
                    acks.reported();
                } else if stored > 0 {
                    stored -= 1;
                    acks.stored(1);
                }
                acks.write(&mut out);
                prop_assert!(expected.starts_with(&ids_in(&out)));
            }
            acks.stored(stored);
            (0..reported).for_each(|_| acks.reported());
            acks.write(&mut out);
            prop_assert_eq!(ids_in(&out), expected);
        }
    }
}
