//! Committing a group: its rows into one text, the text to SQLite, the result to everyone.

use super::Writer;
use super::group::{ChangePart, Group, Part};
use super::script::{self, Script, Values};
use crate::Error;
use crate::message::{Appended, CommitError, Committed, Refused, Why};
use crate::queue::lane::Lane;
use crate::queue::owed::{Owed, State};
use crate::segment::Seed;
use std::sync::Arc;
use weir_core::id::Sequence;

/// Segments deleted in one transaction.
const BURIALS: usize = 256;

/// How `owed.state` is written.
pub(crate) mod state_code {
    pub(crate) const DUE: i64 = 0;
    pub(crate) const HELD: i64 = 1;
    pub(crate) const RETRY: i64 = 2;
    pub(crate) const IN_FLIGHT: i64 = 3;
    /// Added when the sender's later messages wait.
    pub(crate) const HOLDS_SENDER: i64 = 16;
    /// Added when a consumer has seen it.
    pub(crate) const HANDED_OUT: i64 = 32;
}

/// A row of `owed` without its checksum.
pub(crate) fn owed_numbers(endpoint: u32, sequence: u64, owed: &Owed) -> [i64; 10] {
    let (state, not_before) = match owed.state {
        State::InFlight => (state_code::IN_FLIGHT, 0),
        State::Due => (state_code::DUE, 0),
        State::Held => (state_code::HELD, 0),
        State::Retry(time) => (state_code::RETRY, time.as_micros()),
    };
    let holds = if owed.holds_sender { state_code::HOLDS_SENDER } else { 0 };
    let seen = if owed.handed_out { state_code::HANDED_OUT } else { 0 };
    [
        i64::from(endpoint),
        sequence.cast_signed(),
        i64::from(owed.priority),
        i64::from(owed.route.0),
        owed.expires.as_micros(),
        i64::from(owed.bytes),
        i64::from(owed.attempt),
        state | holds | seen,
        not_before,
        owed.sender.cast_signed(),
    ]
}

impl Writer {
    /// Commits the group and answers everyone in it.
    pub(super) async fn commit_group(&mut self, mut group: Group) -> Result<(), Error> {
        if group.is_empty() {
            return Ok(());
        }
        let script = self.write_script(&mut group);
        let pages = script.pages();
        match self.checkpoint.beside(self.database.run(script)).await {
            Ok(()) => {
                self.group_committed(group);
                self.checkpoint.note_commit(pages);
                Ok(())
            }
            Err(cause) => {
                let error = Arc::new(Error::database("commit")(cause));
                self.begin_outage(&error);
                self.group_failed(group, &error);
                self.leave_connection().await
            }
        }
    }

    pub(super) fn write_script(&mut self, group: &mut Group) -> Script {
        let seed = self.shared.seed;
        let rows = self.builder.finish();
        let mut script = Script::new();
        for part in &mut group.parts {
            self.close_part(part);
        }
        for directory in &rows.directories {
            self.segments.add(directory.first, directory);
        }
        let buried = self.segments.bury(BURIALS);
        if self.builder.open_segment().is_some_and(|open| buried.contains(&open)) {
            self.builder.forget();
        }
        script.list(&script::PUT_SLOTS, rows.slots, |values, (id, body)| {
            values.add(i64::from(id));
            values.add(body);
        });
        script.list(&script::PUT_SLOTS, self.segments.spare(), |values, id| {
            values.add(i64::from(id));
            values.add(Arc::clone(&self.empty_slot));
        });
        script.list(&script::PUT_SEGMENTS, &rows.directories, |values, directory| {
            values.add(directory.first.cast_signed());
            values.add(directory.encode(seed));
        });
        script.list(&script::DELETE_SEGMENTS, buried, |values, first| {
            values.add(first.cast_signed());
        });
        for part in &group.parts {
            write_part(part, seed, &mut script);
        }
        self.write_others(group, &mut script);
        script
    }

    /// What left without a change, and the cursors with the rows that their move needs.
    fn close_part(&mut self, part: &mut Part) {
        let mut index = part.queue.lock();
        part.gone = std::mem::take(&mut index.gone);
        for gone in &part.gone {
            self.segments.release(gone.sequence);
        }
        for (&priority, &target) in &part.targets {
            let lane = index.lane(priority);
            if target <= lane.cursor {
                continue;
            }
            part.cursors.push((priority, lane.cursor));
            lane.cursor = target;
            let lacking: Vec<u64> = index
                .owed_before(target)
                .filter(|(_, owed)| owed.priority == priority && !owed.row)
                .map(|(sequence, _)| sequence)
                .collect();
            for sequence in lacking {
                index.set_row(sequence, true);
                part.rows.push(sequence);
            }
        }
    }

    fn write_others(&self, group: &mut Group, script: &mut Script) {
        let seed = self.shared.seed;
        group.dead_letters = !group.dead.is_empty();
        script.list(&script::PUT_DEAD_LETTERS, group.dead.drain(..), |values, dead| {
            values.add(i64::from(dead.endpoint));
            values.add(dead.sequence.cast_signed());
            values.add(i64::from(dead.route));
            values.add(dead.at.as_micros());
            values.add(i64::from(dead.attempts));
            values.add(dead.reason);
            values.add(dead.code);
            values.add(dead.module_digest.map(|digest| digest.as_bytes().to_vec()));
            let checksum = i64::from(seed.checksum_of(dead.sequence, &dead.record));
            values.add(dead.record);
            values.add(checksum);
        });
        let kept = group.state.iter().filter(|(_, change)| change.value.is_some());
        script.list(&script::PUT_STATE, kept, |values, ((module, key), change)| {
            let value = change.value.as_ref().expect("filtered");
            values.add(module.clone());
            values.add(key.clone());
            values.add(value.value.clone());
            values.add(value.expires.as_micros());
        });
        let deleted = group.state.iter().filter(|(_, change)| change.value.is_none());
        script.list(&script::DELETE_STATE, deleted, |values, ((module, key), _)| {
            values.add(module.clone());
            values.add(key.clone());
        });
        script.list(&script::DELETE_DEAD_LETTERS, &group.replayed, |values, id| {
            values.add(id.0.cast_signed());
        });
        self.write_documents(group, script);
    }

