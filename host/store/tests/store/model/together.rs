//! Several appends and changes that are handed over together and share commits: on one chain and on
//! several, for the same entries and the same keys, on a disk that fails and with a crash in between.

use super::list::{Model, Spot, State};
use super::{MODULE, QUEUES, Room, Run, UNNUMBERED, UNNUMBERED_STEP};
use crate::fixture::{Rig, SOON};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_core::clock::Timestamp;
use weir_core::id::Sequence;
use weir_core::module_state::{StateChange, StateValue};
use weir_core::record;
use weir_store::{
    Append, Appended, Chain, Change, ChangeReceipt, CommitError, Committed, Disposition,
    ENTRY_OVERHEAD_BYTES, Receipt, WhenFull, Why,
};

const CHAINS: usize = 3;
/// The key that says which change was the last.
const MARK: &str = "mark";

/// What is handed over at once.
#[derive(Debug, Clone)]
struct Step {
    chain: usize,
    /// None for a plain append.
    settle: Option<Vec<(usize, u64, Disposition)>>,
    batch: Vec<(Append, Vec<Spot>)>,
    state: Vec<StateChange>,
}

#[derive(Debug)]
enum Pending {
    Append(Receipt),
    Change(ChangeReceipt),
}

#[derive(Debug)]
enum Answer {
    Append(Appended),
    Change(Result<Committed, CommitError>),
}

impl Step {
    fn appends(&self) -> Vec<Append> {
        self.batch.iter().map(|(append, _)| append.clone()).collect()
    }
}

fn base(at: usize) -> u64 {
    UNNUMBERED + at as u64 * UNNUMBERED_STEP
}

impl Model {
    fn set(&mut self, changes: &[StateChange]) {
        for change in changes {
            match &change.value {
                Some(value) => drop(self.state.insert(change.key.clone(), value.value.clone())),
                None => drop(self.state.remove(&change.key)),
            }
        }
    }
}

impl Run {
    /// All is taken in together; what each is answered is what it would be answered alone.
    pub(super) async fn together(&mut self) {
        self.notice_expired().await;
        let steps = self.steps();
        let pending = self.hand_over(&steps).await;
        let mut broken = [false; CHAINS];
        let mut numbers = Vec::new();
        for (at, (step, pending)) in steps.iter().zip(pending).enumerate() {
            let first = match answer(pending).await {
                Answer::Append(appended) => self.appended(at, step, &mut broken, appended),
                Answer::Change(result) => self.changed(at, step, &mut broken, result),
            };
            numbers.push(first);
        }
        for (at, first) in numbers.into_iter().enumerate() {
            self.number(base(at), first);
        }
        self.adopt_drops().await;
        for queue in 0..QUEUES {
            let usage = self.rig().usage(self.endpoints[queue]);
            assert_eq!(usage.bytes, self.model.bytes(queue));
        }
    }

    fn appended(
        &mut self,
        at: usize,
        step: &Step,
        broken: &mut [bool; CHAINS],
        appended: Appended,
    ) -> Option<Sequence> {
        let was_broken = broken[step.chain];
        let expected = match was_broken {
            true => 0,
            false => self.model_append(&step.batch, base(at), Room::Seen),
        };
        assert_eq!(appended.accepted, expected, "of {step:?}");
        match appended.refused {
            None => assert_eq!(expected, step.batch.len()),
            Some(refused) => {
                match was_broken {
                    true => assert!(matches!(refused.why, Why::Broken)),
                    false => assert!(matches!(refused.why, Why::Full { .. })),
                }
                assert_eq!(refused.rest, step.appends()[expected..]);
                broken[step.chain] = true;
            }
        }
        appended.first
    }

