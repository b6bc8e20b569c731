//! One AMQP session: what its links are for.
//!
//! A link is accepted, its addresses repeated, and then served, or ended with the reason. All links of a
//! session are polled here, also while another one is being accepted.

use crate::address::Address;
use crate::context::Context;
use crate::member::{Kind, Seat};
use crate::refusal::{Refusal, condition};
use crate::{cbs, link, methods, outbound, service, telemetry, twin};
use fe2o3_amqp::acceptor::error::AcceptorAttachError;
use fe2o3_amqp::acceptor::{LinkAcceptor, LinkEndpoint, ListenerSessionHandle};
use fe2o3_amqp::link::{CreditMode, Receiver, Sender};
use fe2o3_amqp_types::definitions::Role;
use fe2o3_amqp_types::messaging::TargetArchetype;
use fe2o3_amqp_types::performatives::Attach;
use fe2o3_amqp_types::primitives::Symbol;
use fe2o3_amqp_types::primitives::Value;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::pin::pin;
use std::sync::Arc;
use tokio::time::timeout;
use tracing::{debug, warn};
use weir_core::id::Identity;
use weir_core::limits;
use weir_hub::authorize::Operation;

/// Names the pair that a link belongs to.
const CORRELATION: &str = "com.microsoft:channel-correlation-id";

/// What a link on which the client sends is for.
enum Inbound {
    Cbs,
    Telemetry(Seat),
    MethodAnswers(Seat),
    TwinRequests(Seat),
    ServiceCommands,
}

/// What a link on which the hub sends is for.
enum Outbound {
    Cbs,
    Inputs(Seat),
    Commands(Seat),
    MethodRequests(Seat),
    TwinAnswers(Seat),
    ServiceFeedback,
}

enum Plan {
    Inbound(Result<Inbound, Refusal>),
    Outbound(Result<Outbound, Refusal>),
}

/// Serves a session until the client ends it, or the connection does.
pub(crate) async fn serve(mut session: ListenerSessionHandle, context: Arc<Context>) {
    let acceptor = LinkAcceptor::builder()
        .credit_mode(CreditMode::Manual)
        .max_message_size(limits::AMQP_MESSAGE_BYTES as u64)
        .buffer_size(limits::AMQP_FRAMES)
        .verify_incoming_source(false)
        .verify_incoming_target(false)
        .build();
    let mut links: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        let attach = tokio::select! {
            attach = session.next_incoming_attach() => attach,
            Some(()) = links.next() => continue,
        };
        let Some(attach) = attach else { return };
        let plan = plan(&attach, &context);
        let accepted = {
            let mut accepting = pin!(acceptor.accept_incoming_attach(attach, &mut session));
            loop {
                tokio::select! {
                    accepted = &mut accepting => break accepted,
                    Some(()) = links.next() => {}
                }
            }
        };
        match accepted {
            Ok(LinkEndpoint::Receiver(receiver)) => links.push(inbound(receiver, plan, &context)),
            Ok(LinkEndpoint::Sender(sender)) => links.push(outbound(sender, plan, &context)),
            Err(AcceptorAttachError::SessionStopped(_)) => return,
            Err(cause) => {
                debug!(peer = %context.peer.address, ?cause, "a link could not be attached");
                // Some of these the library has answered by a detach, others not at all: nobody is
                // left waiting.
                let error = condition("amqp:session:errant-link", "a link could not be attached");
                drop(timeout(limits::AMQP_FAREWELL, session.end_with_error(error)).await);
                return;
            }
        }
    }
}

fn plan(attach: &Attach, context: &Context) -> Plan {
    let correlation = correlation(attach);
    match attach.role {
        Role::Sender => {
            let address = match attach.target.as_deref() {
                Some(TargetArchetype::Target(target)) => target.address.as_deref(),
                _ => None,
            };
            let plan = inbound_plan(address, correlation, context);
            Plan::Inbound(log_refusal(plan, address, context))
        }
        Role::Receiver => {
            let address = attach.source.as_ref().and_then(|source| source.address.as_deref());
            let plan = outbound_plan(address, correlation, context);
            Plan::Outbound(log_refusal(plan, address, context))
        }
    }
}

fn log_refusal<T>(
    plan: Result<T, Refusal>,
    address: Option<&str>,
    context: &Context,
) -> Result<T, Refusal> {
    if let Err(refusal) = &plan {
        let cause = std::error::Error::source(refusal).map(ToString::to_string);
        warn!(peer = %context.peer.address, address, reason = %refusal, cause, "link refused");
    }
    plan
}

