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
use crate::handshake::Client;
use crate::inbound::{Change, Inbound};
use crate::outbound::Outbound;
use crate::subscriptions::Subscriptions;
use crate::wire::{Outgoing, Ready, Wire};
use futures::FutureExt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};
use weir_core::limits;
use weir_core::port::Consumer;
use weir_hub::parcels::{Inputs, Parcels, inputs};
use weir_hub::tasks::Stop;
use weir_hub::{Hub, Intake, Publication, Session};
use weir_mqtt_codec::{Limits, Packet, Suback, decode};

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
    session: Session,
    state: State,
}

/// All but the session, which the loop watches at the same time.
struct State {
    inbound: Inbound,
    outbound: Outbound,
    parcels: Parcels,
    inputs: Arc<Inputs>,
    subscriptions: Subscriptions,
    /// Subscriptions are kept on disk.
    persistent: bool,
    /// The module's inputs are this hub's to deliver.
    has_inputs: bool,
    seated: bool,
    deadlines: Deadlines,
    intake: Intake,
    will: Option<Publication>,
    /// Found in what was read; takes effect when what came before it is done.
    ending: Option<Error>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(hub: &Hub, wire: Wire<S>, client: Client) -> Self {
        let Client { session, subscriptions, persistent, keep_alive_secs, will } = client;
        let identity = session.identity().clone();
        // A module of another device has no queues here, whatever it is called.
        let has_inputs = identity.module.is_some() && identity.device == *hub.edge_device();
        let (inputs, parcels) = inputs();
        let state = State {
            inbound: Inbound::new(identity.clone()),
            outbound: Outbound::new(identity, fastrand::u64(..u64::from(u16::MAX))),
            parcels,
            inputs: Arc::new(inputs),
            subscriptions,
            persistent,
            has_inputs,
            seated: false,
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
        // and the SDK throws away (and acknowledges) what comes before it: so it has a moment's time.
        let mut restore = Some(Instant::now() + limits::RESTORED_INPUTS);
        loop {
            let changes = match self.until_change(stop, restore).await {
                Ok(changes) => changes,
                Err(end) => return end,
            };
            if restore.is_some_and(|at| at <= Instant::now()) || !changes.is_empty() {
                restore = None;
                self.state.sit(&mut self.session, false);
            }
            for change in changes {
                let out = self.wire.outgoing.buffer();
                if let Err(end) = self.state.change(&mut self.session, change, out).await {
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
            state.take_in(wire).await;
            let changes = state.inbound.take_changes();
            if !changes.is_empty() {
                return Ok(changes);
            }
            if let Some(end) = state.ending.take() {
                return Err(end);
            }
            state.outbound.fill(&mut wire.outgoing);
            let reading = state.intake.has_room() && wire.outgoing.has_room();
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
                Some(parcel) = state.parcels.next(),
                    if state.outbound.wants_parcel() && wire.outgoing.has_room() =>
                {
                    state.outbound.accept(parcel, &state.subscriptions);
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
                state.deadlines.writing(wire.is_writing(), true, Instant::now());
            }
        }
    }

    /// The end: deliveries go back, the will goes out, what was committed is acknowledged.
    async fn finish(mut self, end: &Error) {
        self.session.leave_inputs();
        let State { inbound, outbound, parcels, intake, will, .. } = self.state;
        drop((outbound, parcels));
        // Nobody sends a will again: whatever its QoS, it is to be known what became of it.
        let will = will.filter(|_| end.publishes_will());
        let will = will.map(|will| Publication { reliable: true, ..will });
        let has_will = will.is_some();
        let settled = match end {
            Error::NoRoom(_) => false,
            _ => {
                let last = settle_last(inbound, intake, will, &mut self.wire.outgoing);
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
    will: Option<Publication>,
    out: &mut Outgoing,
) -> Result<(), Error> {
    if let Some(will) = will {
        intake.submit(vec![will]).await;
    }
    while intake.is_waiting() {
        inbound.settled(intake.settled().await?, out.buffer());
    }
    Ok(())
}

impl State {
    /// Takes all whole packets out of what was read; what went wrong is kept in `ending`.
    async fn take_in<S>(&mut self, wire: &mut Wire<S>) {
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
        let batch = self.inbound.take_batch();
        if !batch.is_empty() {
            self.intake.submit(batch).await;
        }
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
        session: &mut Session,
        change: Change,
        out: &mut bytes::BytesMut,
    ) -> Result<(), Error> {
        let grown = match change {
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
                self.subscriptions.remove(&unsubscribe.filters);
                Packet::Unsuback(unsubscribe.id).encode(out)?;
                false
            }
        };
        self.sit(session, grown);
        Ok(())
    }

    /// Takes the seat at the module's inputs, or leaves it, as the subscriptions say. With new inputs
    /// it is taken anew, so that the hub looks again at queues that nobody wanted before.
    fn sit(&mut self, session: &mut Session, grown: bool) {
        let wanted = self.has_inputs && self.subscriptions.takes_inputs();
        if wanted && (grown || !self.seated) {
            session.take_inputs(Arc::clone(&self.inputs) as Arc<dyn Consumer>);
        } else if !wanted && self.seated {
            session.leave_inputs();
        }
        self.seated = wanted;
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
