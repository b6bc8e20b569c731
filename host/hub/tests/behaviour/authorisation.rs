//! The table of `authorize`, cell by cell, against what sessions and single requests really do; and what
//! a changed record does to who is connected.

use crate::hub::{SINK, TestHub, wait_for};
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::timeout;
use weir_core::command::NewCommand;
use weir_core::id::Identity;
use weir_core::message::Message;
use weir_core::method::{MethodAnswer, MethodCall};
use weir_core::port::{Answer, Batch, BoxFuture, Consumer, Fault, Outcome};
use weir_hub::authenticate::{Credentials, make_token};
use weir_hub::authorize::{Operation, Principal, Protocol, allows};
use weir_hub::{IdentitySpec, Leave, MethodError, Publication, Session};
use weir_store::Expect;

fn who(text: &str) -> Identity {
    match text.split_once('/') {
        Some((device, module)) => {
            Identity::module(device.parse().unwrap(), module.parse().unwrap())
        }
        None => Identity::device(text.parse().unwrap()),
    }
}

fn call() -> MethodCall {
    MethodCall::from_json(br#"{"methodName":"poke","responseTimeoutInSeconds":5}"#).unwrap()
}

#[derive(Default)]
struct Counts(Mutex<usize>);

impl Consumer for Counts {
    fn deliver(&self, batch: Batch) -> BoxFuture<'_, Result<Answer, Fault>> {
        *self.0.lock().unwrap() += batch.deliveries.len();
        let outcomes = vec![Outcome::Accepted; batch.deliveries.len()];
        Box::pin(async move { Ok(Answer { outcomes, ..Answer::default() }) })
    }
}

/// Tries one operation of a connected client.
async fn does(hub: &TestHub, session: &mut Session, operation: Operation) -> Option<bool> {
    let me = session.identity().clone();
    Some(match operation {
        Operation::SendMessages => {
            let mut intake = session.intake();
            let message = Message { body: Bytes::from_static(b"x"), ..Message::default() };
            intake.submit(vec![Publication { message, reliable: true }]).await;
            intake.settled().await.is_ok()
        }
        Operation::TakeInputs => {
            hub.send("sender", &["1"]).await;
            let consumer = Arc::new(Counts::default());
            session.take_inputs(Arc::clone(&consumer) as Arc<dyn Consumer>);
            let taken = async {
                while *consumer.0.lock().unwrap() == 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let taken = timeout(Duration::from_millis(500), taken).await.is_ok();
            session.leave_inputs();
            taken
        }
        Operation::AnswerMethods => {
            let mut requests = session.take_methods();
            let answering = async {
                let request = requests.next().await;
                let payload = Bytes::from_static(b"1");
                session.answer_method(request.id, MethodAnswer { status: 1, payload })
            };
            let (result, waited) = tokio::join!(hub.hub.invoke(&me, call()), answering);
            result.is_ok() && waited
        }
        Operation::TakeCommands => {
            let command = NewCommand::default();
            hub.hub.commands().send(&hub.hub, &me, command).await.unwrap();
            let mut commands = session.take_commands();
            let next = timeout(Duration::from_millis(500), commands.next()).await;
            if let Ok(next) = &next {
                let done = weir_core::command::Settlement::Complete;
                commands.settle(next.lock, done).await.unwrap();
            }
            next.is_ok()
        }
        // Nothing of a session leads there, or another part of the hub tests it.
        Operation::ReadOwnTwin
        | Operation::ReportOwnTwin
        | Operation::CallMethods
        | Operation::SendCommands
        | Operation::ReadFeedback
        | Operation::ReadTwins
        | Operation::WriteTwins
        | Operation::ReadRegistry
        | Operation::WriteRegistry
        | Operation::ApplyConfiguration => return None,
    })
}

/// Tries one operation of a single request.
async fn visits(hub: &TestHub, me: &Identity, operation: Operation) -> Option<bool> {
    let visitor = hub.visit(me);
    Some(match operation {
        Operation::SendMessages => {
            let mut intake = visitor.intake();
            let message = Message { body: Bytes::from_static(b"x"), ..Message::default() };
            intake.submit(vec![Publication { message, reliable: true }]).await;
            intake.settled().await.is_ok()
        }
        Operation::TakeCommands => {
            let command = NewCommand::default();
            hub.hub.commands().send(&hub.hub, me, command).await.unwrap();
            let taken = visitor.receive_command().await;
            hub.hub.commands().purge(&hub.hub, me).await.unwrap();
            taken.is_some()
        }
        Operation::CallMethods => {
            let result = visitor.invoke(&who("sender"), call()).await;
            !matches!(result, Err(MethodError::Denied { .. }))
        }
        _ => return None,
    })
}

#[tokio::test]
async fn every_cell_that_a_client_can_reach_is_as_the_table_says() {
    let hub = TestHub::start().await;
    hub.route(
        "to-sink",
        "FROM /messages/* WHERE NOT IS_DEFINED($connectionModuleId) \
         INTO BrokeredEndpoint(\"/modules/sink/inputs/in\")",
    )
    .await;
    drop(hub.connect(&who("leaf")).await);
    let mut tried = 0;
    for (name, principal) in [
        ("leaf", Principal::Device),
        ("leaf/sink", Principal::LeafModule),
        ("E/sink", Principal::EdgeModule),
    ] {
        let me = who(name);
        for protocol in [Protocol::Mqtt, Protocol::Amqp, Protocol::Https] {
            for operation in Operation::ALL {
                let expected = allows(principal, *operation, protocol);
                let done = match protocol {
                    Protocol::Https => visits(&hub, &me, *operation).await,
                    _ => {
                        let head = protocol.name().to_lowercase();
                        let head: &'static str = if head == "mqtt" { "mqtt" } else { "amqp" };
                        let mut session = hub.connect_by(&me, head).await;
                        does(&hub, &mut session, *operation).await
                    }
                };
                let Some(done) = done else { continue };
                tried += 1;
                assert_eq!(done, expected, "{name} {} {}", operation.name(), protocol.name());
            }
        }
    }
    assert_eq!(tried, 3 * (2 * 4 + 3));
    drop(hub.bodies(SINK).await);
}

fn spec(json: &str) -> IdentitySpec {
    serde_json::from_str(json).unwrap()
}

/// Whether the session is asked to leave because of this.
async fn is_revoked(session: &mut Session) -> bool {
    let left = timeout(Duration::from_millis(50), session.left()).await;
    left.is_ok_and(|why| why == Leave::Revoked)
}

fn key(byte: u8) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode([byte; 32])
}

