//! Several twins, and what goes with them, in one commit: a deployment's content.

use super::{Prepared, TwinError, Twins, commit, prepare};
use crate::Hub;
use std::collections::{BTreeMap, BTreeSet};
use weir_core::id::Identity;
use weir_core::twin::{Twin, TwinChange};
use weir_store::{Change, Write};

/// What is to be committed.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Changes of twins; each one at most once.
    pub(crate) changes: Vec<(Identity, TwinChange)>,
    /// Documents beside them.
    pub(crate) writes: Vec<Write>,
}

impl Twins {
    /// Changes twins together or not at all. `plan` is given them as they are, while nobody else changes
    /// them. To be called from a task of its own: it must not be dropped.
    ///
    /// # Errors
    /// Those of the plan and of the commit; nothing has changed then.
    pub(crate) async fn change_together<E: From<TwinError>>(
        &self,
        hub: &Hub,
        all: &BTreeSet<Identity>,
        author: &str,
        plan: impl AsyncFnOnce(&BTreeMap<Identity, Twin>) -> Result<Plan, E>,
    ) -> Result<BTreeMap<Identity, Twin>, E> {
        // Always in the order of names: two who want the same twins do not wait for each other.
        let cells: Vec<_> = all.iter().map(|of| (of, self.cell(of))).collect();
        let mut held = BTreeMap::new();
        for (of, cell) in &cells {
            held.insert((*of).clone(), cell.hold(hub, of).await?);
        }
        let mut twins: BTreeMap<Identity, Twin> =
            held.iter_mut().map(|(of, held)| (of.clone(), held.loaded().twin())).collect();
        let Plan { changes, writes: mut documents } = plan(&twins).await?;
        let mut prepared: Vec<(Identity, Prepared)> = Vec::with_capacity(changes.len());
        for (of, change) in changes {
            let held = held.get_mut(&of).expect("a plan changes the twins that it was given");
            let (one, writes) = prepare(hub, held, &change, author).await?;
            documents.extend(writes);
            prepared.push((of, one));
        }
        if !documents.is_empty() {
            commit(hub, Change { documents, ..Change::default() }).await?;
        }
        for (of, one) in prepared {
            let held = held.get_mut(&of).expect("it was there when it was prepared");
            twins.insert(of, one.enforce(hub, held));
        }
        Ok(twins)
    }
}
