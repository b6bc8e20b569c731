//! Telemetry: what a device or module sends to be routed. **This is the hot path.**
//!
//! What the client has sent meanwhile goes to the hub as one batch; while it waits for its commit the
//! next is taken; what has been committed is answered with one disposition for a run of deliveries.
//! Invariants:
//!
//! 1. `accepted` is said only of deliveries whose messages the intake has settled, all of them.
//! 2. While the hub has no room, nothing is taken from the link and no credit is given.

use crate::deliveries::{Deliveries, Delivery};
use crate::link;
use crate::member::Seat;
use crate::message::{Unreadable, read_telemetry};
use crate::refusal::{Refusal, condition};
use fe2o3_amqp::link::{Receiver, RecvError, Settler};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Rejected};
use futures::FutureExt;
use std::collections::VecDeque;
use std::pin::pin;
use tracing::debug;
use weir_core::limits;
use weir_hub::{Intake, IntakeError, Publication};

/// Deliveries taken before they are handed over.
const BATCH: usize = 128;
/// Bytes that the credit of a link may stand for, by the size of what it has brought.
const CREDIT_BYTES: usize = 2 * 1024 * 1024;

/// A delivery that waits for its commit.
struct Waiting {
    /// None when the sender waits for no answer.
    id: Option<u32>,
    /// Messages of it that are not on disk.
    messages: usize,
}

struct Telemetry {
    settler: Settler,
    intake: Intake,
    deliveries: Deliveries,
    waiting: VecDeque<Waiting>,
    credit: Credit,
}

type Next = Result<Result<Delivery, Refusal>, Box<RecvError>>;

/// Why the link ends.
enum End {
    Refused(Refusal),
    /// The client, or the session, has ended it.
    Gone,
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Box<RecvError>> for End {
    fn from(_: Box<RecvError>) -> Self {
        Self::Gone
    }
}

/// Serves the link until it ends.
pub(crate) async fn serve(mut receiver: Receiver, mut seat: Seat) {
    let mut telemetry = Telemetry {
        settler: receiver.settler(),
        intake: seat.member.session.intake(),
        deliveries: Deliveries::default(),
        waiting: VecDeque::new(),
        credit: Credit::default(),
    };
    let end = telemetry.run(&mut receiver, &mut seat).await;
    // What was taken is still answered.
    if !matches!(end, End::Gone) {
        telemetry.finish().await;
    }
    match end {
        End::Refused(refusal) => link::end_receiver(receiver, &refusal).await,
        End::Gone => link::close_receiver(receiver).await,
    }
}

impl Telemetry {
    async fn run(&mut self, receiver: &mut Receiver, seat: &mut Seat) -> End {
        let mut ended = pin!(seat.ended());
        loop {
            let room = self.intake.has_room();
            if room && self.credit.is_due() {
                let credit = self.credit.grant();
                if receiver.set_credit(credit).await.is_err() {
                    return End::Gone;
                }
            }
            tokio::select! {
                biased;
                why = &mut ended => return End::Refused(why),
                settled = self.intake.settled(), if self.intake.is_waiting() => {
                    if let Err(end) = self.settled(settled, seat).await {
                        return end;
                    }
                }
                next = self.deliveries.next(receiver), if room => {
                    let result = match next {
                        Ok(Ok(delivery)) => self.take(delivery, receiver).await,
                        Ok(Err(refusal)) => Err(refusal.into()),
                        Err(gone) => Err(gone.into()),
                    };
                    if let Err(end) = result {
                        return end;
                    }
                }
            }
        }
    }

    /// Takes this delivery and those that are here already.
    async fn take(&mut self, first: Delivery, receiver: &mut Receiver) -> Result<(), End> {
        let mut batch = Vec::new();
        let mut next: Option<Next> = Some(Ok(Ok(first)));
        let mut end = None;
        loop {
            match next.take() {
                Some(Ok(Ok(delivery))) => self.read(delivery, &mut batch).await?,
                Some(Ok(Err(refusal))) => end = Some(refusal.into()),
                Some(Err(gone)) => end = Some(gone.into()),
                None => break,
            }
            if end.is_some() || batch.len() >= BATCH {
                break;
            }
            next = self.deliveries.next(receiver).now_or_never();
        }
        if !batch.is_empty() {
            self.intake.submit(batch).await;
        }
        // A delivery without messages waits for nothing.
        self.accept(0).await?;
        end.map_or(Ok(()), Err)
    }

    /// Makes messages of a delivery; one that cannot be taken is rejected.
    async fn read(&mut self, delivery: Delivery, batch: &mut Vec<Publication>) -> Result<(), End> {
        self.credit.count(delivery.payload.len());
        let mut messages = Vec::with_capacity(1);
        let id = (!delivery.settled).then_some(delivery.id);
        match read_telemetry(&delivery.payload, delivery.format, &mut messages) {
            Ok(()) => {
                self.waiting.push_back(Waiting { id, messages: messages.len() });
                let publish = |message| Publication { message, reliable: true };
                batch.extend(messages.into_iter().map(publish));
                Ok(())
            }
            Err(cause) => self.reject(id, &cause).await,
        }
    }

