use super::*;
use crate::resending::Unacknowledged;
use proptest::prelude::*;
use std::sync::Arc;
use weir_core::clock::Timestamp;
use weir_core::command::LockToken;
use weir_core::id::MessageId;
use weir_core::limits;
use weir_core::message::Message;
use weir_core::properties::{Key, PropertiesBuilder};
use weir_hub::Subscription;
use weir_mqtt_codec::{Delivery as Sending, Limits, Packet, Publish, decode};

fn module() -> Identity {
    Identity::module("E".parse().unwrap(), "M".parse().unwrap())
}

/// Subscribed to `one` with QoS 1 and to `zero` with QoS 0.
fn subscriptions() -> Subscriptions {
    let of = |input: &str, qos| Subscription {
        filter: format!("devices/E/modules/M/inputs/{input}/#"),
        qos,
    };
    Subscriptions::restore(module(), vec![of("one", 1), of("zero", 0)])
}

fn delivery(input: &str, body: u32, attempt: u32) -> Delivery {
    let message = Message { body: body.to_be_bytes().to_vec().into(), ..Message::default() };
    let message = message.stamp(&module(), MessageId(1), Timestamp::from_secs(1));
    let input_name = Some(input.parse().unwrap());
    Delivery { number: body.into(), attempt, input: 0, input_name, message }
}

type Answered = oneshot::Receiver<Result<Answer, Fault>>;

struct Client {
    outbound: Outbound,
    out: Outgoing,
}

impl Client {
    fn new() -> Self {
        Self { outbound: Outbound::new(Sender::new(module(), 0, None)), out: Outgoing::default() }
    }

    fn parcel(&mut self, deliveries: Vec<Delivery>) -> Answered {
        let (answer, answered) = oneshot::channel();
        let parcel = Parcel { batch: Batch { deliveries }, answer };
        self.outbound.accept(parcel, &subscriptions());
        self.outbound.fill(&mut self.out);
        answered
    }

    /// Reads what was written, and lets the connection know.
    fn gets(&mut self) -> Vec<Publish> {
        let limits = Limits { max_packet_bytes: 1 << 20, max_filters: 50 };
        let mut wire = self.out.buffer().split();
        self.outbound.written(self.out.enqueued() + wire.len() as u64);
        let packets = std::iter::from_fn(|| decode(&mut wire, &limits).unwrap());
        let of = |packet| match packet {
            Packet::Publish(publish) => publish,
            other => panic!("{other:?}"),
        };
        packets.map(of).collect()
    }

    fn acknowledges(&mut self, publish: &Publish) {
        self.outbound.acknowledge(publish.delivery.packet_id().unwrap());
        self.outbound.fill(&mut self.out);
    }
}

fn body(publish: &Publish) -> u32 {
    u32::from_be_bytes(publish.payload[..].try_into().unwrap())
}

fn batch(input: &str, bodies: std::ops::Range<u32>) -> Vec<Delivery> {
    bodies.map(|body| delivery(input, body, 1)).collect()
}

fn outcomes(answered: &mut Answered) -> Option<Vec<Outcome>> {
    answered.try_recv().ok().map(|answer| answer.unwrap().outcomes)
}

#[test]
fn a_parcel_is_answered_when_all_of_it_is_acknowledged() {
    let mut client = Client::new();
    let mut answered = client.parcel(batch("one", 0..3));
    let sent = client.gets();
    assert_eq!(sent.iter().map(body).collect::<Vec<_>>(), [0, 1, 2]);
    client.acknowledges(&sent[2]);
    client.acknowledges(&sent[0]);
    assert_eq!(outcomes(&mut answered), None);
    client.acknowledges(&sent[1]);
    assert_eq!(outcomes(&mut answered), Some(vec![Outcome::Accepted; 3]));
}

#[test]
fn qos_0_is_answered_when_it_is_written() {
    let mut client = Client::new();
    let mut answered = client.parcel(batch("zero", 0..2));
    client.outbound.written(client.out.enqueued() - 1);
    assert_eq!(outcomes(&mut answered), None, "the last byte is missing");
    let sent = client.gets();
    assert!(sent.iter().all(|publish| publish.delivery == Sending::AtMostOnce));
    assert_eq!(outcomes(&mut answered), Some(vec![Outcome::Accepted; 2]));
}

#[test]
fn a_repeat_carries_dup_and_a_first_delivery_does_not() {
    let mut client = Client::new();
    let _answered = client.parcel(vec![delivery("one", 1, 2), delivery("one", 2, 1)]);
    let dups: Vec<bool> = client.gets().iter().map(|publish| publish.delivery.dup()).collect();
    assert_eq!(dups, [true, false]);
    let _answered = client.parcel(vec![delivery("zero", 1, 2)]);
    assert!(!client.gets()[0].delivery.dup(), "not at QoS 0 [MQTT-3.3.1-2]");
}

