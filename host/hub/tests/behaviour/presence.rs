//! Who was there, when.

use crate::hub::TestHub;
use std::time::Duration;
use weir_core::clock::{Clock, Timestamp};
use weir_core::id::Identity;
use weir_hub::{Followed, Topic};

fn pump() -> Identity {
    Identity::device("pump".parse().unwrap())
}

async fn hub_at(secs: i64) -> TestHub {
    TestHub::with_clock(Clock::manual(Timestamp::from_secs(secs))).await
}

#[tokio::test]
async fn what_is_known_of_a_client_follows_its_sessions() {
    let hub = hub_at(1_000).await;
    assert_eq!(hub.hub.presence(&pump()), None);
    let session = hub.connect_by(&pump(), "mqtt").await;
    hub.clock.advance(Duration::from_secs(5));
    session.note_activity();
    let there = hub.hub.presence(&pump()).unwrap();
    assert!(there.connected && there.left.is_none());
    assert_eq!((there.since.as_secs(), there.last_seen.as_secs()), (1_000, 1_005));
    hub.clock.advance(Duration::from_secs(5));
    hub.send("pump", &["1"]).await;
    let newer = hub.connect_by(&pump(), "amqp").await;
    // The older session ends after the newer one has begun.
    drop(session);
    let there = hub.hub.presence(&pump()).unwrap();
    assert!(there.connected);
    assert_eq!((there.protocol.as_str(), there.since.as_secs()), ("amqp", 1_010));
    hub.clock.advance(Duration::from_secs(5));
    drop(newer);
    let gone = hub.hub.presence(&pump()).unwrap();
    assert_eq!((gone.connected, gone.left.map(Timestamp::as_secs)), (false, Some(1_015)));
    assert_eq!(gone.last_seen.as_secs(), 1_010);
}

#[tokio::test]
async fn a_message_is_a_sign_of_life() {
    let hub = hub_at(1_000).await;
    let session = hub.connect(&pump()).await;
    hub.clock.advance(Duration::from_secs(7));
    let mut intake = session.intake();
    intake
        .submit(vec![weir_hub::Publication { message: Default::default(), reliable: true }])
        .await;
    intake.settled().await.unwrap();
    assert_eq!(hub.hub.presence(&pump()).unwrap().last_seen.as_secs(), 1_007);
}

#[tokio::test]
async fn who_was_seen_when_is_known_after_a_restart() {
    let hub = hub_at(1_000).await;
    let session = hub.connect_by(&pump(), "amqp").await;
    drop(hub.connect(&Identity::device("gone".parse().unwrap())).await);
    hub.clock.advance(Duration::from_secs(9));
    session.note_activity();
    hub.hub.tasks().stop().drain();
    let hub = hub.restart().await;
    drop(session);
    let pump = hub.hub.presence(&pump()).unwrap();
    assert_eq!((pump.connected, pump.protocol.as_str()), (false, "amqp"));
    assert_eq!((pump.last_seen.as_secs(), pump.left.unwrap().as_secs()), (1_009, 1_009));
    assert_eq!(hub.hub.presence_of_all().len(), 2);
}

#[tokio::test]
async fn a_single_request_is_seen_and_does_not_hide_a_session() {
    let hub = hub_at(1_000).await;
    let session = hub.connect_by(&pump(), "mqtt").await;
    drop(hub.visit(&pump()));
    assert_eq!(hub.hub.presence(&pump()).unwrap().protocol, "mqtt");
    drop(session);
    hub.clock.advance(Duration::from_secs(3));
    drop(hub.visit(&pump()));
    let seen = hub.hub.presence(&pump()).unwrap();
    assert_eq!((seen.connected, seen.protocol.as_str()), (false, "https"));
    assert_eq!(seen.last_seen.as_secs(), 1_003);
}

#[tokio::test]
async fn coming_and_going_is_told() {
    let hub = hub_at(1_000).await;
    let mut follower = hub.hub.follow_events(None, vec![Topic::Client]);
    drop(hub.connect(&pump()).await);
    for expected in ["connected", "disconnected"] {
        let Followed::Event(event) = follower.next().await else { panic!("nothing is lost") };
        assert_eq!((event.what, event.subject.as_str()), (expected, "pump"));
    }
}
