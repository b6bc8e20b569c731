//! Commands: kept until the client has said what becomes of them.

use crate::hub::TestHub;
use std::time::Duration;
use tokio::time::timeout;
use weir_core::clock::{Clock, Timestamp};
use weir_core::command::{Command, NewCommand, Settlement};
use weir_core::id::Identity;
use weir_core::limits;
use weir_core::message::Message;
use weir_core::properties::{Key, PropertiesBuilder, SystemProperty};
use weir_hub::{CommandError, Commands, FEEDBACK_QUEUE, SentCommand};
use weir_store::Expect;

fn device(name: &str) -> Identity {
    Identity::device(name.parse().unwrap())
}

fn module(name: &str) -> Identity {
    Identity::module("E".parse().unwrap(), name.parse().unwrap())
}

fn command(body: &str) -> NewCommand {
    let body = body.as_bytes().to_vec().into();
    NewCommand { message: Message { body, ..Message::default() }, expires: None }
}

fn with_ack(body: &str, ack: &str) -> NewCommand {
    let mut properties = PropertiesBuilder::default();
    properties.push(Key::System(SystemProperty::Ack), Some(ack)).unwrap();
    properties.push(Key::System(SystemProperty::MessageId), Some(body)).unwrap();
    let mut command = command(body);
    command.message.properties = properties.build();
    command
}

impl TestHub {
    async fn command(&self, target: &Identity, command: NewCommand) -> SentCommand {
        self.try_command(target, command).await.unwrap()
    }

    async fn try_command(
        &self,
        target: &Identity,
        command: NewCommand,
    ) -> Result<SentCommand, CommandError> {
        self.hub.commands().send(&self.hub, target, command).await
    }

    async fn waiting(&self, target: &Identity) -> Vec<String> {
        let listed = self.hub.commands().list(&self.hub, target).await.unwrap();
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        listed.iter().map(|entry| text(entry.record.message.body())).collect()
    }
}

fn text(command: &Command) -> &str {
    std::str::from_utf8(command.message.body()).unwrap()
}

async fn complete_next(commands: &mut Commands) -> String {
    let next = timeout(Duration::from_secs(5), commands.next()).await.expect("a command");
    commands.settle(next.lock, Settlement::Complete).await.unwrap();
    text(&next).to_owned()
}

