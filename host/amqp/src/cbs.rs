//! `$cbs`: tokens of devices, modules and service clients.
//!
//! A request on the link that the client sends on is answered on the one that it receives on, with the
//! request's message id as correlation id, in the same type. **SDKs take exactly 200 for success.** A token that
//! proves nothing is 401, which they show as `UnauthorizedError`; what is no request is 400.

use crate::codec::{Value, Writer};
use crate::context::Context;
use crate::deliveries::Deliveries;
use crate::link;
use crate::message::Parts;
use crate::tokens::PutError;
use bytes::Bytes;
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp_types::definitions::DeliveryTag;
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc};
use tracing::{debug, warn};

/// Answers that wait for the client's credit.
const ANSWERS: usize = 16;
/// Requests that a client may have sent and the hub not answered.
const CREDIT: u32 = 16;

/// Kinds of tokens: IoT Hub's own name, and Service Bus's, which the SDKs use.
const TYPES: [&str; 3] =
    ["azure-devices.net:sastoken", "servicebus.windows.net:sastoken", "amqp:sastoken"];

/// The answers of a connection, on their way to the link that the client receives on.
pub(crate) struct Answers {
    sender: mpsc::Sender<Bytes>,
    receiver: Mutex<mpsc::Receiver<Bytes>>,
}

impl Default for Answers {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(ANSWERS);
        Self { sender, receiver: Mutex::new(receiver) }
    }
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: i32,
    description: String,
}

impl Answer {
    fn new(status: i32, description: &str) -> Self {
        Self { status, description: description.to_owned() }
    }
}

/// Serves the link that the client sends requests on.
pub(crate) async fn serve_requests(mut receiver: Receiver, context: Arc<Context>) {
    let mut deliveries = Deliveries::default();
    let settler = receiver.settler();
    let mut used = CREDIT;
    loop {
        if used >= CREDIT / 2 {
            if receiver.set_credit(CREDIT).await.is_err() {
                break;
            }
            used = 0;
        }
        let delivery = match deliveries.next(&mut receiver).await {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(refusal)) => return link::end_receiver(receiver, &refusal).await,
            Err(_) => break,
        };
        used += 1;
        if !delivery.settled {
            let state = DeliveryState::Accepted(Accepted {});
            if settler.settle(delivery.id, delivery.id, state).await.is_err() {
                break;
            }
        }
        let answer = answer(&delivery.payload, &context).await;
        // Who does not read the answers does not need them; the link waits until he does.
        if context.cbs.sender.send(answer).await.is_err() {
            break;
        }
    }
    link::close_receiver(receiver).await;
}

/// Serves the link that the client receives answers on.
pub(crate) async fn serve_answers(mut sender: Sender, context: Arc<Context>) {
    let mut answers = context.cbs.receiver.lock().await;
    let mut number = 0u32;
    loop {
        if sender.credited().await.is_err() {
            break;
        }
        let answer = {
            let mut gone = pin!(sender.on_detach());
            tokio::select! {
                _ = &mut gone => break,
                answer = answers.recv() => answer,
            }
        };
        let Some(answer) = answer else { break };
        number = number.wrapping_add(1);
        let tag = DeliveryTag::from(number.to_be_bytes());
        if sender.send_encoded(tag, 0, answer, true).await.is_err() {
            break;
        }
    }
    drop(answers);
    link::close_sender(sender).await;
}

async fn answer(payload: &[u8], context: &Context) -> Bytes {
    let parts = match Parts::read(payload) {
        Ok(parts) => parts,
        Err(cause) => return write_answer(None, &Answer::new(400, &cause.to_string())),
    };
    let answer = match read_request(&parts) {
        Err(problem) => Answer::new(400, problem),
        Ok(token) => put(token, context).await,
    };
    write_answer(parts.message_id().map(|field| field.encoded), &answer)
}

