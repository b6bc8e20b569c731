//! What clients have subscribed to: kept over disconnects and restarts of the hub, because the
//! Python SDK never subscribes a second time.

use serde::{Deserialize, Serialize};
use weir_core::id::Identity;
use weir_core::limits;
use weir_store::{Expect, Store, Write, WriteError};

const KIND: &str = "subscriptions";

/// A filter and the quality that was granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The filter, as the client sent it.
    pub filter: String,
    /// 0 or 1.
    pub qos: u8,
}

/// Why a subscription is not kept.
#[derive(Debug, thiserror::Error)]
pub enum SubscriptionError {
    /// The client has its share of filters.
    #[error("a client may have {} filters", limits::MAX_FILTERS_PER_CLIENT)]
    TooMany,
    /// The store failed.
    #[error("the subscription could not be stored")]
    Store(#[from] weir_store::Error),
}

/// A client's subscriptions, in order of filters.
pub(crate) async fn load(
    store: &Store,
    client: &Identity,
) -> Result<Vec<Subscription>, weir_store::Error> {
    let document = store.document(KIND, &client.to_string()).await?;
    // A document that cannot be read is as good as none: the client subscribes again.
    Ok(document.and_then(|document| serde_json::from_str(&document.body).ok()).unwrap_or_default())
}

/// Adds or replaces subscriptions, all or none.
pub(crate) async fn add(
    store: &Store,
    client: &Identity,
    added: &[Subscription],
) -> Result<(), SubscriptionError> {
    let mut all = load(store, client).await?;
    let before = all.clone();
    all.retain(|kept| added.iter().all(|new| new.filter != kept.filter));
    all.extend_from_slice(added);
    if all.len() > limits::MAX_FILTERS_PER_CLIENT {
        return Err(SubscriptionError::TooMany);
    }
    all.sort_by(|a, b| a.filter.cmp(&b.filter));
    all.dedup_by(|a, b| a.filter == b.filter);
    if all != before {
        save(store, client, &all).await?;
    }
    Ok(())
}

/// Removes subscriptions; unknown filters are ignored.
pub(crate) async fn remove(
    store: &Store,
    client: &Identity,
    filters: &[String],
) -> Result<(), weir_store::Error> {
    let mut all = load(store, client).await?;
    let before = all.len();
    all.retain(|kept| !filters.contains(&kept.filter));
    match all.len() == before {
        true => Ok(()),
        false => save(store, client, &all).await,
    }
}

/// Removes everything a client ever subscribed to.
pub(crate) async fn forget(store: &Store, client: &Identity) -> Result<(), weir_store::Error> {
    match load(store, client).await?.is_empty() {
        true => Ok(()),
        false => save(store, client, &[]).await,
    }
}

async fn save(
    store: &Store,
    client: &Identity,
    all: &[Subscription],
) -> Result<(), weir_store::Error> {
    let body = match all.is_empty() {
        true => None,
        false => Some(serde_json::to_string(all).expect("filters are texts")),
    };
    let write = Write { kind: KIND, key: client.to_string(), body, expect: Expect::Any };
    match store.write(vec![write]).await {
        Ok(_) => Ok(()),
        Err(WriteError::Store(cause)) => Err(cause),
        Err(WriteError::Mismatch { .. }) => unreachable!("anything was expected"),
    }
}