#[test]
fn an_input_that_is_not_subscribed_to_is_not_available() {
    let mut client = Client::new();
    let mut answered = client.parcel(batch("other", 0..1));
    assert!(matches!(answered.try_recv(), Ok(Err(Fault::Unavailable { .. }))));
    assert_eq!(client.gets(), []);
    assert!(client.outbound.wants_parcel());
}

#[test]
fn no_more_is_under_way_than_the_window_allows() {
    let mut client = Client::new();
    let mut first = client.parcel(batch("one", 0..64));
    let mut second = client.parcel(batch("one", 64..128));
    let sent = client.gets();
    assert_eq!(sent.len(), limits::CLIENT_WINDOW);
    assert!(!client.outbound.wants_parcel());
    for publish in &sent[..28] {
        client.acknowledges(publish);
    }
    let more = client.gets();
    assert_eq!(more.iter().map(body).collect::<Vec<_>>(), (100..128).collect::<Vec<_>>());
    for publish in sent[28..].iter().chain(&more) {
        client.acknowledges(publish);
    }
    assert_eq!(outcomes(&mut first), Some(vec![Outcome::Accepted; 64]));
    assert_eq!(outcomes(&mut second), Some(vec![Outcome::Accepted; 64]));
}

#[test]
fn what_cannot_be_a_topic_is_rejected_alone() {
    let mut client = Client::new();
    let mut builder = PropertiesBuilder::default();
    builder.push(Key::Application("k"), Some(&"/".repeat(30_000))).unwrap();
    let mut deliveries = batch("one", 0..3);
    let message = Message { properties: builder.build(), ..Message::default() };
    deliveries[1].message = message.stamp(&module(), MessageId(1), Timestamp::from_secs(1));
    let mut answered = client.parcel(deliveries);
    for publish in client.gets() {
        client.acknowledges(&publish);
    }
    let outcomes = outcomes(&mut answered).unwrap();
    assert_eq!([&outcomes[0], &outcomes[2]], [&Outcome::Accepted; 2]);
    assert!(matches!(&outcomes[1], Outcome::Reject { .. }));
}

#[test]
fn the_end_of_the_connection_gives_back_what_was_not_taken() {
    let mut client = Client::new();
    let mut first = client.parcel(batch("one", 0..90));
    let mut second = client.parcel(batch("one", 90..110));
    let sent = client.gets();
    client.acknowledges(&sent[0]);
    client.acknowledges(&sent[95]);
    drop(client);
    let mut expected = vec![Outcome::Abandon { sent: true }; 90];
    expected[0] = Outcome::Accepted;
    assert_eq!(outcomes(&mut first), Some(expected));
    let mut expected = vec![Outcome::Abandon { sent: true }; 12];
    expected[5] = Outcome::Accepted;
    expected.extend(vec![Outcome::Abandon { sent: false }; 8]);
    assert_eq!(outcomes(&mut second), Some(expected));
}

#[test]
fn a_batch_that_the_hub_has_given_up_is_not_sent_on() {
    let mut client = Client::new();
    let _full = client.parcel(batch("one", 0..95));
    let given_up = client.parcel(batch("one", 95..120));
    drop(given_up);
    let sent = client.gets();
    assert_eq!(sent.len(), 100);
    for publish in &sent {
        client.acknowledges(publish);
    }
    assert_eq!(client.gets(), []);
    assert!(client.outbound.wants_parcel());
    assert!(client.outbound.parcels.is_empty());
}

proptest! {
    /// Against a plain model: what the client saw, in which order, and what the hub was told.
    #[test]
    fn order_is_kept_and_every_message_is_accounted_for(
        parcels in prop::collection::vec((any::<bool>(), 1u32..70), 1..12),
        acks in prop::collection::vec(any::<prop::sample::Index>(), 0..300),
    ) {
        let mut client = Client::new();
        let mut answers: Vec<(std::ops::Range<u32>, bool, Answered)> = Vec::new();
        let (mut seen, mut unacked, mut acked) = (Vec::new(), Vec::new(), Vec::new());
        let mut queue = parcels.iter();
        let mut next = 0;
        let mut acks = acks.into_iter();
        loop {
            if client.outbound.wants_parcel() && let Some((reliable, count)) = queue.next() {
                let bodies = next..next + count;
                next += count;
                let input = if *reliable { "one" } else { "zero" };
                let answered = client.parcel(batch(input, bodies.clone()));
                answers.push((bodies, *reliable, answered));
            } else if let Some(pick) = acks.next() {
                if !unacked.is_empty() {
                    let publish = unacked.remove(pick.index(unacked.len()));
                    acked.push(body(&publish));
                    client.acknowledges(&publish);
                }
            } else {
                break;
            }
            for publish in client.gets() {
                seen.push(body(&publish));
                if publish.delivery.packet_id().is_some() {
                    unacked.push(publish);
                }
            }
            prop_assert!(unacked.len() <= limits::CLIENT_WINDOW);
        }
        prop_assert_eq!(&seen, &(0..u32::try_from(seen.len()).unwrap()).collect::<Vec<_>>());
        drop(client);
        for (bodies, reliable, mut answered) in answers {
            let told = outcomes(&mut answered).expect("every parcel is answered");
            prop_assert_eq!(told.len(), bodies.len());
            for (body, outcome) in bodies.zip(told) {
                let expected = match seen.contains(&body) {
                    false => Outcome::Abandon { sent: false },
                    true if !reliable || acked.contains(&body) => Outcome::Accepted,
                    true => Outcome::Abandon { sent: true },
                };
                prop_assert_eq!(outcome, expected);
            }
        }
    }
}

