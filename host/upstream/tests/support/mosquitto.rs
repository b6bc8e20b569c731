//! A real Mosquitto as a child of the test, and a subscriber that keeps its session.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::BytesMut;
use rustix::process::{Pid, Signal, kill_process};
use weir_mqtt_codec::{
    Connect, Limits, Packet, Publish, Qos, Subscribe, Subscription, decode, put_puback,
};

use super::PATIENCE;

const LIMITS: Limits = Limits { max_packet_bytes: 1024 * 1024, max_filters: 8 };

pub(crate) struct Mosquitto {
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    program: PathBuf,
    child: Option<Child>,
}

/// Where the program is; says why the test is skipped where there is none.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file());
    if found.is_none() {
        let required = std::env::var_os("WEIR_REQUIRE_MOSQUITTO").is_some_and(|value| value == "1");
        assert!(!required, "mosquitto is not installed, and WEIR_REQUIRE_MOSQUITTO is 1");
        println!("skipped: mosquitto is not installed");
    }
    found
}

impl Mosquitto {
    /// Starts it with `settings` for its one listener; `None` where it is not installed.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        let program = program()?;
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind(super::loopback::own()).unwrap().local_addr().unwrap();
        let text = format!(
            "listener {} {}\nuser root\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nallow_anonymous true\n{settings}\n",
            address.port(),
            address.ip(),
            folder.path().display()
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let mut mosquitto = Self { address, folder, program, child: None };
        mosquitto.go_on();
        Some(mosquitto)
    }

    pub(crate) fn go_on(&mut self) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("mosquitto.conf"));
        self.child = Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        retried(|| TcpStream::connect(self.address).ok());
    }

    /// Ends it in good order: it writes its sessions to disk.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.child.take().unwrap().wait().unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Tries until it succeeds, with a pause that a test of a foreign program cannot do without.
fn retried<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let pause = (Mutex::new(()), Condvar::new());
    for _ in 0..PATIENCE.as_millis() / 10 {
        if let Some(value) = attempt() {
            return value;
        }
        let guard = pause.0.lock().unwrap();
        drop(pause.1.wait_timeout(guard, Duration::from_millis(10)).unwrap());
    }
    panic!("no success in time");
}

/// Takes everything at QoS 1 in a session that outlives connections and the broker.
pub(crate) struct Subscriber {
    seen: Arc<(Mutex<Vec<Publish>>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Subscriber {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let seen: Arc<(Mutex<Vec<Publish>>, Condvar)> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        // The subscription stands before the first message is sent.
        let mut connection = subscribe(address).expect("the broker takes a subscription");
        let (records, stopped) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                receive(&mut connection, &records, &stopped);
                if !stopped.load(Ordering::SeqCst) {
                    connection = retried(|| subscribe(address));
                }
            }
        });
        Self { seen, stop, thread: Some(thread) }
    }

    /// Waits for so many different messages; all arrivals, in order. Messages that the broker marks
    /// as sent again to this subscriber are left out: they say nothing about the upstream.
    pub(crate) fn wait_for(&self, different: usize) -> Vec<Publish> {
        let seen = self.seen.0.lock().unwrap();
        let enough = |seen: &mut Vec<Publish>| {
            let bodies: std::collections::HashSet<_> = seen.iter().map(|p| &p.payload).collect();
            bodies.len() < different
        };
        let (seen, late) = self.seen.1.wait_timeout_while(seen, PATIENCE, enough).unwrap();
        assert!(!late.timed_out(), "only {} messages came", seen.len());
        seen.clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn subscribe(address: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    let connect = Connect {
        client_id: "subscriber".parse().unwrap(),
        clean_session: false,
        keep_alive_secs: 0,
        will: None,
        login: None,
    };
    let everything = Subscription { filter: "#".parse().unwrap(), qos: Qos::AtLeastOnce };
    let id = weir_mqtt_codec::PacketId::MIN;
    let subscribe = Subscribe { id, subscriptions: vec![everything] };
    let mut out = Vec::new();
    Packet::Connect(Box::new(connect)).encode(&mut out).unwrap();
    Packet::Subscribe(subscribe).encode(&mut out).unwrap();
    stream.write_all(&out).ok()?;
    // CONNACK, and only at the first time SUBACK before anything else: enough to know it is in place.
    let mut answer = [0; 9];
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.read_exact(&mut answer[..4]).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).ok()?;
    (answer[3] == 0).then_some(stream)
}

fn receive(stream: &mut TcpStream, records: &(Mutex<Vec<Publish>>, Condvar), stop: &AtomicBool) {
    let (mut input, mut block) = (BytesMut::new(), vec![0; 64 * 1024]);
    while !stop.load(Ordering::SeqCst) {
        match stream.read(&mut block) {
            Ok(0) => return,
            Ok(read) => input.extend_from_slice(&block[..read]),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock) => continue,
            Err(_) => return,
        }
        let mut out = Vec::new();
        while let Some(packet) = decode(&mut input, &LIMITS).unwrap() {
            let Packet::Publish(publish) = packet else { continue };
            put_puback(publish.delivery.packet_id().unwrap(), &mut out);
            let mut seen = records.0.lock().unwrap();
            let known =
                publish.delivery.dup() && seen.iter().any(|old| old.payload == publish.payload);
            if !known {
                seen.push(publish);
            }
        }
        records.1.notify_all();
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// A CA and what it has signed, as PEM files in a folder.
pub(crate) struct Certificates {
    pub(crate) folder: tempfile::TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).unwrap();
        };
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, "test CA");
        write("ca.pem", ca.self_signed(&ca_key).unwrap().pem());
        let issuer = Issuer::new(ca, ca_key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["broker.test".to_owned()]).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            write(&format!("{name}.pem"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}
