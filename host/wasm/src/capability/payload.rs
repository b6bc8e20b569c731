//! `types.payload`: a body that stays in the hub and is read piece by piece.
//!
//! A payload is readable until the call ends in which its message was delivered; after that the
//! handle is empty, so that a guest which keeps handles does not keep bodies in the hub's memory.

use crate::bindings::weir::module::types::{Host, HostPayload};
use crate::guest::Guest;
use bytes::Bytes;
use wasmtime::Result;
use wasmtime::component::Resource;

/// Bytes of one `read`: a guest that asks for all of a body gets it in pieces.
const MAX_READ: usize = 256 * 1024;

/// The host's side of a payload; empty after its call.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Payload(pub(crate) Bytes);

impl Host for Guest {}

impl HostPayload for Guest {
    fn size(&mut self, payload: Resource<Payload>) -> Result<u64> {
        self.enter()?;
        Ok(self.table.get(&payload)?.0.len() as u64)
    }

    fn read(&mut self, payload: Resource<Payload>, offset: u64, length: u32) -> Result<Vec<u8>> {
        self.enter()?;
        let body = &self.table.get(&payload)?.0;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(body.len());
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_READ);
        let to = from.saturating_add(length).min(body.len());
        Ok(body[from..to].to_vec())
    }

    fn drop(&mut self, payload: Resource<Payload>) -> Result<()> {
        self.delete(payload)
    }
}
