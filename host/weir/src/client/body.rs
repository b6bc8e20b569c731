//! A request body that goes out in pieces, and says how far it is.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Notify;

/// A piece: large enough to cost nothing, small enough to be seen as progress.
const PIECE: usize = 64 * 1024;

/// The body.
pub(super) struct Chunks {
    rest: Bytes,
    sent: Sent,
}

/// How far the body is.
#[derive(Clone)]
pub(super) struct Sent(Arc<Inner>);

struct Inner {
    done: AtomicU64,
    changed: Notify,
    total: u64,
}

impl Chunks {
    pub(super) fn new(bytes: Bytes) -> (Self, Sent) {
        let total = bytes.len() as u64;
        let sent = Sent(Arc::new(Inner { done: AtomicU64::new(0), changed: Notify::new(), total }));
        (Self { rest: bytes, sent: sent.clone() }, sent)
    }
}

impl Sent {
    /// Waits for the next piece to leave: bytes that have left, and all.
    pub(super) async fn next(&self) -> (u64, u64) {
        self.0.changed.notified().await;
        (self.0.done.load(Ordering::Relaxed), self.0.total)
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(size);
        self.sent.0.done.fetch_add(size as u64, Ordering::Relaxed);
        self.sent.0.changed.notify_one();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
