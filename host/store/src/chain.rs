//! Appends and changes that must not overtake each other.
//!
//! Work that was submitted on one [`Chain`] is committed in order of the calls; when a part of it is
//! refused, all that was submitted behind it on the same chain is refused too, until the caller takes a
//! new chain and submits again. So a sender keeps its order over a full queue, and a module never has a
//! later batch on disk without the earlier one.

use crate::message::{Append, Appended, Change, CommitError, Committed};
use crate::{Error, Store};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

/// Work of one sender or module, in order.
#[derive(Debug, Clone, Default)]
pub struct Chain(pub(crate) Arc<AtomicBool>);

/// A place at the writer.
#[derive(Debug)]
pub struct Slot<'a>(pub(crate) std::marker::PhantomData<&'a ()>);

impl Slot<'_> {
    /// Hands a batch to the writer.
    pub fn append(self, _batch: Vec<Append>, _chain: &Chain) -> Receipt {
        todo!()
    }
}

/// Resolves after the commit of a batch.
#[derive(Debug)]
pub struct Receipt(());

impl Future for Receipt {
    type Output = Appended;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Appended> {
        todo!()
    }
}

impl Store {
    /// A new chain.
    #[must_use]
    pub fn chain(&self) -> Chain {
        Chain::default()
    }

    /// A place at the writer; waits while all are taken. Cancel-safe.
    pub async fn slot(&self) -> Slot<'_> {
        todo!()
    }

    /// Like [`Store::commit`], on a chain. The place in the chain is taken by the call.
    pub fn commit_on(
        &self,
        _chain: &Chain,
        _change: Change,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send + use<> {
        async { todo!() }
    }
}