async fn put_keys(hub: &TestHub, identity: &Identity, primary: u8, secondary: u8) {
    let keys = format!(
        r#"{{"authentication":{{"type":"sas","symmetricKey":{{"primaryKey":"{}","secondaryKey":"{}"}}}}}}"#,
        key(primary),
        key(secondary)
    );
    let identities = hub.hub.identities();
    identities.put(&hub.hub, identity.clone(), spec(&keys), Expect::Any).await.unwrap();
}

fn connect_with(hub: &TestHub, identity: &Identity, signer: u8) -> Session {
    let expires = hub.clock.now().after(Duration::from_secs(3_600));
    let resource = weir_core::sas::resource_of("hub.weir.test", identity);
    let token = make_token(&key(signer).parse().unwrap(), &resource, expires, None);
    let proven = hub.hub.authenticate(identity, Credentials::of(Some(&token), &[])).unwrap();
    hub.hub.connect(proven, "mqtt", "here").unwrap()
}

#[tokio::test]
async fn who_came_with_the_key_that_has_not_changed_stays() {
    let hub = TestHub::start().await;
    let (a, b) = (who("a"), who("b"));
    for identity in [&a, &b] {
        put_keys(&hub, identity, 1, 2).await;
    }
    let mut first = connect_with(&hub, &a, 1);
    let mut second = connect_with(&hub, &b, 2);
    for identity in [&a, &b] {
        put_keys(&hub, identity, 3, 2).await;
    }
    assert!(is_revoked(&mut first).await);
    assert!(!is_revoked(&mut second).await);
    // The keys change their places: both are still taken.
    put_keys(&hub, &b, 2, 3).await;
    assert!(!is_revoked(&mut second).await);
    put_keys(&hub, &b, 4, 5).await;
    assert!(is_revoked(&mut second).await);
}

#[tokio::test]
async fn a_module_that_came_with_its_devices_key_leaves_when_that_changes() {
    let hub = TestHub::start().await;
    let (device, module) = (who("leaf"), who("leaf/m"));
    put_keys(&hub, &device, 1, 2).await;
    put_keys(&hub, &module, 7, 8).await;
    let mut own = connect_with(&hub, &module, 7);
    put_keys(&hub, &device, 3, 2).await;
    assert!(!is_revoked(&mut own).await, "it came with its own key");
    let disabled = spec(r#"{"status":"disabled"}"#);
    hub.hub.identities().put(&hub.hub, device, disabled, Expect::Any).await.unwrap();
    assert!(is_revoked(&mut own).await);
}

#[tokio::test]
async fn a_proof_from_before_a_change_lets_nobody_in_after_it() {
    let hub = TestHub::start().await;
    let a = who("a");
    put_keys(&hub, &a, 1, 2).await;
    let expires = hub.clock.now().after(Duration::from_secs(3_600));
    let resource = weir_core::sas::resource_of("hub.weir.test", &a);
    let token = make_token(&key(1).parse().unwrap(), &resource, expires, None);
    let proven = hub.hub.authenticate(&a, Credentials::of(Some(&token), &[])).unwrap();
    put_keys(&hub, &a, 3, 4).await;
    let mut session = hub.hub.connect(proven, "mqtt", "here").unwrap();
    assert!(is_revoked(&mut session).await);
}

#[tokio::test]
async fn a_deleted_identity_leaves_at_once() {
    let hub = TestHub::start().await;
    let a = who("a");
    let mut session = hub.connect(&a).await;
    hub.hub.identities().delete(&hub.hub, &a, Expect::Any).await.unwrap();
    assert!(is_revoked(&mut session).await);
    drop(session);
    wait_for("nobody", || async { hub.hub.clients().is_empty().then_some(()) }).await;
    assert_eq!(hub.hub.presence(&a), None);
}
