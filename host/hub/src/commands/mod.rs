//! Cloud-to-device messages, "commands" in the API: a durable queue for each device and module.
//!
//! Sent by operators and back ends, taken by the connected client ([`crate::Session::take_commands`])
//! or by polling over HTTP ([`crate::Visitor`]). A queue is made when the first command is sent; its
//! name begins with a slash, which no endpoint of a route does. Invariants:
//!
//! 1. A command is taken in after its commit, and gone after the commit of what its client said.
//! 2. One handing out has one lock; a lock that has ended settles nothing.
//! 3. While a client holds the queue, polling finds nothing in it.

mod error;
mod feedback;
mod holder;
mod queue;

pub use error::CommandError;
pub use feedback::FEEDBACK;
pub use holder::{Commands, Settler};

use crate::Hub;
use crate::sync::lock;
use queue::{Queue, Slot};
use smallvec::smallvec;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use weir_core::clock::Timestamp;
use weir_core::command::{Ack, Command, LockToken, NewCommand, Settlement};
use weir_core::id::{Identity, ModuleId};
use weir_core::limits;
use weir_core::message::Message;
use weir_core::properties::{Key, Properties, PropertiesBuilder, PropertiesError, SystemProperty};
use weir_core::route::Priority;
use weir_store::{Append, Peeked, Target, Why};

/// Before the identity in a queue's name.
const PREFIX: &str = "/commands/";
/// The route's name of what no route has sent.
const ROUTE: &str = "$commands";

/// A command that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The sender's own id, or one that the hub made.
    pub message_id: String,
    /// Its place in the hub's one order of messages.
    pub sequence: u64,
    /// When it is no longer handed out.
    pub expires: Timestamp,
}

/// The queues of all devices and modules.
#[derive(Debug, Default)]
pub struct CommandQueues {
    slots: Mutex<HashMap<Identity, Arc<Slot>>>,
    making: tokio::sync::Mutex<()>,
    /// Counts holders, to know a later one of the same session.
    holders: AtomicU64,
}

impl CommandQueues {
    /// Opens the queues that there are; those of identities that are gone are emptied.
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        for (endpoint, name) in hub.store().endpoint_names() {
            let Some(identity) = name.strip_prefix(PREFIX).and_then(identity_of) else { continue };
            // Its deletion did not come so far. What is left is better lost late than the hub's start.
            if hub.identities().get(&identity).is_none()
                && let Err(error) = hub.store().purge(endpoint).await
            {
                tracing::warn!(%identity, %error, "commands of a deleted identity are left");
            }
            let queue = Queue::open(hub, endpoint, &identity)?;
            self.slot(&identity).set_queue(queue);
        }
        feedback::open(hub).await
    }

    fn slot(&self, identity: &Identity) -> Arc<Slot> {
        Arc::clone(lock(&self.slots).entry(identity.clone()).or_default())
    }

    fn queue(&self, identity: &Identity) -> Option<Arc<Queue>> {
        lock(&self.slots).get(identity)?.queue()
    }

    async fn make_queue(
        &self,
        hub: &Hub,
        identity: &Identity,
    ) -> Result<Arc<Queue>, weir_store::Error> {
        if let Some(queue) = self.queue(identity) {
            return Ok(queue);
        }
        let _one = self.making.lock().await;
        if let Some(queue) = self.queue(identity) {
            return Ok(queue);
        }
        let endpoint = hub.store().endpoint(&format!("{PREFIX}{identity}")).await?;
        let queue = Queue::open(hub, endpoint, identity)?;
        self.slot(identity).set_queue(Arc::clone(&queue));
        Ok(queue)
    }

    /// Sends a command; resolves after the commit.
    ///
    /// # Errors
    /// [`CommandError`]; nothing was sent then.
    pub async fn send(
        &self,
        hub: &Hub,
        target: &Identity,
        command: NewCommand,
    ) -> Result<Sent, CommandError> {
        if hub.identities().get(target).is_none() {
            return Err(CommandError::Unknown(target.clone()));
        }
        let now = hub.clock().now();
        let expires = command.expires.unwrap_or_else(|| now.after(limits::COMMAND_TTL));
        if expires <= now || expires > now.after(limits::COMMAND_TTL_MAX) {
            return Err(CommandError::Expiry);
        }
        let id = hub.number();
        let (properties, message_id) = address(&command, target, &id.to_string())?;
        let message = Message { body: command.message.body, properties, output: None };
        let bytes = message.size_bytes();
        if bytes > limits::COMMAND_BYTES {
            return Err(CommandError::TooLarge { bytes });
        }
        let queue = self.make_queue(hub, target).await?;
        // Counting and appending are one step; a queue has few senders.
        let _one = queue.sending.lock().await;
        if queue.messages() >= limits::COMMANDS as u64 {
            return Err(CommandError::QueueFull(target.clone()));
        }
        let append = Append {
            message: message.stamp(&hub_itself(hub), id, now),
            table: hub.routing().revision,
            targets: smallvec![Target {
                endpoint: queue.endpoint,
                priority: Priority::DEFAULT.get(),
                expires,
                route: hub.store().route_number(ROUTE).await?,
            }],
        };
        let appended = hub.store().append(vec![append]).await;
        match (appended.refused, appended.first) {
            (None, Some(sequence)) => {
                hub.metrics().commands_sent.inc();
                Ok(Sent { message_id, sequence: sequence.0, expires })
            }
            (Some(refused), _) => Err(match refused.why {
                Why::Full { .. } | Why::StoreFull => CommandError::StoreFull,
                Why::Unavailable(_) | Why::Broken => CommandError::Unavailable,
            }),
            (None, None) => Err(CommandError::Unavailable),
        }
    }

    /// What waits for a device or module, in order, without taking it.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn list(&self, hub: &Hub, target: &Identity) -> Result<Vec<Peeked>, CommandError> {
        if hub.identities().get(target).is_none() {
            return Err(CommandError::Unknown(target.clone()));
        }
        let Some(queue) = self.queue(target) else { return Ok(Vec::new()) };
        queue.release_ended(hub.clock().now());
        let waiting = usize::try_from(queue.messages()).unwrap_or(limits::COMMANDS);
        Ok(hub.store().peek(queue.endpoint, None, waiting).await?)
    }

    /// Commands that have not left, of a device or module.
    #[must_use]
    pub fn count(&self, target: &Identity) -> u64 {
        self.queue(target).map_or(0, |queue| queue.messages())
    }

    /// Removes what waits, and gives the number; what a client has under a lock stays.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn purge(&self, hub: &Hub, target: &Identity) -> Result<u64, CommandError> {
        if hub.identities().get(target).is_none() {
            return Err(CommandError::Unknown(target.clone()));
        }
        let Some(queue) = self.queue(target) else { return Ok(0) };
        queue.release_ended(hub.clock().now());
        Ok(hub.store().purge(queue.endpoint).await?)
    }

    /// The identity was deleted: nothing of its queue is left to another of the same name.
    pub(crate) async fn forget(
        &self,
        hub: &Hub,
        identity: &Identity,
    ) -> Result<(), weir_store::Error> {
        let Some(queue) = self.queue(identity) else { return Ok(()) };
        self.slot(identity).dismiss();
        queue.release_all();
        hub.store().purge(queue.endpoint).await.map(drop)
    }

    /// Hands out the next command to a client that polls; none while a connected client holds the
    /// queue. The lock ends after [`limits::COMMAND_LOCK`].
    #[must_use]
    pub(crate) async fn receive(&self, hub: &Hub, identity: &Identity) -> Option<Command> {
        let slot = lock(&self.slots).get(identity).cloned()?;
        let queue = slot.queue()?;
        loop {
            if slot.is_held() {
                return None;
            }
            let now = hub.clock().now();
            queue.release_ended(now);
            let entry = queue.reader.try_next(1, usize::MAX).await.pop()?;
            let until = now.after(limits::COMMAND_LOCK);
            if let Some(command) = queue.hand_out(hub, entry, queue::Owner::Polling { until }) {
                return Some(command);
            }
        }
    }

    /// Says what becomes of a command that was received by polling.
    pub(crate) fn settle(
        &self,
        hub: &Hub,
        identity: &Identity,
        lock: LockToken,
        settlement: Settlement,
    ) -> impl Future<Output = Result<(), CommandError>> + Send + use<> {
        let queue = self.queue(identity);
        let hub = hub.clone();
        async move {
            let queue = queue.ok_or(CommandError::LockLost)?;
            queue.release_ended(hub.clock().now());
            queue.settle(&hub, lock, None, settlement).await
        }
    }
}

