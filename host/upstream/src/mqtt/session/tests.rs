//! The session by itself: batches and PUBACKs in, packets out.

use weir_core::clock::Timestamp;
use weir_core::id::{Identity, MessageId};
use weir_core::message::Message;
use weir_core::port::{Answer, Batch, BoxFuture, Fault};
use weir_mqtt_codec::{Limits, Packet, Publish, decode};

use super::*;
use crate::intake::{Inbox, Intake};
use crate::{MqttConfig, PropertyForm};
use proptest::prelude::*;
use std::task::{Context, Poll, Waker};

type Answering<'a> = BoxFuture<'a, Result<Answer, Fault>>;

fn session(window: usize, keeps_unacknowledged: bool) -> Session {
    let mut config = MqttConfig::new("broker");
    config.topic = "t".to_owned();
    config.properties = PropertyForm::None;
    config.max_packet_bytes = 100;
    Session::new(Publisher::new(&config, "edge").unwrap(), window, keeps_unacknowledged)
}

fn batch(bodies: impl IntoIterator<Item = u64>) -> Batch {
    let sender = Identity::device("d".parse().unwrap());
    let deliver = |number: u64| {
        let message = Message { body: number.to_string().into(), ..Message::default() };
        let message = message.stamp(&sender, MessageId(number), Timestamp::default());
        Delivery { number, attempt: 1, input: 0, input_name: None, message }
    };
    Batch { deliveries: bodies.into_iter().map(deliver).collect() }
}

async fn add<'a>(
    session: &mut Session,
    intake: &'a Intake,
    inbox: &mut Inbox<'_>,
    numbers: impl IntoIterator<Item = u64>,
) -> Answering<'a> {
    let answer = intake.deliver(batch(numbers));
    session.add(inbox.next().await);
    answer
}

/// What the session sends now.
fn sent(session: &mut Session) -> Vec<Publish> {
    let mut out = BytesMut::new();
    session.fill(&mut out);
    packets(&mut out)
}

fn packets(out: &mut BytesMut) -> Vec<Publish> {
    let limits = Limits { max_packet_bytes: 1000, max_filters: 1 };
    let mut publishes = Vec::new();
    while let Some(packet) = decode(out, &limits).unwrap() {
        let Packet::Publish(publish) = packet else { panic!("{:?}", packet.kind()) };
        publishes.push(publish);
    }
    publishes
}

fn numbers(publishes: &[Publish]) -> Vec<u64> {
    publishes.iter().map(number).collect()
}

fn number(publish: &Publish) -> u64 {
    std::str::from_utf8(&publish.payload).unwrap().parse().unwrap()
}

fn acknowledge(session: &mut Session, publishes: &[Publish]) {
    for publish in publishes {
        assert!(session.acknowledge(publish.delivery.packet_id().unwrap()));
    }
}

fn poll(answer: &mut Answering<'_>) -> Poll<Result<Answer, Fault>> {
    answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn outcomes(mut answer: Answering<'_>) -> Vec<Outcome> {
    match poll(&mut answer) {
        Poll::Ready(Ok(answer)) => answer.outcomes,
        other => panic!("{other:?} instead of an answer"),
    }
}

#[tokio::test]
async fn no_more_than_the_window_is_under_way_and_batches_go_out_in_order() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(3, false);
    let mut first = add(&mut session, &intake, &mut inbox, 0..4).await;
    let second = add(&mut session, &intake, &mut inbox, 4..6).await;
    let out = sent(&mut session);
    assert_eq!(numbers(&out), [0, 1, 2]);
    assert!(sent(&mut session).is_empty());
    acknowledge(&mut session, &out[..2]);
    let more = sent(&mut session);
    assert_eq!(numbers(&more), [3, 4]);
    assert!(poll(&mut first).is_pending());
    acknowledge(&mut session, &out[2..]);
    acknowledge(&mut session, &more[..1]);
    assert_eq!(outcomes(first), vec![Outcome::Accepted; 4]);
    let last = sent(&mut session);
    acknowledge(&mut session, &more[1..]);
    acknowledge(&mut session, &last);
    assert_eq!(outcomes(second), vec![Outcome::Accepted; 2]);
    assert!(!session.is_waiting());
}

#[tokio::test]
async fn a_missing_puback_holds_the_window_however_many_come_behind_it() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(3, false);
    let _answer = add(&mut session, &intake, &mut inbox, 0..9).await;
    let out = sent(&mut session);
    acknowledge(&mut session, &out[1..]);
    assert!(sent(&mut session).is_empty());
    acknowledge(&mut session, &out[..1]);
    assert_eq!(numbers(&sent(&mut session)), [3, 4, 5]);
}

