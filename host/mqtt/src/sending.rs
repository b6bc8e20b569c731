//! One PUBLISH to the client: its packet id, and what waits for its acknowledgement.
//!
//! Used by `outbound`, which knows what is to be done when a packet is taken or given back.

use crate::resending::{Resent, Unacknowledged};
use crate::translate::Undeliverable;
use crate::window::Window;
use crate::wire::Outgoing;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use weir_core::command::LockToken;
use weir_core::id::Identity;
use weir_mqtt_codec::{Delivery, PacketId, Qos};

/// One message of an open parcel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) parcel: u64,
    pub(crate) at: usize,
}

/// What was sent and waits: for its PUBACK at QoS 1, for the socket at QoS 0.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sent {
    Input {
        place: Place,
        number: u64,
    },
    Command {
        lock: LockToken,
        sequence: u64,
    },
    /// Nobody waits for it.
    Desired,
}

impl Sent {
    /// Its name when it comes again, if it can.
    fn resent(self) -> Option<Resent> {
        match self {
            Self::Input { number, .. } => Some(Resent::Input(number)),
            Self::Command { sequence, .. } => Some(Resent::Command(sequence)),
            Self::Desired => None,
        }
    }
}

/// What waits for the client or the socket.
#[derive(Debug)]
pub(crate) struct Sender {
    client: Identity,
    window: Window<Sent>,
    /// Messages of QoS 0 and where in the stream of bytes they end.
    unwritten: VecDeque<(u64, Sent)>,
    /// What an earlier connection has sent and this one not yet.
    again: HashMap<Resent, PacketId>,
    /// None in a clean session.
    unacknowledged: Option<Arc<Unacknowledged>>,
}

impl Sender {
    /// For this client; its first packet id follows from `start`. What it does not acknowledge is noted
    /// in `unacknowledged`.
    pub(crate) fn new(
        client: Identity,
        start: u64,
        unacknowledged: Option<Arc<Unacknowledged>>,
    ) -> Self {
        let (unwritten, again) = (VecDeque::new(), HashMap::new());
        Self { client, window: Window::starting_at(start), unwritten, again, unacknowledged }
    }

    /// True while one more packet of QoS 1 may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.window.has_room()
    }

    /// Writes a packet by `put`; with `dup` it was sent before.
    pub(crate) fn send(
        &mut self,
        sent: Sent,
        qos: Qos,
        dup: bool,
        out: &mut Outgoing,
        put: impl FnOnce(&Identity, Delivery, &mut Outgoing) -> Result<(), Undeliverable>,
    ) -> Result<(), Undeliverable> {
        if qos == Qos::AtMostOnce {
            put(&self.client, Delivery::AtMostOnce, out)?;
            self.unwritten.push_back((out.enqueued(), sent));
            return Ok(());
        }
        let id = self.packet_id(sent, dup);
        put(&self.client, Delivery::AtLeastOnce { id, dup }, out).inspect_err(|_| {
            self.window.acknowledge(id);
        })
    }

    /// What comes again has the id that it had. It is looked up only now, because the earlier connection
    /// may have ended after this one began; but before it gave back what comes again.
    fn packet_id(&mut self, sent: Sent, dup: bool) -> PacketId {
        if dup && let Some(resent) = sent.resent() {
            if let Some(unacknowledged) = &self.unacknowledged {
                let noted = unacknowledged.take(&self.client);
                self.window.reserve(noted.values().copied());
                self.again.extend(noted);
            }
            if let Some(id) = self.again.remove(&resent)
                && self.window.send_again(id, sent)
            {
                return id;
            }
        }
        self.window.send(sent)
    }

    /// What the client has acknowledged with this; none when nothing waits for it.
    pub(crate) fn acknowledge(&mut self, id: PacketId) -> Option<Sent> {
        self.window.acknowledge(id)
    }

    /// The next of what went to the socket with the first `bytes` of the stream.
    pub(crate) fn written(&mut self, bytes: u64) -> Option<Sent> {
        let (end, sent) = self.unwritten.front().copied()?;
        (end <= bytes).then(|| {
            self.unwritten.pop_front();
            sent
        })
    }

    /// All that still waits, the connection being over; what may come again is noted.
    pub(crate) fn give_up(&mut self) -> Vec<Sent> {
        let waiting: Vec<(PacketId, Sent)> = self.window.drain().collect();
        if let Some(unacknowledged) = &self.unacknowledged {
            let resent = |(id, sent): &(PacketId, Sent)| Some((sent.resent()?, *id));
            let again = self.again.drain().chain(waiting.iter().filter_map(resent));
            unacknowledged.keep(&self.client, again.collect());
        }
        let unwritten = self.unwritten.drain(..).map(|(_, sent)| sent);
        waiting.into_iter().map(|(_, sent)| sent).chain(unwritten).collect()
    }
}
