//! The devices: each connects, subscribes, sends one message, is silent, and comes back when it is cut off.

use crate::hub::{Hub, KEY, NAME};
use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use loadgen::codec::{self, Packet};
use std::io::{self, Error, ErrorKind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio_rustls::TlsConnector;

/// How those come back that were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Half as the Python SDK (after 10 ms, then every 10 s; TLS 1.2), half as the Node SDK (from 100 ms,
    /// growing to 10 s, with jitter; TLS 1.3).
    Sdk,
    /// All every 20 ms until the port is open: no storm is worse.
    AtOnce,
}

/// As long as both SDKs wait for a CONNACK.
const PATIENCE: Duration = Duration::from_secs(60);

/// All devices, and what has happened to them.
pub struct Crowd {
    address: String,
    python: TlsConnector,
    node: TlsConnector,
    policy: Policy,
    clients: usize,
    connected: AtomicUsize,
    connacks: Mutex<Vec<Instant>>,
    /// What began before this does not count.
    since: Mutex<Instant>,
    /// The first connection since then.
    opened: Mutex<Option<Instant>>,
    last_error: Mutex<String>,
    /// Nobody listened: no refusal.
    pub port_closed: AtomicU64,
    /// A CONNACK that says no.
    pub refused: AtomicU64,
    /// Closed or reset between the accept and the CONNACK.
    pub closed_on: AtomicU64,
    /// No CONNACK in the time that the SDKs wait.
    pub too_slow: AtomicU64,
}

type Stream = TlsStream<TcpStream>;

impl Crowd {
    pub fn new(hub: &Hub, clients: usize, policy: Policy) -> io::Result<Arc<Self>> {
        let mut roots = RootCertStore::empty();
        let mut pem = io::BufReader::new(std::fs::File::open(hub.trust_bundle())?);
        for certificate in rustls_pemfile::certs(&mut pem) {
            roots.add(certificate?).map_err(Error::other)?;
        }
        Ok(Arc::new(Crowd {
            address: hub.address.clone(),
            python: connector(&roots, &rustls::version::TLS12)?,
            node: connector(&roots, &rustls::version::TLS13)?,
            policy,
            clients,
            connected: AtomicUsize::new(0),
            connacks: Mutex::default(),
            since: Mutex::new(Instant::now()),
            opened: Mutex::default(),
            last_error: Mutex::default(),
            port_closed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closed_on: AtomicU64::new(0),
            too_slow: AtomicU64::new(0),
        }))
    }

    pub fn connected(&self) -> usize {
        self.connected.load(Relaxed)
    }

    /// Those that were let in since [`Self::forget`].
    pub fn back(&self) -> usize {
        lock(&self.connacks).len()
    }

    pub fn last_error(&self) -> String {
        lock(&self.last_error).clone()
    }