fn inbound_plan(
    address: Option<&str>,
    correlation: Option<String>,
    context: &Context,
) -> Result<Inbound, Refusal> {
    let sit = |identity: &Identity, kind| Ok(context.member(identity)?.sit(kind, correlation));
    match address.and_then(Address::parse).ok_or(Refusal::NoAddress)? {
        Address::Cbs => Ok(Inbound::Cbs),
        Address::Events(identity) => sit(&identity, Kind::Telemetry).map(Inbound::Telemetry),
        Address::Methods(identity) => {
            sit(&identity, Kind::MethodAnswers).map(Inbound::MethodAnswers)
        }
        Address::Twin(identity) => sit(&identity, Kind::TwinRequests).map(Inbound::TwinRequests),
        Address::ServiceCommands => {
            let admitted = service::admit(context, Operation::SendCommands, service::COMMANDS);
            admitted.map(|()| Inbound::ServiceCommands)
        }
        Address::Commands(_) | Address::ServiceFeedback => Err(Refusal::NoAddress),
    }
}

fn outbound_plan(
    address: Option<&str>,
    correlation: Option<String>,
    context: &Context,
) -> Result<Outbound, Refusal> {
    let sit = |identity: &Identity, kind| Ok(context.member(identity)?.sit(kind, correlation));
    match address.and_then(Address::parse).ok_or(Refusal::NoAddress)? {
        Address::Cbs => Ok(Outbound::Cbs),
        // A device has no inputs, nor has a module of another one.
        Address::Events(identity)
            if identity.module.is_none() || identity.device != *context.hub.edge_device() =>
        {
            Err(Refusal::NoAddress)
        }
        Address::Events(identity) => sit(&identity, Kind::Inputs).map(Outbound::Inputs),
        Address::Commands(identity) => sit(&identity, Kind::Commands).map(Outbound::Commands),
        Address::Methods(identity) => {
            sit(&identity, Kind::MethodRequests).map(Outbound::MethodRequests)
        }
        Address::Twin(identity) => sit(&identity, Kind::TwinAnswers).map(Outbound::TwinAnswers),
        Address::ServiceFeedback => {
            let admitted = service::admit(context, Operation::ReadFeedback, service::FEEDBACK);
            admitted.map(|()| Outbound::ServiceFeedback)
        }
        Address::ServiceCommands => Err(Refusal::NoAddress),
    }
}

/// The text after the first colon, which says which pair it is.
fn correlation(attach: &Attach) -> Option<String> {
    let properties = attach.properties.as_ref()?;
    let Value::String(text) = properties.get(&Symbol::from(CORRELATION))? else { return None };
    Some(text.split_once(':').map_or(text.as_str(), |(_, id)| id).to_owned())
}

fn inbound(receiver: Receiver, plan: Plan, context: &Arc<Context>) -> BoxFuture<'static, ()> {
    let Plan::Inbound(plan) = plan else { return Box::pin(link::close_receiver(receiver)) };
    match plan {
        Ok(Inbound::Cbs) => Box::pin(cbs::serve_requests(receiver, Arc::clone(context))),
        Ok(Inbound::Telemetry(seat)) => Box::pin(telemetry::serve(receiver, seat)),
        Ok(Inbound::MethodAnswers(seat)) => Box::pin(methods::serve_answers(receiver, seat)),
        Ok(Inbound::TwinRequests(seat)) => Box::pin(twin::serve_requests(receiver, seat)),
        Ok(Inbound::ServiceCommands) => {
            Box::pin(service::serve_commands(receiver, Arc::clone(context)))
        }
        Err(refusal) => Box::pin(async move { link::end_receiver(receiver, &refusal).await }),
    }
}

fn outbound(sender: Sender, plan: Plan, context: &Arc<Context>) -> BoxFuture<'static, ()> {
    let Plan::Outbound(plan) = plan else { return Box::pin(link::close_sender(sender)) };
    match plan {
        Ok(Outbound::Cbs) => Box::pin(cbs::serve_answers(sender, Arc::clone(context))),
        Ok(Outbound::Inputs(seat)) => Box::pin(outbound::serve_inputs(sender, seat)),
        Ok(Outbound::Commands(seat)) => Box::pin(outbound::serve_commands(sender, seat)),
        Ok(Outbound::MethodRequests(seat)) => Box::pin(methods::serve_requests(sender, seat)),
        Ok(Outbound::TwinAnswers(seat)) => Box::pin(twin::serve_answers(sender, seat)),
        Ok(Outbound::ServiceFeedback) => Box::pin(service::serve_idle(sender, Arc::clone(context))),
        Err(refusal) => Box::pin(async move { link::end_sender(sender, &refusal).await }),
    }
}
