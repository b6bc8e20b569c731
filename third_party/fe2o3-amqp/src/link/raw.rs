//! Links for hubs that read and write messages in their own way.
//!
//! Transfers are handed over as they came, neither assembled nor decoded, and
//! deliveries are settled by their ids. Messages are sent encoded, under a
//! delivery-tag of the caller's choice. Nothing here uses the receiver's
//! unsettled map: whoever uses [`Receiver::recv_transfer`] on a link must not
//! use `recv`, `accept`, … on it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fe2o3_amqp_types::{
    definitions::{DeliveryNumber, DeliveryTag, MessageFormat, Role},
    messaging::{DeliveryState, Outcome},
    performatives::{Disposition, Transfer},
};

use tokio::sync::mpsc;

use super::{
    delivery::DeliveryFut, sender::Sender, state::LinkState, LinkFrame, LinkStateError,
    Receiver, RecvError, SendError,
};
use crate::{
    endpoint::{LinkDetach, SenderLink as _},
    util::Consume,
    Payload,
};

fn closed(reason: Option<&super::SessionStopReason>) -> LinkStateError {
    match reason {
        Some(reason) => LinkStateError::SessionStopped(reason.clone()),
        None => LinkStateError::IllegalState,
    }
}

impl Receiver {
    /// The next transfer frame.
    ///
    /// # Cancel safety
    ///
    /// This is cancel safe.
    pub async fn recv_transfer(&mut self) -> Result<(Transfer, Payload), RecvError> {
        let frame = match self.inner.incoming.recv().await {
            Some(frame) => frame,
            None => return Err(closed(self.inner.link.session_stop_reason.get()).into()),
        };
        match frame {
            LinkFrame::RemoteTransfer(frame) => Ok((frame.performative, frame.payload)),
            LinkFrame::Detach(detach) => {
                let is_closed = detach.closed;
                self.inner.link.apply_remote_detach_outcome(detach)?;
                match is_closed {
                    true => Err(LinkStateError::RemoteClosed.into()),
                    false => Err(LinkStateError::RemoteDetached.into()),
                }
            }
            _ => Err(LinkStateError::IllegalState.into()),
        }
    }

    /// Counts a delivery whose last (or only) transfer was received.
    ///
    /// False when the sender had no credit for it.
    #[must_use]
    pub fn count_delivery(&mut self) -> bool {
        self.inner.link.flow_state.consume(1).is_ok()
    }

    /// Settles deliveries of this link, also while it receives.
    pub fn settler(&self) -> Settler {
        Settler {
            outgoing: self.inner.outgoing.clone(),
            session_stop_reason: self.inner.link.session_stop_reason.clone(),
        }
    }
}

/// Settles deliveries of a [`Receiver`] by their ids.
#[derive(Debug, Clone)]
pub struct Settler {
    outgoing: mpsc::Sender<LinkFrame>,
    session_stop_reason: Arc<OnceLock<super::SessionStopReason>>,
}

impl Settler {
    /// Settles the deliveries `first..=last` with one disposition.
    pub async fn settle(
        &self,
        first: DeliveryNumber,
        last: DeliveryNumber,
        state: DeliveryState,
    ) -> Result<(), LinkStateError> {
        let disposition = Disposition {
            role: Role::Receiver,
            first,
            last: (last != first).then_some(last),
            settled: true,
            state: Some(state),
            batchable: false,
        };
        self.outgoing
            .send(LinkFrame::Disposition(disposition))
            .await
            .map_err(|_| closed(self.session_stop_reason.get()))
    }
}

impl Sender {
    /// The credit that the peer has given and that is not used.
    pub fn credit(&self) -> u32 {
        self.inner.link.flow_state.state().link_credit()
    }

    /// Waits until the peer has given credit, or has detached the link.
    ///
    /// # Cancel safety
    ///
    /// This is cancel safe.
    pub async fn credited(&mut self) -> Result<(), LinkStateError> {
        let inner = &mut self.inner;
        loop {
            let notifier = inner.link.flow_state.notifier.clone();
            let notified = notifier.notified();
            tokio::pin!(notified);
            // Before the credit is looked at, so that none is missed
            notified.as_mut().enable();
            if inner.link.flow_state.state().link_credit() > 0
                && matches!(inner.link.local_state, LinkState::Attached)
            {
                return Ok(());
            }
            tokio::select! {
                biased;
                frame = inner.incoming.recv() => match frame {
                    Some(LinkFrame::Detach(detach)) => {
                        let is_closed = detach.closed;
                        inner.link.apply_remote_detach_outcome(detach)?;
                        return Err(match is_closed {
                            true => LinkStateError::RemoteClosed,
                            false => LinkStateError::RemoteDetached,
                        });
                    }
                    Some(_) => return Err(LinkStateError::ExpectImmediateDetach),
                    None => return Err(closed(inner.link.session_stop_reason.get())),
                },
                () = notified => {}
            }
        }
    }

    /// Sends an encoded message under this delivery-tag. To be called after
    /// [`Sender::credited`]; waits for credit otherwise, without noticing a detach.
    ///
    /// The link's settle mode decides whether it is settled, `settled` if that is mixed.
    pub async fn send_encoded(
        &mut self,
        delivery_tag: DeliveryTag,
        message_format: MessageFormat,
        payload: Bytes,
        settled: bool,
    ) -> Result<DeliveryFut<Result<Outcome, SendError>>, SendError> {
        self.inner.link.flow_state.consume(1).await;
        let transfer = self.inner.link.generate_non_resuming_transfer_performative(
            delivery_tag,
            message_format,
            Some(settled),
            None,
            false,
        )?;
        let settlement = self
            .inner
            .link
            .send_payload_with_transfer(&self.inner.outgoing, message_format, transfer, payload)
            .await?;
        Ok(DeliveryFut::new(
            settlement,
            self.inner.link.session_stop_reason.clone(),
        ))
    }
}
