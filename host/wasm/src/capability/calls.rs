//! `calls`: not built yet; every call answers `denied`, so that a module can do without.

use crate::bindings::weir::module::calls::{CallError, Host, MethodResult};
use crate::guest::Guest;
use wasmtime::Result;

impl Host for Guest {
    fn invoke(
        &mut self,
        _target: String,
        _method: String,
        _body: Vec<u8>,
        _timeout_ms: u32,
    ) -> Result<Result<MethodResult, CallError>> {
        self.enter()?;
        Ok(Err(CallError::Denied))
    }
}