async fn nothing(commands: &mut Commands) {
    let more = timeout(Duration::from_millis(100), commands.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn commands_wait_for_their_client_and_come_in_order() {
    let hub = TestHub::start().await;
    let (a, b) = (device("a"), module("b"));
    for identity in [&a, &b] {
        drop(hub.connect(identity).await);
    }
    hub.command(&a, command("1")).await;
    hub.command(&b, command("other")).await;
    hub.command(&a, command("2")).await;
    let session = hub.connect(&a).await;
    let mut commands = session.take_commands();
    let first = commands.next().await;
    let to = first.message.properties().system(SystemProperty::To);
    assert_eq!(
        (text(&first), first.delivery_count, to),
        ("1", 1, Some("/devices/a/messages/devicebound"))
    );
    assert!(first.message.properties().system(SystemProperty::MessageId).is_some());
    assert_eq!(hub.waiting(&a).await, ["1", "2"], "a command stays until it is settled");
    commands.settle(first.lock, Settlement::Complete).await.unwrap();
    assert_eq!(complete_next(&mut commands).await, "2");
    nothing(&mut commands).await;
    assert_eq!(hub.waiting(&a).await.len(), 0);
    assert_eq!(hub.waiting(&b).await, ["other"]);
}

#[tokio::test]
async fn a_client_that_waits_gets_the_first_command_ever_sent_to_it() {
    let hub = TestHub::start().await;
    let a = device("a");
    let session = hub.connect(&a).await;
    let mut commands = session.take_commands();
    nothing(&mut commands).await;
    let send = async { hub.command(&a, command("1")).await };
    let (body, _) = tokio::join!(complete_next(&mut commands), send);
    assert_eq!(body, "1");
}

#[tokio::test]
async fn what_was_acknowledged_to_the_sender_is_there_after_a_kill() {
    let hub = TestHub::start().await;
    let a = device("a");
    let session = hub.connect(&a).await;
    for body in ["1", "2", "3"] {
        hub.command(&a, command(body)).await;
    }
    let mut commands = session.take_commands();
    assert_eq!(complete_next(&mut commands).await, "1");
    let seen = commands.next().await;
    assert_eq!(text(&seen), "2");
    // The hub is killed with the second command under a lock.
    let hub = hub.killed().await;
    let session = hub.connect(&a).await;
    let mut commands = session.take_commands();
    let again = commands.next().await;
    assert_eq!(text(&again), "2");
    let stale = commands.settle(seen.lock, Settlement::Complete).await;
    assert!(matches!(stale, Err(CommandError::LockLost)));
    commands.settle(again.lock, Settlement::Complete).await.unwrap();
    assert_eq!(complete_next(&mut commands).await, "3");
}

#[tokio::test]
async fn what_is_abandoned_comes_again_before_the_later_ones_until_it_came_too_often() {
    let hub = TestHub::start().await;
    let a = device("a");
    let session = hub.connect(&a).await;
    hub.command(&a, command("bad")).await;
    hub.command(&a, command("good")).await;
    let mut commands = session.take_commands();
    for count in 1..=limits::COMMAND_DELIVERIES {
        let next = timeout(Duration::from_secs(5), commands.next()).await.unwrap();
        assert_eq!((text(&next), next.delivery_count), ("bad", count));
        commands.settle(next.lock, Settlement::Abandon).await.unwrap();
    }
    assert_eq!(complete_next(&mut commands).await, "good");
    let letters = hub.dead_letters().await;
    assert_eq!(letters[0].code.as_deref(), Some("DeliveryCountExceeded"));
    assert_eq!(letters.len(), 1);
}

#[tokio::test]
async fn a_client_that_leaves_again_and_again_gets_a_command_only_so_often() {
    let hub = TestHub::start().await;
    let a = device("a");
    hub.connect(&a).await;
    hub.command(&a, command("bad")).await;
    hub.command(&a, command("good")).await;
    for count in 1..=limits::COMMAND_DELIVERIES {
        let session = hub.connect(&a).await;
        let mut commands = session.take_commands();
        let next = timeout(Duration::from_secs(5), commands.next()).await.unwrap();
        assert_eq!((text(&next), next.delivery_count), ("bad", count));
    }
    let session = hub.connect(&a).await;
    assert_eq!(complete_next(&mut session.take_commands()).await, "good");
    let dead = || async { (hub.dead_letters().await.len() == 1).then_some(()) };
    crate::hub::wait_for("a dead letter", dead).await;
}

#[tokio::test]
async fn what_is_rejected_is_a_dead_letter() {
    let hub = TestHub::start().await;
    let a = device("a");
    let session = hub.connect(&a).await;
    hub.command(&a, command("1")).await;
    let mut commands = session.take_commands();
    let next = commands.next().await;
    commands.settle(next.lock, Settlement::Reject).await.unwrap();
    nothing(&mut commands).await;
    let letters = hub.dead_letters().await;
    assert_eq!(letters[0].code.as_deref(), Some("Rejected"));
}

#[tokio::test]
async fn the_newest_holder_has_the_queue_and_what_the_older_had_comes_again() {
    let hub = TestHub::start().await;
    let a = device("a");
    hub.connect(&a).await;
    hub.command(&a, command("1")).await;
    let old = hub.connect(&a).await;
    let mut olds = old.take_commands();
    let first = olds.next().await;
    let new = hub.connect(&a).await;
    let mut news = new.take_commands();
    // The older connection subscribes once more before it notices that it has lost its place.
    let mut late = old.take_commands();
    assert_eq!(complete_next(&mut news).await, "1");
    let lost = olds.settle(first.lock, Settlement::Complete).await;
    assert!(matches!(lost, Err(CommandError::LockLost)));
    hub.command(&a, command("2")).await;
    nothing(&mut olds).await;
    nothing(&mut late).await;
    drop((olds, late, old));
    assert_eq!(complete_next(&mut news).await, "2");
}

#[tokio::test]
async fn polling_locks_for_a_minute_and_finds_nothing_while_a_client_is_there() {
    let hub = TestHub::with_clock(Clock::manual(Timestamp::from_secs(1_000_000))).await;
    let a = device("a");
    drop(hub.connect(&a).await);
    let visitor = hub.visit(&a);
    assert!(visitor.receive_command().await.is_none());
    hub.command(&a, command("1")).await;
    let first = visitor.receive_command().await.unwrap();
    assert!(hub.visit(&a).receive_command().await.is_none(), "it is locked");
    hub.clock.advance(limits::COMMAND_LOCK);
    let late = visitor.settle_command(first.lock, Settlement::Complete).await;
    assert!(matches!(late, Err(CommandError::LockLost)));
    let again = visitor.receive_command().await.unwrap();
    assert_eq!((text(&again), again.delivery_count), ("1", 2));
    // A client that connects waits for the lock of the one that polls.
    let session = hub.connect(&a).await;
    let mut commands = session.take_commands();
    nothing(&mut commands).await;
    visitor.settle_command(again.lock, Settlement::Abandon).await.unwrap();
    let pushed = timeout(Duration::from_secs(5), commands.next()).await.unwrap();
    let foreign = visitor.settle_command(pushed.lock, Settlement::Complete).await;
    assert!(matches!(foreign, Err(CommandError::LockLost)), "the lock is the connection's");
    hub.command(&a, command("2")).await;
    assert!(visitor.receive_command().await.is_none(), "a client holds the queue");
    drop(commands);
    assert_eq!(text(&visitor.receive_command().await.unwrap()), "1");
}

#[tokio::test]
async fn a_lock_that_ends_by_time_gives_the_command_to_the_connected_client() {
    let hub = TestHub::with_clock(Clock::manual(Timestamp::from_secs(1_000_000))).await;
    let a = device("a");
    drop(hub.connect(&a).await);
    hub.command(&a, command("1")).await;
    let lock = hub.visit(&a).receive_command().await.unwrap().lock;
    let session = hub.connect(&a).await;
    let mut commands = session.take_commands();
    nothing(&mut commands).await;
    hub.clock.advance(limits::COMMAND_LOCK);
    let next = timeout(Duration::from_secs(5), commands.next()).await.unwrap();
    assert!(next.lock != lock && text(&next) == "1");
}

#[tokio::test]
async fn a_client_settles_its_own_commands_only() {
    let hub = TestHub::start().await;
    let (a, b) = (device("a"), device("b"));
    let (one, two) = (hub.connect(&a).await, hub.connect(&b).await);
    hub.command(&a, command("1")).await;
    hub.command(&b, command("1")).await;
    let (mut first, mut second) = (one.take_commands(), two.take_commands());
    let (mine, theirs) = (first.next().await, second.next().await);
    let foreign = first.settle(theirs.lock, Settlement::Complete).await;
    assert!(matches!(foreign, Err(CommandError::LockLost)));
    first.settle(mine.lock, Settlement::Complete).await.unwrap();
    let twice = first.settle(mine.lock, Settlement::Complete).await;
    assert!(matches!(twice, Err(CommandError::LockLost)));
    second.settle(theirs.lock, Settlement::Complete).await.unwrap();
}

#[tokio::test]
async fn a_command_expires_after_an_hour_or_when_it_says() {
    let hub = TestHub::with_clock(Clock::manual(Timestamp::from_secs(1_000_000))).await;
    let a = device("a");
    let session = hub.connect(&a).await;
    let now = hub.clock.now();
    for (secs, allowed) in [(-1, false), (0, false), (60, true), (172_800, true), (172_801, false)]
    {
        let expires = Some(Timestamp::from_secs(now.as_secs() + secs));
        let sent = hub.try_command(&a, NewCommand { expires, ..command("short") }).await;
        assert_eq!(sent.is_ok(), allowed, "{secs}");
        assert!(allowed || matches!(sent, Err(CommandError::Expiry)));
    }
    hub.command(&a, command("hour")).await;
    hub.clock.advance(Duration::from_secs(3_599));
    let mut commands = session.take_commands();
    let seen = [complete_next(&mut commands).await, complete_next(&mut commands).await];
    assert_eq!(seen, ["short", "hour"], "the one of 60 s is gone");
    hub.command(&a, command("late")).await;
    hub.clock.advance(Duration::from_secs(3_600));
    nothing(&mut commands).await;
    let metrics = hub.hub.metrics_text().unwrap();
    assert!(
        metrics.contains("edgehub_messages_dropped_total{reason=\"ttl_expiry\"} 2"),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_whole() {
    let hub = TestHub::start().await;
    let a = device("a");
    drop(hub.connect(&a).await);
    let unknown = hub.try_command(&device("nobody"), command("1")).await;
    assert!(matches!(unknown, Err(CommandError::Unknown(_))));
    let large = hub.try_command(&a, command(&"x".repeat(limits::COMMAND_BYTES))).await;
    assert!(matches!(large, Err(CommandError::TooLarge { .. })));
    let ack = hub.try_command(&a, with_ack("1", "maybe")).await;
    assert!(matches!(ack, Err(CommandError::Ack)));
    for number in 0..limits::COMMANDS {
        hub.command(&a, command(&number.to_string())).await;
    }
    let full = hub.try_command(&a, command("more")).await.unwrap_err();
    assert_eq!((full.status(), full.iothub_code().0), (403, "DeviceMaximumQueueDepthExceeded"));
    assert_eq!(hub.waiting(&a).await.len(), limits::COMMANDS);
    let purged = hub.hub.commands().purge(&hub.hub, &a).await.unwrap();
    assert_eq!((purged, hub.waiting(&a).await.len()), (limits::COMMANDS as u64, 0));
    hub.command(&a, command("again")).await;
}

#[tokio::test]
async fn senders_at_the_same_time_do_not_pass_the_limit_together() {
    let hub = TestHub::start().await;
    let a = device("a");
    drop(hub.connect(&a).await);
    let send = |_| hub.try_command(&a, command("1"));
    let sent = futures::future::join_all((0..limits::COMMANDS + 20).map(send)).await;
    assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), limits::COMMANDS);
}

#[tokio::test]
async fn a_new_identity_of_the_same_name_gets_nothing_of_the_old_one() {
    let hub = TestHub::start().await;
    let a = device("a");
    let session = hub.connect(&a).await;
    hub.command(&a, command("1")).await;
    hub.command(&a, command("2")).await;
    let mut commands = session.take_commands();
    let taken = commands.next().await;
    hub.hub.identities().delete(&hub.hub, &a, Expect::Any).await.unwrap();
    let lost = commands.settle(taken.lock, Settlement::Complete).await;
    assert!(matches!(lost, Err(CommandError::LockLost)));
    let new = hub.connect(&a).await;
    nothing(&mut new.take_commands()).await;
    assert_eq!(hub.waiting(&a).await.len(), 0);
}

#[tokio::test]
async fn who_asks_for_feedback_finds_it_in_its_queue() {
    let hub = TestHub::start().await;
    let a = device("a");
    let session = hub.connect(&a).await;
    let mut commands = session.take_commands();
    for ack in ["none", "positive", "negative", "full"] {
        for settlement in [Settlement::Complete, Settlement::Reject] {
            hub.command(&a, with_ack(ack, ack)).await;
            let next = commands.next().await;
            commands.settle(next.lock, settlement).await.unwrap();
        }
    }
    let told: Vec<(String, String)> = hub
        .bodies(FEEDBACK_QUEUE)
        .await
        .iter()
        .map(|body| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            let text = |name: &str| body[name].as_str().unwrap().to_owned();
            (text("originalMessageId"), text("statusCode"))
        })
        .collect();
    let expected = [
        ("positive", "Success"),
        ("negative", "Rejected"),
        ("full", "Success"),
        ("full", "Rejected"),
    ];
    assert_eq!(told, expected.map(|(id, code)| (id.to_owned(), code.to_owned())));
}
