//! Hostile clients against the real binary: everything that is wrong is refused, soon, at no lasting cost.
//!
//! Each protocol has tables of [`Case`]s: bytes, the rule they break, what was exchanged before them and
//! how the hub must answer. [`besiege`] plays them, many at a time, each from an address of its own, and
//! demands that
//!
//! 1. every case ends as it says, within its time (five seconds where it says nothing else);
//! 2. a well-behaved client is served all the while, no round trip over two seconds;
//! 3. afterwards the hub has its memory and its file descriptors back.
//!
//! A new listener is one call of [`besiege`] with its tables, and one of `records::cases` when it
//! speaks TLS.

mod amqp;
mod amqp_frames;
mod amqp_links;
mod amqp_values;
mod https;
mod mqtt;
mod mqtt_connects;
mod mqtt_corpus;
mod mqtt_packets;
mod mqtt_sessions;
mod records;
mod websocket;

use crate::support::{Hub, PATIENCE, now, wait_at_most};
use futures::future::join_all;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

/// The longest that a right exchange takes.
const OPENING: Duration = Duration::from_secs(10);
/// The longest that a breach of a rule may stand.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest round trip of a well-behaved client meanwhile.
const ROUND_TRIP: Duration = Duration::from_secs(2);
/// How much more memory the hub may have after the second round than after the first.
const GROWTH_KIB: u64 = 8 * 1024;
/// Descriptors that come and go by themselves: the well-behaved client's last connections, the store's.
const DESCRIPTORS: usize = 4;

/// Something that is said, and how one knows, by all that was heard so far, that it was answered.
pub(crate) struct Exchange {
    pub(crate) say: Vec<u8>,
    pub(crate) answered: fn(&[u8]) -> bool,
}

/// How the bytes are sent.
#[derive(Clone, Copy)]
pub(crate) enum How {
    AtOnce,
    /// And then the end of the stream.
    ThenEnd,
    /// One byte at a time, with this pause.
    Dripping(Duration),
}

/// What the hub may say to it.
#[derive(Clone)]
pub(crate) enum Said {
    Nothing,
    Exactly(Vec<u8>),
    That(fn(&[u8]) -> bool),
}

/// How it ends.
#[derive(Clone)]
pub(crate) enum End {
    /// The connection is closed, and this was said before.
    Closed(Said),
    /// This is said; the connection may stay.
    Answered(Said),
    /// The connection is closed, or this is said.
    Either(Said),
}

/// One thing that a client may not do.
pub(crate) struct Case {
    /// What is wrong.
    pub(crate) name: String,
    /// The clause that says so.
    pub(crate) rule: &'static str,
    /// What comes before, and is right.
    pub(crate) opening: Arc<[Exchange]>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) how: How,
    pub(crate) end: End,
    pub(crate) within: Duration,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        rule: &'static str,
        opening: &Arc<[Exchange]>,
        bytes: Vec<u8>,
        end: End,
    ) -> Self {
        let (name, opening, how) = (name.into(), Arc::clone(opening), How::AtOnce);
        Self { name, rule, opening, bytes, how, end, within: LIMIT }
    }

    pub(crate) fn sent(self, how: How) -> Self {
        Self { how, ..self }
    }

    pub(crate) fn within(self, within: Duration) -> Self {
        Self { within, ..self }
    }
}

/// Where the cases go.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// None: no TLS.
    pub(crate) tls: Option<TlsConnector>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

impl Target {
    pub(crate) fn plain(name: &'static str, address: SocketAddr) -> Self {
        Self { name, address, tls: None }
    }

    /// The hub's listener of this name in `ready.json`, with TLS.
    pub(crate) fn tls(name: &'static str, hub: &Hub, listener: &str) -> Self {
        let config = records::client_config(hub);
        Self { name, address: hub.listener(listener), tls: Some(config.into()) }
    }

    async fn dial(&self, source: Ipv4Addr) -> Result<Box<dyn Stream>, String> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((source, 0).into()).unwrap();
        let stream = socket.connect(self.address).await.map_err(|e| format!("connecting: {e}"))?;
        stream.set_nodelay(true).unwrap();
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = "localhost".try_into().unwrap();
        let stream = tls.connect(name, stream).await.map_err(|e| format!("handshake: {e}"))?;
        Ok(Box::new(stream))
    }
}

/// The answer so far, and whether the stream has ended.
struct Heard {
    bytes: Vec<u8>,
    ended: bool,
}

