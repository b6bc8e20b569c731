//! Connected clients: what they took, and what they did not.

use crate::hub::{INPUT, PASS, SINK, TestHub, body, each, wait_for};
use futures::future::join_all;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::message::Message;
use weir_core::port::{Answer, Batch, BoxFuture, Consumer, Fault, Outcome};
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_hub::{Fate, IntakeError, Leave, MessageName, Publication};

/// Takes everything.
#[derive(Default)]
struct TakesAll(Mutex<Vec<String>>);

impl Consumer for TakesAll {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        let outcomes = vec![Outcome::Accepted; batch.deliveries.len()];
        self.0.lock().unwrap().extend(batch.deliveries.iter().map(body));
        Box::pin(async move { Ok(Answer { outcomes, ..Answer::default() }) })
    }
}

/// Takes the first message of a batch and leaves before the others are acknowledged.
#[derive(Default)]
struct TakesOne(Mutex<Vec<u64>>);

impl Consumer for TakesOne {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        let mut outcomes = vec![Outcome::Abandon { sent: true }; batch.deliveries.len()];
        outcomes[0] = Outcome::Accepted;
        let ids = batch.deliveries.iter().map(|delivery| delivery.message.id().0);
        self.0.lock().unwrap().extend(ids);
        Box::pin(async move { Ok(Answer { outcomes, ..Answer::default() }) })
    }
}