    /// At the end, when nothing more is handed out: whatever a consumer has seen gets a row that says
    /// so. Its delivery did not fail and counts for nothing. False when not all of it is known or it
    /// cannot be written.
    pub(super) async fn write_handed_out(&mut self) -> bool {
        if self.outage.is_some() {
            return false;
        }
        let seed = self.shared.seed;
        let mut script = Script::new();
        let mut all_known = true;
        for queue in self.shared.queues().values() {
            let index = queue.lock();
            all_known &= !index.lanes.values().any(Lane::has_suspects);
            let owed = index.owed_before(u64::MAX).map(|(sequence, owed)| {
                let state = if owed.state == State::InFlight { State::Due } else { owed.state };
                owed_numbers(queue.id.0, sequence, &Owed { state, ..*owed })
            });
            script.list(&script::PUT_OWED, owed, |values, row| add_row(values, &row, seed));
        }
        self.database.run(script).await.is_ok() && all_known
    }

    pub(super) fn group_committed(&mut self, mut group: Group) {
        self.segments.commit();
        self.dead_letters_grew |= group.dead_letters;
        {
            let mut cache = self.shared.cache();
            for append in &mut group.appends {
                cache.add(append.first, std::mem::take(&mut append.encoded), append.accepted);
            }
            for change in &mut group.changes {
                let count = change.change.append.len();
                if count > 0 {
                    cache.add(change.first, std::mem::take(&mut change.encoded), count);
                }
            }
        }
        let mut room = false;
        for part in &mut group.parts {
            room |= part.apply();
        }
        for append in group.appends {
            let mut batch = append.batch;
            let rest = batch.split_off(append.accepted);
            let refused = append.refused.map(|why| Refused { why, rest });
            let first = Some(Sequence(append.first));
            drop(append.reply.send(Appended { accepted: append.accepted, first, refused }));
        }
        for change in group.changes {
            let first = (!change.change.append.is_empty()).then_some(Sequence(change.first));
            let ChangePart { unknown, revision, reply, .. } = change;
            drop(reply.send(Ok(Committed { first, unknown, revision })));
        }
        self.note_usage();
        if room {
            self.shared.room.notify_waiters();
        }
    }

    pub(super) fn group_failed(&mut self, group: Group, error: &Arc<Error>) {
        self.segments.roll_back();
        self.builder.forget();
        self.last_revision = None;
        for part in group.parts {
            part.undo();
        }
        for append in group.appends {
            append.chain.snap();
            let refused =
                Some(Refused { why: Why::Unavailable(Arc::clone(error)), rest: append.batch });
            drop(append.reply.send(Appended { accepted: 0, first: None, refused }));
        }
        for change in group.changes {
            change.chain.snap();
            let cause = Arc::clone(error);
            let answer = Err(CommitError::Unavailable { cause, change: change.change });
            drop(change.reply.send(answer));
        }
    }
}

/// Rows of one queue: cursors, entries that are owed, entries that no longer are.
fn write_part(part: &Part, seed: Seed, script: &mut Script) {
    let endpoint = part.queue.id.0;
    let index = part.queue.lock();
    script.list(&script::PUT_CURSORS, &part.cursors, |values, (priority, _)| {
        let next = index.lanes.get(priority).map_or(0, |lane| lane.cursor);
        let numbers = cursor_numbers(endpoint, *priority, next);
        add_row(values, &numbers, seed);
    });
    let lacking = part.rows.iter().filter_map(|sequence| Some((*sequence, index.owed(*sequence)?)));
    let changed = part.settled.iter().filter_map(|s| Some((s.sequence, s.after?)));
    script.list(&script::PUT_OWED, lacking.chain(changed), |values, (sequence, owed)| {
        add_row(values, &owed_numbers(endpoint, sequence, &owed), seed);
    });
    let settled = part.settled.iter().filter(|s| s.after.is_none() && s.before.row);
    let dropped = part.dropped.iter().filter_map(|dropped| dropped.row());
    let gone = part.gone.iter().filter(|gone| gone.row).map(|gone| gone.sequence);
    let deleted = settled.map(|settled| settled.sequence).chain(dropped).chain(gone);
    script.list(&script::DELETE_OWED, deleted, |values, sequence| {
        values.add(i64::from(endpoint));
        values.add(sequence.cast_signed());
    });
}

/// A row of `cursor` without its checksum.
pub(crate) fn cursor_numbers(endpoint: u32, priority: u32, next: u64) -> [i64; 3] {
    [i64::from(endpoint), i64::from(priority), next.cast_signed()]
}

fn add_row(values: &mut Values, numbers: &[i64], seed: Seed) {
    for number in numbers {
        values.add(*number);
    }
    values.add(seed.checksum_of_row(numbers));
}
