//! A module's key-value state: the values in memory, with quota and expiry, and a journal that undoes
//! a call which failed.
//!
//! All of it fits in memory because it has a quota. A call works on the present values (its own
//! uncommitted effects and those of the batches before it included); the changes come out as a
//! list that the store commits with the batch. When a commit fails the hub loads the state anew.

use crate::clock::Timestamp;
use crate::limits;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A value and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateValue {
    /// The bytes.
    pub value: Vec<u8>,
    /// [`Timestamp::NEVER`] for a value without an end.
    pub expires: Timestamp,
}

/// A key's new value; `None` deletes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Option<StateValue>,
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The module's bytes or keys are used up.
    #[error("the module's state quota is used up")]
    Quota,
    /// The key or the value alone is too large.
    #[error("the key or the value is too large")]
    TooLarge,
    /// The value is not the expected one, or no whole number.
    #[error("the value is not the expected one")]
    Conflict,
}

/// The values, the quota and the journal of the call under way.
#[derive(Debug, Clone)]
pub struct ModuleState {
    values: BTreeMap<String, StateValue>,
    quota_bytes: usize,
    bytes: usize,
    /// Values before the call under way, oldest last for a key that changed twice.
    journal: Vec<(String, Option<StateValue>)>,
}

fn size(key: &str, value: &StateValue) -> usize {
    key.len() + value.value.len()
}

impl ModuleState {
    /// From what the store has.
    #[must_use]
    pub fn new(values: BTreeMap<String, StateValue>, quota_bytes: usize) -> Self {
        let bytes = values.iter().map(|(key, value)| size(key, value)).sum();
        Self { values, quota_bytes, bytes, journal: Vec::new() }
    }

