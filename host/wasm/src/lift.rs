//! What comes out of a guest, checked: nothing of it is trusted.
//!
//! Sizes of strings and lists are already limited when they reach this file, because the store's
//! host-call fuel ends a call that copies more out than it may.

use crate::bindings::weir::module::types::{self, OutputMessage};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::time::Duration;
use weir_core::limits;
use weir_core::message::StampedMessage;
use weir_core::method::MethodAnswer;
use weir_core::module::{LimitSpec, ModuleSpec};
use weir_core::port::{Batch, Emission, Outcome};
use weir_core::properties::{Key, PropertiesBuilder, PropertiesError, SystemProperty};

/// Longest reason and code kept; for people, so the rest is cut off and not a breach.
const REASON_BYTES: usize = 1_024;
const CODE_BYTES: usize = 128;

/// An encoded property has at least a tag and the length of its value.
const SMALLEST_PROPERTY: usize = 5;

/// Why something that the guest made is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Larger than a message may be, in words.
    TooLarge(String),
    /// Against the interface or the specification.
    Breach(String),
}

/// The outcomes of a batch, in its order.
///
/// # Errors
/// The breach in words, with the place of the message in the batch.
pub(crate) fn outcomes(
    spec: &ModuleSpec,
    budget: &Budget,
    batch: &Batch,
    found: Vec<types::Outcome>,
) -> Result<Vec<Outcome>, String> {
    if found.len() != batch.deliveries.len() {
        return Err(format!("{} outcomes for {} messages", found.len(), batch.deliveries.len()));
    }
    let mut lift = Lift { spec, budget, messages: 0, bytes: 0 };
    batch
        .deliveries
        .iter()
        .zip(found)
        .enumerate()
        .map(|(at, (delivery, outcome))| {
            lift.outcome(&delivery.message, outcome).map_err(|what| format!("outcome {at}: {what}"))
        })
        .collect()
}

/// What a call may still put out after its sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
}

impl Budget {
    pub(crate) fn after(limits: &LimitSpec, sends: usize, sent_bytes: u64) -> Self {
        Self {
            messages: (limits.sends_per_call as usize).saturating_sub(sends),
            bytes: limits.bytes_per_call.0.saturating_sub(sent_bytes),
        }
    }
}

struct Lift<'a> {
    spec: &'a ModuleSpec,
    budget: &'a Budget,
    messages: usize,
    bytes: u64,
}

impl Lift<'_> {
    fn outcome(
        &mut self,
        input: &StampedMessage,
        found: types::Outcome,
    ) -> Result<Outcome, String> {
        Ok(match found {
            types::Outcome::Drop => Outcome::Drop,
            types::Outcome::Pass(output) => Outcome::Pass { output: self.output(output)? },
            types::Outcome::Annotate(annotation) => self.annotate(input, annotation)?,
            types::Outcome::Emit(messages) => self.emit(messages)?,
            types::Outcome::Hold => Outcome::Hold,
            types::Outcome::Retry(retry) => Outcome::Retry {
                reason: cut(retry.reason, REASON_BYTES),
                after: retry.after_ms.map(|ms| Duration::from_millis(u64::from(ms))),
            },
            types::Outcome::Reject(reject) => Outcome::Reject {
                reason: cut(reject.reason, REASON_BYTES),
                code: reject.code.map(|code| cut(code, CODE_BYTES)),
            },
        })
    }

    fn annotate(
        &mut self,
        input: &StampedMessage,
        types::Annotation { output, set, unset }: types::Annotation,
    ) -> Result<Outcome, String> {
        let output = self.output(output)?;
        unique_names(&set)?;
        self.spend(0, text_bytes(&set) + unset.iter().map(|name| name.len() as u64).sum::<u64>())?;
        // The quick bound first; the exact size only where it matters.
        let upper = input.message().size_bytes() as u64 + text_bytes(&set) + 8 * set.len() as u64;
        let most_properties = input.properties().encoded().len() / SMALLEST_PROPERTY + set.len();
        if upper > limits::MAX_MESSAGE_BYTES as u64 || most_properties > limits::MAX_PROPERTIES {
            let pairs = set.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let annotated = input.properties().annotated(pairs, &unset);
            let properties = annotated.map_err(not_a_message)?;
            if input.body().len() + properties.encoded().len() > limits::MAX_MESSAGE_BYTES {
                return Err(too_large());
            }
        }
        Ok(Outcome::Annotate { output, set, unset })
    }

    fn emit(&mut self, messages: Vec<OutputMessage>) -> Result<Outcome, String> {
        let mut emissions = Vec::with_capacity(messages.len());
        for message in messages {
            self.output(message.output)?;
            let emission = emission(self.spec, message).map_err(|refusal| match refusal {
                Refusal::TooLarge(what) | Refusal::Breach(what) => what,
            })?;
            self.spend(1, emission_bytes(&emission))?;
            emissions.push(emission);
        }
        Ok(Outcome::Emit(emissions))
    }

    fn output(&self, output: u16) -> Result<u16, String> {
        match usize::from(output) < self.spec.outputs.len() {
            true => Ok(output),
            false => Err(format!(
                "output {output} is not declared; the specification has {}",
                self.spec.outputs.len()
            )),
        }
    }

    fn spend(&mut self, messages: usize, bytes: u64) -> Result<(), String> {
        self.messages += messages;
        self.bytes += bytes;
        if self.messages > self.budget.messages {
            return Err("more messages out than a call may send (limits.sends-per-call)".to_owned());
        }
        if self.bytes > self.budget.bytes {
            return Err("more bytes out than a call may send (limits.bytes-per-call)".to_owned());
        }
        Ok(())
    }
}

