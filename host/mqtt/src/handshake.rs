//! From the first byte to CONNACK: who the client is and what it is told.
//!
//! Return codes decide what becomes of an SDK: after one 5 the Python SDK never comes back. So 5 is
//! for those who have no right to connect, 3 for everything that may be otherwise in a moment, and 2
//! for nothing that an SDK sends (only for the empty client id for which the standard demands it).

use crate::error::{Error, Refused};
use crate::subscriptions::Subscriptions;
use crate::translate::{Asked, Translator};
use crate::wire::{Ready, Wire};
use std::future::Future;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::sas::SasError;
use weir_core::user_name::UserName;
use weir_hub::authenticate::{Credentials, Refusal as CredentialsRefusal};
use weir_hub::door::Peer;
use weir_hub::{ConnectError, Hub, Publication, Session};
use weir_mqtt_codec::{
    Connack, Connect, Delivery, Limits, Packet, PacketId, Publish, Qos, Refusal, Will, decode,
};

/// Before the client is known.
const LIMITS: Limits = Limits { max_packet_bytes: limits::MAX_CONNECT_BYTES, max_filters: 1 };

/// A client that was let in.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) subscriptions: Subscriptions,
    /// False: subscriptions end with the connection.
    pub(crate) persistent: bool,
    pub(crate) keep_alive_secs: u16,
    pub(crate) will: Option<Publication>,
}

/// Reads the first packet, which must be whole in time.
///
/// # Errors
/// [`Error`]: there is nobody to answer.
pub(crate) async fn first_packet<S>(wire: &mut Wire<S>) -> Result<Packet, Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let read = async {
        loop {
            if let Some(packet) = decode(&mut wire.incoming, &LIMITS)? {
                return Ok(packet);
            }
            match wire.ready(true).await {
                Ok(Ready::Read | Ready::Written) => {}
                Ok(Ready::End) => return Err(Error::Closed),
                Err(cause) => return Err(Error::Lost(cause)),
            }
        }
    };
    let limit = limits::CONNECT_LIMIT;
    timeout(limit, read).await.unwrap_or(Err(Error::TooSlow { step: "CONNECT", limit }))
}

/// Lets a client in, and says whether the hub has state of it from before.
///
/// # Errors
/// [`Error::Refused`] is to be answered with [`return_code`]; after others nothing is said.
pub(crate) async fn welcome(hub: &Hub, packet: Packet, peer: &Peer) -> Result<Client, Error> {
    let connect = match packet {
        Packet::Connect(connect) => connect,
        Packet::UnsupportedConnect(connect) => {
            let (name, level) = (connect.protocol_name.to_string(), connect.level);
            return Err(Refused::Version { name, level }.into());
        }
        // [MQTT-3.1.0-1]
        other => return Err(Error::Unexpected { kind: other.kind(), when: "before CONNECT" }),
    };
    // Before anything is judged: while the hub starts it knows nobody.
    if !hub.is_ready() {
        return Err(unavailable(&ConnectError::NotReady).into());
    }
    let identity = claimed(&connect)?;
    let will = connect.will.as_ref().map(|will| publication(will, &identity)).transpose()?;
    let proven = hub
        .authenticate(&identity, credentials(&connect, peer, &identity)?)
        .map_err(|cause| Refused::Credentials { identity: identity.clone(), cause })?;
    let session = hub.connect(proven, peer.protocol, &peer.address.to_string()).map_err(
        |cause| match cause {
            ConnectError::WasmModule => Refused::WasmModule,
            ConnectError::Full | ConnectError::NotReady => unavailable(&cause),
        },
    )?;
    let persistent = !connect.clean_session;
    let kept = match persistent {
        true => from_store(session.subscriptions()).await?,
        // A clean session begins without the past and leaves nothing behind [MQTT-3.1.2-6].
        false => from_store(session.forget_subscriptions()).await.map(|()| Vec::new())?,
    };
    let subscriptions = Subscriptions::restore(identity, kept);
    let keep_alive_secs = connect.keep_alive_secs;
    Ok(Client { session, subscriptions, persistent, keep_alive_secs, will })
}

/// Whom the user name claims; the client id must be the same, byte for byte.
fn claimed(connect: &Connect) -> Result<Identity, Refused> {
    if connect.client_id.as_bytes().is_empty() && !connect.clean_session {
        return Err(Refused::EmptyClientId);
    }
    let login = connect.login.as_ref().ok_or(Refused::NoUserName)?;
    let user_name = UserName::parse(login.user_name.as_str()).map_err(Refused::UserName)?;
    match user_name.allows_client_id(connect.client_id.as_str()) {
        true => Ok(user_name.identity),
        false => Err(Refused::ClientId),
    }
}

fn credentials<'a>(
    connect: &'a Connect,
    peer: &'a Peer,
    identity: &Identity,
) -> Result<Credentials<'a>, Refused> {
    let password = connect.login.as_ref().and_then(|login| login.password.as_deref());
    let password = password.map(std::str::from_utf8).transpose().map_err(|_| {
        let cause = CredentialsRefusal::Token(SasError::Form);
        Refused::Credentials { identity: identity.clone(), cause }
    })?;
    Ok(Credentials::of(password, &peer.certificates))
}

/// The will as the message that it will be: it obeys the same rules as what the client publishes.
fn publication(will: &Will, identity: &Identity) -> Result<Publication, Refused> {
    let delivery = match will.qos {
        Qos::AtMostOnce => Delivery::AtMostOnce,
        Qos::AtLeastOnce => Delivery::AtLeastOnce { id: PacketId::MIN, dup: false },
        Qos::ExactlyOnce => return Err(Refused::Will(Box::new(Error::Qos2))),
    };
    let (topic, payload) = (will.topic.clone(), will.payload.clone());
    let publish = Publish { topic, payload, delivery, retain: will.retain };
    let asked = Translator::new(identity.clone()).read(&publish);
    match asked.map_err(|cause| Refused::Will(Box::new(cause)))? {
        Asked::Telemetry(message) => {
            Ok(Publication { message, reliable: will.qos != Qos::AtMostOnce })
        }
        // Requests of somebody who is gone.
        Asked::TwinGet { .. } | Asked::TwinPatch { .. } | Asked::MethodResponse { .. } => {
            Err(Refused::Will(Box::new(Error::Foreign)))
        }
    }
}

fn unavailable(cause: &dyn std::error::Error) -> Refused {
    Refused::Unavailable(cause.to_string())
}

async fn from_store<T, E: std::error::Error>(
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Refused> {
    match timeout(limits::CONNECT_LIMIT, answer).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(cause)) => Err(unavailable(&cause)),
        Err(_) => Err(Refused::Unavailable("the store does not answer".to_owned())),
    }
}

/// What a refused client is told.
pub(crate) fn return_code(refused: &Refused) -> Connack {
    Connack::Refused(match refused {
        Refused::Version { .. } => Refusal::ProtocolVersion,
        Refused::EmptyClientId => Refusal::IdentifierRejected,
        Refused::Unavailable(_) => Refusal::ServerUnavailable,
        Refused::NoUserName
        | Refused::UserName(_)
        | Refused::ClientId
        | Refused::Will(_)
        | Refused::Credentials { .. }
        | Refused::WasmModule => Refusal::NotAuthorized,
    })
}
