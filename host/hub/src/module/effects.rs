//! From a module's answer to one change of the store: outcomes in input order, then sends in call
//! order, state, and the settlement of the inputs. Everything a module emits is stamped anew with
//! the module's identity and routed like any message.

use crate::Hub;
use crate::explain::Fate;
use std::time::Duration;
use weir_core::digest::Digest;
use weir_core::id::{Identity, MessageId, OutputName, Sequence};
use weir_core::limits;
use weir_core::message::{Message, StampedMessage};
use weir_core::module::{ModuleSpec, RejectPolicy, RetryOrder, RetrySpec};
use weir_core::port::{Answer, Emission, Outcome};
use weir_store::{Change, Disposition, EndpointId, Entry};

/// An entry together with the input it came in by.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) endpoint: EndpointId,
    pub(crate) input: u16,
    pub(crate) entry: Entry,
}

/// Numbers of deliveries pack the sequence with the input, so that a message routed to two inputs of
/// one module has two numbers.
pub(crate) fn number(sequence: Sequence, input: u16) -> u64 {
    sequence.0 << 6 | u64::from(input)
}

/// The reverse of [`number`].
pub(crate) fn from_number(number: u64) -> (Sequence, u16) {
    (Sequence(number >> 6), u16::try_from(number & 63).unwrap_or(0))
}

/// What is to be noted when a change is on disk.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    /// Numbers of the messages that the module sent.
    ids: Vec<MessageId>,
    /// How many of them no route wanted.
    unrouted: u64,
}

impl Emitted {
    pub(crate) fn note(&self, hub: &Hub) {
        for id in &self.ids {
            hub.explanations().accept(id.0..id.0 + 1);
        }
        hub.metrics().drop_messages("no_route", self.unrouted);
    }
}

/// Turns answers of one module into changes.
pub(crate) struct Effects<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) identity: &'a Identity,
    pub(crate) spec: &'a ModuleSpec,
    pub(crate) component: Digest,
    /// Queue of each declared input.
    pub(crate) inputs: &'a [EndpointId],
    /// Then nothing is given up: it waits until it is known whether this version stays.
    pub(crate) on_probation: bool,
}

