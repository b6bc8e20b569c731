//! `twin`: not built yet; every call answers `denied`, so that a module can do without.

use crate::bindings::weir::module::twin::{Document, Host, TwinError};
use crate::guest::Guest;
use wasmtime::Result;

impl Host for Guest {
    fn desired(&mut self) -> Result<Result<Document, TwinError>> {
        self.enter()?;
        Ok(Err(TwinError::Denied))
    }

    fn reported(&mut self) -> Result<Result<Document, TwinError>> {
        self.enter()?;
        Ok(Err(TwinError::Denied))
    }

    fn report(&mut self, _patch: String) -> Result<Result<(), TwinError>> {
        self.enter()?;
        Ok(Err(TwinError::Denied))
    }
}
