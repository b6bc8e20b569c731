//! What has been proven on one connection: tokens put on `$cbs` or given with SASL PLAIN, and the
//! certificates of the TLS handshake.
//!
//! A token is judged when it is put and again when a link of its identity is attached. Renewal moves the
//! end of the proof; links watch it.

use crate::refusal::Refusal;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::sas::SasToken;
use weir_hub::Hub;
use weir_hub::authenticate::{Credentials, Proven, Refusal as CredentialsRefusal};

/// A token, and until when it counts.
struct Held {
    token: String,
    until: watch::Sender<Timestamp>,
}

/// A service client's token.
struct Service {
    token: String,
    until: Timestamp,
}

/// The tokens of one connection.
#[derive(Default)]
pub(crate) struct Tokens {
    held: Mutex<HashMap<Identity, Held>>,
    service: Mutex<Option<Service>>,
}

/// An identity that has been proven on this connection.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) proven: Proven,
    /// Until when, as it stands.
    pub(crate) until: watch::Receiver<Timestamp>,
}

/// Why a token was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// It is no token of a device, module or service client.
    #[error("the token cannot be read")]
    Form,
    /// It proves nothing.
    #[error("the token proves nothing")]
    Credentials(#[from] CredentialsRefusal),
    /// Nor does the one of a service client.
    #[error("the token opens nothing")]
    Service(#[from] weir_hub::ServiceRefusal),
    /// More identities than a connection may have.
    #[error("the connection has as many identities as it may have")]
    TooMany,
}

impl Tokens {
    /// Takes a token; a later one of the same identity renews its links. Says whose it is; none for a
    /// service client.
    ///
    /// # Errors
    /// [`PutError`]; an earlier token stays.
    pub(crate) fn put(&self, hub: &Hub, text: &str) -> Result<Option<Identity>, PutError> {
        let token = SasToken::parse(text).map_err(|_| PutError::Form)?;
        let until = token.expires().after(limits::TOKEN_SKEW);
        if token.policy().is_some() {
            hub.authenticate_service(text, "")?;
            *lock(&self.service) = Some(Service { token: text.to_owned(), until });
            return Ok(None);
        }
        let audience = token.audience().map_err(|_| PutError::Form)?;
        let identity = audience.identity().ok_or(PutError::Form)?;
        hub.authenticate(&identity, Credentials::Password(text))?;
        let mut held = lock(&self.held);
        if let Some(held) = held.get_mut(&identity) {
            text.clone_into(&mut held.token);
            held.until.send_replace(until);
        } else if held.len() >= limits::AMQP_IDENTITIES {
            return Err(PutError::TooMany);
        } else {
            let new = Held { token: text.to_owned(), until: watch::Sender::new(until) };
            held.insert(identity.clone(), new);
        }
        Ok(Some(identity))
    }

    /// Proves an identity anew by what this connection has: its own token, its device's, or the
    /// certificates that were shown.
    ///
    /// # Errors
    /// [`Refusal::Unproven`].
    pub(crate) fn prove(
        &self,
        hub: &Hub,
        identity: &Identity,
        certificates: &[Vec<u8>],
    ) -> Result<Proof, Refusal> {
        let held = lock(&self.held);
        let device = || Identity::device(identity.device.clone());
        if let Some(held) = held.get(identity).or_else(|| held.get(&device())) {
            let credentials = Credentials::Password(&held.token);
            let proven = hub.authenticate(identity, credentials).map_err(Refusal::Unproven)?;
            return Ok(Proof { proven, until: held.until.subscribe() });
        }
        let credentials = Credentials::of(None, certificates);
        let proven = hub.authenticate(identity, credentials).map_err(Refusal::Unproven)?;
        let until = proven.expires.unwrap_or(Timestamp::NEVER);
        Ok(Proof { proven, until: watch::channel(until).1 })
    }

    /// The policy of the service client on this connection, for a link at `path`.
    ///
    /// # Errors
    /// [`Refusal::NoRight`].
    pub(crate) fn service(
        &self,
        hub: &Hub,
        path: &str,
    ) -> Result<&'static weir_hub::ServicePolicy, Refusal> {
        let service = lock(&self.service);
        let service = service.as_ref().ok_or(Refusal::NoRight)?;
        hub.authenticate_service(&service.token, path).map_err(|_| Refusal::NoRight)
    }

    /// Until when the service client's token counts.
    pub(crate) fn service_until(&self) -> Option<Timestamp> {
        lock(&self.service).as_ref().map(|service| service.until)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
