//! A client that speaks raw packets, so that it can also do what no library does.

use bytes::{Bytes, BytesMut};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Empty, Join, ReadHalf, Sink, WriteHalf,
    empty, join, sink, split,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir_core::id::Identity;
use weir_mqtt_codec::{
    Connack, Connect, Delivery, Granted, Limits, Login, Packet, PacketId, Publish, Qos, Refusal,
    Subscribe, Subscription, Unsubscribe, decode,
};

const LIMITS: Limits = Limits { max_packet_bytes: 1 << 20, max_filters: 100 };
/// Nothing that these tests wait for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A raw client.
pub(crate) struct Client<S> {
    stream: S,
    buffer: BytesMut,
}

/// A client that only reads.
pub(crate) type Reader<S> = Client<Join<ReadHalf<S>, Sink>>;
/// A client that only writes.
pub(crate) type Writer<S> = Client<Join<Empty, WriteHalf<S>>>;

pub(crate) fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

/// The CONNECT that an SDK sends.
pub(crate) fn connect(identity: &Identity, password: &str) -> Connect {
    let user_name = format!("{}/{identity}/?api-version=2019-10-01", super::hub::IOTHUB);
    Connect {
        client_id: identity.to_string().parse().unwrap(),
        clean_session: false,
        keep_alive_secs: 60,
        will: None,
        login: Some(Login {
            user_name: user_name.parse().unwrap(),
            password: Some(Bytes::copy_from_slice(password.as_bytes())),
        }),
    }
}

pub(crate) fn publish(topic: &str, body: impl Into<Bytes>, number: u16) -> Packet {
    let delivery = match number {
        0 => Delivery::AtMostOnce,
        number => Delivery::AtLeastOnce { id: id(number), dup: false },
    };
    let (topic, payload) = (topic.parse().unwrap(), body.into());
    Packet::Publish(Publish { topic, payload, delivery, retain: false })
}

pub(crate) fn subscribe(number: u16, filters: &[(&str, Qos)]) -> Packet {
    let of =
        |(filter, qos): &(&str, Qos)| Subscription { filter: filter.parse().unwrap(), qos: *qos };
    let subscriptions = filters.iter().map(of).collect();
    Packet::Subscribe(Subscribe { id: id(number), subscriptions })
}

pub(crate) fn unsubscribe(number: u16, filter: &str) -> Packet {
    Packet::Unsubscribe(Unsubscribe { id: id(number), filters: vec![filter.parse().unwrap()] })
}

impl Client<TcpStream> {
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Two clients on one connection: one that reads and one that writes.
    pub(crate) fn split(self) -> (Reader<S>, Writer<S>) {
        let (read, write) = split(self.stream);
        // What was read and not looked at is the reader's.
        let reader = Client { stream: join(read, sink()), buffer: self.buffer };
        (reader, Client::over(join(empty(), write)))
    }

    pub(crate) async fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes).unwrap();
        self.send_raw(&bytes).await;
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Writes as much as the other side takes; an error is one, too.
    pub(crate) async fn try_send_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The next packet; none at the end of the stream, however it ended.
    pub(crate) async fn next(&mut self) -> Option<Packet> {
        timeout(PATIENCE, self.read()).await.expect("the hub answers or closes")
    }

    /// A packet that comes within this time.
    pub(crate) async fn within(&mut self, time: Duration) -> Option<Packet> {
        timeout(time, self.read()).await.ok().flatten()
    }

    async fn read(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = decode(&mut self.buffer, &LIMITS).unwrap() {
                return Some(packet);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Everything up to the end of the stream.
    pub(crate) async fn rest(&mut self) -> Vec<Packet> {
        let mut all = Vec::new();
        while let Some(packet) = self.next().await {
            all.push(packet);
        }
        all
    }

    pub(crate) async fn login(&mut self, connect: Connect) -> Option<Connack> {
        self.send(Packet::Connect(Box::new(connect))).await;
        match self.next().await {
            Some(Packet::Connack(connack)) => Some(connack),
            None => None,
            Some(other) => panic!("{other:?}"),
        }
    }

    /// Logs in and says whether the session was there before.
    pub(crate) async fn enter(&mut self, identity: &Identity, password: &str) -> bool {
        self.enter_as(connect(identity, password)).await
    }

    pub(crate) async fn enter_as(&mut self, connect: Connect) -> bool {
        match self.login(connect).await {
            Some(Connack::Accepted { session_present }) => session_present,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn refusal(&mut self, connect: Connect) -> Refusal {
        match self.login(connect).await {
            Some(Connack::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: Qos) -> Granted {
        self.send(subscribe(9, &[(filter, qos)])).await;
        match self.next().await {
            Some(Packet::Suback(suback)) => suback.results[0],
            other => panic!("{other:?}"),
        }
    }

    /// Publishes at QoS 1 and waits until the hub has it.
    pub(crate) async fn publishes(&mut self, topic: &str, body: impl Into<Bytes>, number: u16) {
        self.send(publish(topic, body, number)).await;
        assert_eq!(self.next().await, Some(Packet::Puback(id(number))));
    }

    pub(crate) async fn delivery(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn acknowledge(&mut self, publish: &Publish) {
        self.send(Packet::Puback(publish.delivery.packet_id().unwrap())).await;
    }

    /// True when the hub has closed without saying more.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.next().await.is_none()
    }
}
