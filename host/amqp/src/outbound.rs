//! Links on which the hub delivers: a module's inputs, and cloud-to-device messages.
//!
//! Invariants:
//!
//! 1. Messages go out in the order in which they came, as far as the client's credit and the window allow.
//! 2. The client's outcome settles: accepted is done, rejected goes to the dead letters, released and
//!    modified come again.
//! 3. However the link ends, what the client has not settled goes back.

use crate::link;
use crate::member::Seat;
use crate::message::{Envelope, write_delivery};
use crate::refusal::Refusal;
use bytes::Bytes;
use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::Sender;
use fe2o3_amqp::link::delivery::DeliveryFut;
use fe2o3_amqp_types::definitions::DeliveryTag;
use fe2o3_amqp_types::messaging::Outcome as Answered;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::debug;
use weir_core::command::{Command, LockToken, Settlement};
use weir_core::limits;
use weir_core::port::{Answer, Batch, Consumer, Delivery, Fault, Outcome};
use weir_hub::Commands;
use weir_hub::parcels::{Parcel, Parcels, inputs};

/// A message that the client gave back comes again after this: it is not to spin.
const AGAIN: Duration = Duration::from_millis(250);

/// What became of a message that was sent.
#[derive(Debug, Clone, PartialEq)]
enum Fate {
    Accepted,
    Rejected {
        reason: String,
        code: Option<String>,
    },
    GivenBack,
    /// The link ended first.
    Unknown,
}

fn fate_of(result: Result<Answered, SendError>) -> Fate {
    match result {
        Ok(Answered::Accepted(_)) => Fate::Accepted,
        Ok(Answered::Rejected(rejected)) => {
            let error = rejected.error;
            let code = error.as_ref().map(|error| format!("{:?}", error.condition));
            let reason = error.and_then(|error| error.description);
            let reason = reason.unwrap_or_else(|| "the client rejected it".to_owned());
            Fate::Rejected { reason, code }
        }
        Ok(Answered::Released(_) | Answered::Modified(_)) => Fate::GivenBack,
        Err(_) => Fate::Unknown,
    }
}

/// A message ready to be sent, and whose it is.
struct Ready<K> {
    key: K,
    tag: [u8; 16],
    payload: Bytes,
}

/// Where the messages of a link come from and where their fates go.
trait Source: Send {
    type Key: Send + Copy + 'static;

    /// Goes on with what settling has begun, and if it `wants` one, gives the next message. Cancel-safe.
    fn step(&mut self, wants: bool) -> impl Future<Output = Option<Ready<Self::Key>>> + Send;

    /// What became of a message.
    fn settled(&mut self, key: Self::Key, fate: Fate);
}

/// Why a link ends.
enum End {
    Refused(Refusal),
    Gone,
}

/// Serves a link until it ends.
async fn serve<S: Source>(sender: &mut Sender, seat: &mut Seat, source: &mut S) -> End {
    let mut ended = pin!(seat.ended());
    let mut unsettled: FuturesUnordered<BoxFuture<'static, (S::Key, Fate)>> =
        FuturesUnordered::new();
    let mut ready: Option<Ready<S::Key>> = None;
    loop {
        let room = unsettled.len() < limits::CLIENT_WINDOW;
        // Without credit nothing is asked for: a command that is taken is locked.
        let wants = room && ready.is_none();
        let credit = sender.credit() > 0;
        tokio::select! {
            biased;
            why = &mut ended => return End::Refused(why),
            Some((key, fate)) = unsettled.next() => source.settled(key, fate),
            event = watch(sender, ready.is_some() || (wants && !credit)) => {
                if event.is_err() {
                    return End::Gone;
                }
                if let Some(Ready { key, tag, payload }) = ready.take() {
                    match send(sender, tag, payload).await {
                        Some(answer) => unsettled.push(Box::pin(async move {
                            (key, fate_of(answer.await))
                        })),
                        None => return End::Gone,
                    }
                }
            }
            next = source.step(wants && credit) => ready = ready.or(next),
        }
    }
}

/// Resolves when the client has given credit, if that is wanted; fails when it ends the link.
async fn watch(sender: &mut Sender, credit: bool) -> Result<(), ()> {
    if credit {
        return sender.credited().await.map_err(drop);
    }
    sender.on_detach().await;
    Err(())
}

async fn send(
    sender: &mut Sender,
    tag: [u8; 16],
    payload: Bytes,
) -> Option<DeliveryFut<Result<Answered, SendError>>> {
    sender.send_encoded(DeliveryTag::from(tag), 0, payload, false).await.ok()
}

async fn finish(sender: Sender, end: &End) {
    match end {
        End::Refused(refusal) => link::end_sender(sender, refusal).await,
        End::Gone => link::close_sender(sender).await,
    }
}

/// Serves the link of a module's inputs.
pub(crate) async fn serve_inputs(mut sender: Sender, mut seat: Seat) {
    let (consumer, parcels) = inputs();
    let member = Arc::clone(&seat.member);
    let mut source = Inputs { parcels, open: VecDeque::new(), first: 0, nonce: fastrand::u64(..) };
    member.session.take_inputs(Arc::new(consumer) as Arc<dyn Consumer>);
    let end = serve(&mut sender, &mut seat, &mut source).await;
    // A later link sits there already when it has replaced this one.
    if !matches!(end, End::Refused(Refusal::Replaced)) {
        member.session.leave_inputs();
    }
    drop(source);
    finish(sender, &end).await;
}

/// A batch that is being delivered.
struct Open {
    rest: std::vec::IntoIter<Delivery>,
    outcomes: Vec<Outcome>,
    /// Messages, sent or not, of which nothing is known.
    open: usize,
    answer: Option<oneshot::Sender<Result<Answer, Fault>>>,
}

