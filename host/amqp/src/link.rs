//! Ends of links, which must not hang on a client that does not answer.

use crate::refusal::Refusal;
use fe2o3_amqp::link::{Receiver, Sender};
use std::future::Future;
use tokio::time::timeout;
use tracing::debug;
use weir_core::limits;

/// Ends a link on which the client sends, and says why.
pub(crate) async fn end_receiver(receiver: Receiver, refusal: &Refusal) {
    goodbye(receiver.close_with_error(refusal.to_amqp())).await;
}

/// Ends a link on which the hub sends, and says why.
pub(crate) async fn end_sender(sender: Sender, refusal: &Refusal) {
    goodbye(sender.close_with_error(refusal.to_amqp())).await;
}

/// Answers the end of a link on which the client sends, if the library has not.
pub(crate) async fn close_receiver(receiver: Receiver) {
    goodbye(receiver.close()).await;
}

/// Answers the end of a link on which the hub sends, if the library has not.
pub(crate) async fn close_sender(sender: Sender) {
    goodbye(sender.close()).await;
}

/// An error here means that the other side has gone already.
async fn goodbye<E: std::fmt::Debug>(closing: impl Future<Output = Result<(), E>>) {
    match timeout(limits::AMQP_FAREWELL, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => debug!(?cause, "the link had ended already"),
        Err(_) => debug!("the client has not answered the end of a link"),
    }
}