impl Heard {
    /// Reads once; true when there was something.
    async fn more(&mut self, stream: &mut dyn Stream, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        match timeout(left, stream.read_buf(&mut self.bytes)).await {
            Err(_) => false,
            // An end without close_notify and a reset are ends, too.
            Ok(Ok(0) | Err(_)) => {
                self.ended = true;
                false
            }
            Ok(Ok(_)) => true,
        }
    }
}

/// Says one thing after the other, each when the one before was answered.
async fn converse(stream: &mut dyn Stream, exchanges: &[Exchange]) -> Result<(), String> {
    // Answers may come early: what is right is judged by all that was heard.
    let mut heard = Heard { bytes: Vec::new(), ended: false };
    for (number, exchange) in exchanges.iter().enumerate() {
        stream.write_all(&exchange.say).await.map_err(|e| format!("exchange {number}: {e}"))?;
        let until = Instant::now() + OPENING;
        while !(exchange.answered)(&heard.bytes) {
            if !heard.more(stream, until).await {
                return Err(format!("exchange {number} was answered by {}", shown(&heard.bytes)));
            }
        }
    }
    Ok(())
}

/// A well-behaved client that comes anew every twentieth time: what it says first, and then each time.
pub(crate) fn good_client<'a>(
    target: &'a Target,
    opening: impl Fn() -> Arc<[Exchange]> + Send + 'a,
    beat: impl Fn(u32) -> Exchange + Send + 'a,
) -> impl FnMut() -> Result<(), String> + Send + 'a {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut stream, mut beats) = (None, 0);
    move || {
        runtime.block_on(async {
            if beats % 20 == 0 {
                let mut new = target.dial(Ipv4Addr::LOCALHOST).await?;
                converse(&mut *new, &opening()).await?;
                stream = Some(new);
            }
            beats += 1;
            converse(stream.as_deref_mut().unwrap(), &[beat(beats)]).await
        })
    }
}

impl Said {
    fn is(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Nothing => bytes.is_empty(),
            Self::Exactly(wanted) => bytes == wanted,
            Self::That(right) => right(bytes),
        }
    }
}

impl Case {
    /// Plays it; gives the time from the last byte to the end, or what went wrong.
    async fn play(&self, target: &Target, source: Ipv4Addr) -> Result<Duration, String> {
        let mut stream = match timeout(PATIENCE, target.dial(source)).await {
            Ok(stream) => stream?,
            Err(_) => return Err("no connection".to_owned()),
        };
        converse(&mut *stream, &self.opening).await?;
        let begun = Instant::now();
        self.say(&mut stream).await;
        let mut heard = Heard { bytes: Vec::new(), ended: false };
        let until = begun + self.within;
        loop {
            let right = match &self.end {
                End::Closed(said) => heard.ended && said.is(&heard.bytes),
                End::Answered(said) => said.is(&heard.bytes),
                End::Either(said) => heard.ended || said.is(&heard.bytes),
            };
            let after = begun.elapsed();
            if right && after <= self.within {
                return Ok(after);
            }
            if heard.ended {
                return Err(format!("closed after {after:?}, said {}", shown(&heard.bytes)));
            }
            if !heard.more(&mut stream, until).await && !heard.ended {
                return Err(format!("still open, said {}", shown(&heard.bytes)));
            }
        }
    }

    async fn say(&self, stream: &mut dyn Stream) {
        // The hub may have closed before all is said: what it answered decides.
        match self.how {
            How::AtOnce => drop(stream.write_all(&self.bytes).await),
            How::ThenEnd => {
                drop(stream.write_all(&self.bytes).await);
                drop(stream.shutdown().await);
            }
            How::Dripping(pause) => {
                for byte in &self.bytes {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    sleep(pause).await;
                }
            }
        }
        drop(stream.flush().await);
    }
}

fn shown(bytes: &[u8]) -> String {
    let start: String = bytes
        .iter()
        .take(40)
        .flat_map(|b| std::ascii::escape_default(*b))
        .map(char::from)
        .collect();
    format!("{} bytes \"{start}\"", bytes.len())
}

/// The address that the case of this number comes from: a source's failures are held against it, and
/// the cases are to be judged each by itself.
fn source(number: usize) -> Ipv4Addr {
    let [_, a, b, c] = u32::try_from(number + 1).unwrap().to_be_bytes();
    Ipv4Addr::new(127, 1 + a, b, c)
}