    async fn reject(&mut self, id: Option<u32>, cause: &Unreadable) -> Result<(), End> {
        debug!(error = %cause, "a message is rejected");
        let Some(id) = id else { return Ok(()) };
        let error = condition(cause.condition(), &cause.to_string());
        self.settle(id, id, DeliveryState::Rejected(Rejected { error: Some(error) })).await
    }

    async fn settle(&mut self, first: u32, last: u32, state: DeliveryState) -> Result<(), End> {
        self.settler.settle(first, last, state).await.map_err(|_| End::Gone)
    }

    /// So many more messages are on disk, or there is no room for those that wait.
    async fn settled(
        &mut self,
        settled: Result<usize, IntakeError>,
        seat: &Seat,
    ) -> Result<(), End> {
        match settled {
            Ok(mut messages) => {
                // Batches that shared a commit are answered together.
                let mut failed = None;
                while self.intake.is_waiting()
                    && let Some(more) = self.intake.settled().now_or_never()
                {
                    match more {
                        Ok(more) => messages += more,
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                self.accept(messages).await?;
                match failed {
                    Some(error) => self.no_room(&error, seat).await,
                    None => Ok(()),
                }
            }
            Err(error) => self.no_room(&error, seat).await,
        }
    }

    async fn accept(&mut self, mut messages: usize) -> Result<(), End> {
        let mut run: Option<(u32, u32)> = None;
        while let Some(front) = self.waiting.front_mut() {
            let taken = front.messages.min(messages);
            front.messages -= taken;
            messages -= taken;
            if front.messages > 0 {
                break;
            }
            let id = self.waiting.pop_front().and_then(|waiting| waiting.id);
            let Some(id) = id else { continue };
            run = match run {
                Some((first, last)) if id == last.wrapping_add(1) && id > first => {
                    Some((first, id))
                }
                Some((first, last)) => {
                    self.settle(first, last, DeliveryState::Accepted(Accepted {})).await?;
                    Some((id, id))
                }
                None => Some((id, id)),
            };
        }
        match run {
            Some((first, last)) => {
                self.settle(first, last, DeliveryState::Accepted(Accepted {})).await
            }
            None => Ok(()),
        }
    }

    /// Nothing that waits was stored: the client is told so, and may send it again.
    async fn no_room(&mut self, error: &IntakeError, seat: &Seat) -> Result<(), End> {
        self.intake = seat.member.session.intake();
        let rejected =
            Rejected { error: Some(condition("amqp:resource-limit-exceeded", &error.to_string())) };
        for id in std::mem::take(&mut self.waiting).into_iter().filter_map(|waiting| waiting.id) {
            self.settle(id, id, DeliveryState::Rejected(rejected.clone())).await?;
        }
        Ok(())
    }

    /// The end of the link waits a moment for the commit of what came before it.
    async fn finish(&mut self) {
        let last = async {
            while self.intake.is_waiting() {
                let Ok(messages) = self.intake.settled().await else { return };
                if self.accept(messages).await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(limits::AMQP_FAREWELL, last).await.is_err() {
            debug!("the last messages of a link have no commit yet");
        }
    }
}

/// How much the client may send.
#[derive(Debug, Default)]
struct Credit {
    granted: u32,
    /// Deliveries since the credit was given.
    used: u32,
    /// Size of a message, by what has come; larger ones count at once, smaller ones slowly.
    typical: usize,
}

impl Credit {
    fn count(&mut self, bytes: usize) {
        self.used += 1;
        self.typical = bytes.max(self.typical - self.typical / 8);
    }

    /// True when half of it is used, or none was given.
    fn is_due(&self) -> bool {
        self.used >= self.granted / 2
    }

    fn grant(&mut self) -> u32 {
        let messages = CREDIT_BYTES / self.typical.max(1);
        let most = usize::try_from(limits::AMQP_CREDIT).unwrap_or(usize::MAX);
        self.granted = u32::try_from(messages.clamp(4, most)).unwrap_or(limits::AMQP_CREDIT);
        self.used = 0;
        self.granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_get_little_credit_at_once_and_small_ones_much_again() {
        let mut credit = Credit::default();
        assert!(credit.is_due());
        assert_eq!(credit.grant(), limits::AMQP_CREDIT);
        assert!(!credit.is_due());
        credit.count(256 * 1024);
        assert_eq!(credit.grant(), 8);
        for _ in 0..100 {
            credit.count(100);
        }
        assert_eq!(credit.grant(), limits::AMQP_CREDIT);
    }
}
