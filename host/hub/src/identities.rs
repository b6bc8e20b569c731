//! Devices and modules that may connect: the registry behind the heads and the API.
//!
//! All records are in memory, because every CONNECT asks for one; the store is the truth and is written
//! first. A change is felt at once: whoever is connected under a changed identity leaves, unless
//! what he has shown would be taken again (a token signed with the key that has not changed).

use crate::Hub;
use crate::clients::Leave;
use crate::sync::lock;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use weir_core::error_code::ErrorCode;
use weir_core::id::{DeviceId, Identity, ModuleId};
use weir_core::identity::{
    Authentication, AuthenticationBody, AuthenticationError, AuthenticationType, IdentityRecord,
    Key, Notes, Status,
};
use weir_core::limits;
use weir_store::{Document, Expect, Write, WriteError};

const KIND: &str = "identity";

/// IoT Edge's own modules. They have twins, which deployments and scripts ask for; the hub itself does
/// their work, so nobody connects under their names.
pub(crate) const SYSTEM_MODULES: [&str; 2] = ["$edgeAgent", "$edgeHub"];
/// Who takes care of the modules of an edge device, as IoT Hub writes it.
const MANAGED_BY: &str = "iotEdge";

/// What a caller may say of an identity.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IdentitySpec {
    /// How it proves who it is; a missing key is made.
    pub authentication: AuthenticationBody,
    /// Enabled when it is left out.
    pub status: Status,
    /// The edge device above a leaf device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<DeviceId>,
    /// What back ends write on it; what is there stays when this is left out.
    #[serde(skip)]
    pub notes: Option<Notes>,
}

/// Which keys are exchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotate {
    /// The first.
    Primary,
    /// The second.
    Secondary,
    /// Both.
    Both,
}

impl Rotate {
    fn primary(self) -> bool {
        matches!(self, Self::Primary | Self::Both)
    }

    fn secondary(self) -> bool {
        matches!(self, Self::Secondary | Self::Both)
    }
}

/// A record with its revision.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The record.
    pub record: Arc<IdentityRecord>,
    /// For `If-Match`.
    pub revision: u64,
}

/// Why the registry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no such identity.
    #[error("there is no identity {0}")]
    Unknown(Identity),
    /// A module needs its device.
    #[error("there is no device {0}")]
    NoDevice(DeviceId),
    /// A device with modules is not deleted.
    #[error("device {0} has modules; delete them first")]
    HasModules(DeviceId),
    /// The edge device is the hub itself.
    #[error("the edge device {0} is the hub itself and cannot be deleted")]
    IsEdge(DeviceId),
    /// A Wasm module of that name runs in the hub.
    #[error("{0} is a Wasm module of this hub and has no credentials")]
    IsWasm(Identity),
    /// One of IoT Edge's own modules.
    #[error("{0} is a part of the hub itself: it has no credentials and cannot be deleted")]
    IsSystem(Identity),
    /// It does not prove itself by keys.
    #[error("{0} has no keys: its authentication is not sas")]
    NoKeys(Identity),
    /// The authentication contradicts itself.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// It was changed in the meantime.
    #[error("{identity} was changed in the meantime")]
    Mismatch {
        /// Who.
        identity: Identity,
        /// The present revision.
        present: Option<u64>,
    },
    /// No randomness to make keys from.
    #[error("the system gives no random bytes")]
    Random,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] weir_store::Error),
}

impl IdentityError {
    /// Its stable name.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) | Self::NoDevice(_) => ErrorCode::NotFound,
            Self::HasModules(_)
            | Self::IsEdge(_)
            | Self::IsWasm(_)
            | Self::IsSystem(_)
            | Self::NoKeys(_) => ErrorCode::Conflict,
            Self::Authentication(_) => ErrorCode::InvalidRequest,
            Self::Mismatch { .. } => ErrorCode::VersionMismatch,
            Self::Random => ErrorCode::Internal,
            Self::Store(_) => ErrorCode::StoreUnavailable,
        }
    }
}

/// The registry.
#[derive(Debug, Default)]
pub struct Identities {
    records: Mutex<BTreeMap<Identity, Registered>>,
    changing: tokio::sync::Mutex<()>,
    /// Counts changes.
    changes: watch::Sender<u64>,
}

