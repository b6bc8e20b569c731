//! PUBACKs that are owed, in the order in which the messages came.
//!
//! A message is acknowledged when it is on disk; a request that the head answers itself is ready at
//! once, but not before the messages that came ahead of it [MQTT-4.6.0-2].

use bytes::BytesMut;
use std::collections::VecDeque;
use weir_mqtt_codec::{PacketId, put_pubacks};

/// One message that the client has sent.
#[derive(Debug, Clone, Copy)]
struct Owed {
    /// None at QoS 0: it is counted, and nothing is sent.
    id: Option<PacketId>,
    /// It is with the store.
    waits: bool,
}

/// What is owed to one client.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    owed: VecDeque<Owed>,
    ready: Vec<PacketId>,
}

impl Acks {
    /// A message goes to the store.
    pub(crate) fn wait(&mut self, id: Option<PacketId>) {
        self.owed.push_back(Owed { id, waits: true });
    }

    /// A packet that needs no store.
    pub(crate) fn ready(&mut self, id: PacketId) {
        self.owed.push_back(Owed { id: Some(id), waits: false });
    }

    /// The oldest `messages` that waited are on disk: writes what may go now.
    pub(crate) fn settle(&mut self, mut messages: usize, out: &mut BytesMut) {
        while let Some(first) = self.owed.front() {
            if first.waits {
                if messages == 0 {
                    break;
                }
                messages -= 1;
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
        acks.wait(Some(id(1)));
        acks.ready(id(2));
        acks.wait(None);
        acks.wait(Some(id(3)));
        acks.settle(0, &mut out);
        assert!(out.is_empty());
        acks.settle(1, &mut out);
        assert_eq!(ids_in(&out), [1, 2]);
        acks.settle(1, &mut out);
        assert_eq!(ids_in(&out), [1, 2], "a message of QoS 0 is counted and not acknowledged");
        acks.settle(1, &mut out);
        assert_eq!(ids_in(&out), [1, 2, 3]);
    }

    #[test]
    fn a_request_with_nothing_ahead_is_acknowledged_at_once() {
        let (mut acks, mut out) = (Acks::default(), BytesMut::new());
        acks.ready(id(9));
        acks.settle(0, &mut out);
        assert_eq!(ids_in(&out), [9]);
    }

    proptest! {
        #[test]
        fn acknowledgements_are_in_order_whatever_the_batches(messages in prop::collection::vec((1u16.., 0u8..3), 0..80), cuts in prop::collection::vec(0usize..9, 0..80)) {
            let (mut acks, mut out) = (Acks::default(), BytesMut::new());
            for (number, kind) in &messages {
                match kind {
                    0 => acks.wait(None),
                    1 => acks.wait(Some(id(*number))),
                    _ => acks.ready(id(*number)),
                }
            }
            let expected: Vec<u16> = messages.iter().filter(|(_, kind)| *kind > 0).map(|(number, _)| *number).collect();
            for cut in cuts {
                acks.settle(cut, &mut out);
                prop_assert!(expected.starts_with(&ids_in(&out)));
            }
            acks.settle(messages.len(), &mut out);
            prop_assert_eq!(ids_in(&out), expected);
        }
    }
}
