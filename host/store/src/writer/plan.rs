//! Planning: which of the jobs go into the group, and what each does.
//!
//! Admission is all or nothing for a message, and for a change. A queue that drops its oldest entries
//! makes room before it refuses. What a change settles frees its room at once, because it leaves in
//! the same transaction.

use super::documents::Unmet;
use super::group::{AppendPart, ChangePart, DeadRow, Dropped, Group, Part, Settled};
use super::{AppendJob, ChangeJob, Job, Writer};
use crate::Error;
use crate::message::{
    Append, Appended, CommitError, Disposition, EndpointId, Refused, Target, Why,
};
use crate::queue::lane::Waiting;
use crate::queue::owed::State;
use crate::queue::{Index, Queue, cost};
use crate::segment::body::{Encoded, PAGE_BYTES};
use crate::shared::Shared;
use crate::view::WhenFull;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::sync::Arc;
use weir_core::id::Sequence;
use weir_core::record;

/// Why a message cannot be admitted now.
#[derive(Debug)]
enum Refusal {
    /// To the sender.
    Why(Why),
    /// What is to be dropped must be read first.
    Load(Arc<Queue>, u32),
    /// What is to be dropped is in this group: commit first.
    AfterCommit,
}

impl Writer {
    /// Plans a batch. A job that comes back waits for the group's commit.
    pub(super) async fn plan_append(&mut self, group: &mut Group, job: AppendJob) -> Option<Job> {
        if self.must_wait(group, &job) {
            return Some(Job::Append(job));
        }
        self.builder.begin(job.encoded.bytes.len());
        let first = self.next_sequence;
        let (mut accepted, mut refused) = (0, None);
        let whole = self.admit_whole(group, &job);
        while accepted < job.batch.len() {
            let range = job.encoded.range(accepted);
            let append = &job.batch[accepted];
            let admitted = match whole {
                true => Ok(()),
                false => self.admit(group, &append.targets, range.len() as u64),
            };
            match admitted {
                Ok(()) => {
                    self.put(group, append, &job.encoded.bytes[range]);
                    accepted += 1;
                }
                Err(Refusal::Load(queue, priority)) => {
                    self.shared.load_lane(&queue, priority).await;
                }
                // The batch alone is more than the queue may hold.
                Err(Refusal::AfterCommit) => {
                    refused = append.targets.first().map(|t| Why::Full { endpoint: t.endpoint });
                    break;
                }
                Err(Refusal::Why(why)) => {
                    refused = Some(why);
                    break;
                }
            }
        }
        let AppendJob { batch, encoded, chain, reply } = job;
        if refused.is_some() {
            chain.snap();
        }
        if accepted == 0 {
            let refused = refused.map(|why| Refused { why, rest: batch });
            drop(reply.send(Appended { accepted, first: None, refused }));
        } else {
            let part = AppendPart { batch, encoded, chain, accepted, first, refused, reply };
            group.appends.push(part);
        }
        None
    }

    /// True when room for the batch is to be made by dropping what this group brings or has put aside:
    /// commit first.
    fn must_wait(&self, group: &Group, job: &AppendJob) -> bool {
        let most = job.encoded.bytes.len() as u64 + cost(0) * job.batch.len() as u64;
        group.parts.iter().filter(|part| part.fixed_bytes() > 0).any(|part| {
            let index = part.queue.lock();
            let QueueLimits { max, drop_oldest } = QueueLimits::of(&index);
            let targets = job.batch.iter().flat_map(|append| &append.targets);
            drop_oldest
                && index.pinned_bytes + part.fixed_bytes() + most > max
                && targets.map(|target| target.endpoint).any(|id| id == part.queue.id)
        })
    }

