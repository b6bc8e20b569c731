//! What became of commands whose sender wants to know (`iothub-ack`).
//!
//! Kept in a queue of the store, bounded in bytes, the oldest go first: a record is committed together
//! with the end of its command. Whoever reads it takes it from the queue [`FEEDBACK`].

use crate::Hub;
use smallvec::smallvec;
use weir_core::clock::Timestamp;
use weir_core::command::Ack;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::message::{Message, StampedMessage};
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_core::route::Priority;
use weir_store::{Append, QueueLimit, Target, WhenFull};

/// Name of the queue of feedback.
pub const FEEDBACK: &str = "/feedback";

/// How a command ended, by IoT Hub's status codes of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Success,
    DeliveryCountExceeded,
    Rejected,
}

impl End {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::DeliveryCountExceeded => "DeliveryCountExceeded",
            Self::Rejected => "Rejected",
        }
    }

    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Success => "the client took it",
            Self::DeliveryCountExceeded => "it was handed out too often",
            Self::Rejected => "the client rejected it",
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Success => "completed",
            Self::DeliveryCountExceeded => "delivery_count_exceeded",
            Self::Rejected => "rejected",
        }
    }
}

/// What a record needs of a command whose sender wants to know.
#[derive(Debug, Clone)]
pub(super) struct Told {
    ack: Ack,
    message_id: String,
    enqueued: Timestamp,
}

impl Told {
    pub(super) fn of(ack: Ack, message: &StampedMessage) -> Option<Self> {
        let message_id = message.properties().system(SystemProperty::MessageId)?;
        (ack != Ack::None).then(|| Self {
            ack,
            message_id: message_id.to_owned(),
            enqueued: message.enqueued(),
        })
    }
}

/// Opens the queue with its limit, if there is one.
pub(super) async fn open(hub: &Hub) -> Result<(), weir_store::Error> {
    let known = hub.store().endpoint_names().into_iter().any(|(_, name)| name == FEEDBACK);
    if known {
        limited(hub).await?;
    }
    Ok(())
}

async fn limited(hub: &Hub) -> Result<weir_store::EndpointId, weir_store::Error> {
    let endpoint = hub.store().endpoint(FEEDBACK).await?;
    let max_bytes = Some(limits::FEEDBACK_BYTES);
    hub.store().set_limit(endpoint, QueueLimit { max_bytes, when_full: WhenFull::DropOldest });
    Ok(endpoint)
}

/// A record to be committed with the end; none when the sender does not want to know of this end.
pub(super) async fn record(
    hub: &Hub,
    target: &Identity,
    told: &Told,
    end: End,
) -> Result<Option<Append>, weir_store::Error> {
    if !told.ack.wants(end == End::Success) {
        return Ok(None);
    }
    let generation = hub.identities().get(target);
    let generation = generation.map(|found| found.record.generation_id.clone());
    let body = serde_json::json!({
        "originalMessageId": told.message_id,
        "enqueuedTimeUtc": told.enqueued.to_string(),
        "statusCode": end.name(),
        "description": end.reason(),
        "deviceId": target.device,
        "moduleId": target.module,
        "deviceGenerationId": generation,
    });
    let mut properties = PropertiesBuilder::default();
    let key = Key::System(SystemProperty::ContentType);
    // One short property of one name is always within the limits.
    drop(properties.push(key, Some("application/json")));
    let body = body.to_string().into();
    let message = Message { body, properties: properties.build(), output: None };
    let now = hub.clock().now();
    let target = Target {
        endpoint: limited(hub).await?,
        priority: Priority::DEFAULT.get(),
        expires: now.after(limits::COMMAND_TTL_MAX),
        route: hub.store().route_number(super::ROUTE).await?,
    };
    Ok(Some(Append {
        message: message.stamp(&super::hub_itself(hub), hub.number(), now),
        table: hub.routing().revision,
        targets: smallvec![target],
    }))
}