async fn put(token: &str, context: &Context) -> Answer {
    match context.put_token(token).await {
        Ok(whose) => {
            debug!(peer = %context.peer.address, whose, "a token was put");
            Answer::new(200, "OK")
        }
        Err(cause) => {
            let reason = std::error::Error::source(&cause).map(ToString::to_string);
            let reason = reason.unwrap_or_else(|| cause.to_string());
            warn!(peer = %context.peer.address, reason, "a token was refused");
            match cause {
                PutError::Form => Answer::new(400, &cause.to_string()),
                PutError::Credentials(_) | PutError::Service(_) => {
                    Answer::new(401, &cause.to_string())
                }
                PutError::TooMany => Answer::new(403, &cause.to_string()),
            }
        }
    }
}

/// The token of a well-formed request.
fn read_request<'a>(parts: &Parts<'a>) -> Result<&'a str, &'static str> {
    let text = |name| match parts.application(name) {
        Some(Value::String(text) | Value::Symbol(text)) => Some(text),
        _ => None,
    };
    if parts.message_id().is_none() {
        return Err("the request has no message-id");
    }
    if text("operation") != Some("put-token") {
        return Err("the operation is not put-token");
    }
    if !text("type").is_some_and(|kind| TYPES.contains(&kind)) {
        return Err("the type is not that of a shared access signature");
    }
    if text("name").is_none_or(str::is_empty) {
        return Err("the name is empty");
    }
    match parts.body {
        crate::message::Body::Value(Value::String(token))
            if token.starts_with("SharedAccessSignature ") =>
        {
            Ok(token)
        }
        _ => Err("the body is not a shared access signature in a value of type string"),
    }
}

fn write_answer(correlation: Option<&[u8]>, answer: &Answer) -> Bytes {
    let mut writer = Writer::default();
    writer.descriptor(0x73);
    let mut list = writer.list();
    for _ in 0..5 {
        writer.null();
    }
    match correlation {
        Some(id) => writer.raw(id),
        None => writer.null(),
    }
    list.add(6);
    writer.close(&list);
    writer.descriptor(0x74);
    let mut map = writer.map();
    writer.string("status-code");
    writer.int(answer.status);
    writer.string("status-description");
    writer.string(&answer.description);
    map.add(4);
    writer.close(&map);
    writer.descriptor(0x77);
    writer.null();
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the unit tests of Azure IoT Edge (MIT).
    const CASES: &str = include_str!("../../../tests/golden/iotedge/amqp.json");

    fn request(case: &serde_json::Value) -> Bytes {
        let mut writer = Writer::default();
        writer.descriptor(0x73);
        let mut list = writer.list();
        writer.string("id-1");
        list.add(1);
        writer.close(&list);
        writer.descriptor(0x74);
        let mut map = writer.map();
        for name in ["operation", "type", "name"] {
            writer.string(name);
            writer.string(case[name].as_str().unwrap());
            map.add(2);
        }
        writer.close(&map);
        writer.descriptor(0x77);
        let body = case["body"].as_str().unwrap();
        let token = "SharedAccessSignature sr=h%2Fdevices%2Fd&sig=s&se=1";
        writer.string(&body.replace("<valid sas>", token));
        writer.finish()
    }

    #[test]
    fn requests_are_taken_and_refused_as_in_the_original() {
        let all: serde_json::Value = serde_json::from_str(CASES).unwrap();
        for case in all["cbs_put_token"].as_array().unwrap() {
            let request = request(case);
            let read = read_request(&Parts::read(&request).unwrap()).is_ok();
            assert_eq!(read, case["valid"] == true, "{case}");
        }
    }

    #[test]
    fn the_originals_audiences_name_the_same_identities() {
        use weir_core::sas::Audience;
        let all: serde_json::Value = serde_json::from_str(CASES).unwrap();
        for case in all["cbs_audience_ids"].as_array().unwrap() {
            let audience = Audience::parse(case["audience"].as_str().unwrap());
            let identity = audience.ok().and_then(|audience| audience.identity());
            let device = identity.as_ref().map(|identity| identity.device.as_str());
            assert_eq!(device, case["deviceId"].as_str(), "{case}");
            let module = identity.as_ref().and_then(|identity| identity.module.as_ref());
            assert_eq!(module.map(AsRef::as_ref), case["moduleId"].as_str(), "{case}");
        }
    }
}
