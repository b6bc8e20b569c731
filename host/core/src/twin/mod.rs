//! Twins: the rules of desired and reported properties and of tags. No I/O.
//!
//! A twin has three sections, each a JSON object with a version that grows by one with every accepted
//! change. Clients, operators and Wasm modules send a [`Patch`], which is validated when it is made;
//! [`Properties`] are changed by patches only, so what is kept always obeys the limits. The hub's
//! `twins` adds storage, history and delivery.

mod change;
mod etag;
mod merge;
mod metadata;
mod patch;
mod read;
mod view;

pub use change::{Mode, TwinChange};
pub use etag::{Etag, EtagError};
pub use merge::{diff, merge};
pub use metadata::Metadata;
pub use patch::{Patch, Problem, TwinProblem};
pub use view::TwinFacts;

use crate::clock::Timestamp;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Nesting of objects and arrays below a section (IoT Hub's limit).
pub const MAX_DEPTH: usize = 10;
/// Longest property name, in bytes of UTF-8 (IoT Hub's limit).
pub const MAX_KEY_BYTES: usize = 1024;
/// Longest text value, in bytes of UTF-8 (IoT Hub's limit).
pub const MAX_TEXT_BYTES: usize = 4096;
/// Largest integer: 2^52 - 1 (IoT Hub's limit).
pub const MAX_INTEGER: i64 = 4_503_599_627_370_495;
/// Smallest integer: -2^52 (IoT Hub's limit).
pub const MIN_INTEGER: i64 = -4_503_599_627_370_496;

/// A part of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Section {
    /// What the operator wants of the client; the client reads it.
    Desired,
    /// What the client says of itself; the operator reads it.
    Reported,
    /// The operator's own notes; the client does not see them.
    Tags,
}

impl Section {
    /// Every section.
    pub const ALL: [Self; 3] = [Self::Desired, Self::Reported, Self::Tags];

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Desired => "desired",
            Self::Reported => "reported",
            Self::Tags => "tags",
        }
    }

    /// Largest size as JSON without white space (IoT Hub's limits).
    #[must_use]
    pub fn max_bytes(self) -> usize {
        match self {
            Self::Desired | Self::Reported => 32 * 1024,
            Self::Tags => 8 * 1024,
        }
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no section.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a twin has desired, reported and tags")]
pub struct UnknownSection;

impl FromStr for Section {
    type Err = UnknownSection;
    fn from_str(text: &str) -> Result<Self, UnknownSection> {
        Self::ALL.into_iter().find(|section| section.name() == text).ok_or(UnknownSection)
    }
}

/// One section at one version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Properties {
    /// What it says; never a null, except inside of what an older version of the hub wrote.
    pub value: Map<String, Value>,
    /// When each node was last written.
    pub metadata: Metadata,
    /// 1 when nothing was ever written; one more with every accepted change.
    pub version: u64,
}

impl Default for Properties {
    fn default() -> Self {
        Self { value: Map::new(), metadata: Metadata::default(), version: 1 }
    }
}

impl Properties {
    /// The next version, with `patch` merged in.
    ///
    /// # Errors
    /// When the result is larger than `section` may be.
    pub fn merged(
        &self,
        section: Section,
        patch: &Patch,
        now: Timestamp,
    ) -> Result<Self, TwinProblem> {
        let mut next = self.clone();
        next.version += 1;
        merge(&mut next.value, patch.as_map());
        next.metadata.touch(patch.as_map(), &next.value, now, next.version);
        patch::check_size(section, &next.value)?;
        Ok(next)
    }

    /// The next version, which says what `whole` says and nothing else; and the patch that leads to it.
    ///
    /// # Errors
    /// When the result is larger than `section` may be.
    pub fn replaced(
        &self,
        section: Section,
        whole: &Patch,
        now: Timestamp,
    ) -> Result<(Self, Patch), TwinProblem> {
        let mut target = Map::new();
        merge(&mut target, whole.as_map());
        let patch = Patch::between(&self.value, &target);
        Ok((self.merged(section, &patch, now)?, patch))
    }
}

/// A device's or a module's twin. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Twin {
    /// What the operator wants.
    pub desired: Arc<Properties>,
    /// What the client says.
    pub reported: Arc<Properties>,
    /// The operator's notes.
    pub tags: Arc<Properties>,
}

impl Twin {
    /// A section.
    #[must_use]
    pub fn section(&self, section: Section) -> &Arc<Properties> {
        match section {
            Section::Desired => &self.desired,
            Section::Reported => &self.reported,
            Section::Tags => &self.tags,
        }
    }

    /// Grows with every change of the twin; 2 for one that nothing was ever written to, as in IoT Hub.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.etag().0 + self.reported.version
    }

    /// Changes with desired properties and tags; what a client reports does not change it, so that an
    /// operator's `If-Match` is not spoilt by a busy client.
    #[must_use]
    pub fn etag(&self) -> Etag {
        Etag(self.desired.version + self.tags.version - 1)
    }
}

/// A change of desired properties as a client is given it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredPatch {
    /// `$version` after it.
    pub version: u64,
    /// The patch with `$version` inside; nulls are kept.
    pub json: Bytes,
}

impl DesiredPatch {
    /// Of a patch that leads to `version`.
    #[must_use]
    pub fn new(patch: &Patch, version: u64) -> Self {
        Self { version, json: view::with_version(patch.as_map(), version).into() }
    }
}

#[cfg(test)]
mod tests;