struct Inputs {
    parcels: Parcels,
    /// The oldest first; only the last has messages that are not sent.
    open: VecDeque<Open>,
    /// Number of the first.
    first: u64,
    /// Makes the delivery tags of this link its own.
    nonce: u64,
}

impl Source for Inputs {
    /// Which parcel, and where in it.
    type Key = (u64, usize);

    async fn step(&mut self, wants: bool) -> Option<Ready<Self::Key>> {
        if !wants {
            return std::future::pending().await;
        }
        loop {
            if let Some(ready) = self.take() {
                return Some(ready);
            }
            match self.parcels.next().await {
                Some(Parcel { batch: Batch { deliveries }, answer }) => {
                    let open = deliveries.len();
                    // Nothing is known of those that were not sent.
                    let outcomes = vec![Outcome::Abandon { sent: false }; open];
                    let rest = deliveries.into_iter();
                    self.open.push_back(Open { rest, outcomes, open, answer: Some(answer) });
                    self.close_finished();
                }
                None => return std::future::pending().await,
            }
        }
    }

    fn settled(&mut self, (parcel, at): Self::Key, fate: Fate) {
        let outcome = match fate {
            Fate::Accepted => Outcome::Accepted,
            Fate::Rejected { reason, code } => Outcome::Reject { reason, code },
            Fate::GivenBack => {
                let reason = "the client gave it back".to_owned();
                Outcome::Retry { reason, after: Some(AGAIN) }
            }
            Fate::Unknown => Outcome::Abandon { sent: true },
        };
        let index = parcel.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(open) = index.and_then(|index| self.open.get_mut(index)) {
            open.outcomes[at] = outcome;
            open.open -= 1;
        }
        self.close_finished();
    }
}

impl Inputs {
    fn take(&mut self) -> Option<Ready<(u64, usize)>> {
        let parcel = self.first + (self.open.len() as u64).checked_sub(1)?;
        let last = self.open.back_mut()?;
        if last.answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
            // The hub has given the batch up and will deliver it again.
            last.open -= last.rest.len();
            last.rest = Vec::new().into_iter();
            self.close_finished();
            return None;
        }
        let at = last.outcomes.len() - last.rest.len();
        let delivery = last.rest.next()?;
        // It leaves at once; until the client answers, it may have been seen.
        last.outcomes[at] = Outcome::Abandon { sent: true };
        let lock = u128::from(self.nonce) << 64 | u128::from(delivery.number);
        let tag = LockToken::from_bytes(lock.to_be_bytes()).as_bytes();
        let message = &delivery.message;
        let envelope = Envelope {
            input: delivery.input_name.as_ref().map(weir_core::id::InputName::as_str),
            sequence: delivery.number,
            lock: tag,
            attempt: delivery.attempt,
            enqueued: message.enqueued(),
        };
        Some(Ready { key: (parcel, at), tag, payload: write_delivery(message, envelope) })
    }

    /// Answers parcels of which everything is known. The answers may go out of order; the hub settles
    /// them in order.
    fn close_finished(&mut self) {
        for open in &mut self.open {
            if open.open == 0
                && let Some(answer) = open.answer.take()
            {
                let outcomes = std::mem::take(&mut open.outcomes);
                drop(answer.send(Ok(Answer { outcomes, ..Answer::default() })));
            }
        }
        while self.open.front().is_some_and(|first| first.answer.is_none()) {
            self.open.pop_front();
            self.first += 1;
        }
    }
}

impl Drop for Inputs {
    /// Gives back what the client has not settled.
    fn drop(&mut self) {
        for open in &mut self.open {
            open.open = 0;
        }
        self.close_finished();
    }
}

/// Serves the link of a client's cloud-to-device messages.
pub(crate) async fn serve_commands(mut sender: Sender, mut seat: Seat) {
    let commands = seat.member.session.take_commands();
    let mut source = Held { commands, settling: FuturesUnordered::new() };
    let end = serve(&mut sender, &mut seat, &mut source).await;
    source.finish().await;
    drop(source);
    finish(sender, &end).await;
}

struct Held {
    commands: Commands,
    settling: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Source for Held {
    type Key = LockToken;

    async fn step(&mut self, wants: bool) -> Option<Ready<LockToken>> {
        let command = tokio::select! {
            Some(()) = self.settling.next() => return None,
            command = self.commands.next(), if wants => command,
            else => return std::future::pending().await,
        };
        let Command { lock, sequence, delivery_count, enqueued, message, .. } = command;
        let tag = lock.as_bytes();
        let envelope =
            Envelope { input: None, sequence, lock: tag, attempt: delivery_count, enqueued };
        Some(Ready { key: lock, tag, payload: write_delivery(&message, envelope) })
    }

    fn settled(&mut self, lock: LockToken, fate: Fate) {
        let settlement = match fate {
            Fate::Accepted => Settlement::Complete,
            Fate::Rejected { .. } => Settlement::Reject,
            Fate::GivenBack => Settlement::Abandon,
            // Its lock ends with the hold.
            Fate::Unknown => return,
        };
        let settling = self.commands.settle(lock, settlement);
        self.settling.push(Box::pin(async move {
            if let Err(cause) = settling.await {
                debug!(error = %cause, "a command could not be settled");
            }
        }));
    }
}

impl Held {
    /// What the client has said is still written down.
    async fn finish(&mut self) {
        let settle = async { while self.settling.next().await.is_some() {} };
        if tokio::time::timeout(limits::AMQP_FAREWELL, settle).await.is_err() {
            debug!("the last commands of a link could not be settled in time");
        }
    }
}
