//! What a module may keep, and who waits behind a message that it wants again.
//!
//! Both change the answer of a call before it becomes a change of the store.

use super::effects::{Held, from_number};
use super::parts;
use super::runner::Runner;
use std::collections::{BTreeMap, BTreeSet};
use weir_core::id::{Identity, Sequence};
use weir_core::module::RetryOrder;
use weir_core::port::{Answer, Outcome};
use weir_store::EndpointId;

/// What the instance holds, with its sizes.
#[derive(Debug, Default)]
pub(super) struct Holding {
    held: BTreeMap<(EndpointId, Sequence), u64>,
    bytes: u64,
}

impl Holding {
    fn add(&mut self, key: (EndpointId, Sequence), bytes: u64) {
        self.remove(&key);
        self.bytes += bytes;
        self.held.insert(key, bytes);
    }

    fn remove(&mut self, key: &(EndpointId, Sequence)) {
        self.bytes -= self.held.remove(key).unwrap_or(0);
    }

    fn has_room(&self, bytes: u64, (messages, max_bytes): (usize, u64)) -> bool {
        self.held.len() < messages && self.bytes + bytes <= max_bytes
    }

    /// Forgets what has left its queue by itself (its time to live has ended, it was purged).
    fn look_again(&mut self, inputs: &[parts::Input]) {
        let reader = |endpoint| inputs.iter().find(|input| input.endpoint == endpoint);
        self.held.retain(|(endpoint, sequence), _| {
            reader(*endpoint).is_some_and(|input| input.reader.is_owed(*sequence))
        });
        self.bytes = self.held.values().sum();
    }
}

impl Runner {
    /// Past the quota of held messages a `hold` counts as `retry`: so many messages, and a quarter
    /// of the bytes that an input's queue may have.
    pub(super) fn keep_quota(&mut self, entries: &[Held], answer: &mut Answer) {
        let holds = answer.outcomes.contains(&Outcome::Hold);
        if !holds && self.holding.held.is_empty() {
            return;
        }
        for number in &answer.releases {
            let (sequence, input) = from_number(*number);
            if let Some(input) = self.readers.get(usize::from(input)) {
                self.holding.remove(&(input.endpoint, sequence));
            }
        }
        let messages = self.version.spec.limits.held as usize;
        let quota = (messages, self.hub.config().queues.module_bytes / 4);
        let released: BTreeSet<u64> = answer.releases.iter().copied().collect();
        let mut looked = false;
        for (held, outcome) in entries.iter().zip(&mut answer.outcomes) {
            let key = (held.endpoint, held.entry.sequence);
            let number = super::effects::number(held.entry.sequence, held.input);
            if *outcome != Outcome::Hold || released.contains(&number) {
                self.holding.remove(&key);
                continue;
            }
            let bytes = held.entry.record.message.message().size_bytes() as u64;
            if !self.holding.has_room(bytes, quota) && !looked {
                looked = true;
                self.holding.look_again(&self.readers);
            }
            match self.holding.has_room(bytes, quota) {
                true => self.holding.add(key, bytes),
                false => {
                    let reason = format!(
                        "the module holds {} messages already (limits.held)",
                        self.holding.held.len()
                    );
                    *outcome = Outcome::Retry { reason, after: None };
                }
            }
        }
    }

    /// Where `retry` keeps the order: the later messages of its sender go back, whatever the module
    /// said of them, and come again behind it. Gives the others, and whether anybody waits.
    pub(super) fn keep_order(
        &mut self,
        entries: Vec<Held>,
        answer: &mut Answer,
    ) -> (Vec<Held>, bool) {
        let rule = &self.version.spec.errors.retry;
        let max_attempts = rule.max_attempts;
        let retries = |(held, outcome): (&Held, &Outcome)| {
            matches!(outcome, Outcome::Retry { .. }) && held.entry.attempt < max_attempts
        };
        let any = entries.iter().zip(&answer.outcomes).any(retries);
        if rule.order == RetryOrder::None || !any {
            return (entries, false);
        }
        let mut waited_for: BTreeSet<(EndpointId, Identity)> = BTreeSet::new();
        let key = |held: &Held| (held.endpoint, held.entry.record.message.sender().clone());
        let (mut kept, mut outcomes, mut back) = (Vec::new(), Vec::new(), Vec::new());
        for (held, outcome) in entries.into_iter().zip(std::mem::take(&mut answer.outcomes)) {
            if waited_for.contains(&key(&held)) {
                self.holding.remove(&(held.endpoint, held.entry.sequence));
                back.push(held);
                continue;
            }
            if retries((&held, &outcome)) {
                waited_for.insert(key(&held));
            }
            kept.push(held);
            outcomes.push(outcome);
        }
        answer.outcomes = outcomes;
        for part in &mut self.parts {
            let (waits, stays): (Vec<Held>, Vec<Held>) = std::mem::take(&mut part.entries)
                .into_iter()
                .partition(|held| waited_for.contains(&key(held)));
            back.extend(waits);
            part.entries = stays;
        }
        self.parts.retain(|part| !part.entries.is_empty());
        self.put_back(&back);
        (kept, true)
    }

    pub(super) fn put_back(&self, entries: &[Held]) {
        parts::put_back(&self.readers, entries);
    }
}
