//! What the tests of all kinds share: messages, running an upstream, reading back what arrived.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]

pub(crate) mod broker;
pub(crate) mod loopback;
pub(crate) mod mosquitto;
pub(crate) mod proxy;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::{Identity, MessageId};
use weir_core::message::{Message, StampedMessage};
use weir_core::port::{Answer, Batch, Delivery, Fault, Outcome, Upstream};
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_mqtt_codec::Publish;
use weir_upstream::{Config, open};

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An upstream with its task.
pub(crate) struct Running {
    pub(crate) upstream: Arc<dyn Upstream>,
    _tasks: JoinSet<()>,
}

pub(crate) fn run(config: &Config) -> Running {
    let upstream = open(config, &Clock::system(), "edge").unwrap().unwrap();
    let mut tasks = JoinSet::new();
    let task = upstream.clone();
    tasks.spawn(async move { task.run().await });
    Running { upstream, _tasks: tasks }
}

impl Running {
    pub(crate) async fn deliver(&self, batch: Batch) -> Result<Answer, Fault> {
        timeout(PATIENCE, self.upstream.deliver(batch)).await.expect("an answer in time")
    }

    /// As the dispatcher: the same batch again until it is answered.
    pub(crate) async fn insist(&self, batch: Batch) -> Answer {
        let again = async {
            loop {
                match self.upstream.deliver(batch.clone()).await {
                    Ok(answer) => return answer,
                    Err(Fault::Unavailable { retry_after, .. }) => {
                        sleep(retry_after.unwrap_or(Duration::from_millis(20))).await;
                    }
                    Err(fault) => panic!("{fault}"),
                }
            }
        };
        timeout(PATIENCE, again).await.expect("the batch goes through in time")
    }
}

/// Delivers all messages of `numbers` in batches of `size`, two under way, and begins again at the
/// first batch that failed: what the hub's dispatcher does. Returns how many batches failed.
pub(crate) async fn dispatch(running: &Running, numbers: std::ops::Range<u64>, size: u64) -> usize {
    let mut failures = 0;
    let mut next = numbers.start;
    let part = |from: u64| batch(from..(from + size).min(numbers.end));
    while next < numbers.end {
        let first = running.deliver(part(next));
        let second = running.deliver(part(next + size));
        let (first, second) = tokio::join!(first, second);
        match (first, second) {
            (Ok(one), Ok(two)) => {
                assert!(accepted(&one) && accepted(&two));
                next += 2 * size;
            }
            (Ok(one), Err(_)) => {
                assert!(accepted(&one));
                failures += 1;
                next += size;
            }
            (Err(_), second) => {
                let is_empty = next + size >= numbers.end;
                assert!(is_empty || second.is_err(), "a batch overtook a failed one");
                failures += 1;
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    failures
}

pub(crate) fn accepted(answer: &Answer) -> bool {
    answer.outcomes.iter().all(|outcome| *outcome == Outcome::Accepted)
}

pub(crate) fn unavailable(result: Result<Answer, Fault>) -> String {
    match result {
        Err(Fault::Unavailable { reason, .. }) => reason,
        other => panic!("{other:?} where the upstream should be unavailable"),
    }
}

pub(crate) fn delivery(number: u64, message: StampedMessage) -> Delivery {
    Delivery { number, attempt: 1, input: 0, input_name: None, message }
}

pub(crate) fn deliveries(messages: Vec<StampedMessage>) -> Batch {
    let deliveries =
        messages.into_iter().map(|message| delivery(message.id().0, message)).collect();
    Batch { deliveries }
}

/// Messages whose body is their number, from three senders in turn.
pub(crate) fn batch(numbers: std::ops::Range<u64>) -> Batch {
    deliveries(numbers.map(|number| numbered(number, number.to_string())).collect())
}

pub(crate) fn numbered(number: u64, body: impl Into<bytes::Bytes>) -> StampedMessage {
    let sender = Identity::device(format!("pump-{}", number % 3).parse().unwrap());
    let message = Message { body: body.into(), ..Message::default() };
    message.stamp(&sender, MessageId(number), Timestamp::from_secs(1_700_000_000))
}

/// Messages of every shape.
pub(crate) fn assorted() -> Vec<StampedMessage> {
    let pump = Identity::device("pump-1".parse().unwrap());
    let filter = Identity::module("edge".parse().unwrap(), "filter".parse().unwrap());
    let time = Timestamp::from_micros(1_700_000_000_123_456);
    let mut properties = PropertiesBuilder::default();
    let json = Key::System(SystemProperty::ContentType);
    properties.push(json, Some("application/json")).unwrap();
    properties.push(Key::System(SystemProperty::ContentEncoding), Some("utf-8")).unwrap();
    properties.push(Key::System(SystemProperty::MessageId), Some("m/1")).unwrap();
    properties.push(Key::Application("colour"), Some("dark blue & +#/%ö\"\n")).unwrap();
    properties.push(Key::Application("null"), None).unwrap();
    properties.push(Key::Application("empty"), Some("")).unwrap();
    let rich = Message {
        body: r#"{"a":21.5,"b":"ö\n"}"#.into(),
        properties: properties.build(),
        output: Some("alerts".parse().unwrap()),
    };
    let binary = Message { body: vec![0xff, 0, 10].into(), ..Message::default() };
    let text = Message { body: "line\nbreak".into(), ..Message::default() };
    let large = Message { body: vec![b'x'; 256 * 1024].into(), ..Message::default() };
    let first = binary.stamp(&pump, MessageId(1), time);
    vec![
        first.clone(),
        first.forward(rich.clone(), &filter, MessageId(2), time),
        rich.stamp(&filter, MessageId(3), time),
        text.stamp(&pump, MessageId(4), time),
        Message::default().stamp(&pump, MessageId(5), time),
        large.stamp(&pump, MessageId((7 << 40) + 6), time),
    ]
}

/// A message as the other side saw it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: u64,
    pub(crate) device: String,
    pub(crate) module: Option<String>,
    pub(crate) output: Option<String>,
    pub(crate) origin_device: Option<String>,
    pub(crate) application: Vec<(String, Option<String>)>,
    pub(crate) system: Vec<(String, Option<String>)>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, device, module, output, origin_device, application, system, body } = self;
        let begin = body[..body.len().min(40)].escape_ascii();
        write!(f, "\n{id} {device} {module:?} {output:?} {origin_device:?} ")?;
        write!(f, "{application:?} {system:?} {} {begin}", body.len())
    }
}