    /// Plans a change. A job that comes back waits for the group's commit.
    pub(super) async fn plan_change(&mut self, group: &mut Group, job: ChangeJob) -> Option<Job> {
        let bytes = job.encoded.bytes.len() as u64;
        // Before anything is admitted: what cannot be read now must not leave without its copy.
        let records = match dead_records(&self.shared, &job).await {
            Ok(records) => records,
            Err(cause) => {
                job.chain.snap();
                let refused = refusal_of(Why::Unavailable(Arc::new(cause)), job.change);
                drop(job.reply.send(Err(refused)));
                return None;
            }
        };
        match self.check_documents(group, &job.change.documents).await {
            Ok(None) => {}
            Ok(Some(Unmet { at, present })) => {
                job.chain.snap();
                let change = job.change;
                drop(job.reply.send(Err(CommitError::Mismatch { at, present, change })));
                return None;
            }
            Err(cause) => {
                job.chain.snap();
                let cause = Arc::new(Error::database("read a document")(cause));
                drop(job.reply.send(Err(refusal_of(Why::Unavailable(cause), job.change))));
                return None;
            }
        }
        loop {
            let targets: Vec<Target> = job
                .change
                .append
                .iter()
                .flat_map(|append| append.targets.iter().copied())
                .collect();
            let admitted = match targets.is_empty() {
                true => Ok(()),
                false => self.admit_change(group, &job),
            };
            match admitted {
                Ok(()) => break,
                Err(Refusal::Load(queue, priority)) => {
                    self.shared.load_lane(&queue, priority).await;
                }
                Err(Refusal::AfterCommit) => return Some(Job::Change(job)),
                Err(Refusal::Why(why)) => {
                    job.chain.snap();
                    drop(job.reply.send(Err(refusal_of(why, job.change))));
                    return None;
                }
            }
        }
        self.builder.begin(job.encoded.bytes.len());
        let mut records = records.into_iter();
        let mut unknown = 0;
        for (endpoint, sequence, disposition) in &job.change.settle {
            let record = match disposition {
                Disposition::Dead { .. } => records.next().flatten(),
                Disposition::Done | Disposition::Retry { .. } | Disposition::Hold => None,
            };
            let known = self.settle(group, *endpoint, sequence.0, disposition, record);
            unknown += usize::from(!known);
        }
        let first = self.next_sequence;
        for (at, append) in job.change.append.iter().enumerate() {
            self.put(group, append, &job.encoded.bytes[job.encoded.range(at)]);
        }
        if let Some((module, changes)) = &job.change.state {
            let keyed =
                changes.iter().map(|change| ((module.clone(), change.key.clone()), change.clone()));
            group.state.extend(keyed);
        }
        group.replayed.extend(&job.change.replayed);
        let revision = self.put_documents(group, &job.change.documents);
        group.messages += job.change.settle.len();
        group.bytes += usize::try_from(bytes).unwrap_or(0);
        let ChangeJob { change, encoded, chain, reply } = job;
        group.changes.push(ChangePart { change, encoded, chain, first, unknown, revision, reply });
        None
    }

    /// Admits a whole batch when there is room for all of it, which there nearly always is.
    fn admit_whole(&mut self, group: &mut Group, job: &AppendJob) -> bool {
        let needs = needs(&job.batch, &job.encoded);
        let has_room = |part: &Part, need: u64| {
            let index = part.queue.lock();
            let max = index.limit.max_bytes;
            max.is_none_or(|max| index.bytes + part.stay_bytes + need <= max)
        };
        for (target, need) in &needs {
            match self.part(group, target.endpoint) {
                Ok(at) if has_room(&group.parts[at], *need) => {}
                Ok(_) | Err(_) => return false,
            }
        }
        self.check_store(job.encoded.bytes.len() as u64).is_ok()
            && self.admit_needs(group, &needs, &BTreeSet::new()).is_ok()
    }

    /// Admits everything that a change appends, or nothing.
    fn admit_change(&mut self, group: &mut Group, job: &ChangeJob) -> Result<(), Refusal> {
        let needs = needs(&job.change.append, &job.encoded);
        let freed: BTreeSet<(EndpointId, Sequence)> = job
            .change
            .settle
            .iter()
            .filter(|(_, _, disposition)| {
                matches!(disposition, Disposition::Done | Disposition::Dead { .. })
            })
            .map(|(endpoint, sequence, _)| (*endpoint, *sequence))
            .collect();
        self.check_store(job.encoded.bytes.len() as u64)?;
        self.admit_needs(group, &needs, &freed)
    }

    /// Admits one message with its entry of `bytes`.
    fn admit(&mut self, group: &mut Group, targets: &[Target], bytes: u64) -> Result<(), Refusal> {
        self.check_store(bytes)?;
        let needs: SmallVec<[(Target, u64); 4]> =
            targets.iter().map(|target| (*target, bytes + cost(0))).collect();
        self.admit_needs(group, &needs, &BTreeSet::new())
    }

    fn check_store(&self, bytes: u64) -> Result<(), Refusal> {
        // The last slot may be a new one.
        match self.used_bytes() + bytes + PAGE_BYTES > self.shared.max_bytes {
            true => Err(Refusal::Why(Why::StoreFull)),
            false => Ok(()),
        }
    }

