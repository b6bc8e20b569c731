//! Appends and changes that must not overtake each other.
//!
//! Work that was submitted on one [`Chain`] is committed in order of the calls; when a part of it is
//! refused, all that was submitted behind it on the same chain is refused too, until the caller takes a
//! new chain and submits again. So a sender keeps its order over a full queue, and a module never has a
//! later batch on disk without the earlier one.

use crate::message::{Append, Appended, Change, CommitError, Committed, Refused, Why};
use crate::segment::Seed;
use crate::segment::body::Encoded;
use crate::writer::{AppendJob, ChangeJob, Job};
use crate::{Error, Store};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::sync::{mpsc, oneshot};

/// Work of one sender or module, in order; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Chain(Arc<AtomicBool>);

impl Chain {
    pub(crate) fn is_broken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// A part of it was refused.
    pub(crate) fn snap(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A place at the writer: what is handed over on it has its turn, in order of the calls.
#[derive(Debug)]
pub struct Slot<'a> {
    permit: mpsc::Permit<'a, Job>,
    seed: Seed,
}

impl Slot<'_> {
    /// Hands a batch to the writer.
    #[must_use]
    pub fn append(self, batch: Vec<Append>, chain: &Chain) -> Receipt {
        let encoded = Encoded::of(batch.iter().map(|a| (&a.message, a.table)), self.seed);
        let (reply, answer) = oneshot::channel();
        let chain = chain.clone();
        self.permit.send(Job::Append(AppendJob { batch, encoded, chain, reply }));
        Receipt(answer)
    }

    /// Hands a change to the writer.
    #[must_use]
    pub fn commit(self, change: Change, chain: &Chain) -> ChangeReceipt {
        let encoded = Encoded::of(change.append.iter().map(|a| (&a.message, a.table)), self.seed);
        let (reply, answer) = oneshot::channel();
        let (change, chain) = (Box::new(change), chain.clone());
        self.permit.send(Job::Change(ChangeJob { change, encoded, chain, reply }));
        ChangeReceipt(answer)
    }
}

/// Resolves after the commit of a batch.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Appended>);

impl Future for Receipt {
    type Output = Appended;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Appended> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                let why = Why::Unavailable(Arc::new(Error::Closed));
                let refused = Some(Refused { why, rest: Vec::new() });
                Appended { accepted: 0, first: None, refused }
            })
        })
    }
}

/// Resolves after the commit of a change.
#[derive(Debug)]
pub struct ChangeReceipt(oneshot::Receiver<Result<Committed, CommitError>>);

impl Future for ChangeReceipt {
    type Output = Result<Committed, CommitError>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| {
            answer.unwrap_or_else(|_| {
                let cause = Arc::new(Error::Closed);
                Err(CommitError::Unavailable { cause, change: Box::default() })
            })
        })
    }
}

impl Store {
    /// A new chain.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::default()
    }

    /// A place at the writer; waits while all are taken. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub async fn slot(&self) -> Result<Slot<'_>, Error> {
        let permit = self.jobs().reserve().await.map_err(|_| Error::Closed)?;
        Ok(Slot { permit, seed: self.shared.seed })
    }
}
