//! The life of one connection after CONNACK: one task, one loop.
//!
//! **This is the hot path.** A read brings many packets; their messages go to the hub as one batch;
//! while it waits for its commit the next read is taken; what has been committed is acknowledged with
//! one write. Invariants:
//!
//! 1. PUBACK is written only for messages that the intake has settled.
//! 2. The client is not read while the hub has no room, and that time does not count against it.
//! 3. However the loop ends, deliveries that the client has not taken go back, and the stream is ended
//!    in good order where that is still possible.

use crate::deadlines::Deadlines;
use crate::error::Error;
use crate::features::{Event, Features};
use crate::handshake::Client;
use crate::inbound::{Change, Inbound};
use crate::outbound::Outbound;
use crate::resending::Unacknowledged;
use crate::sending::Sender;
use crate::subscriptions::{New, Subscriptions};
use crate::translate::put_text;
use crate::wire::{Outgoing, Ready, Wire};
use futures::FutureExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};
use weir_core::limits;
use weir_core::topic::method_topic;
use weir_hub::parcels::Parcels;
use weir_hub::tasks::Stop;
use weir_hub::{Hub, Intake, Publication, Session};
use weir_mqtt_codec::{Delivery, Limits, Packet, Suback, decode};

/// What a known client may send in one packet.
const LIMITS: Limits = Limits {
    max_packet_bytes: limits::MAX_MQTT_PACKET_BYTES,
    max_filters: limits::MAX_FILTERS_PER_CLIENT,
};
/// How long the end of a connection waits for the commit of what came before it. Short enough that
/// a client that breaks the rules is gone within five seconds, the farewell included.
const LAST_COMMIT: Duration = Duration::from_secs(3);

/// A connection whose CONNECT was accepted; CONNACK waits to be written.
pub(crate) struct Connection<S> {
    hub: Hub,
    wire: Wire<S>,
    session: Arc<Session>,
    state: State,
}