    /// Bytes in use.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.bytes
    }

    /// Number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True without keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A change of the quota; what is stored stays, growth is refused while it is over.
    pub fn set_quota(&mut self, quota_bytes: usize) {
        self.quota_bytes = quota_bytes;
    }

    /// The value of a key that has not ended.
    #[must_use]
    pub fn get(&self, key: &str, now: Timestamp) -> Option<&[u8]> {
        self.values.get(key).filter(|held| held.expires > now).map(|held| held.value.as_slice())
    }

    /// Keys in order that begin with `prefix`, after `after`, at most `limit`.
    #[must_use]
    pub fn keys(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        now: Timestamp,
    ) -> Vec<String> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        self.values
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, held)| held.expires > now)
            .take(limit)
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`StateError::TooLarge`] and [`StateError::Quota`]; nothing has changed then.
    pub fn set(
        &mut self,
        key: &str,
        value: Vec<u8>,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), StateError> {
        if key.len() > limits::MODULE_KEY_BYTES || key.len() + value.len() > self.quota_bytes {
            return Err(StateError::TooLarge);
        }
        let value = StateValue { value, expires };
        let before = self.values.get(key).map_or(0, |held| size(key, held));
        let grown = self.bytes - before + size(key, &value);
        let full = |state: &Self, grown: usize| {
            grown > state.quota_bytes
                || (before == 0 && state.values.len() >= limits::MODULE_STATE_KEYS)
        };
        if full(self, grown) {
            self.sweep(now);
            let before = self.values.get(key).map_or(0, |held| size(key, held));
            if full(self, self.bytes - before + size(key, &value)) {
                return Err(StateError::Quota);
            }
        }
        self.put(key, Some(value));
        Ok(())
    }

    /// Sets a key if it has the expected value (`None`: if it is absent).
    ///
    /// # Errors
    /// [`StateError::Conflict`], and those of [`ModuleState::set`].
    pub fn compare_and_set(
        &mut self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
        now: Timestamp,
    ) -> Result<(), StateError> {
        match self.get(key, now) == expected {
            true => self.set(key, value, Timestamp::NEVER, now),
            false => Err(StateError::Conflict),
        }
    }

    /// Adds to a whole number written in decimal; an absent key counts as 0.
    ///
    /// # Errors
    /// [`StateError::Conflict`] when the value is no whole number or the sum leaves its range.
    pub fn increment(&mut self, key: &str, by: i64, now: Timestamp) -> Result<i64, StateError> {
        let (before, expires) = match self.values.get(key).filter(|held| held.expires > now) {
            None => (0, Timestamp::NEVER),
            Some(held) => {
                let text = std::str::from_utf8(&held.value).map_err(|_| StateError::Conflict)?;
                (text.parse::<i64>().map_err(|_| StateError::Conflict)?, held.expires)
            }
        };
        let sum = before.checked_add(by).ok_or(StateError::Conflict)?;
        self.set(key, sum.to_string().into_bytes(), expires, now)?;
        Ok(sum)
    }

    /// Deletes a key; nothing happens when it is absent.
    pub fn delete(&mut self, key: &str) {
        if self.values.contains_key(key) {
            self.put(key, None);
        }
    }

    /// Ends a call that went well: its changes, one for each key.
    pub fn commit(&mut self) -> Vec<StateChange> {
        let mut keys: Vec<String> = self.journal.drain(..).map(|(key, _)| key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter()
            .map(|key| StateChange { value: self.values.get(&key).cloned(), key })
            .collect()
    }

    /// Undoes the call under way.
    pub fn rollback(&mut self) {
        while let Some((key, before)) = self.journal.pop() {
            self.replace(&key, before);
        }
    }

    fn put(&mut self, key: &str, value: Option<StateValue>) {
        let before = self.replace(key, value);
        self.journal.push((key.to_owned(), before));
    }

    fn replace(&mut self, key: &str, value: Option<StateValue>) -> Option<StateValue> {
        let added = value.as_ref().map_or(0, |value| size(key, value));
        let before = match value {
            Some(value) => self.values.insert(key.to_owned(), value),
            None => self.values.remove(key),
        };
        self.bytes = self.bytes + added - before.as_ref().map_or(0, |value| size(key, value));
        before
    }

    /// Deletes what has ended; part of the call under way like any other change.
    fn sweep(&mut self, now: Timestamp) {
        let ended: Vec<String> = self
            .values
            .iter()
            .filter(|(_, held)| held.expires <= now)
            .map(|(key, _)| key.clone())
            .collect();
        for key in ended {
            self.put(&key, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn state(quota: usize) -> ModuleState {
        ModuleState::new(BTreeMap::new(), quota)
    }

    #[test]
    fn a_failed_call_leaves_no_trace() {
        let mut state = state(100);
        state.set("a", b"1".to_vec(), Timestamp::NEVER, NOW).unwrap();
        state.commit();
        state.set("a", b"22".to_vec(), Timestamp::NEVER, NOW).unwrap();
        state.set("b", b"3".to_vec(), Timestamp::NEVER, NOW).unwrap();
        state.delete("a");
        state.rollback();
        assert_eq!(state.get("a", NOW), Some(b"1".as_slice()));
        assert_eq!(state.get("b", NOW), None);
        assert_eq!(state.used_bytes(), 2);
    }

    #[test]
    fn an_ended_value_is_absent_and_gives_its_room_back() {
        let mut state = state(10);
        state.set("old", b"12345".to_vec(), Timestamp::from_secs(1_001), NOW).unwrap();
        let later = Timestamp::from_secs(1_002);
        assert_eq!(state.get("old", later), None);
        assert_eq!(
            state.set("new", b"12345".to_vec(), Timestamp::NEVER, NOW),
            Err(StateError::Quota)
        );
        state.set("new", b"12345".to_vec(), Timestamp::NEVER, later).unwrap();
        assert_eq!(state.keys("", None, 9, later), ["new"]);
    }

    #[test]
    fn increment_refuses_what_is_no_number() {
        let mut state = state(100);
        assert_eq!(state.increment("n", 5, NOW), Ok(5));
        assert_eq!(state.increment("n", -7, NOW), Ok(-2));
        state.set("t", b"x".to_vec(), Timestamp::NEVER, NOW).unwrap();
        assert_eq!(state.increment("t", 1, NOW), Err(StateError::Conflict));
        state.set("m", i64::MAX.to_string().into_bytes(), Timestamp::NEVER, NOW).unwrap();
        assert_eq!(state.increment("m", 1, NOW), Err(StateError::Conflict));
    }

    proptest! {
        #[test]
        fn rollback_restores_exactly_what_was_there(
            first in proptest::collection::vec(("[a-c]", proptest::option::of(0usize..9)), 0..12),
            second in proptest::collection::vec(("[a-c]", proptest::option::of(0usize..9)), 0..12),
        ) {
            let mut state = state(20);
            let apply = |state: &mut ModuleState, steps: &[(String, Option<usize>)]| {
                for (key, length) in steps {
                    match length {
                        Some(length) => { state.set(key, vec![7; *length], Timestamp::NEVER, NOW).ok(); }
                        None => state.delete(key),
                    }
                }
            };
            apply(&mut state, &first);
            state.commit();
            let (values, bytes) = (state.values.clone(), state.bytes);
            apply(&mut state, &second);
            prop_assert!(state.bytes <= 20);
            state.rollback();
            prop_assert_eq!(&state.values, &values);
            prop_assert_eq!(state.bytes, bytes);
        }
    }
}
