//! Settling waits for company: a change that only takes entries out of their queues is committed with
//! the next message, or after a moment.
//!
//! Nobody is told that such a change is on disk, and a crash before it only delivers again what was
//! delivered already. At a thousand messages a second every second commit was one of these, and made
//! the messages behind it wait. Invariants: order stays (the jobs wait in `waiting`, in front of all
//! that comes); nothing waits longer than [`PATIENCE`] once the writer is idle; a crowd does not wait.

use super::{Job, Writer};
use crate::message::{Change, Disposition};
use std::time::Duration;
use weir_core::limits;

/// How long a change waits for company: the least that the timer can do.
const PATIENCE: Duration = Duration::from_millis(1);
/// Changes that are company enough: a consumer may be [`limits::BATCHES_AHEAD`] ahead and must not
/// come to a stop.
const CROWD: usize = limits::BATCHES_AHEAD / 4;

impl Writer {
    /// Waits until something that cannot wait comes, there is a crowd, or the time is over. Gives `job`
    /// back; what came meanwhile is in `waiting`, which was empty.
    pub(super) async fn with_company(&mut self, job: Job) -> Job {
        if !can_wait(&job) {
            return job;
        }
        let patience = tokio::time::sleep(PATIENCE);
        tokio::pin!(patience);
        while self.waiting.len() + 1 < CROWD {
            // All branches are cancel-safe.
            tokio::select! {
                biased;
                next = self.jobs.recv() => {
                    let Some(next) = next else { break };
                    let waits = can_wait(&next);
                    self.waiting.push_back(next);
                    if !waits {
                        break;
                    }
                }
                () = &mut patience => break,
            }
        }
        job
    }
}

fn can_wait(job: &Job) -> bool {
    match job {
        Job::Change(job) => only_settles(&job.change),
        Job::Append(_)
        | Job::Config(_)
        | Job::Purge(..)
        | Job::Find(..)
        | Job::Tidy(_)
        | Job::Close => false,
    }
}

fn only_settles(change: &Change) -> bool {
    change.append.is_empty()
        && change.state.is_none()
        && change.replayed.is_empty()
        && change.documents.is_empty()
        && change.settle.iter().all(|(_, _, disposition)| *disposition == Disposition::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{DeadLetterId, EndpointId};
    use weir_core::id::Sequence;

    fn settling(disposition: Disposition) -> Change {
        Change { settle: vec![(EndpointId(1), Sequence(1), disposition)], ..Change::default() }
    }

    #[test]
    fn what_only_leaves_its_queue_can_wait() {
        assert!(only_settles(&settling(Disposition::Done)));
        assert!(only_settles(&Change::default()));
    }

    #[test]
    fn what_somebody_counts_on_does_not_wait() {
        assert!(!only_settles(&settling(Disposition::Hold)));
        let state = Some(("m".to_owned(), Vec::new()));
        assert!(!only_settles(&Change { state, ..settling(Disposition::Done) }));
        let replayed = vec![DeadLetterId(1)];
        assert!(!only_settles(&Change { replayed, ..settling(Disposition::Done) }));
    }
}
