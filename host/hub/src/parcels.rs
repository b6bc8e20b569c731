//! A connected client as the consumer of its module's inputs, for every head.
//!
//! The hub's dispatchers call [`Inputs::deliver`]; parcels go through a short channel to the
//! connection, which answers them. When the connection is gone, so is the channel.

use tokio::sync::{mpsc, oneshot};
use weir_core::port::{Answer, Batch, BoxFuture, Consumer, Fault, Outcome};

/// Parcels that wait for the connection: one to have the next at hand.
const PARCELS: usize = 1;

/// A batch on its way to the client, and the way back for its answer.
#[derive(Debug)]
pub struct Parcel {
    /// What is to be delivered.
    pub batch: Batch,
    /// Whoever takes the parcel answers it, when it ends at the latest.
    pub answer: oneshot::Sender<Result<Answer, Fault>>,
}

/// What the hub holds of a connected client.
#[derive(Debug)]
pub struct Inputs(mpsc::Sender<Parcel>);

/// Parcels as the connection gets them; answers those it leaves.
#[derive(Debug)]
pub struct Parcels(mpsc::Receiver<Parcel>);

/// Both ends.
#[must_use]
pub fn inputs() -> (Inputs, Parcels) {
    let (sender, receiver) = mpsc::channel(PARCELS);
    (Inputs(sender), Parcels(receiver))
}

impl Parcels {
    /// The next parcel; none when nobody can send one. Cancel-safe.
    pub async fn next(&mut self) -> Option<Parcel> {
        self.0.recv().await
    }
}

impl Drop for Parcels {
    fn drop(&mut self) {
        self.0.close();
        while let Ok(parcel) = self.0.try_recv() {
            parcel.give_back();
        }
    }
}

impl Parcel {
    /// Nothing of it was sent, so that it comes again as if for the first time.
    fn give_back(self) {
        let outcomes = vec![Outcome::Abandon { sent: false }; self.batch.deliveries.len()];
        drop(self.answer.send(Ok(Answer { outcomes, ..Answer::default() })));
    }
}

impl Consumer for Inputs {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            if let Err(mpsc::error::SendError(parcel)) = self.0.send(Parcel { batch, answer }).await
            {
                parcel.give_back();
            }
            // Whoever takes a parcel answers it, in its `Drop` at the latest.
            answered.await.unwrap_or_else(|_| {
                let reason = "the client has left".to_owned();
                Err(Fault::Unavailable { reason, retry_after: None })
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_core::clock::Timestamp;
    use weir_core::id::{Identity, MessageId};
    use weir_core::message::Message;
    use weir_core::port::Delivery;

    fn batch() -> Batch {
        let sender = Identity::device("pump".parse().unwrap());
        let message = Message::default().stamp(&sender, MessageId(1), Timestamp::from_secs(1));
        let delivery = Delivery {
            number: 1,
            attempt: 1,
            input: 0,
            input_name: Some("in1".parse().unwrap()),
            message,
        };
        Batch { deliveries: vec![delivery] }
    }

    #[tokio::test]
    async fn a_parcel_that_the_connection_never_saw_was_not_sent() {
        let (inputs, parcels) = inputs();
        let deliver = inputs.deliver(batch());
        tokio::pin!(deliver);
        assert!(futures::poll!(&mut deliver).is_pending());
        drop(parcels);
        assert_eq!(deliver.await.unwrap().outcomes, [Outcome::Abandon { sent: false }]);
    }

    #[tokio::test]
    async fn a_client_that_has_left_gives_the_batch_back_unsent() {
        let (inputs, parcels) = inputs();
        drop(parcels);
        let answer = inputs.deliver(batch()).await.unwrap();
        assert_eq!(answer.outcomes, [Outcome::Abandon { sent: false }]);
    }
}