    fn admit_needs(
        &mut self,
        group: &mut Group,
        needs: &[(Target, u64)],
        freed: &BTreeSet<(EndpointId, Sequence)>,
    ) -> Result<(), Refusal> {
        // First whoever may refuse, so that nothing is dropped for a message that does not come.
        for (target, need) in needs {
            let at = self.part(group, target.endpoint)?;
            let part = &group.parts[at];
            let fixed = part.fixed_bytes();
            let index = part.queue.lock();
            let bytes = index.bytes + part.stay_bytes;
            let Some(max) = index.limit.max_bytes else { continue };
            let full = Refusal::Why(Why::Full { endpoint: target.endpoint });
            match index.limit.when_full {
                WhenFull::Reject if bytes + need > max => {
                    if bytes + need > max + credit(part, &index, freed) {
                        return Err(full);
                    }
                }
                // Dropping everything that can be dropped would not be enough.
                WhenFull::DropOldest if index.pinned_bytes + fixed + need > max => {
                    return Err(if fixed == 0 { full } else { Refusal::AfterCommit });
                }
                WhenFull::Reject | WhenFull::DropOldest => {}
            }
        }
        for (target, need) in needs {
            let at = self.part(group, target.endpoint)?;
            self.make_room(group, at, *need)?;
        }
        for (target, need) in needs {
            let at = self.part(group, target.endpoint)?;
            let part = &mut group.parts[at];
            part.admitted += need;
            part.queue.lock().bytes += need;
        }
        Ok(())
    }

    fn part(&self, group: &mut Group, endpoint: EndpointId) -> Result<usize, Refusal> {
        group
            .part(endpoint, |endpoint| self.shared.queue(endpoint))
            .ok_or_else(|| Refusal::Why(Why::Unavailable(Arc::new(Error::UnknownEndpoint))))
    }

    /// Drops the oldest entries of the lowest priorities until `need` fits.
    fn make_room(&mut self, group: &mut Group, at: usize, need: u64) -> Result<(), Refusal> {
        let part = &mut group.parts[at];
        let stay = part.stay_bytes;
        let queue = Arc::clone(&part.queue);
        let mut index = queue.lock();
        let QueueLimits { max, drop_oldest } = QueueLimits::of(&index);
        if !drop_oldest || index.bytes + stay + need <= max {
            return Ok(());
        }
        let priorities: Vec<u32> = index.lanes.keys().rev().copied().collect();
        for priority in priorities {
            while let Some(sequence) = index.oldest_droppable(priority) {
                let owed = index.take(sequence).expect("it was found there");
                part.pass(priority, sequence);
                part.dropped.push(Dropped::Owed(sequence, owed));
                self.segments.release(sequence);
                if index.bytes + stay + need <= max {
                    return Ok(());
                }
            }
            while let Some(waiting) = index.lane(priority).window.pop_front() {
                index.bytes -= cost(waiting.bytes);
                index.messages -= 1;
                part.pass(priority, waiting.sequence);
                part.dropped.push(Dropped::Waiting(priority, waiting));
                self.segments.release(waiting.sequence);
                if index.bytes + stay + need <= max {
                    return Ok(());
                }
            }
            if index.lane(priority).unloaded > 0 {
                drop(index);
                return Err(Refusal::Load(queue, priority));
            }
        }
        // Damage can make the sum wrong.
        Err(Refusal::Why(Why::Full { endpoint: queue.id }))
    }

