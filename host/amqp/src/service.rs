//! Links of service clients: cloud-to-device messages sent by a back end.
//!
//! A message says in `to` whom it is for. `accepted` means that it is in the queue, on disk.

use crate::address::Address;
use crate::context::Context;
use crate::deliveries::{Deliveries, Delivery};
use crate::link;
use crate::message::{Parts, Unreadable, read_telemetry};
use crate::refusal::{Refusal, condition};
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp_types::definitions::Error as AmqpError;
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Rejected};
use std::pin::pin;
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::command::NewCommand;
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_core::properties::SystemProperty;
use weir_hub::authorize::{Operation, Protocol};
use weir_hub::{CommandError, Leave};

/// Where commands are sent.
pub(crate) const COMMANDS: &str = "/messages/devicebound";
/// Where feedback about them is read.
pub(crate) const FEEDBACK: &str = "/messages/serviceBound/feedback";
/// Messages that a client may have sent and the hub not answered: each waits for its own commit.
const CREDIT: u32 = 32;

/// Whether the service client on this connection may do this on the link at `path`.
///
/// # Errors
/// [`Refusal::NoRight`].
pub(crate) fn admit(context: &Context, operation: Operation, path: &str) -> Result<(), Refusal> {
    match context.service(path)?.may(operation, Protocol::Amqp) {
        true => Ok(()),
        false => Err(Refusal::NoRight),
    }
}

/// Serves the link on which commands are sent.
pub(crate) async fn serve_commands(mut receiver: Receiver, context: Arc<Context>) {
    let settler = receiver.settler();
    let mut deliveries = Deliveries::default();
    let mut ended = pin!(context.service_ended());
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
        let state = match send(&delivery, &context).await {
            Ok(()) => DeliveryState::Accepted(Accepted {}),
            Err(error) => DeliveryState::Rejected(Rejected { error: Some(error) }),
        };
        if !delivery.settled && settler.settle(delivery.id, delivery.id, state).await.is_err() {
            break;
        }
    }
    link::close_receiver(receiver).await;
}

/// Serves a link that the hub has nothing for yet.
pub(crate) async fn serve_idle(mut sender: Sender, context: Arc<Context>) {
    let mut ended = pin!(context.service_ended());
    tokio::select! {
        why = &mut ended => return link::end_sender(sender, &why).await,
        _ = sender.on_detach() => {}
    }
    link::close_sender(sender).await;
}

async fn send(delivery: &Delivery, context: &Context) -> Result<(), AmqpError> {
    let (target, command) = read(delivery).map_err(|(name, text)| condition(name, &text))?;
    // The right may have been taken back since the link was attached.
    admit(context, Operation::SendCommands, COMMANDS).map_err(|refusal| refusal.to_amqp())?;
    let sent = context.hub.commands().send(&context.hub, &target, command).await;
    sent.map(drop).map_err(|cause| condition(condition_of(&cause), &cause.to_string()))
}

fn read(delivery: &Delivery) -> Result<(Identity, NewCommand), (&'static str, String)> {
    let unreadable = |cause: Unreadable| (cause.condition(), cause.to_string());
    let mut messages = Vec::new();
    read_telemetry(&delivery.payload, 0, &mut messages).map_err(unreadable)?;
    let message: Message = messages.pop().unwrap_or_default();
    let to = message.properties.system(SystemProperty::To);
    let Some(Address::Commands(target)) = to.and_then(Address::parse) else {
        let text = "the message's to is not /devices/{id}/messages/devicebound".to_owned();
        return Err(("com.microsoft:argument-error", text));
    };
    let expires = Parts::read(&delivery.payload).ok().and_then(|parts| parts.expiry());
    Ok((target, NewCommand { message, expires: expires.map(Timestamp::from_micros) }))
}

fn condition_of(cause: &CommandError) -> &'static str {
    match cause {
        CommandError::Unknown(_) => "amqp:not-found",
        CommandError::TooLarge { .. } => "amqp:link:message-size-exceeded",
        CommandError::Expiry | CommandError::Ack => "com.microsoft:argument-error",
        CommandError::QueueFull(_) => "amqp:resource-limit-exceeded",
        CommandError::LockLost => "com.microsoft:message-lock-lost",
        CommandError::StoreFull => "com.microsoft:device-container-throttled",
        CommandError::Unavailable | CommandError::Store(_) => "amqp:internal-error",
    }
}

impl Context {
    /// Resolves when the service client's token is over and was not renewed.
    async fn service_ended(&self) -> Refusal {
        loop {
            let now = self.hub.clock().now();
            match self.service_until() {
                Some(until) if until > now => {
                    tokio::time::sleep(until.since(now).min(LOOK)).await;
                }
                _ => return Refusal::Left(Leave::Expired),
            }
        }
    }
}

/// Between two looks at the clock, which may be set meanwhile.
const LOOK: std::time::Duration = std::time::Duration::from_secs(30);
