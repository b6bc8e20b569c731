//! Which messages a module is given next.
//!
//! Used by the runner only. Invariant: of one input nothing overtakes: what is due again and earlier
//! goes before the parts of a batch that failed, and these before what is new.

use super::effects::Held;
use std::collections::VecDeque;
use weir_core::clock::Clock;
use weir_core::id::Sequence;
use weir_store::{EndpointId, Entry, Reader};

/// Messages that are to be handled together.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) entries: Vec<Held>,
    /// Faults of this message while it stood alone.
    pub(super) alone: u32,
    /// Came out of a fault.
    pub(super) suspect: bool,
    /// Came out of a call that ran out of time.
    pub(super) timed_out: bool,
}

/// One input of the module.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) endpoint: EndpointId,
    pub(super) reader: Reader,
}

/// The next messages: first those that come again, then from the inputs in turn. Cancel-safe.
pub(super) async fn next_part(
    parts: &mut VecDeque<Part>,
    inputs: &mut [Input],
    turn: &mut usize,
    clock: &Clock,
    messages: usize,
    bytes: usize,
) -> Part {
    while let Some(front) = parts.front() {
        for (at, input) in inputs.iter().enumerate() {
            let same = front.entries.iter().find(|held| held.endpoint == input.endpoint);
            let before = same.map_or(Sequence(u64::MAX), |held| held.entry.sequence);
            let entries = input.reader.next_again(before, messages, bytes).await;
            if !entries.is_empty() {
                return part(at, input.endpoint, entries);
            }
        }
        let Some(mut part) = parts.pop_front() else { break };
        // They may have waited long; the queue lets go what has expired.
        let now = clock.now();
        let (alive, expired): (Vec<Held>, Vec<Held>) =
            part.entries.into_iter().partition(|held| held.entry.expires > now);
        put_back(inputs, &expired);
        part.entries = alive;
        if !part.entries.is_empty() {
            return part;
        }
    }
    if inputs.is_empty() {
        return std::future::pending().await;
    }
    let count = inputs.len();
    *turn = (*turn + 1) % count;
    let first = *turn;
    let waits = inputs.iter_mut().enumerate().map(|(at, input)| {
        let endpoint = input.endpoint;
        Box::pin(async move {
            let entries = input.reader.next(messages, bytes).await;
            (at, endpoint, entries)
        })
    });
    let mut waits: Vec<_> = waits.collect();
    waits.rotate_left(first);
    let ((at, endpoint, entries), _, _) = futures::future::select_all(waits).await;
    part(at, endpoint, entries)
}

fn part(input: usize, endpoint: EndpointId, entries: Vec<Entry>) -> Part {
    let input = u16::try_from(input).unwrap_or(0);
    let entries = entries.into_iter().map(|entry| Held { endpoint, input, entry }).collect();
    Part { entries, ..Part::default() }
}

/// Gives messages back to their queues: they come again first, and no attempt is counted.
pub(super) fn put_back(inputs: &[Input], entries: &[Held]) {
    for input in inputs {
        let of_input = entries.iter().filter(|held| held.endpoint == input.endpoint);
        let sequences: Vec<Sequence> = of_input.map(|held| held.entry.sequence).collect();
        if !sequences.is_empty() {
            input.reader.put_back(&sequences, false);
        }
    }
}