    /// Seconds from `start` to each CONNACK, in order.
    pub fn times_since(&self, start: Instant) -> Vec<f64> {
        let times = lock(&self.connacks);
        let mut times: Vec<f64> =
            times.iter().map(|at| at.saturating_duration_since(start).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    }

    /// When the first connection came about since [`Self::forget`].
    pub fn opened(&self) -> Option<Instant> {
        *lock(&self.opened)
    }

    /// Forgets what was counted so far, and what of it is under way.
    pub fn forget(&self) {
        *lock(&self.since) = Instant::now();
        *lock(&self.opened) = None;
        lock(&self.connacks).clear();
        for counter in [&self.port_closed, &self.refused, &self.closed_on, &self.too_slow] {
            counter.store(0, Relaxed);
        }
    }

    /// A few come and go, so that the hub has done everything once.
    pub async fn warm_up(self: &Arc<Self>, rounds: usize) -> io::Result<()> {
        for number in 0..rounds {
            drop(self.enter(number % self.clients, true).await?);
        }
        Ok(())
    }

    /// Connects all, so many at a time; from then on they come back by themselves.
    pub async fn connect_all(self: &Arc<Self>, at_a_time: usize) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(at_a_time));
        let limit = Instant::now() + Duration::from_secs(300);
        for number in 0..self.clients {
            let (crowd, places) = (self.clone(), places.clone());
            tokio::spawn(async move {
                let place = places.acquire_owned().await;
                crowd.live(number, place.ok()).await;
            });
        }
        while self.connected() < self.clients {
            if Instant::now() > limit {
                let (n, all) = (self.connected(), self.clients);
                return Err(Error::other(format!("{n} of {all}: {}", self.last_error())));
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn live(self: Arc<Self>, number: usize, mut place: Option<impl Drop>) {
        let mut is_first = true;
        let mut tries = 0;
        loop {
            match self.enter(number, is_first).await {
                Ok(stream) => {
                    self.connected.fetch_add(1, Relaxed);
                    is_first = false;
                    tries = 0;
                    drop(place.take());
                    self.stay(stream).await;
                    self.connected.fetch_sub(1, Relaxed);
                }
                Err(error) => *lock(&self.last_error) = error.to_string(),
            }
            sleep(self.pause(number, tries)).await;
            tries += 1;
        }
    }

    fn is_python(&self, number: usize) -> bool {
        number % 2 == 0
    }

    fn pause(&self, number: usize, tries: u32) -> Duration {
        match self.policy {
            Policy::AtOnce => Duration::from_millis(20),
            Policy::Sdk if self.is_python(number) => match tries {
                0 => Duration::from_millis(10),
                _ => Duration::from_secs(10),
            },
            Policy::Sdk => {
                let base = 100 * 2u64.pow(tries.min(7));
                // Between half and one and a half of it, different for each client and try.
                let noise = (number as u64).wrapping_mul(2_654_435_761).wrapping_add(tries.into());
                let jitter = noise.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
                Duration::from_millis((base / 2 + base * jitter / 1024).min(10_000))
            }
        }
    }

    /// From the first SYN to the CONNACK and, the first time, to the PUBACK of one message.
    async fn enter(&self, number: usize, is_first: bool) -> io::Result<Stream> {
        let begun = Instant::now();
        let tcp = match TcpStream::connect(&self.address).await {
            Ok(tcp) => tcp,
            Err(error) => {
                self.port_closed.fetch_add(1, Relaxed);
                return Err(error);
            }
        };
        let counts = begun >= *lock(&self.since);
        if counts {
            lock(&self.opened).get_or_insert_with(Instant::now);
        }
        let entered = timeout(PATIENCE, self.greet(tcp, number, is_first)).await;
        let failed = match entered {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error,
            Err(_) => ErrorKind::TimedOut.into(),
        };
        let counter = match failed.kind() {
            ErrorKind::PermissionDenied => &self.refused,
            ErrorKind::TimedOut => &self.too_slow,
            _ => &self.closed_on,
        };
        if counts {
            counter.fetch_add(1, Relaxed);
        }
        Err(failed)
    }

    async fn greet(&self, tcp: TcpStream, number: usize, is_first: bool) -> io::Result<Stream> {
        tcp.set_nodelay(true)?;
        let connector = if self.is_python(number) { &self.python } else { &self.node };
        let name = ServerName::try_from(NAME).map_err(Error::other)?;
        let mut stream = connector.connect(name, tcp).await?;
        let id = format!("dev-{number}");
        let mut out = Vec::new();
        let who = codec::Connect {
            client_id: &id,
            clean: false,
            keep_alive: 180,
            username: Some(&format!("{NAME}/{id}/?api-version=2021-04-12&DeviceClientType=crowd")),
            password: Some(&token(&id)),
        };
        codec::connect(&mut out, &who);
        stream.write_all(&out).await?;
        match exchange(&mut stream).await? {
            Answer::Connack(0) => {}
            Answer::Connack(code) => {
                let text = format!("CONNACK {code}");
                return Err(Error::new(ErrorKind::PermissionDenied, text));
            }
            Answer::Other => return Err(Error::other("no CONNACK")),
        }
        lock(&self.connacks).push(Instant::now());
        if is_first {
            out.clear();
            codec::subscribe(&mut out, 1, &format!("devices/{id}/messages/devicebound/#"), 1);
            stream.write_all(&out).await?;
            exchange(&mut stream).await?;
            out.clear();
            codec::publish(&mut out, &format!("devices/{id}/messages/events/"), b"{}", 2, 1, false);
            stream.write_all(&out).await?;
            exchange(&mut stream).await?;
        }
        Ok(stream)
    }

    /// Until the hub closes.
    async fn stay(&self, mut stream: Stream) {
        let mut bytes = [0; 64];
        loop {
            match timeout(Duration::from_secs(150), stream.read(&mut bytes)).await {
                Ok(Ok(0) | Err(_)) => return,
                Ok(Ok(_)) => {}
                Err(_) => {
                    let mut out = Vec::new();
                    codec::pingreq(&mut out);
                    if stream.write_all(&out).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

enum Answer {
    Connack(u8),
    Other,
}

/// Reads one packet; these fit one read.
async fn exchange(stream: &mut Stream) -> io::Result<Answer> {
    stream.flush().await?;
    let (mut bytes, mut filled) = ([0; 64], 0);
    loop {
        let count = stream.read(&mut bytes[filled..]).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        filled += count;
        match codec::decode(&bytes[..filled]) {
            Ok(Some((Packet::Connack { code, .. }, _))) => return Ok(Answer::Connack(code)),
            Ok(Some(_)) => return Ok(Answer::Other),
            Ok(None) => {}
            Err(error) => return Err(Error::other(error.to_string())),
        }
    }
}

fn connector(
    roots: &RootCertStore,
    version: &'static SupportedProtocolVersion,
) -> io::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .map_err(Error::other)?
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    // Neither SDK resumes a session: every handshake is a whole one.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config).into())
}

fn token(id: &str) -> String {
    let resource = format!("{NAME}%2Fdevices%2F{id}");
    let expiry = 4_000_000_000u64;
    let key = STANDARD.decode(KEY).unwrap_or_default();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
    let signature = ring::hmac::sign(&key, format!("{resource}\n{expiry}").as_bytes());
    let signature =
        STANDARD.encode(signature).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
