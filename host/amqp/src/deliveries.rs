//! Deliveries on a link that the client sends on: transfers in, whole messages out.
//!
//! The library hands transfers over as they came. Invariants: what is assembled is bounded by the
//! link's message size; a delivery is counted against the link's credit once.

use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use fe2o3_amqp::link::{Receiver, RecvError};
use fe2o3_amqp_types::performatives::Transfer;
use weir_core::limits;

/// A whole message.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) id: u32,
    pub(crate) format: u32,
    /// The sender waits for no answer.
    pub(crate) settled: bool,
    pub(crate) payload: Bytes,
}

/// A delivery that has begun.
#[derive(Debug)]
struct Begun {
    id: u32,
    format: u32,
    settled: bool,
    payload: BytesMut,
}

/// Makes deliveries of transfers.
#[derive(Debug, Default)]
pub(crate) struct Deliveries(Option<Begun>);

impl Deliveries {
    /// Takes one transfer; gives a delivery when it is whole.
    ///
    /// # Errors
    /// The link is to be ended.
    pub(crate) fn take(
        &mut self,
        transfer: &Transfer,
        payload: Bytes,
    ) -> Result<Option<Delivery>, Refusal> {
        if transfer.aborted {
            self.0 = None;
            return Ok(None);
        }
        let settled = transfer.settled.unwrap_or(false);
        let Some(mut begun) = self.0.take() else {
            let id = transfer.delivery_id.ok_or(Refusal::Delivery("it has no delivery-id"))?;
            let format = transfer.message_format.unwrap_or(0);
            if !transfer.more {
                check_size(payload.len())?;
                return Ok(Some(Delivery { id, format, settled, payload }));
            }
            let payload = payload.as_ref().into();
            self.0 = Some(Begun { id, format, settled, payload });
            return Ok(None);
        };
        if transfer.delivery_id.is_some_and(|id| id != begun.id) {
            return Err(Refusal::Delivery("another one begins before it ends"));
        }
        check_size(begun.payload.len() + payload.len())?;
        begun.payload.extend_from_slice(&payload);
        begun.settled |= settled;
        if transfer.more {
            self.0 = Some(begun);
            return Ok(None);
        }
        let Begun { id, format, settled, payload } = begun;
        Ok(Some(Delivery { id, format, settled, payload: payload.freeze() }))
    }

    /// The next whole delivery. Cancel-safe.
    ///
    /// # Errors
    /// `Ok(Err(…))`: the link is to be ended. `Err(…)`: it has ended.
    pub(crate) async fn next(
        &mut self,
        receiver: &mut Receiver,
    ) -> Result<Result<Delivery, Refusal>, Box<RecvError>> {
        loop {
            let (transfer, payload) = receiver.recv_transfer().await.map_err(Box::new)?;
            match self.take(&transfer, payload) {
                Ok(None) => {}
                Ok(Some(delivery)) => {
                    return Ok(match receiver.count_delivery() {
                        true => Ok(delivery),
                        false => Err(Refusal::NoCredit),
                    });
                }
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
    }
}

fn check_size(bytes: usize) -> Result<(), Refusal> {
    if bytes > limits::AMQP_MESSAGE_BYTES { Err(Refusal::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fe2o3_amqp_types::definitions::Handle;

    fn transfer(id: Option<u32>, more: bool) -> Transfer {
        Transfer {
            handle: Handle(0),
            delivery_id: id,
            delivery_tag: None,
            message_format: None,
            settled: None,
            more,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        }
    }

    #[test]
    fn a_delivery_in_parts_is_put_together() {
        let mut deliveries = Deliveries::default();
        let mut take = |id, more, bytes: &'static str| {
            deliveries.take(&transfer(id, more), Bytes::from_static(bytes.as_bytes())).unwrap()
        };
        assert!(take(Some(7), true, "a").is_none());
        assert!(take(None, true, "b").is_none());
        let whole = take(Some(7), false, "c").unwrap();
        assert_eq!((whole.id, &whole.payload[..], whole.settled), (7, &b"abc"[..], false));
        assert!(take(Some(8), true, "lost").is_none());
        let mut aborted = transfer(Some(8), false);
        aborted.aborted = true;
        assert!(deliveries.take(&aborted, Bytes::new()).unwrap().is_none());
        let next = deliveries.take(&transfer(Some(9), false), Bytes::from_static(b"d")).unwrap();
        assert_eq!(&next.unwrap().payload[..], b"d");
    }

    #[test]
    fn deliveries_that_are_mixed_up_or_endless_end_the_link() {
        let mut deliveries = Deliveries::default();
        assert!(deliveries.take(&transfer(None, false), Bytes::new()).is_err());
        deliveries.take(&transfer(Some(1), true), Bytes::new()).unwrap();
        assert!(deliveries.take(&transfer(Some(2), true), Bytes::new()).is_err());
        let mut deliveries = Deliveries::default();
        let part = Bytes::from(vec![0; limits::AMQP_MESSAGE_BYTES / 2]);
        deliveries.take(&transfer(Some(1), true), part.clone()).unwrap();
        deliveries.take(&transfer(None, true), part.clone()).unwrap();
        let last = deliveries.take(&transfer(None, true), part);
        assert!(matches!(last, Err(Refusal::TooLarge)));
    }
}