fn command(sequence: u64, delivery_count: u32) -> Command {
    let message = Message { body: "c".into(), ..Message::default() };
    Command {
        lock: LockToken::new([u8::try_from(sequence).unwrap(); 16]),
        sequence,
        delivery_count,
        enqueued: Timestamp::from_secs(1),
        expires: Timestamp::from_secs(9),
        message: message.stamp(&module(), MessageId(1), Timestamp::from_secs(1)),
    }
}

#[test]
fn a_command_is_complete_when_it_is_acknowledged_or_written() {
    let mut client = Client::new();
    let (first, second) = (command(1, 1), command(2, 2));
    client.outbound.command(&first, Qos::AtLeastOnce, &mut client.out);
    client.outbound.command(&second, Qos::AtMostOnce, &mut client.out);
    assert_eq!(client.outbound.take_decided(), []);
    let sent = client.gets();
    assert_eq!(client.outbound.take_decided(), [(second.lock, Settlement::Complete)]);
    client.acknowledges(&sent[0]);
    assert_eq!(client.outbound.take_decided(), [(first.lock, Settlement::Complete)]);
    assert_eq!(client.outbound.take_decided(), []);
}

#[test]
fn desired_patches_go_one_after_the_other() {
    let mut client = Client::new();
    let patch = DesiredPatch { version: 7, json: "{\"$version\":7}".into() };
    assert!(client.outbound.wants_desired());
    client.outbound.desired(&patch, Qos::AtLeastOnce, &mut client.out);
    assert!(!client.outbound.wants_desired());
    let sent = client.gets();
    assert_eq!(sent[0].topic.as_str(), "$iothub/twin/PATCH/properties/desired/?$version=7");
    assert!(!client.outbound.wants_desired());
    client.acknowledges(&sent[0]);
    assert!(client.outbound.wants_desired());
    client.outbound.desired(&patch, Qos::AtMostOnce, &mut client.out);
    client.gets();
    assert!(client.outbound.wants_desired());
}

#[test]
fn what_comes_again_on_the_next_connection_has_the_packet_id_that_it_had() {
    let unacknowledged = Arc::new(Unacknowledged::default());
    let connection = |start| {
        let sender = Sender::new(module(), start, Some(Arc::clone(&unacknowledged)));
        Client { outbound: Outbound::new(sender), out: Outgoing::default() }
    };
    let ids = |sent: &[Publish]| -> Vec<u16> {
        sent.iter().map(|publish| publish.delivery.packet_id().unwrap().get()).collect()
    };
    let mut first = connection(100);
    first.parcel(batch("one", 1..4));
    first.outbound.command(&command(1, 1), Qos::AtLeastOnce, &mut first.out);
    let sent = first.gets();
    assert_eq!(ids(&sent), [101, 102, 103, 104]);
    first.acknowledges(&sent[0]);
    drop(first);
    // The first of them is not sent in the second connection at all; it keeps its id.
    let mut second = connection(101);
    second.parcel(vec![delivery("one", 9, 1), delivery("one", 3, 2), delivery("one", 10, 1)]);
    assert_eq!(ids(&second.gets()), [102, 103, 105], "until something comes again ids may be used");
    second.outbound.command(&command(1, 2), Qos::AtLeastOnce, &mut second.out);
    assert_eq!(ids(&second.gets()), [104]);
    drop(second);
    let mut third = connection(7);
    third.parcel(vec![delivery("one", 2, 2), delivery("one", 9, 2), delivery("one", 3, 3)]);
    let sent = third.gets();
    // 2 and 9 had the same id, one after the other: only one of them has it now.
    assert_eq!(ids(&sent)[2], 103);
    let mut unique = ids(&sent);
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), 3);
}