impl Identities {
    /// Reads the registry and makes the edge device if it is not there.
    pub(crate) async fn load(&self, hub: &Hub) -> Result<(), IdentityError> {
        let mut after: Option<String> = None;
        loop {
            let page =
                hub.store().documents(KIND, "", after.as_deref(), limits::PAGE_ITEMS).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            let mut records = lock(&self.records);
            for document in &page {
                if let Some(registered) = read(document) {
                    records.insert(registered.record.identity.clone(), registered);
                }
            }
        }
        let edge = Identity::device(hub.edge_device().clone());
        if self.get(&edge).is_none() {
            self.put(hub, edge.clone(), IdentitySpec::default(), Expect::Any).await?;
        }
        for name in SYSTEM_MODULES {
            let module = Identity { module: name.parse().ok(), ..edge.clone() };
            if self.get(&module).is_none() {
                let kind = AuthenticationType::None;
                let authentication = AuthenticationBody { kind, ..AuthenticationBody::default() };
                let managed_by = Some(MANAGED_BY.to_owned());
                let notes = Some(Notes { managed_by, ..Notes::default() });
                let spec = IdentitySpec { authentication, notes, ..IdentitySpec::default() };
                self.put(hub, module, spec, Expect::Any).await?;
            }
        }
        Ok(())
    }