    /// Puts an admitted message into its segment and its lanes.
    fn put(&mut self, group: &mut Group, append: &Append, entry: &[u8]) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let segments = &mut self.segments;
        let id = append.message.id();
        let mut take = || segments.take_slot();
        self.builder.push(entry, sequence, id, &append.targets, &mut take);
        let bytes = u32::try_from(entry.len()).expect("a message has a size limit");
        for target in &append.targets {
            let find = |endpoint| self.shared.queue(endpoint);
            let at = group.part(target.endpoint, find).expect("it was admitted there");
            let Target { priority, expires, route, .. } = *target;
            group.parts[at].appended.push((priority, Waiting { sequence, expires, bytes, route }));
        }
        group.messages += 1;
        group.bytes += entry.len();
    }

    /// False when the entry is not there.
    fn settle(
        &mut self,
        group: &mut Group,
        endpoint: EndpointId,
        sequence: u64,
        disposition: &Disposition,
        record: Option<Vec<u8>>,
    ) -> bool {
        let Ok(at) = self.part(group, endpoint) else { return false };
        let part = &mut group.parts[at];
        let found = part.queue.lock().take(sequence);
        let (before, now) = match (found, part.stay.get(&sequence)) {
            (Some(owed), _) => (owed, owed),
            // An earlier change of this group has put it aside: this one has the last word.
            (None, Some(&at)) => {
                let Settled { before, after, .. } = part.settled[at];
                let Some(now) = after else { return false };
                (before, now)
            }
            (None, None) => return false,
        };
        part.pass(before.priority, sequence);
        let after = match disposition {
            Disposition::Done | Disposition::Dead { .. } => {
                self.segments.release(sequence);
                None
            }
            // The consumer has it: nobody waits for it any more.
            Disposition::Hold => Some((State::Held, false, now.attempt)),
            Disposition::Retry { not_before, hold_sender } => {
                let holds = now.holds_sender || *hold_sender;
                Some((State::Retry(*not_before), holds, now.attempt + 1))
            }
        };
        let after = after.map(|(state, holds_sender, attempt)| crate::queue::owed::Owed {
            state,
            holds_sender,
            attempt,
            row: true,
            ..before
        });
        part.put_aside(Settled { sequence, before, after });
        if let Disposition::Dead { reason, code, module_digest } = disposition
            && let Some(record) = record
        {
            group.dead.push(DeadRow {
                endpoint: endpoint.0,
                sequence,
                route: before.route.0,
                at: self.shared.clock.now(),
                attempts: now.attempt,
                reason: reason.clone(),
                code: code.clone(),
                module_digest: *module_digest,
                record,
            });
        }
        true
    }
}

/// What the messages need in each queue.
fn needs(messages: &[Append], encoded: &Encoded) -> SmallVec<[(Target, u64); 4]> {
    let mut needs: SmallVec<[(Target, u64); 4]> = SmallVec::new();
    for (at, append) in messages.iter().enumerate() {
        let need = encoded.range(at).len() as u64 + cost(0);
        for target in &append.targets {
            match needs.iter_mut().find(|(known, _)| known.endpoint == target.endpoint) {
                Some((_, sum)) => *sum += need,
                None => needs.push((*target, need)),
            }
        }
    }
    needs
}

/// Records of the entries that become dead letters, in order; none for one that is damaged.
async fn dead_records(shared: &Shared, job: &ChangeJob) -> Result<Vec<Option<Vec<u8>>>, Error> {
    let mut records = Vec::new();
    for (endpoint, sequence, disposition) in &job.change.settle {
        if matches!(disposition, Disposition::Dead { .. }) {
            let record = shared.record(sequence.0).await?;
            if record.is_none()
                && let Some(queue) = shared.queue(*endpoint)
                && queue.lock().owed(sequence.0).is_some()
            {
                shared.note_damaged(&queue, 1);
            }
            records.push(record.map(|record| {
                let mut bytes = Vec::with_capacity(record::encoded_len(&record.message));
                record::encode(&record.message, record.table, &mut bytes);
                bytes
            }));
        }
    }
    Ok(records)
}

struct QueueLimits {
    max: u64,
    drop_oldest: bool,
}

impl QueueLimits {
    fn of(index: &Index) -> Self {
        Self {
            max: index.limit.max_bytes.unwrap_or(u64::MAX),
            drop_oldest: index.limit.when_full == WhenFull::DropOldest,
        }
    }
}

/// Room that the change itself makes in the queue.
fn credit(part: &Part, index: &Index, freed: &BTreeSet<(EndpointId, Sequence)>) -> u64 {
    freed
        .iter()
        .filter(|(endpoint, _)| *endpoint == part.queue.id)
        .filter_map(|(_, sequence)| index.owed(sequence.0).or_else(|| part.staying(sequence.0)))
        .map(|owed| cost(owed.bytes))
        .sum()
}

fn refusal_of(why: Why, change: Box<crate::message::Change>) -> CommitError {
    match why {
        Why::Full { endpoint } => CommitError::Full { endpoint: Some(endpoint), change },
        Why::StoreFull => CommitError::Full { endpoint: None, change },
        Why::Broken => CommitError::Broken { change },
        Why::Unavailable(cause) => CommitError::Unavailable { cause, change },
    }
}