#[tokio::test]
async fn only_what_a_client_acknowledged_counts_as_delivered() {
    let hub = TestHub::start().await;
    hub.route("in", "FROM /messages/* INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")").await;
    hub.send("a", &["1", "2", "3"]).await;
    let consumer = Arc::new(TakesOne::default());
    let sink = Identity::module("E".parse().unwrap(), "sink".parse().unwrap());
    let session = hub.connect(&sink).await;
    session.take_inputs(Arc::clone(&consumer) as Arc<dyn Consumer>);
    wait_for("three deliveries", || async { hub.queue(SINK).await.is_empty().then_some(()) }).await;
    let ids = consumer.0.lock().unwrap().clone();
    assert_eq!(ids[..3].iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
    for id in &ids[..3] {
        let name = MessageName::Number(weir_core::id::MessageId(*id));
        let explanation = hub.hub.explain(&name).await.unwrap().unwrap();
        let fates: Vec<Fate> = explanation.fates.iter().map(|fate| fate.fate).collect();
        assert_eq!(fates, [Fate::Delivered], "{}", explanation.summary);
    }
    let sent = hub.hub.metrics_text().unwrap();
    assert!(sent.contains("} 3"), "{sent}");
}

#[tokio::test]
async fn a_token_ends_by_the_clock_on_the_wall_also_when_that_is_set() {
    let hub = TestHub::with_clock(Clock::manual(Timestamp::from_secs(1_000_000))).await;
    let session = hub.connect(&Identity::device("a".parse().unwrap())).await;
    tokio::time::pause();
    let minute = Duration::from_secs(60);
    assert!(timeout(minute, session.left()).await.is_err());
    let mut left = std::pin::pin!(session.left());
    assert!(timeout(minute, &mut left).await.is_err());
    hub.clock.advance(Duration::from_secs(3_599));
    assert!(timeout(minute, &mut left).await.is_err());
    hub.clock.advance(Duration::from_secs(2));
    assert_eq!(timeout(minute, &mut left).await, Ok(Leave::Expired));
}

#[tokio::test]
async fn what_a_deleted_route_has_queued_is_delivered_also_after_a_restart() {
    let hub = TestHub::start().await;
    hub.install(serde_json::json!({}), each(|_| Ok(PASS))).await;
    hub.send("a", &["1", "2"]).await;
    hub.sunk(2).await;
    let name = "m".parse().unwrap();
    hub.hub.modules().delete(&hub.hub, &name, weir_store::Expect::Any).await.unwrap();
    hub.send("a", &["3"]).await;
    for route in ["in", "out"] {
        let name = route.parse().unwrap();
        hub.hub.routes().delete(&hub.hub, &name, weir_store::Expect::Any).await.unwrap();
    }
    let hub = hub.restart().await;
    for (module, waiting) in [("sink", vec!["1", "2"]), ("m", vec!["3"])] {
        let consumer = Arc::new(TakesAll::default());
        let identity = Identity::module("E".parse().unwrap(), module.parse().unwrap());
        let session = hub.connect(&identity).await;
        session.take_inputs(Arc::clone(&consumer) as Arc<dyn Consumer>);
        let got = || async {
            let got = consumer.0.lock().unwrap().clone();
            (got.len() == waiting.len()).then_some(got)
        };
        assert_eq!(wait_for("deliveries", got).await, waiting);
    }
}

#[tokio::test]
async fn an_id_of_any_length_is_taken_and_only_a_sensible_one_is_a_name() {
    let hub = TestHub::start().await;
    let session = hub.connect(&Identity::device("a".parse().unwrap())).await;
    let mut intake = session.intake();
    for length in [128, 129, 60_000] {
        let name = "x".repeat(length);
        let mut properties = PropertiesBuilder::default();
        properties.push(Key::System(SystemProperty::MessageId), Some(&name)).unwrap();
        let message = Message { properties: properties.build(), ..Message::default() };
        intake.submit(vec![Publication { message, reliable: true }]).await;
        assert_eq!(intake.settled().await.unwrap(), 1);
        let found = hub.hub.explain(&MessageName::Client(name)).await.unwrap();
        assert_eq!(found.is_some(), length == 128);
        assert!(hub.hub.explain(&MessageName::Last).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_sender_without_room_hands_over_no_more_until_there_is_some() {
    let hub = TestHub::start().await;
    hub.limit(INPUT, Some(1));
    let session = hub.connect(&Identity::device("a".parse().unwrap())).await;
    let mut intake = session.intake();
    let mut submitted = 0;
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        if intake.has_room() {
            let body = vec![b'x'; 64 * 1024].into();
            let message = Message { body, ..Message::default() };
            intake.submit(vec![Publication { message, reliable: true }]).await;
            submitted += 1;
        }
        let settled = timeout(Duration::from_millis(5), intake.settled()).await;
        assert!(settled.is_err(), "{settled:?}");
    }
    assert!(submitted <= 3, "{submitted} batches wait");
    hub.limit(INPUT, None);
    let mut done = 0;
    while done < submitted {
        done += intake.settled().await.unwrap();
    }
    assert!(intake.has_room());
}

/// A MiB in sixteen messages, whose bodies begin with their numbers.
fn mebibyte() -> Vec<Publication> {
    let message = |number: u8| {
        let mut body = vec![b'x'; 64 * 1024];
        body[0] = b'a' + number;
        Message { body: body.into(), ..Message::default() }
    };
    (0..16).map(|number| Publication { message: message(number), reliable: true }).collect()
}

#[tokio::test]
async fn senders_to_a_full_queue_do_not_hold_up_those_to_another_and_keep_their_order() {
    let hub = TestHub::start().await;
    hub.route(
        "other",
        "FROM /messages/modules/x/* INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
    )
    .await;
    hub.limit(INPUT, Some(1));
    let senders = 40;
    let mut sessions = Vec::new();
    for number in 0..senders {
        let device = Identity::device(format!("d{number}").parse().unwrap());
        sessions.push(hub.connect(&device).await);
    }
    let waiting = join_all(sessions.iter().map(|session| async {
        let mut intake = session.intake();
        intake.submit(mebibyte()).await;
        intake.settled().await
    }));
    let neighbour = Identity::module("E".parse().unwrap(), "x".parse().unwrap());
    let served = async {
        let until = tokio::time::Instant::now() + Duration::from_secs(1);
        let mut sent = 0;
        while tokio::time::Instant::now() < until {
            hub.send_as(&neighbour, &["1"]).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        hub.limit(INPUT, None);
        sent
    };
    let both = async { tokio::join!(waiting, served) };
    let (waited, sent) = timeout(Duration::from_secs(8), both).await.expect("nobody is held up");
    assert_eq!(hub.sunk(sent).await.len(), sent);
    let taken = waited.iter().filter(|settled| settled.is_ok()).count();
    // What has no room to wait goes at once, and not after twenty seconds.
    assert_eq!(taken, limits::REFUSED_BYTES / (1024 * 1024));
    assert!(
        waited.iter().all(|settled| matches!(settled, Ok(16) | Err(IntakeError::TooMuchWaits)))
    );
    let mut by_sender: HashMap<Identity, String> = HashMap::new();
    for entry in hub.queue(INPUT).await {
        let message = &entry.record.message;
        by_sender.entry(message.sender().clone()).or_default().push(message.body()[0].into());
    }
    assert_eq!(by_sender.len(), taken);
    assert!(by_sender.values().all(|numbers| numbers == "abcdefghijklmnop"), "{by_sender:?}");
}

#[tokio::test]
async fn one_sender_alone_cannot_fill_the_room_of_all() {
    let hub = TestHub::start().await;
    let session = hub.connect(&Identity::device("a".parse().unwrap())).await;
    let mut intake = session.intake();
    let mut submitted = 0;
    while intake.has_room() {
        intake.submit(mebibyte()).await;
        submitted += 1;
    }
    assert_eq!(submitted, limits::INTAKE_SENDER_BYTES / (1024 * 1024));
}

fn named(name: &str, reliable: bool) -> Publication {
    let mut properties = PropertiesBuilder::default();
    properties.push(Key::System(SystemProperty::MessageId), Some(name)).unwrap();
    let message = Message { properties: properties.build(), ..Message::default() };
    Publication { message, reliable }
}

#[tokio::test]
async fn what_the_store_refused_is_neither_counted_nor_explained_as_accepted() {
    let hub = TestHub::start().await;
    let session = hub.connect(&Identity::device("a".parse().unwrap())).await;
    let explained = async |name: &str| {
        let name = match name {
            "last" => MessageName::Last,
            name => MessageName::Client(name.to_owned()),
        };
        hub.hub.explain(&name).await.unwrap().map(|explanation| explanation.id)
    };
    let accepted = || {
        let text = hub.hub.metrics_text().unwrap();
        let line = text.lines().find(|line| line.starts_with("weir_messages_accepted_total"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let mut intake = session.intake();
    intake.submit(vec![named("before", true)]).await;
    intake.settled().await.unwrap();
    let last = explained("last").await;
    assert_eq!(explained("before").await, last);
    hub.limit(INPUT, Some(1));
    intake.submit(vec![named("waits", true), named("dropped", false)]).await;
    assert!(timeout(Duration::from_millis(300), intake.settled()).await.is_err());
    assert_eq!((explained("waits").await, explained("dropped").await), (None, None));
    assert_eq!((explained("last").await, accepted()), (last.clone(), 1));
    hub.limit(INPUT, None);
    assert_eq!(intake.settled().await, Ok(2));
    assert_ne!(explained("last").await, last);
    assert_eq!(explained("waits").await, explained("last").await);
    assert_eq!((explained("dropped").await, accepted()), (None, 2));
}