/// Plays all tables side by side, the cases of one table one after the other (they may share an
/// identity), leaving out those that take longer than `patience`. Gives the longest time to an end.
fn play(
    target: &Target,
    tables: &[Vec<Case>],
    first_source: usize,
    patience: Duration,
) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let starts = tables
        .iter()
        .scan(first_source, |at, table| Some(std::mem::replace(at, *at + table.len())));
    let played =
        runtime.block_on(join_all(tables.iter().zip(starts).map(async |(table, start)| {
            let (mut longest, mut wrong) = (Duration::ZERO, Vec::new());
            for (at, case) in table.iter().enumerate() {
                if case.within > patience {
                    continue;
                }
                match case.play(target, source(start + at)).await {
                    Ok(time) => longest = longest.max(time),
                    Err(what) => wrong.push(format!("{} [{}]: {what}", case.name, case.rule)),
                }
            }
            (longest, wrong)
        })));
    let (times, wrong): (Vec<_>, Vec<_>) = played.into_iter().unzip();
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "{}: {} cases:\n{}", target.name, wrong.len(), wrong.join("\n"));
    times.into_iter().max().unwrap_or_default()
}

/// A well-behaved client that is served while others are not.
struct Canary<'a> {
    done: &'a AtomicBool,
    beat: Box<dyn FnMut() -> Result<(), String> + Send + 'a>,
}

impl Canary<'_> {
    /// Gives the number of its round trips and the longest.
    fn sing(mut self) -> (u32, Duration) {
        let (mut beats, mut worst) = (0, Duration::ZERO);
        while !self.done.load(Ordering::Relaxed) {
            let begun = now();
            if let Err(what) = (self.beat)() {
                panic!("the well-behaved client was not served: {what}");
            }
            worst = worst.max(begun.elapsed());
            beats += 1;
            pause(Duration::from_millis(5));
        }
        (beats, worst)
    }
}

#[expect(clippy::disallowed_methods, reason = "a client of its own pace")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// What the hub holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    kib: u64,
    descriptors: usize,
}

fn held(pid: u32) -> Held {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = rss.trim().trim_end_matches(" kB").parse().unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Held { kib, descriptors }
}

/// Plays the tables twice (what is slow once) while `beat` is tried again and again, and looks at what is left.
#[expect(clippy::print_stdout, reason = "the figures are for those who run it")]
pub(crate) fn besiege(
    hub: &Hub,
    target: &Target,
    tables: &[Vec<Case>],
    beat: impl FnMut() -> Result<(), String> + Send,
) {
    let cases: usize = tables.iter().map(Vec::len).sum();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let canary = Canary { done: &done, beat: Box::new(beat) };
        let canary = scope.spawn(|| canary.sing());
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // The first round warms up: pools of memory, caches of the store.
            play(target, tables, 0, LIMIT);
            let before = settled(hub.pid(), |_| false);
            let slowest = play(target, tables, cases, PATIENCE);
            let after = settled(hub.pid(), |held| {
                held.kib <= before.kib + GROWTH_KIB
                    && held.descriptors <= before.descriptors + DESCRIPTORS
            });
            (before, slowest, after)
        }));
        done.store(true, Ordering::Relaxed);
        let sung = canary.join();
        let (before, slowest, after) = match played {
            Ok(played) => played,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let (beats, worst) = sung.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        println!(
            "{}: {cases} bad inputs twice, the slowest end after {slowest:.0?}; a good client's \
             longest of {beats} round trips {worst:.1?}; memory {} KiB, then {} KiB; \
             descriptors {}, then {}",
            target.name, before.kib, after.kib, before.descriptors, after.descriptors
        );
        assert!(beats > 10, "the good client hardly ran");
        assert!(worst <= ROUND_TRIP, "a good client waited {worst:?}");
        assert!(after.kib <= before.kib + GROWTH_KIB, "memory: {before:?}, then {after:?}");
        assert!(
            after.descriptors <= before.descriptors + DESCRIPTORS,
            "left open: {before:?}, then {after:?}"
        );
    });
}

/// What the hub holds once `enough`, or once it has not changed for a while.
fn settled(pid: u32, enough: impl Fn(Held) -> bool) -> Held {
    let mut last = held(pid);
    let mut same = 0;
    let found = wait_at_most(|| {
        let new = held(pid);
        let is_same = new.descriptors == last.descriptors && new.kib.abs_diff(last.kib) < 64;
        same = if is_same { same + 1 } else { 0 };
        last = new;
        (enough(new) || same > 100).then_some(new)
    });
    found.unwrap_or(last)
}
