//! Uploaded components: checked and compiled when they come, known by their digest from then on.
//!
//! The runtime keeps the bytes and the compiled code; the store keeps what they are.

use crate::Hub;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weir_core::clock::Timestamp;
use weir_core::digest::Digest;
use weir_core::error_code::ErrorCode;
use weir_core::port::{ComponentFacts, RuntimeError};
use weir_store::{Document, Expect, Write, WriteError};

const KIND: &str = "artifact";

/// A component that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// Its name.
    pub digest: Digest,
    /// When it came.
    pub at: Timestamp,
    /// What it imports and exports, and its size.
    #[serde(flatten)]
    pub facts: ComponentFacts,
}

/// Why an artifact could not be taken or removed.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The bytes are not what the name says.
    #[error("the bytes have the digest {found}, not {named}")]
    Digest {
        /// The name.
        named: Digest,
        /// The truth.
        found: Digest,
    },
    /// Larger than the host allows.
    #[error("the component has {bytes} bytes; the host allows {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The ceiling.
        limit: u64,
    },
    /// It is refused, or cannot be compiled.
    #[error(transparent)]
    Refused(#[from] RuntimeError),
    /// There is none of this name.
    #[error("there is no artifact {0}")]
    Unknown(Digest),
    /// A module needs it.
    #[error("module {module} runs this artifact or goes back to it")]
    InUse {
        /// The module.
        module: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl ArtifactError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Digest { .. } => ErrorCode::DigestMismatch,
            Self::TooLarge { .. } => ErrorCode::TooLarge,
            Self::Refused(RuntimeError::Host(_)) => ErrorCode::Internal,
            Self::Refused(_) => ErrorCode::ComponentRefused,
            Self::Unknown(_) => ErrorCode::NotFound,
            Self::InUse { .. } => ErrorCode::Conflict,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

/// SHA-256 of `bytes`.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    Digest::from_bytes(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The service behind `/api/v1/artifacts`.
#[derive(Debug, Default)]
pub struct Artifacts(());

impl Artifacts {
    /// Takes a component: checks its digest, its size, its imports and exports, and compiles it.
    /// True when it was not known before.
    ///
    /// # Errors
    /// Nothing is kept of a component that is refused.
    pub async fn put(
        &self,
        hub: &Hub,
        named: Digest,
        bytes: Bytes,
    ) -> Result<(Artifact, bool), ArtifactError> {
        let limit = hub.ceilings().component.0;
        if bytes.len() as u64 > limit {
            return Err(ArtifactError::TooLarge { bytes: bytes.len(), limit });
        }
        let found = digest_of(&bytes);
        if found != named {
            return Err(ArtifactError::Digest { named, found });
        }
        if let Some(known) = self.find(hub, &named).await? {
            return Ok((known, false));
        }
        let facts = hub.runtime().compile(bytes).await?;
        let artifact = Artifact { digest: named, at: hub.clock().now(), facts };
        let body = serde_json::to_string(&artifact).expect("an artifact has only text keys");
        self.write(hub, &named, Some(body)).await?;
        Ok((artifact, true))
    }

    /// One artifact.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn find(
        &self,
        hub: &Hub,
        digest: &Digest,
    ) -> Result<Option<Artifact>, weir_store::Error> {
        let document = hub.store().document(KIND, &digest.hex()).await?;
        Ok(document.as_ref().and_then(read))
    }

    /// Fails unless the artifact is there.
    pub(crate) async fn prepare(
        &self,
        hub: &Hub,
        digest: &Digest,
    ) -> Result<(), crate::ModuleError> {
        match self.find(hub, digest).await? {
            Some(_) => Ok(()),
            None => Err(RuntimeError::Unknown(*digest).into()),
        }
    }

    /// Artifacts in order of digests.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(
        &self,
        hub: &Hub,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Artifact>, weir_store::Error> {
        let documents = hub.store().documents(KIND, "", after, limit).await?;
        Ok(documents.iter().filter_map(read).collect())
    }

    /// Removes an artifact that no module needs.
    ///
    /// # Errors
    /// [`ArtifactError::InUse`], [`ArtifactError::Unknown`], or when the store fails.
    pub async fn delete(&self, hub: &Hub, digest: &Digest) -> Result<(), ArtifactError> {
        if self.find(hub, digest).await?.is_none() {
            return Err(ArtifactError::Unknown(*digest));
        }
        if let Some(module) = hub.modules().user_of(hub, digest).await? {
            return Err(ArtifactError::InUse { module });
        }
        self.write(hub, digest, None).await?;
        hub.runtime().forget(digest);
        Ok(())
    }

    async fn write(
        &self,
        hub: &Hub,
        digest: &Digest,
        body: Option<String>,
    ) -> Result<(), ArtifactError> {
        let write = Write { kind: KIND, key: digest.hex(), body, expect: Expect::Any };
        match hub.store().write(vec![write]).await {
            Ok(_) => Ok(()),
            Err(WriteError::Store(cause)) => Err(cause.into()),
            Err(WriteError::Mismatch { .. }) => unreachable!("anything was expected"),
        }
    }
}

fn read(document: &Document) -> Option<Artifact> {
    serde_json::from_str(&document.body).ok()
}
