//! A component's code with its imports resolved and its exports found: those that every module has,
//! and those that some have.

use crate::bindings::methods::{Callee, CalleeIndices};
use crate::bindings::twin_handler::{Configured, ConfiguredIndices};
use crate::bindings::{Guest as Module, GuestIndices};
use crate::component;
use crate::guest::Guest;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Result, Store};

/// Code from which instances are made.
#[derive(Clone)]
pub(crate) struct Linked {
    pre: InstancePre<Guest>,
    module: GuestIndices,
    callee: Option<CalleeIndices>,
    configured: Option<ConfiguredIndices>,
}

/// The exports of one instance.
pub(crate) struct Exports {
    pub(crate) module: Module,
    /// It has methods.
    pub(crate) callee: Option<Callee>,
    /// It is asked about changes of its desired properties.
    pub(crate) configured: Option<Configured>,
}

impl Linked {
    /// Links the code with what is offered.
    ///
    /// # Errors
    /// An import or an export does not have the shape of the interface.
    pub(crate) fn new(linker: &Linker<Guest>, component: &Component) -> Result<Self> {
        let pre = linker.instantiate_pre(component)?;
        let has =
            |name: &str| component.get_export_index(None, component::interface(name)).is_some();
        Ok(Self {
            module: GuestIndices::new(&pre)?,
            callee: has("methods").then(|| CalleeIndices::new(&pre)).transpose()?,
            configured: has("twin-handler").then(|| ConfiguredIndices::new(&pre)).transpose()?,
            pre,
        })
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    pub(crate) fn instantiate(&self, store: &mut Store<Guest>) -> Result<Exports> {
        let instance = self.pre.instantiate(&mut *store)?;
        let callee = self.callee.as_ref().map(|found| found.load(&mut *store, &instance));
        let configured = self.configured.as_ref().map(|found| found.load(&mut *store, &instance));
        Ok(Exports {
            module: self.module.load(&mut *store, &instance)?,
            callee: callee.transpose()?,
            configured: configured.transpose()?,
        })
    }
}