/// Commands are the hub's own messages, as far as their record names a sender.
fn hub_itself(hub: &Hub) -> Identity {
    let name: ModuleId = "$edgeHub".parse().expect("the name of IoT Edge's hub");
    Identity::module(hub.edge_device().clone(), name)
}

/// An identity as it prints itself.
pub(crate) fn identity_of(text: &str) -> Option<Identity> {
    match text.split_once('/') {
        Some((device, module)) => {
            Some(Identity::module(device.parse().ok()?, module.parse().ok()?))
        }
        None => Some(Identity::device(text.parse().ok()?)),
    }
}

/// The properties with `to`, a message id and the expiry that was asked for.
fn address(
    command: &NewCommand,
    target: &Identity,
    number: &str,
) -> Result<(Properties, String), CommandError> {
    let given = &command.message.properties;
    let ack = given.system(SystemProperty::Ack);
    if ack.is_some_and(|ack| Ack::from_name(ack).is_none()) {
        return Err(CommandError::Ack);
    }
    let message_id = given.system(SystemProperty::MessageId).unwrap_or(number).to_owned();
    let to = match &target.module {
        Some(module) => {
            format!("/devices/{}/modules/{module}/messages/devicebound", target.device)
        }
        None => format!("/devices/{}/messages/devicebound", target.device),
    };
    let mut properties = PropertiesBuilder::default();
    let mut push = |key, value: Option<&str>| {
        properties.push(key, value).map_err(|problem| match problem {
            PropertiesError::TooMany | PropertiesError::TooLarge | PropertiesError::Damaged => {
                CommandError::TooLarge { bytes: command.message.size_bytes() }
            }
        })
    };
    push(Key::System(SystemProperty::MessageId), Some(&message_id))?;
    push(Key::System(SystemProperty::To), Some(&to))?;
    if let Some(expires) = command.expires {
        push(Key::System(SystemProperty::ExpiryTime), Some(&expires.to_string()))?;
    }
    for (key, value) in given.iter() {
        push(key, value)?;
    }
    Ok((properties.build(), message_id))
}
