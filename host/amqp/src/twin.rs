//! The twin of a client: requests in on one link, answers and desired patches out on the other.
//!
//! Every request with a correlation id is answered once, in order; the id goes back in its own type.
//! Invariant: `204` for a patch leaves after its commit, `200` for a subscription when nothing can be
//! missed any more.

use crate::codec::{Value, Writer};
use crate::deliveries::Deliveries;
use crate::link;
use crate::member::Seat;
use crate::message::Parts;
use crate::refusal::condition;
use bytes::Bytes;
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp_types::definitions::DeliveryTag;
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Rejected};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use tracing::debug;
use weir_core::twin::DesiredPatch;
use weir_hub::{DesiredPatches, Session, TwinError};

/// Requests that a client may have sent and the hub not answered.
const CREDIT: u32 = 32;
/// Answers that wait for the client's credit.
const ANSWERS: usize = 32;

/// What goes to the link that the client receives on.
enum Out {
    Answer(Bytes),
    /// From now on desired patches, too, or no more; and the answer that says so.
    Watch(Option<Box<DesiredPatches>>, Bytes),
}

/// The way from the one link to the other; lives with the identity.
pub(crate) struct Channel {
    sender: mpsc::Sender<Out>,
    receiver: Arc<Mutex<mpsc::Receiver<Out>>>,
}

impl Default for Channel {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(ANSWERS);
        Self { sender, receiver: Arc::new(Mutex::new(receiver)) }
    }
}

/// Serves the link on which the client asks.
pub(crate) async fn serve_requests(mut receiver: Receiver, mut seat: Seat) {
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
        let answering = async {
            let Some(out) = answer(&delivery.payload, &seat.member.session).await else {
                return false;
            };
            // Who does not read the answers is not asked for more.
            seat.member.twin.sender.send(out).await.is_ok()
        };
        let answered = tokio::select! {
            why = &mut ended => return link::end_receiver(receiver, &why).await,
            answered = answering => answered,
        };
        if !delivery.settled {
            let state = match answered {
                true => DeliveryState::Accepted(Accepted {}),
                false => {
                    let text = "a twin request has a correlation-id and a known operation";
                    let error = condition("com.microsoft:argument-error", text);
                    DeliveryState::Rejected(Rejected { error: Some(error) })
                }
            };
            if settler.settle(delivery.id, delivery.id, state).await.is_err() {
                break;
            }
        }
    }
    link::close_receiver(receiver).await;
}

/// Serves the link on which the client gets answers and desired patches.
pub(crate) async fn serve_answers(mut sender: Sender, mut seat: Seat) {
    let channel = Arc::clone(&seat.member.twin.receiver);
    let mut ended = pin!(seat.ended());
    let mut out = tokio::select! {
        why = &mut ended => return link::end_sender(sender, &why).await,
        out = channel.lock() => out,
    };
    let mut patches: Option<Box<DesiredPatches>> = None;
    let mut number = 0u32;
    loop {
        tokio::select! {
            why = &mut ended => return link::end_sender(sender, &why).await,
            credited = sender.credited() => if credited.is_err() { break },
        }
        let message = tokio::select! {
            biased;
            why = &mut ended => return link::end_sender(sender, &why).await,
            _ = sender.on_detach() => break,
            Some(out) = out.recv() => match out {
                Out::Answer(answer) => answer,
                Out::Watch(watch, answer) => {
                    patches = watch;
                    answer
                }
            },
            patch = next_patch(&mut patches) => write_patch(&patch),
        };
        number = number.wrapping_add(1);
        let tag = DeliveryTag::from(number.to_be_bytes());
        if sender.send_encoded(tag, 0, message, true).await.is_err() {
            break;
        }
    }
    drop(out);
    link::close_sender(sender).await;
}

async fn next_patch(patches: &mut Option<Box<DesiredPatches>>) -> DesiredPatch {
    match patches {
        Some(patches) => patches.next().await,
        None => std::future::pending().await,
    }
}

/// What a request is answered with; none when it cannot be.
async fn answer(payload: &[u8], session: &Session) -> Option<Out> {
    let parts = Parts::read(payload).ok()?;
    let id = parts.correlation_id()?.encoded;
    let operation = match parts.annotation("operation")? {
        Value::String(text) | Value::Symbol(text) => text,
        _ => return None,
    };
    Some(match operation {
        "GET" => Out::Answer(match session.twin().await {
            Ok(twin) => write_answer(id, 200, None, &twin.client_view()),
            Err(cause) => write_error(id, &cause),
        }),
        "PATCH" => {
            let patch = parts.bytes()?;
            Out::Answer(match session.report(&patch).await {
                Ok(version) => write_answer(id, 204, Some(version), &[]),
                Err(cause) => write_error(id, &cause),
            })
        }
        "PUT" => {
            let patches = session.watch_desired();
            Out::Watch(Some(Box::new(patches)), write_answer(id, 200, None, &[]))
        }
        "DELETE" => Out::Watch(None, write_answer(id, 200, None, &[])),
        other => {
            debug!(operation = other, "a twin request has an unknown operation");
            return None;
        }
    })
}

fn write_error(id: &[u8], cause: &TwinError) -> Bytes {
    let body = serde_json::json!({
        "errorCode": cause.iothub_number(),
        "message": cause.to_string(),
    });
    write_answer(id, i32::from(cause.status()), None, body.to_string().as_bytes())
}

fn write_answer(id: &[u8], status: i32, version: Option<u64>, body: &[u8]) -> Bytes {
    let mut writer = Writer::with_capacity(body.len() + 128);
    writer.descriptor(0x72);
    let mut map = writer.map();
    writer.symbol("status");
    writer.int(status);
    map.add(2);
    if let Some(version) = version {
        writer.symbol("version");
        writer.long(i64::try_from(version).unwrap_or(i64::MAX));
        map.add(2);
    }
    writer.close(&map);
    writer.descriptor(0x73);
    let mut list = writer.list();
    for _ in 0..5 {
        writer.null();
    }
    writer.raw(id);
    list.add(6);
    writer.close(&list);
    writer.descriptor(0x75);
    writer.binary(body);
    writer.finish()
}

/// Without a correlation id: that is how a client knows it.
fn write_patch(patch: &DesiredPatch) -> Bytes {
    let mut writer = Writer::with_capacity(patch.json.len() + 16);
    writer.descriptor(0x75);
    writer.binary(&patch.json);
    writer.finish()
}
