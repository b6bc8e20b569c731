//! Direct methods: what others ask of the module.

use serde_json::{Value, json};

/// The answer to a call.
pub use crate::method_bindings::exports::weir::module::methods::Response;

/// A module that can be called. Export it with `export!(MyModule, methods)`.
pub trait Methods: crate::Module {
    /// Answers a call, between batches. `body` is JSON, `null` when the caller sent nothing. What is done
    /// here (reports, state, sends) is committed before the caller has the answer.
    fn call(&mut self, name: &str, body: &[u8]) -> Response;
}

impl Response {
    /// Status 200.
    #[must_use]
    pub fn ok(value: &Value) -> Self {
        Self { status: 200, body: value.to_string().into_bytes() }
    }

    /// What went wrong, with a number for the caller.
    #[must_use]
    pub fn error(status: i32, message: &str) -> Self {
        Self { status, body: json!({ "message": message }).to_string().into_bytes() }
    }

    /// Status 404.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Self::error(404, &format!("there is no method {name}"))
    }
}
