//! `twin`: the module's own twin.
//!
//! Reports are journalled by `ModuleTwin`; the call's end commits or undoes them. Whoever may run may
//! read; `report` needs the grant, and answers `denied` in `init`, which has no commit of its own.

use crate::bindings::weir::module::twin::{Document, Host, TwinError};
use crate::guest::{Guest, Phase};
use wasmtime::Result;
use weir_core::module_twin::ReportError;

impl Host for Guest {
    fn desired(&mut self) -> Result<Result<Document, TwinError>> {
        self.enter()?;
        let twin = self.twin();
        let (version, json) = (twin.in_force().version, twin.desired_json());
        Ok(Ok(Document { version, json }))
    }

    fn reported(&mut self) -> Result<Result<Document, TwinError>> {
        self.enter()?;
        let twin = self.twin();
        let (version, json) = (twin.reported().version, twin.reported_json());
        Ok(Ok(Document { version, json }))
    }

    fn report(&mut self, patch: String) -> Result<Result<(), TwinError>> {
        self.enter()?;
        if !self.report_granted || self.call.phase == Phase::Init {
            return Ok(Err(TwinError::Denied));
        }
        let now = self.clock.now();
        Ok(self.twin().report(patch.as_bytes(), now).map_err(|error| match error {
            ReportError::TooLarge(_) | ReportError::TooMany => TwinError::TooLarge,
            ReportError::Invalid(_) | ReportError::Reserved => {
                TwinError::InvalidJson(error.to_string())
            }
        }))
    }
}