/// All but the session, which the loop watches at the same time.
struct State {
    inbound: Inbound,
    outbound: Outbound,
    parcels: Parcels,
    features: Features,
    subscriptions: Subscriptions,
    /// Subscriptions are kept on disk.
    persistent: bool,
    deadlines: Deadlines,
    intake: Intake,
    will: Option<Publication>,
    /// Found in what was read; takes effect when what came before it is done.
    ending: Option<Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        hub: &Hub,
        wire: Wire<S>,
        client: Client,
        unacknowledged: &Arc<Unacknowledged>,
    ) -> Self {
        let Client { session, subscriptions, persistent, keep_alive_secs, will } = client;
        let session = Arc::new(session);
        let identity = session.identity().clone();
        let (features, parcels) = Features::new(hub, &session);
        if !persistent {
            drop(unacknowledged.take(&identity));
        }
        let unacknowledged = persistent.then(|| Arc::clone(unacknowledged));
        let first_id = fastrand::u64(..u64::from(u16::MAX));
        let sender = Sender::new(identity.clone(), first_id, unacknowledged);
        let state = State {
            inbound: Inbound::new(identity),
            outbound: Outbound::new(sender),
            parcels,
            features,
            subscriptions,
            persistent,
            deadlines: Deadlines::new(keep_alive_secs, Instant::now()),
            intake: session.intake(),
            will,
            ending: None,
        };
        Self { hub: hub.clone(), wire, session, state }
    }

    /// Serves the client until something ends it, and says what.
    pub(crate) async fn run(mut self, stop: &Stop) -> Error {
        let end = self.serve(stop).await;
        self.finish(&end).await;
        end
    }

    async fn serve(&mut self, stop: &Stop) -> Error {
        // Subscriptions from before are in force by themselves: the Python SDK never says them again
        // after a drop. But an application that has just started sets its handler only after CONNACK,
        // and the SDK throws away (and acknowledges) messages that come before it: so it has a moment's
        // time. Method calls and desired patches the SDK keeps, and its first question after CONNACK is
        // what it has missed: they come at once.
        let mut restore = Some(Instant::now() + limits::RESTORED_INPUTS);
        self.state.follow(&self.session, New::default());
        loop {
            let changes = match self.until_change(stop, restore).await {
                Ok(changes) => changes,
                Err(end) => return end,
            };
            if restore.is_some_and(|at| at <= Instant::now()) {
                restore = None;
                self.state.features.open_all();
                self.state.follow(&self.session, New::default());
            }
            for change in changes {
                let out = self.wire.outgoing.buffer();
                if let Err(end) = self.state.change(&self.session, change, out).await {
                    return end;
                }
            }
            if let Some(end) = self.state.ending.take() {
                return end;
            }
        }
    }

    /// Serves until the client wants to change its subscriptions, or until `restore`.
    async fn until_change(
        &mut self,
        stop: &Stop,
        restore: Option<Instant>,
    ) -> Result<Vec<Change>, Error> {
        let Self { wire, session, state, .. } = self;
        let mut left = pin!(session.left());
        let mut draining = pin!(stop.draining());
        let mut timer = pin!(sleep_until(Instant::now() + limits::PACKET_LIMIT));
        let mut restored = pin!(sleep_until(restore.unwrap_or_else(Instant::now)));
        loop {
            state.take_in(wire, session).await;
            let changes = state.inbound.take_changes();
            if !changes.is_empty() {
                return Ok(changes);
            }
            if let Some(end) = state.ending.take() {
                return Err(end);
            }
            state.outbound.fill(&mut wire.outgoing);
            let writable = wire.outgoing.has_room();
            if writable {
                state.features.ask(state.outbound.has_room(), state.outbound.wants_desired());
            }
            let reading = state.has_room() && writable;
            let now = Instant::now();
            state.deadlines.set_reading(reading, now);
            state.deadlines.writing(wire.is_writing(), false, now);
            let next = state.deadlines.next().map(|(at, _)| at);
            if let Some(at) = next.filter(|at| *at < timer.deadline()) {
                timer.as_mut().reset(at);
            }
            let written = wire.outgoing.written();
            tokio::select! {
                biased;
                why = &mut left => return Err(Error::Left(why)),
                () = &mut draining => return Err(Error::Draining),
                settled = state.intake.settled(), if state.intake.is_waiting() => {
                    state.inbound.settled(settled?, wire.outgoing.buffer());
                    state.settle_more(wire)?;
                }
                Some(parcel) = state.parcels.next(), if state.outbound.wants_parcel() && writable => {
                    state.outbound.accept(parcel, &state.subscriptions);
                }
                event = state.features.next(writable), if state.features.is_active() =>
                {
                    state.serve(event, &mut wire.outgoing)?;
                }
                ready = wire.ready(reading) => match ready {
                    Ok(Ready::Read | Ready::Written) => {}
                    Ok(Ready::End) => return Err(Error::Closed),
                    Err(cause) => return Err(Error::Lost(cause)),
                },
                () = &mut restored, if restore.is_some() => return Ok(Vec::new()),
                () = &mut timer, if next.is_some() => {
                    let now = Instant::now();
                    if let Some(late) = state.deadlines.late(now) {
                        return Err(Error::Late(late));
                    }
                    timer.as_mut().reset(next.unwrap_or(now + limits::PACKET_LIMIT));
                    wire.rest();
                }
            }
            if wire.outgoing.written() != written {
                state.outbound.written(wire.outgoing.written());
                state.settle_commands();
                state.deadlines.writing(wire.is_writing(), true, Instant::now());
            }
        }
    }

    /// The end: deliveries go back, the will goes out, what was committed is acknowledged.
    async fn finish(mut self, end: &Error) {
        self.session.leave_inputs();
        self.state.settle_commands();
        let State { inbound, outbound, parcels, intake, features, will, .. } = self.state;
        drop((outbound, parcels));
        // Nobody sends a will again: whatever its QoS, it is to be known what became of it.
        let will = will.filter(|_| end.publishes_will());
        let will = will.map(|will| Publication { reliable: true, ..will });
        let has_will = will.is_some();
        let settled = match end {
            Error::NoRoom(_) => false,
            _ => {
                let last = settle_last(inbound, intake, features, will, &mut self.wire.outgoing);
                matches!(timeout(LAST_COMMIT, last).await, Ok(Ok(())))
            }
        };
        if !settled {
            let client = self.session.identity();
            debug!(%client, "the last messages have no commit yet");
            if has_will {
                warn!(%client, "the client's will is dropped, there was no room for it in time");
                self.hub.metrics().drop_messages("queue_full", 1);
            }
        }
        drop(self.session);
        if !matches!(end, Error::Lost(_) | Error::Late(_)) {
            self.wire.close().await;
        }
    }
}

async fn settle_last(
    mut inbound: Inbound,
    mut intake: Intake,
    mut features: Features,
    will: Option<Publication>,
    out: &mut Outgoing,
) -> Result<(), Error> {
    if let Some(will) = will {
        intake.submit(vec![will]).await;
    }
    while intake.is_waiting() {
        inbound.settled(intake.settled().await?, out.buffer());
    }
    while let Some(answer) = features.last().await {
        if answer.reported {
            inbound.reported(out.buffer());
        }
        answer.put(out.buffer())?;
    }
    Ok(())
}

