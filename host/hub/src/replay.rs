//! Dead letters that get another chance.
//!
//! A replayed message goes, as a new message, into the queue in which it was given up, and nowhere
//! else: the other queues of its route have had it. It leaves the dead letters in the same
//! transaction.

use crate::Hub;
use smallvec::smallvec;
use weir_core::clock::Timestamp;
use weir_core::error_code::ErrorCode;
use weir_core::id::MessageId;
use weir_core::route::Priority;
use weir_store::{Append, Change, CommitError, DeadLetter, DeadLetterId, Target};

/// A dead letter that is a message again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// The dead letter that is gone.
    pub dead_letter: DeadLetterId,
    /// The new message.
    pub message: MessageId,
}

/// Why nothing was replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// There is none of this number.
    #[error("there is no dead letter {}", .0.0)]
    Unknown(DeadLetterId),
    /// It does not fit.
    #[error("the queue has no room for the messages")]
    Full,
    /// The store failed.
    #[error("the store cannot be written")]
    Unavailable,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl ReplayError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::Full => ErrorCode::QueueFull,
            Self::Unavailable | Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

impl Hub {
    /// Replays these dead letters in order, all or none.
    ///
    /// # Errors
    /// [`ReplayError`]; nothing has changed then.
    pub async fn replay(&self, ids: &[DeadLetterId]) -> Result<Vec<Replayed>, ReplayError> {
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            let letter = self.store().dead_letter(*id).await?;
            letters.push(letter.ok_or(ReplayError::Unknown(*id))?);
        }
        self.replay_letters(&letters).await
    }

    /// As [`Hub::replay`], of dead letters that the caller has.
    ///
    /// # Errors
    /// [`ReplayError`]; nothing has changed then.
    pub async fn replay_letters(
        &self,
        letters: &[DeadLetter],
    ) -> Result<Vec<Replayed>, ReplayError> {
        let now = self.clock().now();
        let mut change = Change::default();
        let mut replayed = Vec::with_capacity(letters.len());
        for letter in letters {
            let message = self.number();
            change.append.push(self.again(letter, message, now));
            change.replayed.push(letter.id);
            replayed.push(Replayed { dead_letter: letter.id, message });
        }
        match self.store().commit(change).await {
            Ok(_) => Ok(replayed),
            Err(CommitError::Full { .. }) => Err(ReplayError::Full),
            Err(
                CommitError::Unavailable { .. }
                | CommitError::Broken { .. }
                | CommitError::Mismatch { .. },
            ) => Err(ReplayError::Unavailable),
        }
    }

    /// Priority and time to live are those that its route has now.
    fn again(&self, letter: &DeadLetter, id: MessageId, now: Timestamp) -> Append {
        let routing = self.routing();
        let at = routing.routes.iter().position(|route| *route == letter.route);
        let route = at.and_then(|at| routing.table.routes().nth(at));
        let ttl = route.and_then(|route| route.time_to_live).or(routing.default_ttl);
        let target = Target {
            endpoint: letter.endpoint,
            priority: route.map_or(Priority::DEFAULT, |route| route.priority).get(),
            expires: ttl.map_or(Timestamp::NEVER, |ttl| now.after(ttl)),
            route: letter.route,
        };
        let message = letter.record.message.replayed(id, now);
        Append { message, table: routing.revision, targets: smallvec![target] }
    }
}
