//! `state`: the module's key-value state.
//!
//! Changes are journalled by `ModuleState`; the call's end commits or undoes them. In `init` the state
//! can be read and not written, because `init` has no commit of its own.

use crate::bindings::weir::module::state::{Host, StateError};
use crate::guest::{Guest, Phase};
use std::time::Duration;
use wasmtime::Result;
use weir_core::clock::Timestamp;
use weir_core::module_state;

/// Keys in one answer of `keys` and in one `get-many`.
const KEYS_AT_ONCE: usize = 1_000;

impl From<module_state::StateError> for StateError {
    fn from(error: module_state::StateError) -> Self {
        match error {
            module_state::StateError::Quota => Self::Quota,
            module_state::StateError::TooLarge => Self::TooLarge,
            module_state::StateError::Conflict => Self::Conflict,
        }
    }
}

impl Guest {
    fn may_read(&mut self) -> Result<bool> {
        self.enter()?;
        Ok(self.state_granted)
    }

    fn may_write(&mut self) -> Result<bool> {
        Ok(self.may_read()? && self.call.phase == Phase::Effects)
    }
}

impl Host for Guest {
    fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, StateError>> {
        if !self.may_read()? {
            return Ok(Err(StateError::Denied));
        }
        let (state, now) = self.state();
        Ok(Ok(state.get(&key, now).map(<[u8]>::to_vec)))
    }

    fn get_many(&mut self, keys: Vec<String>) -> Result<Result<Vec<Option<Vec<u8>>>, StateError>> {
        if !self.may_read()? {
            return Ok(Err(StateError::Denied));
        }
        let (state, now) = self.state();
        // A key named many times must not make the hub copy its value as often.
        let mut budget = state.used_bytes();
        let mut values = Vec::new();
        for key in keys.iter().take(KEYS_AT_ONCE) {
            let value = state.get(key, now);
            match budget.checked_sub(value.map_or(0, <[u8]>::len)) {
                Some(rest) => budget = rest,
                None => return Ok(Err(StateError::TooLarge)),
            }
            values.push(value.map(<[u8]>::to_vec));
        }
        match keys.len() > KEYS_AT_ONCE {
            true => Ok(Err(StateError::TooLarge)),
            false => Ok(Ok(values)),
        }
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<Result<(), StateError>> {
        if !self.may_write()? {
            return Ok(Err(StateError::Denied));
        }
        let (mut state, now) = self.state();
        let expires = match ttl_ms {
            Some(ttl) => now.after(Duration::from_millis(ttl)),
            None => Timestamp::NEVER,
        };
        Ok(state.set(&key, value, expires, now).map_err(StateError::from))
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<Result<(), StateError>> {
        if !self.may_write()? {
            return Ok(Err(StateError::Denied));
        }
        let (mut state, now) = self.state();
        let done = state.compare_and_set(&key, expected.as_deref(), value, now);
        Ok(done.map_err(StateError::from))
    }

    fn delete(&mut self, key: String) -> Result<Result<(), StateError>> {
        if !self.may_write()? {
            return Ok(Err(StateError::Denied));
        }
        self.state().0.delete(&key);
        Ok(Ok(()))
    }

    fn increment(&mut self, key: String, by: i64) -> Result<Result<i64, StateError>> {
        if !self.may_write()? {
            return Ok(Err(StateError::Denied));
        }
        let (mut state, now) = self.state();
        Ok(state.increment(&key, by, now).map_err(StateError::from))
    }

    fn keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Result<Vec<String>, StateError>> {
        if !self.may_read()? {
            return Ok(Err(StateError::Denied));
        }
        let (state, now) = self.state();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(KEYS_AT_ONCE);
        Ok(Ok(state.keys(&prefix, after.as_deref(), limit, now)))
    }
}
