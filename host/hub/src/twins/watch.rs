//! Desired patches for one client, in order, each once.
//!
//! A client that keeps up gets every patch as the operator wrote it. One that was away, or that is more
//! than a few patches behind, gets one patch that holds the difference: what waits for a client is
//! bounded by the size of a twin.

use super::cell::{Cell, Latest};
use super::{TwinError, note_known, record};
use crate::Hub;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use weir_core::id::Identity;
use weir_core::twin::{DesiredPatch, Properties, Section};

/// Between two attempts to read a store that fails.
const RETRY: Duration = Duration::from_secs(1);

/// See the module. Dropping it ends it.
pub struct DesiredPatches {
    hub: Hub,
    of: Identity,
    cell: Arc<Cell>,
    latest: Receiver<Option<Arc<Latest>>>,
    /// The version when it began, if the twin was in memory then.
    began: Option<u64>,
    /// What the client has; none before the first look.
    has: Option<Has>,
}

/// What a client has.
struct Has {
    version: u64,
    value: Base,
    /// True when the hub has taken note of it.
    noted: bool,
    /// It was away: what it missed comes as one patch.
    missed: bool,
}

enum Base {
    Old(Arc<Map<String, Value>>),
    Given(Arc<Properties>),
}

impl Base {
    fn value(&self) -> &Map<String, Value> {
        match self {
            Self::Old(value) => value,
            Self::Given(properties) => &properties.value,
        }
    }
}

impl DesiredPatches {
    pub(super) fn new(hub: &Hub, of: &Identity) -> Self {
        let cell = hub.twins().cell(of);
        let latest = cell.watch();
        let began = latest.borrow().as_ref().map(|latest| latest.properties.version);
        Self { hub: hub.clone(), of: of.clone(), cell, latest, began, has: None }
    }

    /// The next patch; the first one says what has changed since the client last knew. That it was
    /// asked for the next one means that the client was given the one before. Cancel-safe.
    pub async fn next(&mut self) -> DesiredPatch {
        loop {
            match self.try_next().await {
                Ok(patch) => return patch,
                // Its session ends, or its module.
                Err(TwinError::Unknown(_)) => return std::future::pending().await,
                Err(error) => {
                    tracing::warn!(identity = %self.of, %error, "desired properties cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<DesiredPatch, TwinError> {
        if self.has.is_none() {
            self.has = Some(self.begin().await?);
        }
        self.note().await?;
        loop {
            let latest = self.latest.borrow_and_update().clone();
            if let (Some(has), Some(latest)) = (&mut self.has, latest)
                && let Some((patch, after)) = match has.missed {
                    true => Some(latest.whole_difference(has.value.value())),
                    false => latest.next(has.version, has.value.value()),
                }
            {
                let (version, value) = (patch.version, Base::Given(after));
                *has = Has { version, value, noted: false, missed: false };
                return Ok(patch);
            }
            if self.latest.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// What the client has when it begins to watch.
    async fn begin(&self) -> Result<Has, TwinError> {
        let mut held = self.cell.hold(&self.hub, &self.of).await?;
        let first = self.latest.borrow().as_ref().map(|latest| latest.first);
        let loaded = held.loaded();
        let present = &loaded.desired.now;
        // Nobody asked before: what comes from now on is news to this client.
        let began = self.began.or(first).unwrap_or(present.version);
        let (version, base) = match &loaded.known {
            Some(known) => (known.version, known.base.clone()),
            None => (began, None),
        };
        let noted = loaded.known.is_some();
        let missed = version < began;
        if let Some(base) = base {
            return Ok(Has { version, value: Base::Old(base), noted, missed });
        }
        if version == present.version {
            let value = Base::Given(Arc::clone(present));
            return Ok(Has { version, value, noted, missed });
        }
        let store = self.hub.store();
        let value = record::value_at(store, &self.of, Section::Desired, &loaded.desired, version);
        let value = match value.await {
            Ok(value) => value,
            // The way back is lost: the client gets everything.
            Err(TwinError::NoVersion { .. } | TwinError::Damaged) => Map::new(),
            Err(error) => return Err(error),
        };
        Ok(Has { version, value: Base::Old(Arc::new(value)), noted, missed })
    }

    /// The client was given what it has.
    async fn note(&mut self) -> Result<(), TwinError> {
        let Some(has) = self.has.as_mut().filter(|has| !has.noted) else { return Ok(()) };
        let mut held = self.cell.hold(&self.hub, &self.of).await?;
        note_known(&self.hub, &mut held, has.version, has.value.value()).await;
        has.noted = true;
        Ok(())
    }
}

impl super::Twins {
    /// Desired patches for the module or client of a twin, from now on; first what changed since it last
    /// knew, if anything. It becomes known when the next one is asked for.
    pub fn watch(&self, hub: &Hub, of: &Identity) -> DesiredPatches {
        DesiredPatches::new(hub, of)
    }
}