#[tokio::test]
async fn a_puback_of_nothing_and_a_second_one_are_ignored() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(3, false);
    let mut answer = add(&mut session, &intake, &mut inbox, 0..2).await;
    let out = sent(&mut session);
    assert!(!session.acknowledge(PacketId::new(99).unwrap()));
    acknowledge(&mut session, &out[1..]);
    assert!(!session.acknowledge(out[1].delivery.packet_id().unwrap()));
    assert!(poll(&mut answer).is_pending());
}

#[tokio::test]
async fn a_message_that_fits_no_packet_is_rejected_and_the_others_go_on() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(9, false);
    let mut large = batch(0..3);
    let message = Message { body: vec![0; 200].into(), ..Message::default() };
    let sender = large.deliveries[1].message.sender().clone();
    large.deliveries[1].message = message.stamp(&sender, MessageId(1), Timestamp::default());
    let answer = intake.deliver(large);
    session.add(inbox.next().await);
    let out = sent(&mut session);
    assert_eq!(numbers(&out), [0, 2]);
    acknowledge(&mut session, &out);
    let outcomes = outcomes(answer);
    assert!(matches!(
        &outcomes[..],
        [Outcome::Accepted, Outcome::Reject { code: Some(code), .. }, Outcome::Accepted]
            if code == "too-large"
    ));
}

#[tokio::test]
async fn after_a_cut_only_what_was_not_acknowledged_is_sent_again() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(4, false);
    let first = add(&mut session, &intake, &mut inbox, 0..8).await;
    let out = sent(&mut session);
    acknowledge(&mut session, &out[..2]);
    session.fail("cut", None);
    drop(first);

    session.begin(false, &mut BytesMut::new());
    let again = add(&mut session, &intake, &mut inbox, 0..8).await;
    let out = sent(&mut session);
    assert_eq!(numbers(&out), [2, 3, 4, 5]);
    assert!(out.iter().all(|publish| !publish.delivery.dup()));
    acknowledge(&mut session, &out);
    let out = sent(&mut session);
    acknowledge(&mut session, &out);
    assert_eq!(outcomes(again), vec![Outcome::Accepted; 8]);
}

#[tokio::test]
async fn on_a_kept_session_unacknowledged_packets_go_again_with_id_and_dup_and_join_their_batch() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(3, true);
    let first = add(&mut session, &intake, &mut inbox, 0..5).await;
    let before = sent(&mut session);
    acknowledge(&mut session, &before[..1]);
    session.fail("cut", None);
    drop(first);

    let mut out = BytesMut::new();
    session.begin(true, &mut out);
    let resent = packets(&mut out);
    assert_eq!(numbers(&resent), [1, 2]);
    for (resent, before) in resent.iter().zip(&before[1..]) {
        assert!(resent.delivery.dup());
        assert_eq!(resent.delivery.packet_id(), before.delivery.packet_id());
    }
    acknowledge(&mut session, &resent[..1]);
    let again = add(&mut session, &intake, &mut inbox, 0..5).await;
    let new = sent(&mut session);
    assert_eq!(numbers(&new), [3, 4]);
    acknowledge(&mut session, &resent[1..]);
    acknowledge(&mut session, &new);
    assert_eq!(outcomes(again), vec![Outcome::Accepted; 5]);
}

#[tokio::test]
async fn on_a_session_that_the_broker_has_forgotten_packets_are_new_ones() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(3, true);
    drop(add(&mut session, &intake, &mut inbox, 0..2).await);
    let lost = add(&mut session, &intake, &mut inbox, 0..2).await;
    sent(&mut session);
    session.fail("cut", None);
    drop(lost);
    let mut out = BytesMut::new();
    session.begin(false, &mut out);
    assert!(out.is_empty());
    let _again = add(&mut session, &intake, &mut inbox, 0..2).await;
    let new = sent(&mut session);
    assert_eq!(numbers(&new), [0, 1]);
    assert!(new.iter().all(|publish| !publish.delivery.dup()));
}

#[tokio::test]
async fn a_batch_that_comes_again_while_it_is_under_way_sends_nothing_twice() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(4, false);
    let given_up = add(&mut session, &intake, &mut inbox, 0..6).await;
    let out = sent(&mut session);
    acknowledge(&mut session, &out[..2]);
    drop(given_up);
    let again = add(&mut session, &intake, &mut inbox, 0..6).await;
    assert_eq!(numbers(&sent(&mut session)), [4, 5]);
    acknowledge(&mut session, &out[2..]);
    for id in [5, 6] {
        assert!(session.acknowledge(PacketId::new(id).unwrap()));
    }
    assert_eq!(outcomes(again), vec![Outcome::Accepted; 6]);
}

