//! One connection, as the handlers of its requests see it: where it comes from and what it has shown.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_hub::door::{Guest, Peer};

/// In the extensions of every request; cheap to clone.
#[derive(Clone)]
pub(crate) struct Client(Arc<Inner>);

struct Inner {
    peer: Peer,
    standing: Mutex<Standing>,
}

/// Whose places the connection takes.
enum Standing {
    Guest(Guest),
    Proven { _place: OwnedSemaphorePermit },
}

impl Client {
    pub(super) fn new(peer: Peer, guest: Guest) -> Self {
        Self(Arc::new(Inner { peer, standing: Mutex::new(Standing::Guest(guest)) }))
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    /// A request has proven who sends it: the connection goes over to the places of those who have. As
    /// long as there is none it keeps its own.
    pub(crate) fn proven(&self, places: &Arc<Semaphore>) {
        let mut standing = self.0.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Standing::Guest(_) = *standing
            && let Ok(place) = Arc::clone(places).try_acquire_owned()
        {
            *standing = Standing::Proven { _place: place };
        }
    }

    /// Credentials were refused; those who fail often wait for the answer.
    pub(crate) async fn refused(&self) {
        let delay = match &*self.0.standing.lock().unwrap_or_else(PoisonError::into_inner) {
            Standing::Guest(guest) => guest.failed(),
            Standing::Proven { .. } => Duration::ZERO,
        };
        tokio::time::sleep(delay).await;
    }
}
