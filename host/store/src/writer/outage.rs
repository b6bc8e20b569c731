//! A disk that is full, read-only or failing.
//!
//! The failed transaction is lost and everyone has been told. The connection is closed, because after
//! a failed fsync the kernel forgets what it could not write: the same descriptor would report
//! success. From then on messages are refused at once; once a second the writer opens a new
//! connection and commits a probe. While the disk is full, changes that only settle still go through:
//! the reserve is given up for them.

use super::Writer;
use crate::Error;
use crate::message::Change;
use crate::sqlite::{Failure, failure};
use std::sync::Arc;
use tracing::{error, info, warn};

/// See the module.
#[derive(Debug)]
pub(super) struct Outage {
    failure: Failure,
    reason: String,
}

/// The cause in words.
fn reason(error: &Error) -> String {
    match error {
        Error::Database { cause, .. } => match failure(cause) {
            Failure::Full => "the disk is full".to_owned(),
            Failure::ReadOnly => "the disk is read-only".to_owned(),
            Failure::Disk => "the disk reports errors".to_owned(),
            Failure::Damaged => "the file is damaged".to_owned(),
            Failure::Other => format!("the database reports: {cause}"),
        },
        other => other.to_string(),
    }
}

fn failure_of(error: &Error) -> Failure {
    match error {
        Error::Database { cause, .. } => failure(cause),
        _ => Failure::Other,
    }
}

impl Writer {
    /// A transaction failed: from now on the store says so. Comes before anyone is answered.
    pub(super) fn begin_outage(&mut self, error: &Error) {
        let failure = failure_of(error);
        let reason = reason(error);
        if failure == Failure::Full {
            self.reserve.give_up();
        }
        if self.outage.is_none() {
            warn!(%reason, "the store cannot be written, nothing is acknowledged");
            self.shared.set_unwritable(&reason);
        }
        self.outage = Some(Outage { failure, reason });
    }

    /// The transaction was undone in memory and everyone was answered: gives the connection up.
    ///
    /// # Errors
    /// When the file is damaged: trying again would not help.
    pub(super) async fn leave_connection(&mut self) -> Result<(), Error> {
        self.checkpoint.close().await;
        self.database.close(false).await;
        match self.outage.as_ref().map(|outage| outage.failure) {
            Some(Failure::Damaged) => {
                error!(
                    "the store ends, its file is damaged; the next start salvages what is there"
                );
                Err(Error::Damaged { what: "a transaction met it" })
            }
            Some(Failure::Full | Failure::ReadOnly | Failure::Disk | Failure::Other) | None => {
                Ok(())
            }
        }
    }

    pub(super) fn outage_error(&self) -> Arc<Error> {
        Arc::new(self.outage_copy())
    }

    pub(super) fn outage_copy(&self) -> Error {
        let reason = self.outage.as_ref().map_or_else(String::new, |outage| outage.reason.clone());
        Error::Unavailable { reason }
    }

    /// True when the change can be tried: the disk is fine, or it only takes away.
    pub(super) async fn may_change(&mut self, change: &Change) -> bool {
        match &self.outage {
            None => true,
            Some(outage) => {
                let takes_away = change.append.is_empty()
                    && change.state.is_none()
                    && change.documents.is_empty();
                outage.failure == Failure::Full && takes_away && self.database.open().await.is_ok()
            }
        }
    }

    /// At the start: without its reserve the store does not serve.
    pub(super) fn check_reserve(&mut self) {
        if let Err(cause) = self.reserve.fill() {
            let full = cause.kind() == std::io::ErrorKind::StorageFull;
            let failure = if full { Failure::Full } else { Failure::Disk };
            let reason = if full { "the disk is full" } else { "the disk reports errors" };
            warn!(%reason, "the store cannot be written, nothing is acknowledged");
            self.shared.set_unwritable(reason);
            self.outage = Some(Outage { failure, reason: reason.to_owned() });
        }
    }

    /// Looks whether the outage is over.
    pub(super) async fn probe(&mut self) -> Result<(), Error> {
        if self.reserve.fill().is_err() {
            return Ok(());
        }
        let probed = match self.database.open().await {
            Ok(()) => self.database.probe(self.segments.newest()).await,
            Err(error) => Err(error),
        };
        match probed {
            Ok(true) => {
                info!("the store can be written again");
                self.outage = None;
                self.shared.set_writable();
                self.shared.room.notify_waiters();
                Ok(())
            }
            Ok(false) => Err(Error::Damaged { what: "a transaction that failed is there" }),
            Err(error) => {
                // Still the same outage; the next probe has a new connection.
                self.database.close(false).await;
                match &error {
                    Error::Database { cause, .. } if failure(cause) == Failure::Damaged => {
                        Err(Error::Damaged { what: "the probe met it" })
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}
