//! A client whose every request stands alone (HTTP): proven each time, in nobody's place.
//!
//! Made by [`Hub::visit`] for one request. A client may be connected by another protocol meanwhile.

use crate::Hub;
use crate::authenticate::Proven;
use crate::authorize::{self, Operation, Protocol};
use crate::commands::CommandError;
use crate::hub::ConnectError;
use crate::intake::Intake;
use crate::methods::MethodError;
use crate::presence::Seen;
use weir_core::command::{Command, LockToken, Settlement};
use weir_core::id::Identity;
use weir_core::method::{MethodAnswer, MethodCall};

/// One request of a client that has proven who it is.
pub struct Visitor {
    hub: Hub,
    identity: Identity,
    seen: Seen,
}

impl Hub {
    /// Lets a single request in.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn visit(&self, proven: Proven) -> Result<Visitor, ConnectError> {
        self.may_enter(&proven.identity)?;
        let identity = proven.identity;
        let seen = self.presences().visited(self, &identity, "https");
        Ok(Visitor { hub: self.clone(), identity, seen })
    }
}

impl Visitor {
    /// Who the client is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn may(&self, operation: Operation) -> bool {
        authorize::allows(self.hub.principal(&self.identity), operation, Protocol::Https)
    }

    /// The way in for its messages.
    #[must_use]
    pub fn intake(&self) -> Intake {
        Intake::new(self.hub.clone(), self.identity.clone(), self.seen.clone())
    }

    /// The next of its cloud-to-device messages, locked for
    /// [`weir_core::limits::COMMAND_LOCK`]; none when nothing waits, or while the client is connected
    /// and holds its queue.
    pub async fn receive_command(&self) -> Option<Command> {
        if !self.may(Operation::TakeCommands) {
            return None;
        }
        self.hub.commands().receive(&self.hub, &self.identity).await
    }

    /// Says what becomes of a command that was received so; resolves after the commit.
    ///
    /// # Errors
    /// [`CommandError`].
    pub async fn settle_command(
        &self,
        lock: LockToken,
        settlement: Settlement,
    ) -> Result<(), CommandError> {
        self.hub.commands().settle(&self.hub, &self.identity, lock, settlement).await
    }

    /// Calls a method of another module of this edge device, or of a leaf device or its module.
    ///
    /// # Errors
    /// [`MethodError`].
    pub async fn invoke(
        &self,
        target: &Identity,
        call: MethodCall,
    ) -> Result<MethodAnswer, MethodError> {
        if !self.may(Operation::CallMethods) {
            let (caller, target) = (self.identity.clone(), target.clone());
            return Err(MethodError::Denied { caller, target });
        }
        let _calling = self.hub.methods().caller(&self.identity)?;
        self.hub.invoke(target, call).await
    }
}
