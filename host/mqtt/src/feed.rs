//! Something that comes from the hub one by one, waited for in a future that lives until it comes.
//!
//! The hub's futures may read the disk and hold locks on the way. So one that has begun is neither
//! dropped because something else happens on the connection, nor left alone because there is no room
//! meanwhile: it begins only when there is room, and then it is waited for to its end.

use futures::future::BoxFuture;
use std::future::{Future, pending};

/// Gives a `T` each time its source `S` is asked.
pub(crate) struct Feed<S, T> {
    source: Option<S>,
    under_way: Option<BoxFuture<'static, (S, T)>>,
}

impl<S, T> Default for Feed<S, T> {
    fn default() -> Self {
        Self { source: None, under_way: None }
    }
}

impl<S: Send + 'static, T: Send + 'static> Feed<S, T> {
    /// True when there is a source.
    pub(crate) fn is_open(&self) -> bool {
        self.source.is_some() || self.under_way.is_some()
    }

    /// True when something is waited for.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// From now on this is the source.
    pub(crate) fn open(&mut self, source: S) {
        *self = Self { source: Some(source), under_way: None };
    }

    /// Drops the source; what it was about to give goes back.
    pub(crate) fn close(&mut self) {
        *self = Self::default();
    }

    /// Asks for the next one, unless it is asked for already or there is no source.
    pub(crate) fn begin<F>(&mut self, next: impl FnOnce(S) -> F)
    where
        F: Future<Output = (S, T)> + Send + 'static,
    {
        if let Some(source) = self.source.take() {
            self.under_way = Some(Box::pin(next(source)));
        }
    }

    /// What was asked for; pending for ever when nothing was. Cancel-safe.
    pub(crate) async fn next(&mut self) -> T {
        let Some(under_way) = &mut self.under_way else { return pending().await };
        let (source, next) = under_way.await;
        *self = Self { source: Some(source), under_way: None };
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::sync::mpsc::{Receiver, channel};

    async fn take(mut source: Receiver<u32>) -> (Receiver<u32>, u32) {
        let first = source.recv().await.unwrap();
        (source, first)
    }

    #[tokio::test]
    async fn what_is_under_way_survives_a_look_that_is_given_up() {
        let (sender, source) = channel(9);
        let mut feed = Feed::default();
        assert!(feed.next().now_or_never().is_none());
        feed.open(source);
        assert!(feed.next().now_or_never().is_none(), "nothing was asked for");
        feed.begin(|mut source: Receiver<u32>| async move {
            let sum = source.recv().await.unwrap() + source.recv().await.unwrap();
            (source, sum)
        });
        sender.send(1).await.unwrap();
        assert!(feed.next().now_or_never().is_none());
        feed.begin(take);
        sender.send(2).await.unwrap();
        assert_eq!(feed.next().await, 3);
        assert!(feed.is_open() && !feed.is_under_way());
        feed.begin(take);
        sender.send(4).await.unwrap();
        assert_eq!(feed.next().await, 4);
    }

    #[tokio::test]
    async fn closing_drops_the_source_also_under_way() {
        let (sender, source) = channel(9);
        let mut feed = Feed::default();
        feed.open(source);
        feed.begin(take);
        assert!(feed.next().now_or_never().is_none());
        feed.close();
        assert!(sender.is_closed() && !feed.is_open());
    }
}
