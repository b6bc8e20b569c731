//! What clients are told when something is refused or ends: conditions that decide what an SDK does next.

use fe2o3_amqp_types::definitions::{Error as AmqpError, ErrorCondition};
use fe2o3_amqp_types::primitives::Symbol;
use weir_hub::authenticate::Refusal as CredentialsRefusal;
use weir_hub::{ConnectError, Leave};

/// Why a link is refused, or ended by the hub. Texts are for the client and have no secret in them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nothing is at the address, or nothing for this direction.
    #[error("there is no such address, or no link in this direction at it")]
    NoAddress,
    /// The identity in the address has not proven itself on this connection.
    #[error("the identity has not proven who it is")]
    Unproven(#[source] CredentialsRefusal),
    /// The service client may not do this.
    #[error("the shared access policy does not allow this, or no token of one was put")]
    NoRight,
    /// The hub does not let the client in.
    #[error("the hub cannot take the client")]
    Connect(#[source] ConnectError),
    /// The hub has asked the client to go.
    #[error("{}", leave_text(*.0))]
    Left(Leave),
    /// A later link of the same kind has taken its place, or its partner has another correlation id.
    #[error("a later link has taken the place of this one")]
    Replaced,
    /// Messages without credit.
    #[error("there was no credit for a message")]
    NoCredit,
    /// Transfers that are no delivery.
    #[error("a delivery is not in order: {0}")]
    Delivery(&'static str),
    /// A message over the link's limit.
    #[error("a message is over the link's max-message-size")]
    TooLarge,
    /// Too much waits already.
    #[error("{0}")]
    Limit(&'static str),
    /// The hub stops.
    #[error("the hub stops")]
    Draining,
}

impl Refusal {
    /// As it goes on the wire.
    pub(crate) fn to_amqp(&self) -> AmqpError {
        condition(self.condition(), &self.to_string())
    }

    fn condition(&self) -> &'static str {
        match self {
            Self::NoAddress => "amqp:not-found",
            // Of an identity that does not exist nothing is said, as in IoT Hub.
            Self::Unproven(_)
            | Self::NoRight
            | Self::Connect(ConnectError::WasmModule)
            | Self::Left(Leave::Expired | Leave::Revoked) => "amqp:unauthorized-access",
            Self::Connect(ConnectError::Full) | Self::Limit(_) => "amqp:resource-limit-exceeded",
            Self::Connect(ConnectError::NotReady) => "amqp:internal-error",
            Self::Left(Leave::TakenOver) | Self::Replaced => "amqp:link:stolen",
            Self::NoCredit => "amqp:link:transfer-limit-exceeded",
            Self::Delivery(_) => "amqp:not-allowed",
            Self::TooLarge => "amqp:link:message-size-exceeded",
            Self::Draining => "amqp:connection:forced",
        }
    }
}

/// An error of the wire.
pub(crate) fn condition(name: &'static str, description: &str) -> AmqpError {
    let condition = ErrorCondition::Custom(Symbol::from(name));
    AmqpError::new(condition, Some(description.to_owned()), None)
}

fn leave_text(leave: Leave) -> &'static str {
    match leave {
        Leave::TakenOver => "the identity has connected again",
        Leave::Expired => "the proof of identity has expired",
        Leave::Revoked => "the identity has changed",
    }
}