impl Effects<'_> {
    /// The change of a whole batch.
    pub(crate) fn change(&self, entries: &[Held], answer: Answer) -> (Change, Emitted) {
        let mut change = Change::default();
        let mut emitted = Emitted::default();
        for (held, outcome) in entries.iter().zip(answer.outcomes) {
            self.outcome(held, outcome, &mut change, &mut emitted);
        }
        // Nobody knows which message a send is owed to: the one furthest round a loop counts.
        let hops = entries.iter().map(|held| held.entry.record.message.hops().saturating_add(1));
        let hops = hops.max().unwrap_or(0);
        for send in answer.sends {
            let message = self.emission(send);
            let stamped = message.stamp(self.identity, self.hub.number(), self.hub.clock().now());
            self.route(stamped.after_hops(hops), &mut change, &mut emitted);
        }
        for number in answer.releases {
            let (sequence, input) = from_number(number);
            if let Some(&endpoint) = self.inputs.get(usize::from(input)) {
                change.settle.retain(|(e, s, _)| (*e, *s) != (endpoint, sequence));
                change.settle.push((endpoint, sequence, Disposition::Done));
            }
        }
        if !answer.state.is_empty() {
            let module = self.identity.module.as_ref().map(ToString::to_string);
            change.state = Some((module.unwrap_or_default(), answer.state));
        }
        (change, emitted)
    }

    fn outcome(&self, held: &Held, outcome: Outcome, change: &mut Change, emitted: &mut Emitted) {
        let message = &held.entry.record.message;
        let mut settle = |disposition| {
            change.settle.push((held.endpoint, held.entry.sequence, disposition));
        };
        let fate = match outcome {
            Outcome::Drop | Outcome::Accepted => {
                settle(Disposition::Done);
                Fate::Dropped
            }
            Outcome::Hold => {
                settle(Disposition::Hold);
                Fate::Held
            }
            Outcome::Retry { reason, after } => {
                let disposition = self.retry(&held.entry, reason, after);
                let fate = fate_of(&disposition);
                settle(disposition);
                fate
            }
            Outcome::Reject { reason, code } => {
                let disposition = match self.spec.errors.reject {
                    RejectPolicy::DeadLetter => self.give_up(reason, code),
                    RejectPolicy::Drop => Disposition::Done,
                };
                let fate = fate_of(&disposition);
                settle(disposition);
                fate
            }
            Outcome::Abandon { .. } => return,
            Outcome::Pass { output } => {
                settle(Disposition::Done);
                let onward =
                    Message { output: Some(self.output(output)), ..message.message().clone() };
                self.forward(message, onward, change, emitted);
                Fate::Passed
            }
            Outcome::Annotate { output, set, unset } => {
                let pairs = set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                match message.properties().annotated(pairs, &unset) {
                    Ok(properties) => {
                        settle(Disposition::Done);
                        let body = message.body().clone();
                        let onward =
                            Message { body, properties, output: Some(self.output(output)) };
                        self.forward(message, onward, change, emitted);
                        Fate::Passed
                    }
                    Err(error) => {
                        let code = Some("too-large".to_owned());
                        let disposition = self.give_up(error.to_string(), code);
                        let fate = fate_of(&disposition);
                        settle(disposition);
                        fate
                    }
                }
            }
            Outcome::Emit(emissions) => {
                settle(Disposition::Done);
                for emission in emissions {
                    self.forward(message, self.emission(emission), change, emitted);
                }
                Fate::Replaced
            }
        };
        self.hub.explanations().settle(message.id(), self.identity.module.as_ref(), fate);
    }

    fn forward(
        &self,
        from: &StampedMessage,
        onward: Message,
        change: &mut Change,
        emitted: &mut Emitted,
    ) {
        let now = self.hub.clock().now();
        let stamped = from.forward(onward, self.identity, self.hub.number(), now);
        self.route(stamped, change, emitted);
    }

    fn route(&self, message: StampedMessage, change: &mut Change, emitted: &mut Emitted) {
        emitted.ids.push(message.id());
        match self.hub.route(message) {
            Some(append) => change.append.push(append),
            None => emitted.unrouted += 1,
        }
    }

    fn output(&self, index: u16) -> OutputName {
        self.spec.outputs[usize::from(index)].clone()
    }

    fn emission(&self, Emission { output, body, properties }: Emission) -> Message {
        Message { body, properties, output: Some(self.output(output)) }
    }

    fn retry(&self, entry: &Entry, reason: String, after: Option<Duration>) -> Disposition {
        let rule = &self.spec.errors.retry;
        if entry.attempt >= rule.max_attempts {
            return self.give_up(reason, Some("max-attempts".to_owned()));
        }
        let wait = after.unwrap_or_default().max(retry_wait(rule, entry.attempt));
        Disposition::Retry {
            not_before: self.hub.clock().now().after(wait),
            hold_sender: rule.order == RetryOrder::Sender,
        }
    }

    /// The disposition of a message that this version does not want. While it is on probation the
    /// message comes again afterwards, to whichever version is in force then.
    fn give_up(&self, reason: String, code: Option<String>) -> Disposition {
        match self.on_probation {
            false => Disposition::Dead { reason, code, module_digest: Some(self.component) },
            true => Disposition::Retry {
                not_before: self.hub.clock().now().after(limits::PROBATION),
                hold_sender: false,
            },
        }
    }
}

fn fate_of(disposition: &Disposition) -> Fate {
    match disposition {
        Disposition::Retry { .. } => Fate::Retried,
        Disposition::Dead { .. } | Disposition::Done | Disposition::Hold => Fate::Rejected,
    }
}

fn retry_wait(rule: &RetrySpec, attempt: u32) -> Duration {
    let doubled = u64::from(rule.backoff_ms) << attempt.saturating_sub(1).min(20);
    Duration::from_millis(doubled.min(u64::from(rule.backoff_max_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_its_message_and_its_input() {
        assert_eq!(from_number(number(Sequence(123_456), 63)), (Sequence(123_456), 63));
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let rule = RetrySpec { backoff_ms: 100, backoff_max_ms: 1_000, ..RetrySpec::default() };
        let waits: Vec<u128> = (1..6).map(|n| retry_wait(&rule, n).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000]);
    }
}