impl Seen {
    pub(crate) fn expected(message: &StampedMessage) -> Self {
        let mut seen = Self {
            id: message.id().0,
            device: message.device().to_string(),
            module: message.module().map(ToString::to_string),
            output: message.output().map(ToString::to_string),
            origin_device: message.origin().map(|origin| origin.device.to_string()),
            application: Vec::new(),
            system: Vec::new(),
            body: message.body().to_vec(),
        };
        for (key, value) in message.properties().iter() {
            let value = value.map(str::to_owned);
            match key {
                Key::Application(name) => seen.application.push((name.to_owned(), value)),
                Key::System(property) => seen.system.push((property.name().to_owned(), value)),
            }
        }
        seen.sorted()
    }

    /// From a line of the file, or from an envelope.
    pub(crate) fn from_line(line: &[u8]) -> Self {
        use base64::Engine;
        let line: serde_json::Value = serde_json::from_slice(line).expect("every line is JSON");
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let map = |name: &str| {
            let pairs = line[name].as_object().unwrap().iter();
            pairs.map(|(name, value)| (name.clone(), text(value))).collect()
        };
        let body = match (&line["body"], &line["bodyText"], &line["bodyBase64"]) {
            (serde_json::Value::Null, serde_json::Value::String(text), _) => text.clone().into(),
            (serde_json::Value::Null, _, serde_json::Value::String(text)) => {
                base64::engine::general_purpose::STANDARD.decode(text).unwrap()
            }
            (body, _, _) => body.to_string().into(),
        };
        Self {
            id: u64::from_str_radix(line["id"].as_str().unwrap(), 16).unwrap(),
            device: text(&line["device"]).unwrap(),
            module: text(&line["module"]),
            output: text(&line["output"]),
            origin_device: text(&line["origin"]["device"]),
            application: map("properties"),
            system: map("system"),
            body,
        }
        .sorted()
    }

    /// From a PUBLISH with a property bag.
    pub(crate) fn from_bag(publish: &Publish) -> Self {
        let (_, bag) = publish.topic.as_str().rsplit_once('/').unwrap();
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        let mut seen = Self {
            id: 0,
            device: String::new(),
            module: None,
            output: None,
            origin_device: None,
            application: Vec::new(),
            system: Vec::new(),
            body: publish.payload.to_vec(),
        };
        for pair in bag.split('&') {
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (decoded(name), Some(decoded(value))),
                None => (decoded(pair), None),
            };
            match (name.as_str(), &value) {
                ("weir-message-id", Some(id)) => seen.id = id.parse().unwrap(),
                ("$.cdid", Some(device)) => seen.device.clone_from(device),
                ("$.cmid", _) => seen.module = value,
                ("$.on", _) => seen.output = value,
                ("weir-origin-device", _) => seen.origin_device = value,
                ("weir-origin-module", _) => {}
                (short, _) => match SystemProperty::from_short_name(short) {
                    Some(property) => seen.system.push((property.name().to_owned(), value)),
                    None => seen.application.push((name, value)),
                },
            }
        }
        seen.sorted()
    }

    fn sorted(mut self) -> Self {
        self.application.sort();
        self.system.sort();
        self
    }
}

/// The numbers in order of their first arrival.
pub(crate) fn first_arrivals(ids: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    ids.into_iter().filter(|id| seen.insert(*id)).collect()
}