impl State {
    /// True while the client may send more.
    fn has_room(&self) -> bool {
        self.intake.has_room() && self.inbound.has_room() && self.features.twin.has_room()
    }

    /// Takes all whole packets out of what was read; what went wrong is kept in `ending`.
    async fn take_in<S>(&mut self, wire: &mut Wire<S>, session: &Session) {
        if wire.incoming.is_empty() || self.ending.is_some() {
            return;
        }
        let mut packets = false;
        let ending = loop {
            match decode(&mut wire.incoming, &LIMITS) {
                Ok(Some(packet)) => {
                    packets = true;
                    let out = wire.outgoing.buffer();
                    if let Err(end) = self.inbound.take(packet, &mut self.outbound, out) {
                        break Some(end);
                    }
                }
                Ok(None) => break None,
                Err(cause) => break Some(Error::Packet(cause)),
            }
        };
        self.ending = ending;
        self.deadlines.read(packets, !wire.incoming.is_empty(), Instant::now());
        self.settle_commands();
        for (id, answer) in self.inbound.take_answers() {
            if !session.answer_method(id, answer) {
                debug!(client = %session.identity(), %id, "nobody waits for this answer any more");
            }
        }
        self.features.twin.put(self.inbound.take_requests());
        let batch = self.inbound.take_batch();
        if !batch.is_empty() {
            self.intake.submit(batch).await;
        }
    }

    /// Sends what the hub has for the client.
    fn serve(&mut self, event: Event, out: &mut Outgoing) -> Result<(), Error> {
        match event {
            Event::Twin(answer) => {
                if answer.reported {
                    self.inbound.reported(out.buffer());
                }
                answer.put(out.buffer())?;
            }
            Event::Method(request) => {
                let topic = method_topic(request.name.as_str(), &request.id.to_string());
                put_text(topic, &request.payload, Delivery::AtMostOnce, out.buffer())
                    .expect("a call is smaller than a packet, and a method's name short");
            }
            // Who has unsubscribed meanwhile gets nothing.
            Event::Desired(patch) => {
                if let Some(qos) = self.subscriptions.qos_of_desired() {
                    self.outbound.desired(&patch, qos, out);
                }
            }
            Event::Command(command) => {
                if let Some(qos) = self.subscriptions.qos_of_commands() {
                    self.outbound.command(&command, qos, out);
                    self.settle_commands();
                }
            }
            Event::Settled => {}
        }
        Ok(())
    }

    /// What the client has said of its commands goes to the store.
    fn settle_commands(&mut self) {
        self.features.settle(self.outbound.take_decided());
    }

    fn follow(&mut self, session: &Session, new: New) {
        self.features.follow(session, &self.subscriptions, new);
    }

    /// Batches that shared a commit are acknowledged with one write.
    fn settle_more<S>(&mut self, wire: &mut Wire<S>) -> Result<(), Error> {
        while self.intake.is_waiting()
            && let Some(settled) = self.intake.settled().now_or_never()
        {
            self.inbound.settled(settled?, wire.outgoing.buffer());
        }
        Ok(())
    }

    /// Changes subscriptions; the answer is written when they are on disk.
    async fn change(
        &mut self,
        session: &Session,
        change: Change,
        out: &mut bytes::BytesMut,
    ) -> Result<(), Error> {
        let new = match change {
            Change::Subscribe(subscribe) => {
                let (results, kept) = self.subscriptions.judge(&subscribe);
                if self.persistent && !kept.is_empty() {
                    in_time(session.subscribe(&kept)).await?;
                }
                Packet::Suback(Suback { id: subscribe.id, results }).encode(out)?;
                self.subscriptions.add(kept)
            }
            Change::Unsubscribe(unsubscribe) => {
                if self.persistent {
                    let filters = unsubscribe.filters.iter().map(ToString::to_string);
                    in_time(session.unsubscribe(&filters.collect::<Vec<_>>())).await?;
                }
                // What the client took before it said so is not to come again.
                drop(timeout(limits::MAX_WITHHELD_ACK, self.features.settled()).await);
                self.subscriptions.remove(&unsubscribe.filters);
                Packet::Unsuback(unsubscribe.id).encode(out)?;
                New::default()
            }
        };
        self.follow(session, new);
        Ok(())
    }
}

/// A store that does not answer must not hold the client for ever.
async fn in_time<E>(commit: impl Future<Output = Result<(), E>>) -> Result<(), Error>
where
    E: std::error::Error + Send + Sync + 'static,
{
    match timeout(limits::MAX_WITHHELD_ACK, commit).await {
        Ok(stored) => stored.map_err(|cause| Error::Subscriptions(Box::new(cause))),
        Err(elapsed) => Err(Error::Subscriptions(Box::new(elapsed))),
    }
}
