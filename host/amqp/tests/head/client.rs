//! A client made of the library, with what IoT Hub's clients do.

use crate::hub::{IOTHUB, TestHub};
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::{Receiver, Sender};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::{Connection, Session};
use fe2o3_amqp_types::definitions::{Error, Fields, ReceiverSettleMode, SenderSettleMode};
use fe2o3_amqp_types::messaging::{
    AmqpValue, ApplicationProperties, Body, Data, Message, MessageId, Properties, Source, Target,
};
use fe2o3_amqp_types::primitives::{SimpleValue, Value};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_core::id::Identity;
use weir_core::sas;

/// Nothing that these tests wait for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it happens")
}

/// A message with a body of any kind.
pub(crate) type Any = Message<Body<Value>>;

/// A connection with one session.
pub(crate) struct Client {
    pub(crate) connection: ConnectionHandle<()>,
    pub(crate) session: SessionHandle<()>,
    links: u32,
}

/// What was refused.
pub(crate) type Refused = Option<Error>;

impl Client {
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        Self::over(stream).await
    }

    pub(crate) async fn over(stream: TcpStream) -> Self {
        let builder = Connection::builder().container_id("test").hostname("gateway.weir.test");
        let mut connection = soon(builder.open_with_stream(stream)).await.unwrap();
        let session = soon(Session::begin(&mut connection)).await.unwrap();
        Self { connection, session, links: 0 }
    }

    /// A connection of an identity that has put its token.
    pub(crate) async fn enter(hub: &TestHub, identity: &Identity) -> Self {
        let mut client = Self::dial(hub.address).await;
        client.put(hub, identity).await;
        client
    }

    /// Puts a token of this identity, on links of its own.
    pub(crate) async fn put(&mut self, hub: &TestHub, identity: &Identity) {
        let token = hub.token(identity).await;
        assert_eq!(self.put_token(&sas::resource_of(IOTHUB, identity), &token).await, 200);
    }

    pub(crate) async fn put_token(&mut self, audience: &str, token: &str) -> i32 {
        let mut cbs = self.cbs().await;
        let status = cbs.put(audience, token).await;
        cbs.close().await;
        status
    }

    pub(crate) async fn cbs(&mut self) -> Cbs {
        let sender = self.sender("$cbs").await.unwrap();
        let receiver = self.receiver("$cbs").await.unwrap();
        Cbs { sender, receiver }
    }

    fn name(&mut self) -> String {
        self.links += 1;
        format!("link-{}", self.links)
    }

    pub(crate) async fn sender(&mut self, address: &str) -> Result<Sender, Refused> {
        let name = self.name();
        self.sender_as(&name, address, None).await
    }

    pub(crate) async fn receiver(&mut self, address: &str) -> Result<Receiver, Refused> {
        let name = self.name();
        self.receiver_as(&name, address, None).await
    }

    pub(crate) async fn sender_as(
        &mut self,
        name: &str,
        address: &str,
        correlation: Option<&str>,
    ) -> Result<Sender, Refused> {
        let builder = Sender::builder()
            .name(name)
            .source(Source::builder().address("me").build())
            .target(Target::builder().address(address).build())
            .sender_settle_mode(SenderSettleMode::Mixed);
        let builder = match correlation {
            Some(text) => builder.properties(correlation_fields(text)),
            None => builder,
        };
        let mut sender = soon(builder.attach(&mut self.session)).await.unwrap();
        // A refusal comes as a detach after the attach.
        match timeout(REFUSAL, sender.on_detach()).await {
            Err(_) => Ok(sender),
            Ok(detached) => Err(remote_error(&format!("{detached:?}"), detached)),
        }
    }

    pub(crate) async fn receiver_as(
        &mut self,
        name: &str,
        address: &str,
        correlation: Option<&str>,
    ) -> Result<Receiver, Refused> {
        let builder = Receiver::builder()
            .name(name)
            .source(Source::builder().address(address).build())
            .target(Target::builder().address("me").build())
            .receiver_settle_mode(ReceiverSettleMode::First)
            .credit_mode(fe2o3_amqp::link::CreditMode::Manual);
        let builder = match correlation {
            Some(text) => builder.properties(correlation_fields(text)),
            None => builder,
        };
        let mut receiver = soon(builder.attach(&mut self.session)).await.unwrap();
        match timeout(REFUSAL, receiver.recv::<Body<Value>>()).await {
            Err(_) => Ok(receiver),
            Ok(Ok(_)) => panic!("a message without credit"),
            Ok(Err(ended)) => Err(recv_error(&ended)),
        }
    }
}

