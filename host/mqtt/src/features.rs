//! What a client takes beside telemetry, as its subscriptions say: its module's inputs, commands, direct
//! methods, patches of its desired properties; and the answers to its twin requests.
//!
//! The connection calls [`Features::follow`] after every change of subscriptions, and waits for
//! [`Features::next`] beside everything else. Invariants:
//!
//! 1. Nothing is taken from the hub that the client has not subscribed to, or for which there is no room.
//! 2. Subscriptions of an earlier connection are in force again where nothing can be lost. Messages and
//!    commands are acknowledged by the SDKs even when the application has not set its handler yet, so
//!    they wait for a sign of it ([`Features::open`]); what the SDKs keep for the handler does not.

use crate::feed::Feed;
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
use weir_hub::parcels::{Inputs, Parcels, inputs};
use weir_hub::{
    CommandError, CommandSettler, Commands, DesiredPatches, Hub, MethodRequests, Session,
};

/// What the session holds of the hub.
pub(crate) struct Features {
    client: Identity,
    inputs: Arc<Inputs>,
    /// The module's inputs are this hub's to deliver.
    has_inputs: bool,
    seated: bool,
    /// Restored subscriptions are in force for these, too.
    open: New,
    commands: Feed<Commands, Command>,
    settler: Option<CommandSettler>,
    /// Commands of which the store is told what becomes of them; no more than the window.
    settling: FuturesUnordered<BoxFuture<'static, Result<(), CommandError>>>,
    methods: Option<MethodRequests>,
    desired: Feed<DesiredPatches, DesiredPatch>,
    pub(crate) twin: TwinRequests,
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
            commands: Feed::default(),
            settler: None,
            settling: FuturesUnordered::new(),
            methods: None,
            desired: Feed::default(),
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
            Some(_) if !self.desired.is_open() => self.desired.open(session.watch_desired()),
            Some(_) => {}
            None => self.desired.close(),
        }
        match wanted.qos_of_commands() {
            Some(_) if !self.commands.is_open() && self.open.commands => {
                let commands = session.take_commands();
                self.settler = Some(commands.settler());
                self.commands.open(commands);
            }
            Some(_) => {}
            None => {
                self.settler = None;
                self.commands.close();
            }
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

    /// Asks the hub for what there is room for; `window` is that for what the client acknowledges. A
    /// further patch says that the one before has arrived.
    pub(crate) fn ask(&mut self, window: bool, patch: bool) {
        self.twin.begin();
        if window {
            self.commands.begin(|mut commands| async move {
                let command = commands.next().await;
                (commands, command)
            });
        }
        if patch {
            self.desired.begin(|mut patches| async move {
                let patch = patches.next().await;
                (patches, patch)
            });
        }
    }

    /// True when [`Features::next`] may bring something.
    pub(crate) fn is_active(&self) -> bool {
        self.methods.is_some()
            || self.commands.is_under_way()
            || self.desired.is_under_way()
            || self.twin.is_under_way()
            || !self.settling.is_empty()
    }

    /// The next thing to be sent: what was asked for, and calls of methods if there is `room`.
    /// Cancel-safe.
    pub(crate) async fn next(&mut self, room: bool) -> Event {
        let Self { commands, settling, methods, desired, twin, client, .. } = self;
        tokio::select! {
            biased;
            answer = twin.next() => Event::Twin(answer),
            request = next_method(methods), if room => Event::Method(request),
            patch = desired.next() => Event::Desired(patch),
            command = commands.next() => Event::Command(command),
            Some(settled) = settling.next(), if !settling.is_empty() => {
                note(client, settled);
                Event::Settled
            }
        }
    }

    /// Tells the store what becomes of commands.
    pub(crate) fn settle(&mut self, decided: Vec<(LockToken, Settlement)>) {
        // Who has left the queue has given back what he had.
        let Some(settler) = &self.settler else { return };
        for (lock, settlement) in decided {
            self.settling.push(Box::pin(settler.settle(lock, settlement)));
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
        self.twin.begin();
        match self.twin.is_under_way() {
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
