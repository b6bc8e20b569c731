//! Why a connection ends.

use crate::deadlines::Late;
use std::io;
use weir_core::message::Message;
use weir_core::properties::PropertiesError;
use weir_core::topic::TopicError;
use weir_core::topic::bag::BagError;
use weir_core::{limits, user_name::UserNameError};
use weir_hub::{IntakeError, Leave};
use weir_mqtt_codec::PacketKind;

/// What ends a connection. Texts are for the log; a client is told no more than a return code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The client has sent DISCONNECT: the only good end.
    #[error("the client disconnected")]
    Disconnected,
    /// End of the stream without DISCONNECT.
    #[error("the client closed the connection")]
    Closed,
    /// The network.
    #[error("the connection was lost")]
    Lost(#[source] io::Error),
    /// A step of the beginning took too long.
    #[error("{step} took more than {} s", limit.as_secs())]
    TooSlow {
        /// Which.
        step: &'static str,
        /// What is allowed.
        limit: std::time::Duration,
    },
    /// The client is silent, or does not send or read what has begun.
    #[error("{}", late_text(*.0))]
    Late(Late),
    /// Bytes that are no packet, or a packet over its limits.
    #[error("the client sent what is no packet of MQTT 3.1.1")]
    Packet(#[from] weir_mqtt_codec::Error),
    /// A packet that has no place here.
    #[error("{kind} cannot be sent by a client {when}")]
    Unexpected {
        /// Which.
        kind: PacketKind,
        /// `before CONNECT`, …
        when: &'static str,
    },
    /// QoS 2 is not offered (as in IoT Hub).
    #[error("the client published with QoS 2")]
    Qos2,
    /// A topic that the hub does not know.
    #[error("the client published to a topic that cannot be taken")]
    Topic(#[from] TopicError),
    /// A topic of another identity.
    #[error("the client published in the name of another identity")]
    Foreign,
    /// A property bag that cannot be read.
    #[error("the client's message has properties that cannot be read")]
    Bag(#[from] BagError),
    /// Properties that do not fit, once those of the hub are added.
    #[error("the client's message has too many properties")]
    Properties(#[from] PropertiesError),
    /// Over the limit for a message.
    #[error("a message of {bytes} bytes is over {}", limits::MAX_MESSAGE_BYTES)]
    MessageTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// No room for the client's messages.
    #[error("the client's messages could not be taken")]
    NoRoom(#[from] IntakeError),
    /// A subscription could not be kept.
    #[error("the client's subscriptions could not be stored")]
    Subscriptions(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nobody knows whether a patch of the twin was stored.
    #[error("the store did not answer a request about the client's twin")]
    Twin,
    /// The hub asks the client to go.
    #[error("{}", leave_text(*.0))]
    Left(Leave),
    /// The hub stops.
    #[error("the hub stops")]
    Draining,
    /// Not let in; what the client is told is in the CONNACK.
    #[error("refused")]
    Refused(#[from] Refused),
}

/// Why a CONNECT is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// MQTT 3.1, 5 or something else.
    #[error("protocol {name:?} level {level} is not spoken")]
    Version {
        /// Name of the protocol.
        name: String,
        /// Its level.
        level: u8,
    },
    /// Not ready, full, or the store cannot be asked.
    #[error("the hub cannot take clients now: {0}")]
    Unavailable(String),
    /// A client id that is empty in a session that is to be kept [MQTT-3.1.3-8].
    #[error("the client id is empty")]
    EmptyClientId,
    /// No user name.
    #[error("there is no user name")]
    NoUserName,
    /// A user name that cannot be read.
    #[error("the user name cannot be read")]
    UserName(#[source] UserNameError),
    /// The client id is not the identity of the user name.
    #[error("the client id is not the identity of the user name")]
    ClientId,
    /// A will that could not be published.
    #[error("the will cannot be published")]
    Will(#[source] Box<Error>),
    /// The credentials prove nothing.
    #[error("{identity} has not proven who it is")]
    Credentials {
        /// Whom it claimed to be.
        identity: weir_core::id::Identity,
        /// Why not.
        #[source]
        cause: weir_hub::authenticate::Refusal,
    },
    /// A Wasm module has this name.
    #[error("the name belongs to a Wasm module")]
    WasmModule,
}

impl Error {
    /// True when the client's will is to be published: always, but after DISCONNECT [MQTT-3.14.4-3]
    /// and when the client has lost the right to publish.
    pub(crate) fn publishes_will(&self) -> bool {
        !matches!(self, Self::Disconnected | Self::Left(Leave::Revoked))
    }

    /// True when the client has done something that only a faulty or hostile one does.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::Packet(_)
                | Self::Unexpected { .. }
                | Self::Qos2
                | Self::Topic(_)
                | Self::Foreign
                | Self::Bag(_)
                | Self::Properties(_)
                | Self::MessageTooLarge { .. }
        )
    }
}

/// The size of a message, checked.
pub(crate) fn check_size(message: &Message) -> Result<(), Error> {
    match message.size_bytes() {
        bytes if bytes > limits::MAX_MESSAGE_BYTES => Err(Error::MessageTooLarge { bytes }),
        _ => Ok(()),
    }
}

fn late_text(late: Late) -> &'static str {
    match late {
        Late::Silent => "the client was silent for one and a half times its keep-alive",
        Late::Packet => "the client began a packet and did not end it",
        Late::Reading => "the client does not read",
    }
}

fn leave_text(leave: Leave) -> &'static str {
    match leave {
        Leave::TakenOver => "the identity has connected again",
        Leave::Expired => "the client's proof of identity has expired",
        Leave::Revoked => "the client's identity has changed",
    }
}
