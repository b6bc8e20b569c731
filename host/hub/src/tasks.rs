//! Every task has a parent, a name and an end.
//!
//! The one place that spawns. A [`TaskGroup`] is cheap to clone; the composition root owns the first
//! and waits for it. Two stages of stopping: `drain` (finish what is in hand, take nothing new) and
//! `abort` (leave at the next await). An essential task that ends by itself stops the hub; a client's
//! task that ends or panics harms nobody else.

use crate::sync::lock;
use futures::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// What it means when a task ends before it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// The hub cannot go on without it: it stops.
    Essential,
    /// It serves one client, one request or one module.
    PerClient,
}

/// The two stages of stopping.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    abort: CancellationToken,
}

impl Stop {
    /// Resolves when nothing new is to be begun. Cancel-safe.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Resolves when everything is to be dropped at once. Cancel-safe.
    pub async fn aborting(&self) {
        self.abort.cancelled().await;
    }

    /// True when nothing new is to be begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// A stop that follows this one and can also be given by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), abort: self.abort.child_token() }
    }

    /// Asks for the first stage.
    pub fn drain(&self) {
        self.drain.cancel();
    }
}

/// A set of tasks that start and end together.
#[derive(Debug, Clone, Default)]
pub struct TaskGroup {
    set: Arc<Mutex<JoinSet<()>>>,
    stop: Stop,
    /// The essential task that ended early.
    failed: Arc<OnceLock<&'static str>>,
}

impl TaskGroup {
    /// The group's stop.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Starts a task. After `drain` nothing is started any more.
    pub fn spawn<F, Fut>(&self, kind: TaskKind, name: &'static str, task: F)
    where
        F: FnOnce(Stop) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        if self.stop.is_draining() {
            return;
        }
        // The state of a panicking task is dropped with it; what it shared is guarded by locks.
        let future = AssertUnwindSafe(task(self.stop.clone())).catch_unwind();
        let (stop, failed) = (self.stop.clone(), Arc::clone(&self.failed));
        let watched = async move {
            tokio::select! {
                ended = future => if ended.is_err() {
                    error!(task = name, "a task panicked");
                },
                () = stop.aborting() => return,
            }
            if kind == TaskKind::Essential && !stop.is_draining() {
                error!(task = name, "an essential task ended, the hub stops");
                failed.get_or_init(|| name);
                stop.drain.cancel();
            }
        };
        let mut set = lock(&self.set);
        // Takes out those that have ended, so that a long life does not gather them.
        while set.try_join_next().is_some() {}
        set.spawn(watched);
    }

    /// Waits until all have ended; after `grace` those left are aborted. Gives the name of the
    /// essential task whose end stopped the hub, if one did.
    pub async fn shut_down(&self, grace: Duration) -> Option<&'static str> {
        self.stop.drain.cancel();
        if tokio::time::timeout(grace, self.joined()).await.is_err() {
            warn!(tasks = lock(&self.set).len(), "tasks did not end in time and are dropped");
            self.stop.abort.cancel();
            self.joined().await;
        }
        self.failed.get().copied()
    }

    async fn joined(&self) {
        while std::future::poll_fn(|context| lock(&self.set).poll_join_next(context))
            .await
            .is_some()
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_an_essential_task_stops_the_group() {
        let group = TaskGroup::default();
        group.spawn(TaskKind::Essential, "writer", |_| async {});
        group.stop().draining().await;
        assert_eq!(group.shut_down(Duration::from_secs(1)).await, Some("writer"));
    }

    #[tokio::test]
    async fn a_panicking_client_harms_nobody() {
        let group = TaskGroup::default();
        group.spawn(TaskKind::PerClient, "client", |_| async { panic!("on purpose") });
        tokio::task::yield_now().await;
        assert!(!group.stop().is_draining());
        assert_eq!(group.shut_down(Duration::from_secs(1)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_dropped_after_the_grace() {
        let group = TaskGroup::default();
        group.spawn(TaskKind::PerClient, "deaf", |_| std::future::pending());
        assert_eq!(group.shut_down(Duration::from_secs(5)).await, None);
    }
}