    /// Changes whenever an identity was made, changed or deleted.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// One identity.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Registered> {
        lock(&self.records).get(identity).cloned()
    }

    /// True when the identity is known and enabled, and for a module its device too.
    #[must_use]
    pub fn is_enabled(&self, identity: &Identity) -> bool {
        let records = lock(&self.records);
        let enabled = |identity: &Identity| {
            records.get(identity).is_some_and(|found| found.record.status == Status::Enabled)
        };
        enabled(identity)
            && (identity.module.is_none() || enabled(&Identity::device(identity.device.clone())))
    }

    /// Devices after `after`, in order of names.
    #[must_use]
    pub fn devices(&self, after: Option<&DeviceId>, limit: usize) -> Vec<Registered> {
        lock(&self.records)
            .values()
            .filter(|found| found.record.identity.module.is_none())
            .filter(|found| after.is_none_or(|after| found.record.identity.device > *after))
            .take(limit)
            .cloned()
            .collect()
    }

    /// All that are as wanted, in order of names.
    #[must_use]
    pub fn select(&self, wanted: impl Fn(&IdentityRecord) -> bool) -> Vec<Registered> {
        let records = lock(&self.records);
        records.values().filter(|found| wanted(&found.record)).cloned().collect()
    }

    /// Modules of a device after `after`, in order of names.
    #[must_use]
    pub fn modules(
        &self,
        device: &DeviceId,
        after: Option<&ModuleId>,
        limit: usize,
    ) -> Vec<Registered> {
        lock(&self.records)
            .values()
            .filter(|found| found.record.identity.device == *device)
            .filter(|found| match (&found.record.identity.module, after) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(module), Some(after)) => module > after,
            })
            .take(limit)
            .cloned()
            .collect()
    }

    /// Creates or replaces an identity. True when it is new. Keys that are left out stay, or are
    /// made for a new one.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing has changed then.
    pub async fn put(
        &self,
        hub: &Hub,
        identity: Identity,
        spec: IdentitySpec,
        expect: Expect,
    ) -> Result<(Registered, bool), IdentityError> {
        let _one = self.changing.lock().await;
        self.check_place(hub, &identity)?;
        let present = self.get(&identity);
        let mut body = spec.authentication;
        if let Some(present) = &present {
            keep_keys(&mut body, &present.record.authentication);
        }
        let mut failed = false;
        let authentication = body.complete(|| {
            let mut bytes = [0; 32];
            failed |= getrandom::fill(&mut bytes).is_err();
            bytes
        })?;
        if failed {
            return Err(IdentityError::Random);
        }
        if is_system(hub, &identity) && authentication != Authentication::None {
            return Err(IdentityError::IsSystem(identity));
        }
        let now = hub.clock().now();
        let before = present.as_ref().map(|present| &present.record);
        let status_updated = match before {
            Some(before) if before.status != spec.status => Some(now),
            before => before.and_then(|before| before.status_updated),
        };
        let kept = before.map(|before| before.notes.clone());
        let generation = present.as_ref().map(|present| present.record.generation_id.clone());
        let record = IdentityRecord {
            identity: identity.clone(),
            generation_id: generation.unwrap_or_else(|| now.as_micros().to_string()),
            etag: String::new(),
            status: spec.status,
            authentication,
            parent: spec.parent,
            notes: spec.notes.or(kept).unwrap_or_default(),
            status_updated,
            created: present.as_ref().map_or(now, |present| present.record.created),
            updated: now,
        };
        let registered = self.write(hub, record, expect).await?;
        if let Some(present) = &present
            && changed(&present.record, &registered.record)
        {
            self.recheck(hub, &identity);
        }
        Ok((registered, present.is_none()))
    }

    /// Exchanges one of the two keys, or both, for new ones. Who is connected with one that is gone
    /// leaves.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing has changed then.
    pub async fn rotate(
        &self,
        hub: &Hub,
        identity: &Identity,
        which: Rotate,
        expect: Expect,
    ) -> Result<Registered, IdentityError> {
        let unknown = || IdentityError::Unknown(identity.clone());
        let present = self.get(identity).ok_or_else(unknown)?;
        let Authentication::Sas { primary, secondary } = &present.record.authentication else {
            return Err(IdentityError::NoKeys(identity.clone()));
        };
        let key = || {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|_| IdentityError::Random)?;
            Ok::<_, IdentityError>(Key::generate(bytes))
        };
        let primary = if which.primary() { key()? } else { primary.clone() };
        let secondary = if which.secondary() { key()? } else { secondary.clone() };
        let spec = IdentitySpec {
            authentication: Authentication::Sas { primary, secondary }.into(),
            status: present.record.status,
            parent: present.record.parent.clone(),
            notes: None,
        };
        // Nobody else's change between reading and writing is overwritten.
        let expect =
            if expect == Expect::Any { Expect::Revision(present.revision) } else { expect };
        let (registered, _) = self.put(hub, identity.clone(), spec, expect).await?;
        Ok(registered)
    }

    fn check_place(&self, hub: &Hub, identity: &Identity) -> Result<(), IdentityError> {
        let Some(module) = &identity.module else { return Ok(()) };
        if self.get(&Identity::device(identity.device.clone())).is_none() {
            return Err(IdentityError::NoDevice(identity.device.clone()));
        }
        match identity.device == *hub.edge_device() && hub.modules().is_wasm(module) {
            true => Err(IdentityError::IsWasm(identity.clone())),
            false => Ok(()),
        }
    }

    async fn write(
        &self,
        hub: &Hub,
        record: IdentityRecord,
        expect: Expect,
    ) -> Result<Registered, IdentityError> {
        let identity = record.identity.clone();
        let body = Some(serde_json::to_string(&record).expect("a record has only text keys"));
        let write = Write { kind: KIND, key: identity.to_string(), body, expect };
        let revision = self.commit(hub, &identity, vec![write]).await?;
        let record = Arc::new(IdentityRecord { etag: revision.to_string(), ..record });
        let registered = Registered { record, revision };
        lock(&self.records).insert(identity, registered.clone());
        self.changes.send_modify(|changes| *changes += 1);
        Ok(registered)
    }

    /// Deletes an identity and its twin and dismisses its client.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing has changed then.
    pub async fn delete(
        &self,
        hub: &Hub,
        identity: &Identity,
        expect: Expect,
    ) -> Result<(), IdentityError> {
        let _one = self.changing.lock().await;
        self.check_deletion(hub, identity)?;
        if identity.module.is_none() && !self.modules(&identity.device, None, 1).is_empty() {
            return Err(IdentityError::HasModules(identity.device.clone()));
        }
        self.remove(hub, vec![identity.clone()], expect).await
    }

    /// Deletes a device, its modules with it, and dismisses their clients, as IoT Hub does; or a module.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing has changed then.
    pub async fn delete_whole(
        &self,
        hub: &Hub,
        identity: &Identity,
        expect: Expect,
    ) -> Result<(), IdentityError> {
        let _one = self.changing.lock().await;
        self.check_deletion(hub, identity)?;
        let mut gone = vec![identity.clone()];
        if identity.module.is_none() {
            let modules = self.modules(&identity.device, None, usize::MAX);
            gone.extend(modules.iter().map(|module| module.record.identity.clone()));
        }
        self.remove(hub, gone, expect).await
    }

    fn check_deletion(&self, hub: &Hub, identity: &Identity) -> Result<(), IdentityError> {
        if self.get(identity).is_none() {
            return Err(IdentityError::Unknown(identity.clone()));
        }
        if identity.module.is_none() && identity.device == *hub.edge_device() {
            return Err(IdentityError::IsEdge(identity.device.clone()));
        }
        match is_system(hub, identity) {
            true => Err(IdentityError::IsSystem(identity.clone())),
            false => Ok(()),
        }
    }

    /// Deletes all of them or none; `expect` is about the first.
    async fn remove(
        &self,
        hub: &Hub,
        gone: Vec<Identity>,
        expect: Expect,
    ) -> Result<(), IdentityError> {
        let expectations = std::iter::once(expect).chain(std::iter::repeat(Expect::Any));
        let writes = gone.iter().zip(expectations).map(|(identity, expect)| Write {
            kind: KIND,
            key: identity.to_string(),
            body: None,
            expect,
        });
        let mut writes: Vec<Write> = writes.collect();
        let commit = async |twins| {
            writes.extend(twins);
            self.commit(hub, &gone[0], writes).await?;
            for identity in &gone {
                lock(&self.records).remove(identity);
            }
            Ok::<_, IdentityError>(())
        };
        hub.twins().delete_with(hub, &gone, commit).await?;
        for identity in &gone {
            hub.dismiss(identity, Leave::Revoked);
            hub.presences().forget(identity);
        }
        self.changes.send_modify(|changes| *changes += 1);
        for identity in &gone {
            crate::subscriptions::forget(hub.store(), identity).await?;
            hub.commands().forget(hub, identity).await?;
        }
        Ok(())
    }

    /// Writes the record, and what goes with it.
    async fn commit(
        &self,
        hub: &Hub,
        identity: &Identity,
        writes: Vec<Write>,
    ) -> Result<u64, IdentityError> {
        match hub.store().write(writes).await {
            Ok(revisions) => Ok(revisions[0]),
            Err(WriteError::Mismatch { present, .. }) => {
                Err(IdentityError::Mismatch { identity: identity.clone(), present })
            }
            Err(WriteError::Store(cause)) => Err(cause.into()),
        }
    }

    /// A changed device may take its modules with it: a disabled one refuses them too, and they may have
    /// come with its key.
    fn recheck(&self, hub: &Hub, identity: &Identity) {
        hub.recheck(identity);
        if identity.module.is_none() {
            for module in self.modules(&identity.device, None, usize::MAX) {
                hub.recheck(&module.record.identity);
            }
        }
    }
}

fn is_system(hub: &Hub, identity: &Identity) -> bool {
    let module = identity.module.as_ref().map(ModuleId::as_str);
    identity.device == *hub.edge_device()
        && module.is_some_and(|module| SYSTEM_MODULES.contains(&module))
}

/// Keys that the caller left out stay as they are.
fn keep_keys(body: &mut AuthenticationBody, present: &Authentication) {
    if let (AuthenticationType::Sas, Authentication::Sas { primary, secondary }) =
        (body.kind, present)
    {
        let keys = body.symmetric_key.get_or_insert_default();
        keys.primary_key.get_or_insert_with(|| primary.clone());
        keys.secondary_key.get_or_insert_with(|| secondary.clone());
    }
}

fn changed(before: &IdentityRecord, after: &IdentityRecord) -> bool {
    before.authentication != after.authentication || before.status != after.status
}

fn read(document: &Document) -> Option<Registered> {
    let record: IdentityRecord = serde_json::from_str(&document.body)
        .inspect_err(|_| tracing::error!(key = document.key, "a stored identity cannot be read"))
        .ok()?;
    let record = Arc::new(IdentityRecord { etag: document.revision.to_string(), ..record });
    Some(Registered { record, revision: document.revision })
}
