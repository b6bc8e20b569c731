//! Keys of service clients (IoT Hub's shared access policies): what a back end signs its tokens with.
//!
//! A policy's key is made when it is asked for the first time and stays. The names are IoT Hub's own,
//! because service SDKs and scripts expect them.

use crate::Hub;
use serde::{Deserialize, Serialize};
use weir_core::error_code::ErrorCode;
use weir_core::identity::Key;
use weir_store::{Expect, Write, WriteError};

const KIND: &str = "service-policy";

/// Names of the policies and what they are for.
pub const SERVICE_POLICIES: &[(&str, &str)] = &[
    ("iothubowner", "everything that the service paths offer"),
    ("service", "twins, direct methods and messages to devices"),
];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum ServicePolicyError {
    /// No such policy.
    #[error("there is no service policy of this name; there are iothubowner and service")]
    Unknown,
    /// No randomness to make a key from.
    #[error("the system gives no random bytes")]
    Random,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl ServicePolicyError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::NotFound,
            Self::Random => ErrorCode::Internal,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    primary_key: String,
}

impl Hub {
    /// The key of a policy; made if there is none yet.
    ///
    /// # Errors
    /// [`ServicePolicyError`].
    pub async fn service_key(&self, policy: &str) -> Result<Key, ServicePolicyError> {
        if !SERVICE_POLICIES.iter().any(|(name, _)| *name == policy) {
            return Err(ServicePolicyError::Unknown);
        }
        if let Some(key) = self.stored_service_key(policy).await? {
            return Ok(key);
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| ServicePolicyError::Random)?;
        let key = Key::generate(bytes);
        let stored = Stored { primary_key: key.text().to_string() };
        let body = Some(serde_json::to_string(&stored).expect("two texts"));
        let write = Write { kind: KIND, key: policy.to_owned(), body, expect: Expect::Absent };
        match self.store().write(vec![write]).await {
            Ok(_) => Ok(key),
            // Someone else asked at the same time: his key counts.
            Err(WriteError::Mismatch { .. }) => {
                self.stored_service_key(policy).await?.ok_or(ServicePolicyError::Unknown)
            }
            Err(WriteError::Store(cause)) => Err(cause.into()),
        }
    }

    async fn stored_service_key(&self, policy: &str) -> Result<Option<Key>, weir_store::Error> {
        let document = self.store().document(KIND, policy).await?;
        Ok(document
            .and_then(|document| serde_json::from_str::<Stored>(&document.body).ok())
            .and_then(|stored| stored.primary_key.parse().ok()))
    }
}