    fn changed(
        &mut self,
        at: usize,
        step: &Step,
        broken: &mut [bool; CHAINS],
        result: Result<Committed, CommitError>,
    ) -> Option<Sequence> {
        match result {
            Ok(committed) => {
                assert!(!broken[step.chain]);
                let unknown = self.settle_all(step);
                assert_eq!(committed.unknown, unknown, "of {step:?}");
                self.model_append(&step.batch, base(at), Room::Given);
                for (queue, _, _) in step.batch.iter().flat_map(|(_, places)| places) {
                    let limit = self.model.limits[*queue];
                    let over = limit.max_bytes.is_some_and(|max| self.model.bytes(*queue) > max);
                    assert!(!over || limit.when_full == WhenFull::DropOldest, "over by {step:?}");
                }
                self.model.set(&step.state);
                committed.first
            }
            Err(CommitError::Broken { change }) => {
                assert!(broken[step.chain]);
                self.is_untouched(step, &change);
                None
            }
            Err(CommitError::Full { change, .. }) => {
                assert!(!broken[step.chain]);
                assert!(self.may_be_refused(step), "{step:?} fits");
                self.is_untouched(step, &change);
                broken[step.chain] = true;
                None
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Settles in the model; gives the number of entries that are not there.
    fn settle_all(&mut self, step: &Step) -> usize {
        let settle = step.settle.iter().flatten();
        settle.filter(|(queue, sequence, d)| !self.model.settle(*queue, *sequence, d)).count()
    }

    /// True when the change does not fit into a queue that refuses; of one that drops it is not
    /// said here.
    fn may_be_refused(&self, step: &Step) -> bool {
        let mut after = self.model.clone();
        for (queue, sequence, disposition) in step.settle.iter().flatten() {
            after.settle(*queue, *sequence, disposition);
        }
        (0..QUEUES).any(|queue| {
            let messages = step.batch.iter().filter(|(_, p)| p.iter().any(|p| p.0 == queue));
            let need: u64 = messages
                .map(|(append, _)| {
                    record::encoded_len(&append.message) as u64 + 8 + ENTRY_OVERHEAD_BYTES
                })
                .sum();
            let limit = self.model.limits[queue];
            let over = limit.max_bytes.is_some_and(|max| after.bytes(queue) + need > max);
            need > 0 && (limit.when_full == WhenFull::DropOldest || over)
        })
    }

    fn is_untouched(&self, step: &Step, change: &Change) {
        assert_eq!(change.settle, self.change(step).settle);
        assert_eq!(change.append, step.appends());
    }

    /// Nothing of what is refused by the disk is there, and all of it comes back.
    pub(super) async fn together_on_a_bad_disk(&mut self) {
        self.notice_expired().await;
        let steps = self.steps();
        self.rig().break_commits().await;
        let pending = self.hand_over(&steps).await;
        for (step, pending) in steps.iter().zip(pending) {
            match answer(pending).await {
                Answer::Append(appended) => {
                    assert_eq!(appended.accepted, 0);
                    let rest = appended.refused.map_or_else(Vec::new, |refused| refused.rest);
                    assert_eq!(rest, step.appends());
                }
                Answer::Change(Ok(committed)) => {
                    let settle = step.settle.as_ref().map_or(0, Vec::len);
                    // Deleting a key that is not there needs no disk.
                    assert!(step.batch.is_empty());
                    assert_eq!(committed.unknown, settle, "of {step:?}");
                }
                Answer::Change(Err(
                    CommitError::Full { change, .. }
                    | CommitError::Unavailable { change, .. }
                    | CommitError::Broken { change }
                    | CommitError::Mismatch { change, .. },
                )) => self.is_untouched(step, &change),
            }
        }
        if self.random.bool() {
            // It ends before the disk is well again.
            let rig = self.crash().await;
            rig.mend_commits().await;
            self.forget_deliveries();
            self.opened_again(rig).await;
        } else {
            self.rig().mend_commits().await;
            self.tidy().await;
            assert!(self.rig().store.health().writable);
        }
        self.compare().await;
    }

    /// Of changes on one chain the first are there after a crash, whole and in order; all that were
    /// answered are among them.
    pub(super) async fn crash_in_between(&mut self) {
        self.notice_expired().await;
        let mut steps = self.steps();
        for (at, step) in steps.iter_mut().enumerate() {
            step.chain = 0;
            step.settle.get_or_insert_default();
            step.state.push(set(MARK, Some(&at.to_string())));
        }
        let state = Some((MODULE.to_owned(), vec![set(MARK, None)]));
        self.rig().commit(Change { state, ..Change::default() }).await.unwrap();
        self.model.state.remove(MARK);
        let pending = self.hand_over(&steps).await;
        for _ in 0..self.random.u32(0..8) {
            tokio::time::sleep(Duration::from_micros(self.random.u64(0..500))).await;
        }
        let rig = self.crash().await;
        let state = rig.store.module_state(MODULE).await.unwrap();
        let mark = state.get(MARK).map(|value| String::from_utf8(value.value.clone()).unwrap());
        let there = mark.map_or(0, |mark| mark.parse::<usize>().unwrap() + 1);
        for (at, pending) in pending.into_iter().enumerate() {
            if let Answer::Change(Ok(_)) = answer(pending).await {
                assert!(at < there, "{at} was answered, {there} are there");
            }
        }
        for (at, step) in steps[..there].iter().enumerate() {
            self.settle_all(step);
            self.model_append(&step.batch, base(at), Room::Given);
            self.model.set(&step.state);
        }
        self.forget_deliveries();
        self.opened_again(rig).await;
        self.read_numbers().await;
        self.adopt_drops().await;
        self.compare().await;
    }

    /// The model learns from the store what it was not told.
    async fn read_numbers(&mut self) {
        for queue in 0..QUEUES {
            let there = self.peek(queue).await;
            let by_id: BTreeMap<u64, u64> = there.iter().map(|(seq, id)| (*id, *seq)).collect();
            for item in &mut self.model.queues[queue] {
                item.sequence = *by_id.get(&item.id).unwrap_or(&item.sequence);
            }
        }
    }

    async fn crash(&mut self) -> Rig {
        self.readers.clear();
        self.rig.take().unwrap().crash().await
    }

    /// Hands everything over; in between the writer may run.
    async fn hand_over(&mut self, steps: &[Step]) -> Vec<Pending> {
        let chains: Vec<Chain> = (0..CHAINS).map(|_| self.rig().store.chain()).collect();
        let mut all = Vec::new();
        for step in steps {
            let slot = self.rig().store.slot().await.unwrap();
            let chain = &chains[step.chain];
            all.push(match step.settle {
                None => Pending::Append(slot.append(step.appends(), chain)),
                Some(_) => Pending::Change(slot.commit(self.change(step), chain)),
            });
            if self.random.u32(0..6) == 0 {
                tokio::task::yield_now().await;
            }
        }
        all
    }

    fn change(&self, step: &Step) -> Change {
        let settle = step.settle.iter().flatten();
        let settle = settle.map(|(queue, sequence, disposition)| {
            (self.endpoints[*queue], Sequence(*sequence), disposition.clone())
        });
        let state = Some((MODULE.to_owned(), step.state.clone()));
        let state = state.filter(|(_, changes)| !changes.is_empty());
        Change { settle: settle.collect(), append: step.appends(), state, ..Change::default() }
    }

    fn steps(&mut self) -> Vec<Step> {
        let mut owed = self.pick(|item| matches!(item.state, State::InFlight | State::Held));
        let mut again: Vec<(usize, u64)> = Vec::new();
        let count = self.random.usize(2..9);
        (0..count).map(|_| self.step(&mut owed, &mut again)).collect()
    }

    fn step(&mut self, owed: &mut Vec<(usize, u64)>, again: &mut Vec<(usize, u64)>) -> Step {
        let chain = self.random.usize(0..CHAINS);
        if self.random.u32(0..5) < 2 {
            return Step { chain, settle: None, batch: self.messages(8), state: Vec::new() };
        }
        let mut picked: Vec<(usize, u64)> = Vec::new();
        for _ in 0..self.random.usize(0..5) {
            // Something new, or what this or an earlier step has settled already.
            let repeat = !again.is_empty() && self.random.bool();
            let (queue, sequence) = match repeat {
                true => again[self.random.usize(0..again.len())],
                false => match owed.pop() {
                    Some(entry) => entry,
                    None => continue,
                },
            };
            // Of what may be dropped in between it cannot be told whether it is there.
            if self.model.limits[queue].when_full == WhenFull::Reject {
                again.push((queue, sequence));
            }
            picked.push((queue, sequence));
        }
        let settle = picked.into_iter().map(|(q, sequence)| (q, sequence, self.disposition()));
        let settle = Some(settle.collect());
        let batch = if self.random.u32(0..3) == 0 { self.messages(4) } else { Vec::new() };
        let state = (0..self.random.usize(0..3)).map(|_| self.state_change()).collect();
        Step { chain, settle, batch, state }
    }

    fn state_change(&mut self) -> StateChange {
        let key = ["j", "k", "l"][self.random.usize(0..3)];
        let value = self.random.u32(..).to_string();
        set(key, self.random.bool().then_some(&value))
    }
}

fn set(key: &str, value: Option<&str>) -> StateChange {
    let value = value.map(|value| StateValue { value: value.into(), expires: Timestamp::NEVER });
    StateChange { key: key.to_owned(), value }
}

async fn answer(pending: Pending) -> Answer {
    let answer = async {
        match pending {
            Pending::Append(receipt) => Answer::Append(receipt.await),
            Pending::Change(receipt) => Answer::Change(receipt.await),
        }
    };
    tokio::time::timeout(SOON, answer).await.expect("an answer")
}
