//! What a client takes beside telemetry, as its subscriptions say: its module's inputs, commands, direct
//! methods, patches of its desired properties; and the answers to its twin requests.
//!
//! The connection asks [`Features::follow`] after every change of subscriptions, and waits for
//! [`Features::next`] beside everything else. Invariants:
//!
//! 1. Nothing is taken from the hub that the client has not subscribed to, or for which there is no room.
//! 2. Subscriptions of an earlier connection are in force again where nothing can be lost. Messages and
//!    commands are acknowledged by the SDKs even when the application has not set its handler yet, so
//!    they wait for a sign of it ([`Features::open`]); what the SDKs keep for the handler does not.

use crate::consumer::{Inputs, Parcels, inputs};
use crate::subscriptions::{New, Subscriptions};
use crate::twin::{TwinAnswer, TwinRequests};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use tracing::{debug, warn};
use weir_core::command::{Command, LockToken, Settlement};
use weir_core::id::Identity;
use weir_core::method::MethodRequest;
use weir_core::port::Consumer;
use weir_core::twin::DesiredPatch;
use weir_hub::{CommandError, Commands, DesiredPatches, Hub, MethodRequests, Session};

/// What the session holds of the hub.
pub(crate) struct Features {
    client: Identity,
    inputs: Arc<Inputs>,
    /// The module's inputs are this hub's to deliver.
    has_inputs: bool,
    seated: bool,
    /// Restored subscriptions are in force for these, too.
    open: New,
    commands: Option<Commands>,
    /// Commands of which the store is told what becomes of them; no more than the window.
    settling: FuturesUnordered<BoxFuture<'static, Result<(), CommandError>>>,
    methods: Option<MethodRequests>,
    /// Kept from one look to the next: it may read the disk, which is not to begin anew every time that
    /// the client sends something.
    desired: Option<NextPatch>,
    pub(crate) twin: TwinRequests,
}

type NextPatch = BoxFuture<'static, (DesiredPatches, DesiredPatch)>;

fn next_patch(mut patches: DesiredPatches) -> NextPatch {
    Box::pin(async move {
        let patch = patches.next().await;
        (patches, patch)
    })
}

/// Something to be sent.
pub(crate) enum Event {
    Command(Command),
    Method(MethodRequest),
    Desired(DesiredPatch),
    Twin(TwinAnswer),
    /// Nothing: a command is settled.
    Settled,
}

impl Features {
    /// Of a session in which nothing is taken yet, and where its inputs' messages come.
    pub(crate) fn new(hub: &Hub, session: &Arc<Session>) -> (Self, Parcels) {
        let client = session.identity().clone();
        // A module of another device has no queues here, whatever it is called.
        let has_inputs = client.module.is_some() && client.device == *hub.edge_device();
        let (inputs, parcels) = inputs();
        let features = Self {
            client,
            inputs: Arc::new(inputs),
            has_inputs,
            seated: false,
            open: New::default(),
            commands: None,
            settling: FuturesUnordered::new(),
            methods: None,
            desired: None,
            twin: TwinRequests::new(Arc::clone(session)),
        };
        (features, parcels)
    }

    /// From now on restored subscriptions are in force for messages and commands, too.
    pub(crate) fn open_all(&mut self) {
        self.open = New { inputs: true, commands: true, grown: false };
    }

    /// Takes what the client has subscribed to, and leaves the rest; `new` is what it has just named.
    pub(crate) fn follow(&mut self, session: &Session, wanted: &Subscriptions, new: New) {
        self.open.inputs |= new.inputs;
        self.open.commands |= new.commands;
        self.sit(session, self.open.inputs && wanted.takes_inputs(), new.grown);
        match wanted.takes_methods() {
            true if self.methods.is_none() => self.methods = Some(session.take_methods()),
            true => {}
            false => self.methods = None,
        }
        match wanted.qos_of_desired() {
            Some(_) if self.desired.is_none() => {
                self.desired = Some(next_patch(session.watch_desired()));
            }
            Some(_) => {}
            None => self.desired = None,
        }
        match wanted.qos_of_commands() {
            Some(_) if self.commands.is_none() && self.open.commands => {
                self.commands = Some(session.take_commands());
            }
            Some(_) => {}
            None => self.commands = None,
        }
    }

    /// Takes the seat at the module's inputs, or leaves it. With new inputs it is taken anew, so that
    /// the hub looks again at queues that nobody wanted before.
    fn sit(&mut self, session: &Session, wanted: bool, grown: bool) {
        let wanted = self.has_inputs && wanted;
        if wanted && (grown || !self.seated) {
            session.take_inputs(Arc::clone(&self.inputs) as Arc<dyn Consumer>);
        } else if !wanted && self.seated {
            session.leave_inputs();
        }
        self.seated = wanted;
    }

    /// True when [`Features::next`] may bring something.
    pub(crate) fn is_active(&self) -> bool {
        self.methods.is_some()
            || self.desired.is_some()
            || self.commands.is_some()
            || self.twin.is_busy()
            || !self.settling.is_empty()
    }

    /// The next thing to be sent; with `window` also what the client acknowledges; with `patch` also a
    /// patch, which says that the one before has arrived. Cancel-safe.
    pub(crate) async fn next(&mut self, window: bool, patch: bool) -> Event {
        let Self { commands, settling, methods, desired, twin, client, .. } = self;
        tokio::select! {
            biased;
            answer = twin.next(), if twin.is_busy() => Event::Twin(answer),
            request = next_method(methods), if methods.is_some() => Event::Method(request),
            (patches, given) = or_never(desired.as_mut()), if patch && desired.is_some() => {
                *desired = Some(next_patch(patches));
                Event::Desired(given)
            }
            command = next_command(commands), if window && commands.is_some() => {
                Event::Command(command)
            }
            Some(settled) = settling.next(), if !settling.is_empty() => {
                note(client, settled);
                Event::Settled
            }
            else => std::future::pending().await,
        }
    }

    /// Tells the store what becomes of commands.
    pub(crate) fn settle(&mut self, decided: Vec<(LockToken, Settlement)>) {
        // Who has left the queue has given back what he had.
        let Some(commands) = &self.commands else { return };
        for (lock, settlement) in decided {
            self.settling.push(Box::pin(commands.settle(lock, settlement)));
        }
    }

    /// Resolves when the store knows what became of the commands. Cancel-safe.
    pub(crate) async fn settled(&mut self) {
        while let Some(settled) = self.settling.next().await {
            note(&self.client, settled);
        }
    }

    /// At the end of the connection: the next answer about the twin, until nothing waits any more and the
    /// store knows what became of the commands.
    pub(crate) async fn last(&mut self) -> Option<TwinAnswer> {
        self.settled().await;
        match self.twin.is_busy() {
            true => Some(self.twin.next().await),
            false => None,
        }
    }
}

fn note(client: &Identity, settled: Result<(), CommandError>) {
    match settled {
        Ok(()) => {}
        Err(CommandError::LockLost) => debug!(%client, "a command was settled too late"),
        Err(cause) => {
            warn!(%client, error = %cause, "a command comes again, it could not be settled");
        }
    }
}

async fn next_method(methods: &mut Option<MethodRequests>) -> MethodRequest {
    match methods {
        Some(methods) => methods.next().await,
        None => std::future::pending().await,
    }
}

async fn or_never<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn next_command(commands: &mut Option<Commands>) -> Command {
    match commands {
        Some(commands) => commands.next().await,
        None => std::future::pending().await,
    }
}
