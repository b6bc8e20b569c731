//! What a twin was: its history, the difference between two versions, and the way back.

use super::record;
use super::{TwinError, Twins};
use crate::Hub;
use serde::Serialize;
use weir_core::clock::Timestamp;
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::twin::{Etag, Mode, Patch, Section, Twin, TwinChange};

/// A change in a section's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryRow {
    /// The version that it led to.
    pub version: u64,
    /// When.
    pub at: Timestamp,
    /// The operator, or the identity that reported.
    pub by: String,
    /// What was merged in.
    pub patch: Patch,
}

/// Which versions of a section can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u64,
    /// The present one.
    pub present: u64,
}

impl Twins {
    /// Changes of a section behind version `after`, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`TwinError::Unknown`], or the store's failures.
    pub async fn history(
        &self,
        hub: &Hub,
        of: &Identity,
        section: Section,
        after: u64,
        limit: usize,
    ) -> Result<Vec<HistoryRow>, TwinError> {
        let limit = limit.min(limits::TWIN_VERSIONS);
        let cell = self.cell(of);
        let _held = cell.hold(hub, of).await?;
        let rows = record::rows(hub.store(), of, section, after, limit).await?;
        let row = |(version, row): (u64, record::Row)| {
            let record::Row { at, by, patch, .. } = row;
            HistoryRow { version, at, by, patch }
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Which versions of a section are kept.
    ///
    /// # Errors
    /// [`TwinError::Unknown`], or the store's failures.
    pub async fn versions(
        &self,
        hub: &Hub,
        of: &Identity,
        section: Section,
    ) -> Result<Versions, TwinError> {
        let cell = self.cell(of);
        let mut held = cell.hold(hub, of).await?;
        let kept = held.loaded().section(section);
        Ok(Versions { oldest: kept.oldest_row() - 1, present: kept.now.version })
    }

    /// The patch that leads from one version of a section to the other.
    ///
    /// # Errors
    /// [`TwinError::NoVersion`] for one that is not kept.
    pub async fn diff(
        &self,
        hub: &Hub,
        of: &Identity,
        section: Section,
        (from, to): (u64, u64),
    ) -> Result<Patch, TwinError> {
        let cell = self.cell(of);
        let mut held = cell.hold(hub, of).await?;
        let kept = held.loaded().section(section);
        let store = hub.store();
        let from = record::value_at(store, of, section, kept, from).await?;
        let to = record::value_at(store, of, section, kept, to).await?;
        Ok(Patch::between(&from, &to))
    }

    /// Makes a section say again what it said at a version, as a new version.
    ///
    /// # Errors
    /// [`TwinError::Reported`] for what the client writes, [`TwinError::NoVersion`], and as
    /// [`Twins::change`].
    pub async fn revert(
        &self,
        hub: &Hub,
        of: &Identity,
        (section, version): (Section, u64),
        expect: Option<Etag>,
        author: &str,
    ) -> Result<Twin, TwinError> {
        if section == Section::Reported {
            return Err(TwinError::Reported);
        }
        let (of, author) = (of.clone(), author.to_owned());
        super::in_task(hub, move |hub| async move {
            let cell = hub.twins().cell(&of);
            let mut held = cell.hold(&hub, &of).await?;
            let kept = held.loaded().section(section);
            let whole = record::value_at(hub.store(), &of, section, kept, version).await?;
            let whole = Some(Patch::whole(whole));
            let (desired, tags) = match section {
                Section::Desired => (whole, None),
                Section::Tags | Section::Reported => (None, whole),
            };
            let change = TwinChange { mode: Mode::Replace, desired, tags };
            super::operate(&hub, &mut held, &change, expect, &author).await
        })
        .await
    }
}