/// What a method answered.
///
/// # Errors
/// It is no JSON, or larger than an answer may be.
pub(crate) fn method_answer(status: i32, body: Vec<u8>) -> Result<MethodAnswer, String> {
    let answer = MethodAnswer { status, payload: body.into() };
    answer.checked().map_err(|problem| format!("the answer of a method: {problem}"))
}

/// A text for people.
pub(crate) fn reason(text: String) -> String {
    cut(text, REASON_BYTES)
}

/// A message of the guest's own, checked but for its output index.
pub(crate) fn emission(spec: &ModuleSpec, message: OutputMessage) -> Result<Emission, Refusal> {
    unique_names(&message.properties).map_err(Refusal::Breach)?;
    unique_names(&message.system).map_err(Refusal::Breach)?;
    let too_large = |error| Refusal::TooLarge(not_a_message(error));
    let mut properties = PropertiesBuilder::default();
    for (name, value) in &message.system {
        let known = SystemProperty::from_name(name).filter(|_| spec.set_system.contains(name));
        let Some(property) = known else {
            let name = crate::log::escaped(name, &[]);
            return Err(Refusal::Breach(format!(
                "it may not set the system property {name} (set-system in the specification)"
            )));
        };
        properties.push(Key::System(property), Some(value)).map_err(too_large)?;
    }
    for (name, value) in &message.properties {
        properties.push(Key::Application(name), Some(value)).map_err(too_large)?;
    }
    let (body, properties) = (Bytes::from(message.body), properties.build());
    let emission = Emission { output: message.output, body, properties };
    match emission_bytes(&emission) > limits::MAX_MESSAGE_BYTES as u64 {
        true => Err(too_large(PropertiesError::TooLarge)),
        false => Ok(emission),
    }
}

fn not_a_message(error: PropertiesError) -> String {
    match error {
        PropertiesError::TooLarge => too_large(),
        PropertiesError::TooMany | PropertiesError::Damaged => error.to_string(),
    }
}

/// Bytes of a message that count against a call's budget.
pub(crate) fn emission_bytes(emission: &Emission) -> u64 {
    (emission.body.len() + emission.properties.encoded().len()) as u64
}

fn text_bytes(pairs: &[(String, String)]) -> u64 {
    pairs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
}

fn too_large() -> String {
    format!("a message may have {} bytes with its properties", limits::MAX_MESSAGE_BYTES)
}

/// Names are not empty, fit their length field, and occur once.
fn unique_names(pairs: &[(String, String)]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for (at, (name, _)) in pairs.iter().enumerate() {
        if name.is_empty() || name.len() > usize::from(u16::MAX) {
            return Err(format!("a property's name has {} bytes", name.len()));
        }
        // One or two names are the rule; a set for them would cost more than it saves.
        let again = match pairs.len() {
            0..=8 => pairs[..at].iter().any(|(other, _)| other == name),
            _ => !seen.insert(name.as_str()),
        };
        if again {
            return Err(format!("the property {} is set twice", crate::log::escaped(name, &[])));
        }
    }
    Ok(())
}

fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