#[tokio::test]
async fn packet_ids_begin_again_after_the_last_one() {
    let intake = Intake::new();
    let mut inbox = intake.inbox().await;
    let mut session = session(4, false);
    session.last_id = u16::MAX - 1;
    let _answer = add(&mut session, &intake, &mut inbox, 0..3).await;
    let ids: Vec<u16> =
        sent(&mut session).iter().map(|p| p.delivery.packet_id().unwrap().get()).collect();
    assert_eq!(ids, [u16::MAX, 1, 2]);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The broker takes this many packets that it has not seen, and acknowledges so many of them.
    Take(usize, usize),
    Cut(bool),
    GiveUp,
    /// The dispatcher drops its futures one after the other, and the session runs in between.
    GiveUpSlowly,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..6, 0usize..6).prop_map(|(take, tell)| Step::Take(take, tell)),
        1 => any::<bool>().prop_map(Step::Cut),
        1 => Just(Step::GiveUp),
        1 => Just(Step::GiveUpSlowly),
    ]
}

/// Takes the batches that are answered off the front; after a failure all are to come again.
fn settled(under_way: &mut VecDeque<Answering<'_>>) -> u64 {
    let mut count = 0;
    while let Some(answer) = under_way.front_mut() {
        match poll(answer) {
            Poll::Pending => break,
            Poll::Ready(Ok(_)) => {
                under_way.pop_front();
                count += 1;
            }
            Poll::Ready(Err(_)) => under_way.clear(),
        }
    }
    count
}

proptest! {
    /// A dispatcher with two batches under way, a broker that takes, acknowledges late and cuts: all
    /// arrives, first arrivals are in order, and what was acknowledged is never sent again.
    #[test]
    fn nothing_is_lost_or_reordered_whatever_happens(
        steps in proptest::collection::vec(step(), 0..40),
        keeps: bool,
        window in 1usize..8,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let intake = Intake::new();
            let mut inbox = intake.inbox().await;
            let mut session = session(window, keeps);
            let mut wire = BytesMut::new();
            let mut unseen: VecDeque<Publish> = VecDeque::new();
            let mut untold: VecDeque<Publish> = VecDeque::new();
            let (mut arrived, mut told) = (Vec::new(), HashSet::new());
            let (mut done, size, total) = (0_u64, 5, 20);
            let mut under_way: VecDeque<Answering<'_>> = VecDeque::new();
            // At the end a calm broker takes the rest.
            let calm = std::iter::repeat_n(Step::Take(9, 9), 200);
            for step in steps.into_iter().chain(calm) {
                while under_way.len() < 2 && done + (under_way.len() as u64) * size < total {
                    let from = done + under_way.len() as u64 * size;
                    under_way.push_back(intake.deliver(batch(from..from + size)));
                }
                while let Some(job) = inbox.try_next() {
                    session.add(job);
                }
                session.fill(&mut wire);
                unseen.extend(packets(&mut wire));
                match step {
                    Step::Take(take, tell) => {
                        for publish in unseen.drain(..take.min(unseen.len())) {
                            let number = number(&publish);
                            prop_assert!(!told.contains(&number), "{number} was acknowledged");
                            arrived.push(number);
                            untold.push_back(publish);
                        }
                        for publish in untold.drain(..tell.min(untold.len())) {
                            told.insert(number(&publish));
                            acknowledge(&mut session, &[publish]);
                        }
                    }
                    Step::Cut(remembers) => {
                        unseen.clear();
                        untold.clear();
                        session.fail("cut", None);
                        session.begin(keeps && remembers, &mut wire);
                    }
                    Step::GiveUp | Step::GiveUpSlowly => {
                        done += settled(&mut under_way) * size;
                        if matches!(step, Step::GiveUpSlowly) {
                            drop(under_way.pop_front());
                            arrived.extend(unseen.iter().map(number));
                            untold.extend(unseen.drain(..));
                            for publish in untold.drain(..) {
                                told.insert(number(&publish));
                                acknowledge(&mut session, &[publish]);
                            }
                            session.fill(&mut wire);
                            unseen.extend(packets(&mut wire));
                        }
                        // An answer that nobody read is lost, and with it what it said.
                        if under_way.iter_mut().any(|answer| poll(answer).is_ready()) {
                            told.clear();
                        }
                        under_way.clear();
                    }
                }
                done += settled(&mut under_way) * size;
            }
            prop_assert_eq!(done, total);
            let mut seen = HashSet::new();
            arrived.retain(|number| seen.insert(*number));
            prop_assert_eq!(arrived, (0..total).collect::<Vec<_>>());
            Ok(())
        })?;
    }
}
