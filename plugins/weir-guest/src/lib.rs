//! Write a Weir module in Rust: implement [`Module`], name it in [`export!`], build for
//! `wasm32-wasip2`.
//!
//! ```ignore
//! use weir_guest::{Configuration, Message, Module, Outcome, export};
//!
//! struct Hot { limit: f64 }
//!
//! impl Module for Hot {
//!     fn start(configuration: &Configuration) -> Result<Self, String> {
//!         Ok(Self { limit: configuration.number("limit")?.unwrap_or(25.0) })
//!     }
//!     fn handle(&mut self, message: Message<'_>) -> Outcome {
//!         if message.number(0) >= Some(self.limit) { Outcome::Pass(0) } else { Outcome::Drop }
//!     }
//! }
//! export!(Hot);
//! ```
//!
//! Everything here is the interface `weir:module` of `wit/module.wit` with Rust names; what a
//! function means and when its effect counts is said there.

extern crate self as weir_guest;

mod configuration;
mod desired;
mod log;
mod message;
mod methods;

#[doc(hidden)]
pub mod bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        world: "processor-module",
        path: "../../wit",
        pub_export_macro: true,
        export_macro_name: "export_bindings",
        default_bindings_module: "weir_guest::bindings",
        runtime_path: "weir_guest::wit_bindgen::rt",
    });
}
// What only some modules export has bindings of its own: an export that is not asked for costs nothing.
#[doc(hidden)]
pub mod method_bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        inline: "package weir:guest-methods; world callee { export weir:module/methods@0.1.0; }",
        path: "../../wit",
        world: "weir:guest-methods/callee",
        pub_export_macro: true,
        export_macro_name: "export_methods",
        default_bindings_module: "weir_guest::method_bindings",
        runtime_path: "weir_guest::wit_bindgen::rt",
    });
}
#[doc(hidden)]
pub mod desired_bindings {
    #![allow(missing_docs)]
    wit_bindgen::generate!({
        inline: "package weir:guest-desired; world configured { export weir:module/twin-handler@0.1.0; }",
        path: "../../wit",
        world: "weir:guest-desired/configured",
        pub_export_macro: true,
        export_macro_name: "export_desired",
        default_bindings_module: "weir_guest::desired_bindings",
        runtime_path: "weir_guest::wit_bindgen::rt",
    });
}
#[doc(hidden)]
pub use wit_bindgen;

pub use desired::{Configured, Desired};
pub use message::{Message, messages};
pub use methods::{Methods, Response};

pub use bindings::exports::weir::module::lifecycle::{Configuration, StartReason};
pub use bindings::weir::module::hub::SendError;
pub use bindings::weir::module::state::StateError;
pub use bindings::weir::module::types::{
    Annotation, Body, Field, Outcome, OutputMessage, Payload, Reject, Retry,
};
/// Sending, and settling held messages.
pub mod hub {
    pub use crate::bindings::weir::module::hub::{release, send};
}
/// Key-value state that outlives the instance.
pub mod state {
    pub use crate::bindings::weir::module::state::{
        compare_and_set, delete, get, get_many, increment, keys, set,
    };
}
/// Logs and metrics.
pub mod telemetry {
    pub use crate::bindings::weir::module::telemetry::{
        Kind, Level, enabled, log, metric, record_value,
    };
}
/// The module's own twin.
pub mod twin {
    pub use crate::bindings::weir::module::twin::{Document, TwinError};
    pub use crate::bindings::weir::module::twin::{desired, report, reported};
}

/// A module: made once by `start`, then given every message in order.
pub trait Module: Sized + 'static {
    /// Reads the configuration. An error refuses the deployment, and what ran before goes on.
    ///
    /// # Errors
    /// Whatever makes the configuration unusable, in words for the operator.
    fn start(configuration: &Configuration) -> Result<Self, String>;

    /// What becomes of one message.
    fn handle(&mut self, message: Message<'_>) -> Outcome;

    /// What becomes of a batch: one outcome for each message, in the same order.
    fn handle_batch<'a>(&mut self, batch: impl Iterator<Item = Message<'a>>) -> Vec<Outcome> {
        batch.map(|message| self.handle(message)).collect()
    }

    /// Called before an orderly end; not after a trap.
    fn stop(&mut self) {}
}

/// Makes a type that implements [`Module`] the component's module; `methods` and `desired` after it say that it implements [`Methods`] and [`Configured`].
#[macro_export]
macro_rules! export {
    ($module:ty $(, $handler:ident)*) => {
        const _: () = {
            use $crate::bindings::exports::weir::module as exports;

            struct Component;

            // A component has one thread, and the hub never calls it twice at once.
            std::thread_local! {
                static MODULE: std::cell::RefCell<Option<$module>> =
                    const { std::cell::RefCell::new(None) };
            }

            impl exports::lifecycle::Guest for Component {
                fn init(configuration: $crate::Configuration) -> Result<(), String> {
                    let module = <$module as $crate::Module>::start(&configuration)?;
                    MODULE.with(|slot| *slot.borrow_mut() = Some(module));
                    Ok(())
                }

                fn stop() {
                    MODULE.with(|slot| {
                        if let Some(mut module) = slot.borrow_mut().take() {
                            $crate::Module::stop(&mut module);
                        }
                    });
                }
            }

            impl exports::processor::Guest for Component {
                fn process(
                    batch: Vec<$crate::bindings::weir::module::types::Message>,
                    fields: Vec<$crate::Field>,
                ) -> Vec<$crate::Outcome> {
                    MODULE.with(|slot| {
                        let mut slot = slot.borrow_mut();
                        let module = slot.as_mut().expect("init comes before process");
                        $crate::Module::handle_batch(module, $crate::messages(batch, &fields))
                    })
                }
            }

    $crate::bindings::export_bindings!(Component with_types_in $crate::bindings);
            $($crate::export_handler!($handler $module);)*
        };
    };
}

/// What [`export!`] adds for one handler.
#[doc(hidden)]
#[macro_export]
macro_rules! export_handler {
    (methods $module:ty) => {
        impl $crate::method_bindings::exports::weir::module::methods::Guest for Component {
            fn on_method(name: String, body: Vec<u8>) -> $crate::Response {
                MODULE.with(|slot| {
                    let mut slot = slot.borrow_mut();
                    let module = slot.as_mut().expect("init comes before a method");
                    <$module as $crate::Methods>::call(module, &name, &body)
                })
            }
        }
        $crate::method_bindings::export_methods!(
            Component with_types_in $crate::method_bindings
        );
    };
    (desired $module:ty) => {
        impl $crate::desired_bindings::exports::weir::module::twin_handler::Guest for Component {
            fn on_desired(patch: String, desired: String, version: u64) -> Result<(), String> {
                let desired = $crate::Desired::new(version, &desired, &patch)?;
                MODULE.with(|slot| {
                    let mut slot = slot.borrow_mut();
                    let module = slot.as_mut().expect("init comes before desired properties");
                    <$module as $crate::Configured>::configure(module, &desired)
                })
            }
        }
        $crate::desired_bindings::export_desired!(
            Component with_types_in $crate::desired_bindings
        );
    };
}
