//! A small MQTT broker in the test's own process, on a thread of its own: it takes what is published
//! and can be told to refuse, to fall silent and to cut.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;
use weir_mqtt_codec::{Connack, Connect, Limits, Packet, Publish, Refusal, decode, put_pubacks};

const LIMITS: Limits = Limits { max_packet_bytes: 1024 * 1024, max_filters: 8 };

/// What the broker does from now on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Behaviour {
    pub(crate) refuse: Option<Refusal>,
    /// Takes everything, answers nothing.
    pub(crate) is_silent: bool,
    /// Answers a PINGREQ, but no PUBLISH.
    pub(crate) holds_pubacks: bool,
    /// Closes the connection when it has read this many bytes.
    pub(crate) cut_after_bytes: Option<usize>,
    /// Closes the connection after this many PUBLISH packets, all of them acknowledged.
    pub(crate) cut_after_publishes: Option<usize>,
    /// Takes messages and forgets them (for the benchmark).
    pub(crate) only_counts: bool,
}

#[derive(Default)]
pub(crate) struct Records {
    pub(crate) connects: Vec<Connect>,
    pub(crate) publishes: Vec<Publish>,
    pub(crate) pings: usize,
    pub(crate) count: u64,
    sessions: HashSet<String>,
}

pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) behaviour: Arc<Mutex<Behaviour>>,
    pub(crate) records: Arc<Mutex<Records>>,
    arrived: Arc<Notify>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        let mut broker = Self {
            address: super::loopback::own(),
            behaviour: Arc::default(),
            records: Arc::default(),
            arrived: Arc::default(),
            stop: None,
            thread: None,
        };
        broker.go_on();
        broker
    }

    /// Listens, again at the same port.
    pub(crate) fn go_on(&mut self) {
        let listener = StdListener::bind(self.address).unwrap();
        self.address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shared = Shared {
            behaviour: self.behaviour.clone(),
            records: self.records.clone(),
            arrived: self.arrived.clone(),
        };
        self.stop = Some(stop);
        self.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, shared) => {}
                }
            });
        }));
    }

    /// Closes the listener and every connection.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.behaviour.lock().unwrap());
    }

    pub(crate) fn publishes(&self) -> Vec<Publish> {
        self.records.lock().unwrap().publishes.clone()
    }

    pub(crate) fn connects(&self) -> usize {
        self.records.lock().unwrap().connects.len()
    }

    /// Waits until something has arrived that makes `met` true.
    pub(crate) async fn wait_until(&self, met: impl Fn(&Records) -> bool) {
        let wait = async {
            loop {
                let arrived = self.arrived.notified();
                if met(&self.records.lock().unwrap()) {
                    return;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(super::PATIENCE, wait).await.expect("the broker sees it in time");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone)]
struct Shared {
    behaviour: Arc<Mutex<Behaviour>>,
    records: Arc<Mutex<Records>>,
    arrived: Arc<Notify>,
}

async fn serve(listener: StdListener, shared: Shared) {
    listener.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(listener).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let shared = shared.clone();
        connections.spawn(async move { shared.connection(stream).await });
    }
}

impl Shared {
    async fn connection(&self, mut stream: TcpStream) -> Option<()> {
        stream.set_nodelay(true).ok()?;
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        let (mut bytes, mut publishes) = (0, 0);
        loop {
            input.reserve(64 * 1024);
            let read = stream.read_buf(&mut input).await.ok().filter(|read| *read > 0)?;
            bytes += read;
            let behaviour = self.behaviour.lock().unwrap().clone();
            if behaviour.cut_after_bytes.is_some_and(|limit| bytes >= limit) {
                self.behaviour.lock().unwrap().cut_after_bytes = None;
                return None;
            }
            if behaviour.is_silent {
                input.clear();
                std::future::pending::<()>().await;
            }
            let mut pubacks = Vec::new();
            while let Some(packet) = decode(&mut input, &LIMITS).unwrap() {
                self.take(packet, &behaviour, &mut pubacks, &mut out)?;
                if behaviour.cut_after_publishes == Some(publishes + pubacks.len()) {
                    self.behaviour.lock().unwrap().cut_after_publishes = None;
                    put_pubacks(pubacks, &mut out);
                    stream.write_all(&out).await.ok()?;
                    // An orderly end, so that the PUBACKs are read: no data may be left unread here.
                    stream.shutdown().await.ok()?;
                    while stream.read_buf(&mut input).await.ok()? > 0 {}
                    return None;
                }
            }
            publishes += pubacks.len();
            if !behaviour.holds_pubacks {
                put_pubacks(pubacks, &mut out);
            }
            self.arrived.notify_waiters();
            stream.write_all(&out).await.ok()?;
            out.clear();
        }
    }

    fn take(
        &self,
        packet: Packet,
        behaviour: &Behaviour,
        pubacks: &mut Vec<weir_mqtt_codec::PacketId>,
        out: &mut BytesMut,
    ) -> Option<()> {
        let mut records = self.records.lock().unwrap();
        match packet {
            Packet::Connect(connect) => {
                let name = connect.client_id.to_string();
                let session_present = !connect.clean_session && !records.sessions.insert(name);
                records.connects.push(*connect);
                let answer = match behaviour.refuse {
                    Some(refusal) => Connack::Refused(refusal),
                    None => Connack::Accepted { session_present },
                };
                Packet::Connack(answer).encode(out).unwrap();
            }
            Packet::Publish(publish) => {
                pubacks.push(publish.delivery.packet_id().unwrap());
                records.count += 1;
                if !behaviour.only_counts {
                    // A copy, so that the read buffer can be used again.
                    let payload = bytes::Bytes::copy_from_slice(&publish.payload);
                    records.publishes.push(Publish { payload, ..publish });
                }
            }
            Packet::Pingreq => {
                records.pings += 1;
                Packet::Pingresp.encode(out).unwrap();
            }
            Packet::Disconnect => return None,
            packet => panic!("an upstream does not send {}", packet.kind()),
        }
        Some(())
    }
}