/// A refusal follows its attach at once.
const REFUSAL: Duration = Duration::from_millis(150);

fn correlation_fields(text: &str) -> Fields {
    let mut fields = Fields::default();
    fields.insert("com.microsoft:channel-correlation-id".into(), Value::String(text.to_owned()));
    fields
}

fn remote_error(shown: &str, detached: fe2o3_amqp::link::DetachError) -> Refused {
    use fe2o3_amqp::link::DetachError;
    match detached {
        DetachError::RemoteClosedWithError(error) | DetachError::RemoteDetachedWithError(error) => {
            Some(error)
        }
        _ => panic!("{shown}"),
    }
}

/// Why a receiver's link has ended.
pub(crate) fn recv_error(ended: &fe2o3_amqp::link::RecvError) -> Refused {
    use fe2o3_amqp::link::{LinkStateError, RecvError};
    match ended {
        RecvError::LinkStateError(
            LinkStateError::RemoteClosedWithError(error)
            | LinkStateError::RemoteDetachedWithError(error),
        ) => Some(error.clone()),
        other => panic!("{other:?}"),
    }
}

/// True when an error names this condition; the library knows some of them by names of its own.
pub(crate) fn says(error: &impl std::fmt::Debug, condition: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_lowercase();
    plain(&format!("{error:?}")).contains(&plain(condition))
}

/// Links to and from `$cbs`.
pub(crate) struct Cbs {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Cbs {
    /// Puts a token as the SDKs do; gives the status code.
    pub(crate) async fn put(&mut self, audience: &str, token: &str) -> i32 {
        let id = MessageId::String("id-1".to_owned());
        self.ask("put-token", "servicebus.windows.net:sastoken", audience, token, id).await
    }

    pub(crate) async fn ask(
        &mut self,
        operation: &str,
        kind: &str,
        audience: &str,
        token: &str,
        id: MessageId,
    ) -> i32 {
        let properties = ApplicationProperties::builder()
            .insert("operation", operation)
            .insert("type", kind)
            .insert("name", audience)
            .build();
        let message = Message::builder()
            .properties(Properties::builder().message_id(id.clone()).to("$cbs").build())
            .application_properties(properties)
            .body(AmqpValue(token.to_owned()))
            .build();
        soon(self.sender.send(message)).await.unwrap().accepted_or("accepted").unwrap();
        self.receiver.set_credit(1).await.unwrap();
        let answer = soon(self.receiver.recv::<Body<Value>>()).await.unwrap();
        self.receiver.accept(&answer).await.unwrap();
        let message = answer.into_message();
        assert_eq!(message.properties.unwrap().correlation_id, Some(id));
        match message.application_properties.unwrap().0.get("status-code") {
            Some(SimpleValue::Int(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn close(self) {
        soon(self.sender.close()).await.unwrap();
        soon(self.receiver.close()).await.unwrap();
    }
}

/// A message with one data section.
pub(crate) fn data(body: &str) -> Message<Data> {
    Message::builder().data(body.as_bytes().to_vec()).build()
}

/// The joined data sections of a message.
pub(crate) fn text(message: &Any) -> String {
    match &message.body {
        Body::Data(batch) => {
            let bytes: Vec<u8> = batch.iter().flat_map(|data| data.0.iter().copied()).collect();
            String::from_utf8(bytes).unwrap()
        }
        other => panic!("{other:?}"),
    }
}
