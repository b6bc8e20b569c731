//! WASI `random`: all of it from the machine's generator, in limited pieces.

use crate::bindings::wasi::random::{insecure, insecure_seed, random};
use crate::guest::{Guest, contract};
use wasmtime::Result;

/// Bytes of one call.
const MAX_BYTES: u64 = 64 * 1024;

impl Guest {
    fn random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.enter()?;
        if length > MAX_BYTES {
            return Err(contract(format!(
                "it asked for {length} random bytes; {MAX_BYTES} are given"
            )));
        }
        let mut bytes = vec![0; usize::try_from(length).expect("checked above")];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        Ok(bytes)
    }

    fn random_number(&mut self) -> Result<u64> {
        let bytes = self.random_bytes(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
    }
}

impl random::Host for Guest {
    fn get_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        self.random_number()
    }
}

impl insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.random_bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        self.random_number()
    }
}

impl insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random_number()?, self.random_number()?))
    }
}
