//! A batch as the guest gets it: what the specification asks for and nothing else, borrowed from the
//! messages, so that each byte is copied once, into the guest.

use crate::bindings::weir::module::types::{Body, Field, Message};
use crate::capability::payload::Payload;
use crate::fields::{FieldReader, Value};
use std::borrow::Cow;
use std::ops::Range;
use wasmtime::component::Resource;
use weir_core::message::StampedMessage;
use weir_core::module::{BodyForm, ModuleSpec};
use weir_core::port::{Batch, Delivery};
use weir_core::properties::Key;
use weir_core::route::facts::{Facts, Lookup};

/// What a specification asks for, made once for an instance.
#[derive(Debug)]
pub(crate) struct Plan {
    body: BodyForm,
    inline_bytes: u64,
    fields: FieldReader,
    properties: Wanted,
    system: Vec<String>,
}

#[derive(Debug)]
enum Wanted {
    None,
    All,
    Named(Vec<String>),
}

/// The parts of a batch that do not lie in its messages as the guest gets them.
#[derive(Default)]
pub(crate) struct Parts<'b> {
    values: Vec<Value<'b>>,
    properties: Vec<(&'b str, &'b str)>,
    system: Vec<(&'b str, Cow<'b, str>)>,
    /// One for each message: where its properties and its system properties lie.
    ranges: Vec<(Range<usize>, Range<usize>)>,
}

impl Plan {
    pub(crate) fn new(spec: &ModuleSpec, inline_bytes: u64) -> Self {
        let properties = match spec.properties.as_slice() {
            [] => Wanted::None,
            names if names.iter().any(|name| name == "*") => Wanted::All,
            names => Wanted::Named(names.to_vec()),
        };
        Self {
            body: spec.body,
            inline_bytes,
            fields: FieldReader::new(&spec.fields),
            properties,
            system: spec.system.clone(),
        }
    }

    /// True when the body stays in the hub and the guest gets a handle.
    pub(crate) fn is_large(&self, delivery: &Delivery) -> bool {
        self.body != BodyForm::None && delivery.message.body().len() as u64 > self.inline_bytes
    }

    /// Reads fields and looks properties up.
    pub(crate) fn gather<'b>(&'b self, batch: &'b Batch) -> Parts<'b> {
        let mut parts = Parts::default();
        for delivery in &batch.deliveries {
            let message = &delivery.message;
            self.fields.read(message.body(), &mut parts.values);
            let properties = parts.properties.len();
            self.gather_properties(message, &mut parts.properties);
            let system = parts.system.len();
            for name in &self.system {
                if let Some(value) = system_property(message, name) {
                    parts.system.push((name, value));
                }
            }
            let properties = properties..parts.properties.len();
            parts.ranges.push((properties, system..parts.system.len()));
        }
        parts
    }

    fn gather_properties<'b>(
        &'b self,
        message: &'b StampedMessage,
        found: &mut Vec<(&'b str, &'b str)>,
    ) {
        match &self.properties {
            Wanted::None => {}
            Wanted::All => {
                let application = |(key, value): (Key<'b>, Option<&'b str>)| match key {
                    Key::Application(name) => Some((name, value.unwrap_or(""))),
                    Key::System(_) => None,
                };
                found.extend(message.properties().iter().filter_map(application));
            }
            Wanted::Named(names) => found.extend(names.iter().filter_map(|name| {
                let value = message.properties().application(name)?;
                Some((name.as_str(), value.unwrap_or("")))
            })),
        }
    }

    /// Hands the batch to `call` in the form of the interface. `large` gives a handle for each
    /// message of which [`Plan::is_large`] holds.
    pub(crate) fn lower<R>(
        &self,
        batch: &Batch,
        parts: &Parts<'_>,
        mut large: impl FnMut() -> Resource<Payload>,
        call: impl FnOnce(&[Message<'_>], &[Field<'_>]) -> R,
    ) -> R {
        let fields: Vec<Field<'_>> = parts.values.iter().map(field).collect();
        let system: Vec<(&str, &str)> =
            parts.system.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        let mut messages = Vec::with_capacity(batch.deliveries.len());
        for (at, delivery) in batch.deliveries.iter().enumerate() {
            let (properties_at, system_at) = &parts.ranges[at];
            messages.push(Message {
                sequence: delivery.number,
                enqueued: nanoseconds(&delivery.message),
                attempt: delivery.attempt,
                input: delivery.input,
                body: match self.is_large(delivery) {
                    true => Body::Large(large()),
                    false => self.body(delivery),
                },
                properties: &parts.properties[properties_at.clone()],
                system: &system[system_at.clone()],
            });
        }
        call(&messages, &fields)
    }

    fn body<'b>(&self, delivery: &'b Delivery) -> Body<'b> {
        let body = delivery.message.body();
        match self.body {
            BodyForm::None => Body::None,
            BodyForm::Bytes => Body::Inline(body),
            BodyForm::Text => match std::str::from_utf8(body) {
                Ok(text) => Body::Text(text),
                Err(_) => Body::Inline(body),
            },
        }
    }
}

fn nanoseconds(message: &StampedMessage) -> u64 {
    u64::try_from(message.enqueued().as_micros()).unwrap_or(0).saturating_mul(1_000)
}

fn field<'v>(value: &'v Value<'_>) -> Field<'v> {
    match value {
        Value::Absent => Field::Absent,
        Value::Null => Field::Null,
        Value::Boolean(value) => Field::Boolean(*value),
        Value::Integer(value) => Field::Integer(*value),
        Value::Number(value) => Field::Number(*value),
        Value::Text(text) => Field::Text(text),
        Value::Json(text) => Field::Json(text),
    }
}

/// By the name a route's condition uses, or the first sender of a message that modules sent on.
fn system_property<'m>(message: &'m StampedMessage, name: &str) -> Option<Cow<'m, str>> {
    let origin = || message.origin();
    match name {
        "weir-origin-device" => origin().map(|origin| Cow::Borrowed(origin.device.as_str())),
        "weir-origin-module" => {
            origin()?.module.as_ref().map(|module| Cow::Borrowed(module.as_str()))
        }
        _ => match message.system_property(name) {
            Lookup::Absent => None,
            Lookup::Null => Some(Cow::Borrowed("")),
            Lookup::Text(text) => Some(text),
        },
    }
}
