//! Direct methods of a client: requests out on one link, answers in on the other.
//!
//! A request's correlation id is a UUID that holds the call's id: the C# SDK reads nothing else, and all
//! give it back in the type in which they got it.

use crate::codec::{Value, Writer};
use crate::deliveries::Deliveries;
use crate::link;
use crate::member::Seat;
use crate::message::{Field, Parts};
use bytes::Bytes;
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp_types::definitions::DeliveryTag;
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState};
use std::pin::pin;
use tracing::debug;
use weir_core::method::{MethodAnswer, MethodId, MethodRequest};

/// Answers that a client may have sent and the hub not taken.
const CREDIT: u32 = 64;

/// Serves the link on which the client gets requests; it can be called while this link is there.
pub(crate) async fn serve_requests(mut sender: Sender, mut seat: Seat) {
    let mut requests = seat.member.session.take_methods();
    let mut ended = pin!(seat.ended());
    let mut number = 0u32;
    loop {
        // A request that the client has no credit for waits with the hub, whose caller times out.
        tokio::select! {
            why = &mut ended => return link::end_sender(sender, &why).await,
            credited = sender.credited() => if credited.is_err() { break },
        }
        let request = tokio::select! {
            why = &mut ended => return link::end_sender(sender, &why).await,
            _ = sender.on_detach() => break,
            request = requests.next() => request,
        };
        number = number.wrapping_add(1);
        let tag = DeliveryTag::from(number.to_be_bytes());
        if sender.send_encoded(tag, 0, write_request(&request), true).await.is_err() {
            break;
        }
    }
    drop(requests);
    link::close_sender(sender).await;
}

/// Serves the link on which the client answers.
pub(crate) async fn serve_answers(mut receiver: Receiver, mut seat: Seat) {
    let settler = receiver.settler();
    let mut deliveries = Deliveries::default();
    let mut ended = pin!(seat.ended());
    let mut used = CREDIT;
    loop {
        if used >= CREDIT / 2 {
            if receiver.set_credit(CREDIT).await.is_err() {
                break;
            }
            used = 0;
        }
        let next = tokio::select! {
            why = &mut ended => return link::end_receiver(receiver, &why).await,
            next = deliveries.next(&mut receiver) => next,
        };
        let delivery = match next {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(refusal)) => return link::end_receiver(receiver, &refusal).await,
            Err(_) => break,
        };
        used += 1;
        // Before whoever called gets it: he may tell the client to close, which would then never hear
        // that its answer was taken.
        if !delivery.settled {
            let state = DeliveryState::Accepted(Accepted {});
            if settler.settle(delivery.id, delivery.id, state).await.is_err() {
                break;
            }
        }
        match read_answer(&delivery.payload) {
            // A late one is dropped; the client cannot do anything about it.
            Some((id, answer)) => {
                if !seat.member.session.answer_method(id, answer) {
                    debug!("nobody waits for the answer of a method any more");
                }
            }
            None => debug!("an answer of a method cannot be read"),
        }
    }
    link::close_receiver(receiver).await;
}

fn write_request(request: &MethodRequest) -> Bytes {
    let mut writer = Writer::with_capacity(request.payload.len() + 128);
    writer.descriptor(0x73);
    let mut list = writer.list();
    for _ in 0..5 {
        writer.null();
    }
    writer.uuid(uuid_of(request.id));
    list.add(6);
    writer.close(&list);
    writer.descriptor(0x74);
    let mut map = writer.map();
    writer.string("IoThub-methodname");
    writer.string(request.name.as_str());
    map.add(2);
    writer.close(&map);
    writer.descriptor(0x75);
    writer.binary(&request.payload);
    writer.finish()
}

/// The 16 digits of the id stand in the last two groups and the end of the third.
fn uuid_of(id: MethodId) -> [u8; 16] {
    let id = u64::from_str_radix(&id.to_string(), 16).expect("an id is 16 hexadecimal digits");
    u128::from(id).to_be_bytes()
}

fn id_of(field: Field<'_>) -> Option<MethodId> {
    let digits = match field.value {
        Value::Uuid(bytes) => format!("{:032x}", u128::from_be_bytes(bytes)),
        Value::String(text) => text.to_ascii_lowercase().replace('-', ""),
        _ => return None,
    };
    match digits.split_at_checked(16) {
        Some(("0000000000000000", id)) => id.parse().ok(),
        Some((id, "")) => id.parse().ok(),
        _ => None,
    }
}

fn read_answer(payload: &[u8]) -> Option<(MethodId, MethodAnswer)> {
    let parts = Parts::read(payload).ok()?;
    let id = id_of(parts.correlation_id()?)?;
    let status = match parts.application("IoThub-status")? {
        Value::Signed(status) => i32::try_from(status).ok()?,
        Value::Unsigned(status) => i32::try_from(status).ok()?,
        _ => return None,
    };
    let body = parts.bytes()?;
    let payload = match body.trim_ascii() {
        [] => Bytes::from_static(b"null"),
        body => Bytes::copy_from_slice(body),
    };
    Some((id, MethodAnswer { status, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_comes_back_as_uuid_and_as_text() {
        let id: MethodId = "0123456789abcdef".parse().unwrap();
        let uuid = uuid_of(id);
        let field = |value| Field { value, encoded: &[] };
        assert_eq!(id_of(field(Value::Uuid(uuid))), Some(id));
        let text = crate::message::uuid_text(uuid);
        assert_eq!(id_of(field(Value::String(&text))), Some(id));
        assert_eq!(id_of(field(Value::String("0123456789abcdef"))), Some(id));
        assert_eq!(id_of(field(Value::Uuid([0xff; 16]))), None);
        assert_eq!(id_of(field(Value::Unsigned(1))), None);
    }
}
