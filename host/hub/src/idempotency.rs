//! Answers to requests that carried an `Idempotency-Key`, kept for a day.
//!
//! A repeated request gets the first answer and does nothing. The answer is written after the work,
//! so that a crash between the two lets the repeat do the work again: at least once, never not at
//! all. What is kept is bounded in number and in bytes, oldest first.

use crate::Hub;
use crate::sync::lock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::limits;
use weir_store::{Expect, Write};

const KIND: &str = "idempotency";
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A larger answer is not kept.
const ANSWER_BYTES: usize = 64 * 1024;

/// An answer as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// Status.
    pub status: u16,
    /// Headers that belong to the body.
    pub headers: Vec<(String, String)>,
    /// Body, a text.
    pub body: String,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Repeat {
    /// It is new: do it, then call [`Doing::done`].
    New(Doing),
    /// It was done: this was the answer.
    Done(KeptAnswer),
    /// The key belongs to another request.
    Other,
    /// It is being done.
    UnderWay,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    request: Digest,
    at: Timestamp,
    answer: KeptAnswer,
}

#[derive(Debug, Default)]
struct Index {
    /// When each was answered.
    times: HashMap<Digest, Timestamp>,
    order: BTreeSet<(Timestamp, Digest)>,
    under_way: HashSet<Digest>,
}

/// The answers that are kept.
#[derive(Debug, Default, Clone)]
pub struct Idempotency(Arc<Mutex<Index>>);

/// A request under way; when dropped without an answer, a repeat does it again.
#[derive(Debug)]
pub struct Doing {
    index: Arc<Mutex<Index>>,
    key: Digest,
    request: Digest,
}

impl Idempotency {
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        let mut after: Option<String> = None;
        loop {
            let page =
                hub.store().documents(KIND, "", after.as_deref(), limits::PAGE_ITEMS).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.key.clone());
            let mut index = lock(&self.0);
            for document in &page {
                let at = serde_json::from_str::<Stored>(&document.body).map(|stored| stored.at);
                if let (Ok(key), Ok(at)) = (document.key.parse(), at) {
                    index.times.insert(key, at);
                    index.order.insert((at, key));
                }
            }
        }
    }

    /// What is to be done with a request: `key` stands for the caller and his key, `request` for all
    /// that was asked.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn begin(
        &self,
        hub: &Hub,
        key: Digest,
        request: Digest,
    ) -> Result<Repeat, weir_store::Error> {
        let now = hub.clock().now();
        let known = {
            let mut index = lock(&self.0);
            let known = index.times.get(&key).is_some_and(|at| now.since(*at) < KEPT);
            if !known && !index.under_way.insert(key) {
                return Ok(Repeat::UnderWay);
            }
            known
        };
        let doing = || Doing { index: Arc::clone(&self.0), key, request };
        if !known {
            return Ok(Repeat::New(doing()));
        }
        let document = hub.store().document(KIND, &key.hex()).await?;
        let stored = document.and_then(|found| serde_json::from_str::<Stored>(&found.body).ok());
        Ok(match stored {
            Some(stored) if stored.request != request => Repeat::Other,
            Some(stored) => Repeat::Done(stored.answer),
            None => Repeat::New(doing()),
        })
    }
}

impl Doing {
    /// Keeps the answer; what is too old or too much goes.
    pub async fn done(self, hub: &Hub, answer: KeptAnswer) {
        if answer.body.len() > ANSWER_BYTES {
            return;
        }
        let at = hub.clock().now();
        let stored = Stored { request: self.request, at, answer };
        let body = Some(serde_json::to_string(&stored).expect("an answer has only text keys"));
        let mut writes = vec![Write { kind: KIND, key: self.key.hex(), body, expect: Expect::Any }];
        for old in self.superseded(at) {
            writes.push(Write { kind: KIND, key: old.hex(), body: None, expect: Expect::Any });
        }
        match hub.store().write(writes).await {
            Ok(_) => {
                let mut index = lock(&self.index);
                if let Some(before) = index.times.insert(self.key, at) {
                    index.order.remove(&(before, self.key));
                }
                index.order.insert((at, self.key));
            }
            Err(error) => tracing::warn!(%error, "an answer could not be kept for its key"),
        }
    }

    /// Takes those out that have had their day, and the oldest of too many; a few at a time.
    fn superseded(&self, now: Timestamp) -> Vec<Digest> {
        let mut index = lock(&self.index);
        let mut gone = Vec::new();
        while gone.len() < 8
            && let Some((at, key)) = index.order.first().copied()
            && (now.since(at) >= KEPT || index.order.len() >= limits::IDEMPOTENCY_KEYS)
        {
            index.order.remove(&(at, key));
            index.times.remove(&key);
            if key != self.key {
                gone.push(key);
            }
        }
        gone
    }
}

impl Drop for Doing {
    fn drop(&mut self) {
        lock(&self.index).under_way.remove(&self.key);
    }
}
