//! Shared access policies (IoT Hub's): what a back end signs its tokens with, and what that allows.
//!
//! A policy's key is made when it is asked for the first time and stays. Names and rights are IoT Hub's
//! own, because service SDKs and scripts expect them. The keys are in memory: every request of a service
//! client asks for one. Invariant: a token that names no policy opens nothing here, whatever it is
//! signed with; so a device's or a module's token never does.

use crate::Hub;
use crate::authenticate::is_signed_by;
use crate::authorize::{self, Operation, Principal, Protocol};
use crate::sync::lock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Mutex;
use weir_core::error_code::ErrorCode;
use weir_core::identity::Key;
use weir_core::sas::{SasError, SasToken};
use weir_store::{Expect, Write, WriteError};

const KIND: &str = "service-policy";

/// A policy.
#[derive(Debug, PartialEq, Eq)]
pub struct ServicePolicy {
    /// As in IoT Hub.
    pub name: &'static str,
    /// IoT Hub's names of what its key allows; the table of [`crate::authorize`] decides.
    pub rights: &'static str,
    /// The same for people.
    pub allows: &'static str,
}

impl ServicePolicy {
    /// True when a service client of this policy may do this.
    #[must_use]
    pub fn may(&self, operation: Operation, protocol: Protocol) -> bool {
        let principal = Principal::of_policy(self.name);
        principal.is_some_and(|principal| authorize::allows(principal, operation, protocol))
    }
}

/// The policies that a new IoT Hub has, in order of names.
pub const SERVICE_POLICIES: &[ServicePolicy] = &[
    ServicePolicy {
        name: "device",
        rights: "DeviceConnect",
        allows: "acting for devices; nothing that the service paths offer",
    },
    ServicePolicy {
        name: "iothubowner",
        rights: "RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect",
        allows: "everything that the service paths offer",
    },
    ServicePolicy {
        name: "registryRead",
        rights: "RegistryRead",
        allows: "reading and querying the registry of devices and modules",
    },
    ServicePolicy {
        name: "registryReadWrite",
        rights: "RegistryRead, RegistryWrite",
        allows: "reading and changing the registry of devices and modules",
    },
    ServicePolicy {
        name: "service",
        rights: "ServiceConnect",
        allows: "twins, direct methods and messages to devices",
    },
];

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum ServicePolicyError {
    /// No such policy.
    #[error("there is no service policy of this name; see GET /api/v1/service-policies")]
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

/// Why a service client's token opens nothing. It is told to the client, and has no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceRefusal {
    /// Not a token.
    #[error("the token cannot be read: {0}")]
    Token(SasError),
    /// It names no policy: that of a device or module.
    #[error("the token names no shared access policy (skn)")]
    NoPolicy,
    /// No such policy, none whose key was ever asked for, or signed with another key. Which of them is
    /// not said.
    #[error("the token is not signed with the key of its shared access policy")]
    Signature,
    /// For another hub, or another part of this one.
    #[error("the token is for another hub or another path")]
    Audience,
    /// Over, the allowance for late clocks included.
    #[error("the token has expired")]
    Expired,
}

/// The keys that were made.
#[derive(Debug, Default)]
pub(crate) struct ServicePolicies {
    keys: Mutex<BTreeMap<&'static str, Key>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    primary_key: String,
}

impl ServicePolicies {
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), weir_store::Error> {
        for policy in SERVICE_POLICIES {
            let document = hub.store().document(KIND, policy.name).await?;
            let stored = document.and_then(|document| serde_json::from_str(&document.body).ok());
            if let Some(key) = stored.and_then(|stored: Stored| stored.primary_key.parse().ok()) {
                lock(&self.keys).insert(policy.name, key);
            }
        }
        Ok(())
    }

    fn key(&self, policy: &str) -> Option<Key> {
        lock(&self.keys).get(policy).cloned()
    }
}

impl Hub {
    /// The key of a policy; made if there is none yet.
    ///
    /// # Errors
    /// [`ServicePolicyError`].
    pub async fn service_key(&self, policy: &str) -> Result<Key, ServicePolicyError> {
        let policy = SERVICE_POLICIES.iter().find(|known| known.name == policy);
        let name = policy.ok_or(ServicePolicyError::Unknown)?.name;
        if let Some(key) = self.service_policies().key(name) {
            return Ok(key);
        }
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| ServicePolicyError::Random)?;
        let key = Key::generate(bytes);
        let stored = Stored { primary_key: key.text().to_string() };
        let body = Some(serde_json::to_string(&stored).expect("two texts"));
        let write = Write { kind: KIND, key: name.to_owned(), body, expect: Expect::Absent };
        match self.store().write(vec![write]).await {
            Ok(_) => {
                lock(&self.service_policies().keys).insert(name, key.clone());
                Ok(key)
            }
            // Someone else asked at the same time: his key counts.
            Err(WriteError::Mismatch { .. }) => {
                self.service_policies().load(self).await?;
                self.service_policies().key(name).ok_or(ServicePolicyError::Unknown)
            }
            Err(WriteError::Store(cause)) => Err(cause.into()),
        }
    }

    /// The policy that a service client's token proves, for a request to `path`.
    ///
    /// # Errors
    /// [`ServiceRefusal`].
    pub fn authenticate_service(
        &self,
        token: &str,
        path: &str,
    ) -> Result<&'static ServicePolicy, ServiceRefusal> {
        let judged = self.judge_service(token, path);
        if judged.is_err() {
            self.metrics().refusals.inc();
        }
        judged
    }

    fn judge_service(
        &self,
        token: &str,
        path: &str,
    ) -> Result<&'static ServicePolicy, ServiceRefusal> {
        let token = SasToken::parse(token).map_err(ServiceRefusal::Token)?;
        let name = token.policy().ok_or(ServiceRefusal::NoPolicy)?;
        let policy = SERVICE_POLICIES.iter().find(|known| known.name == name);
        let key = policy.and_then(|policy| self.service_policies().key(policy.name));
        let (Some(policy), Some(key)) = (policy, key) else {
            return Err(ServiceRefusal::Signature);
        };
        if !is_signed_by(&token, &key) {
            return Err(ServiceRefusal::Signature);
        }
        let config = self.config();
        if !token.covers(&[&config.hostname, &config.iothub_hostname], path) {
            return Err(ServiceRefusal::Audience);
        }
        match token.holds_until(self.clock().now()) {
            Some(_) => Ok(policy),
            None => Err(ServiceRefusal::Expired),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_in_order_and_each_is_a_principal_of_the_table() {
        assert!(SERVICE_POLICIES.is_sorted_by_key(|policy| policy.name));
        for policy in SERVICE_POLICIES {
            let principal = Principal::of_policy(policy.name);
            assert!(principal.is_some(), "{}", policy.name);
            // What is said of it is what the table gives it.
            for (right, operation) in [
                ("RegistryRead", Operation::ReadRegistry),
                ("RegistryWrite", Operation::WriteRegistry),
                ("ServiceConnect", Operation::WriteTwins),
            ] {
                let said = policy.rights.contains(right);
                assert_eq!(policy.may(operation, Protocol::Https), said, "{} {right}", policy.name);
            }
        }
    }
}
