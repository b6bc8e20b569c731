//! The gate between the socket and the library: whole, checked frames in; few, large writes out.
//!
//! The library reads and writes the stream from one task and knows no limits of time. The [`Gate`] is the
//! stream that it gets. Invariants:
//!
//! 1. The library sees only frames that [`Frames`] has passed; after one that it has not, the client is
//!    told why in a close, and the stream ends.
//! 2. A frame that has begun ends in time, and what the hub writes is read in time, or the stream ends.
//! 3. What waits to be written is bounded; it goes out when the library waits for the client.

use crate::codec::Writer;
use crate::frames::{FrameError, Frames, check_sasl, size_of};
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};
use weir_core::limits;

/// Read at once.
const READ_BYTES: usize = 16 * 1024;
/// Waits to be written before the library has to wait.
const WRITE_BYTES: usize = 64 * 1024;

const HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// How a client begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// With a SASL layer.
    Sasl,
    /// Without one.
    Plain,
}

/// What the connection's task tells the gate, and learns from it.
#[derive(Debug, Default)]
pub(crate) struct GateState {
    /// Someone on the connection has proven who he is.
    proven: AtomicBool,
    killed: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Why the gate ended the stream.
    fault: Mutex<Option<String>>,
    /// Since when the library is busy with what it was given.
    busy: Mutex<Option<Instant>>,
}

impl GateState {
    pub(crate) fn set_proven(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Ends the stream; the library's tasks end with it.
    pub(crate) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }

    /// Why the gate ended the stream.
    pub(crate) fn fault(&self) -> Option<String> {
        lock(&self.fault).clone()
    }

    /// How long the library has not asked for more.
    pub(crate) fn busy_for(&self) -> std::time::Duration {
        lock(&self.busy).map_or(std::time::Duration::ZERO, |since| since.elapsed())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stream that the library gets.
pub(crate) struct Gate<S> {
    stream: S,
    state: Arc<GateState>,
    /// What was read; the first `passed` bytes are checked.
    incoming: BytesMut,
    passed: usize,
    layer: Layer,
    frames: Frames,
    /// A frame that has begun must end.
    frame_began: Option<Instant>,
    outgoing: BytesMut,
    /// The client must read.
    write_began: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    ended: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Header,
    Sasl,
    Amqp,
}

impl<S> std::fmt::Debug for Gate<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            state: Arc::default(),
            incoming: BytesMut::new(),
            passed: 0,
            layer: Layer::Header,
            frames: Frames::default(),
            frame_began: None,
            outgoing: BytesMut::new(),
            write_began: None,
            timer: Box::pin(sleep_until(Instant::now())),
            ended: false,
        }
    }

    pub(crate) fn state(&self) -> Arc<GateState> {
        Arc::clone(&self.state)
    }

    /// Reads the client's first header, which the library will read, too. None: it is another protocol;
    /// the client was told which is spoken here.
    ///
    /// # Errors
    /// The stream's own.
    pub(crate) async fn opening(&mut self) -> io::Result<Option<Opening>> {
        while self.incoming.len() < HEADER.len() {
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let opening = if self.incoming.starts_with(&HEADER) {
            self.layer = Layer::Amqp;
            Opening::Plain
        } else if self.incoming.starts_with(&SASL_HEADER) {
            self.layer = Layer::Sasl;
            Opening::Sasl
        } else {
            // 2.2: who speaks otherwise is told what would be right.
            self.stream.write_all(&SASL_HEADER).await?;
            self.stream.shutdown().await?;
            return Ok(None);
        };
        self.passed = HEADER.len();
        self.check().map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        Ok(Some(opening))
    }

    /// Passes all whole frames that were read.
    fn check(&mut self) -> Result<(), FrameError> {
        loop {
            let rest = &self.incoming[self.passed..];
            if self.layer != Layer::Amqp && rest.starts_with(&HEADER) {
                self.layer = Layer::Amqp;
                self.passed += HEADER.len();
                continue;
            }
            let opening = !self.frames.is_open();
            let most = match opening {
                true => limits::AMQP_OPENING_FRAME_BYTES,
                false => limits::AMQP_FRAME_BYTES,
            };
            // A header may be cut off.
            let header =
                self.layer == Layer::Sasl && HEADER.starts_with(&rest[..rest.len().min(8)]);
            let size = match size_of(rest, most) {
                Ok(size) => size,
                Err(_) if header => None,
                Err(fault) => return Err(fault),
            };
            let Some(frame) = size.and_then(|size| rest.get(..size)) else { break };
            match self.layer {
                Layer::Sasl => check_sasl(frame)?,
                Layer::Amqp => self.frames.check(frame, self.state.is_proven())?,
                Layer::Header => return Err(FrameError::Size(frame.len())),
            }
            self.passed += frame.len();
        }
        let partial = self.incoming.len() > self.passed;
        match (partial, self.frame_began) {
            (true, None) => self.frame_began = Some(Instant::now()),
            (false, _) => self.frame_began = None,
            (true, Some(_)) => {}
        }
        Ok(())
    }

    /// Ends the stream; the client is told why when the connection is open.
    fn fail(&mut self, fault: FrameError) -> io::Error {
        let text = fault.to_string();
        if self.frames.is_open() && !self.ended {
            self.outgoing.extend_from_slice(&close_frame(fault.condition(), &text));
        }
        self.ended = true;
        let shown = match std::error::Error::source(&fault) {
            Some(cause) => format!("{text}: {cause}"),
            None => text,
        };
        *lock(&self.state.fault) = Some(shown);
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }

    fn late(&mut self, what: &'static str) -> io::Error {
        self.ended = true;
        *lock(&self.state.fault) = Some(what.to_owned());
        io::Error::new(io::ErrorKind::TimedOut, what)
    }

    /// Writes what waits, as far as the socket takes it.
    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.outgoing)? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(count) => {
                    self.outgoing.advance(count);
                    self.write_began = None;
                }
                Poll::Pending => {
                    self.write_began.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        self.write_began = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Looks at the clock for frames that do not end and clients that do not read.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let deadlines = [
            (self.frame_began, "the client began a frame and did not end it"),
            (self.write_began, "the client does not read"),
        ];
        let next = deadlines.iter().filter_map(|(began, what)| Some(((*began)?, *what))).min();
        if let Some((began, what)) = next {
            self.timer.as_mut().reset(began + limits::PACKET_LIMIT);
            if self.timer.as_mut().poll(context).is_ready() {
                return Err(self.late(what));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        *lock(&this.state.busy) = None;
        loop {
            if this.state.killed.load(Ordering::SeqCst) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if this.passed > 0 {
                let count = this.passed.min(buffer.remaining());
                buffer.put_slice(&this.incoming[..count]);
                this.incoming.advance(count);
                this.passed -= count;
                *lock(&this.state.busy) = Some(Instant::now());
                return Poll::Ready(Ok(()));
            }
            if this.ended {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            if let Poll::Ready(Err(cause)) = this.poll_write_out(context) {
                return Poll::Ready(Err(cause));
            }
            this.incoming.reserve(READ_BYTES);
            let read = tokio_read(&mut this.stream, context, &mut this.incoming);
            match read? {
                Poll::Ready(0) => return Poll::Ready(Ok(())),
                Poll::Ready(_) => {
                    if let Err(fault) = this.check() {
                        let error = this.fail(fault);
                        if this.passed == 0 {
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                Poll::Pending => {
                    this.poll_deadlines(context)?;
                    *lock(&this.state.waker) = Some(context.waker().clone());
                    // It may have been killed before the waker was there.
                    if !this.state.killed.load(Ordering::SeqCst) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

fn tokio_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut BytesMut,
) -> io::Result<Poll<usize>> {
    let mut reading = std::pin::pin!(stream.read_buf(buffer));
    match reading.as_mut().poll(context) {
        Poll::Ready(count) => count.map(Poll::Ready),
        Poll::Pending => Ok(Poll::Pending),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.state.killed.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        // After the last word nothing more is said.
        if this.ended {
            return Poll::Ready(Ok(bytes.len()));
        }
        if this.outgoing.len() >= WRITE_BYTES {
            match this.poll_write_out(context) {
                Poll::Ready(written) => written?,
                Poll::Pending => {
                    this.poll_deadlines(context)?;
                    *lock(&this.state.waker) = Some(context.waker().clone());
                    return Poll::Pending;
                }
            }
        }
        this.outgoing.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    /// Once the connection is open, what waits is written when the library waits for the client: frames
    /// that belong together go out together.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.frames.is_open() {
            true => Poll::Ready(Ok(())),
            false => this.poll_write_out(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.state.killed.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        match this.poll_write_out(context) {
            Poll::Ready(written) => written?,
            Poll::Pending => {
                this.poll_deadlines(context)?;
                *lock(&this.state.waker) = Some(context.waker().clone());
                return Poll::Pending;
            }
        }
        ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}

/// A whole frame that closes the connection.
fn close_frame(condition: &str, description: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.descriptor(0x18);
    let mut close = body.list();
    close.add(1);
    body.descriptor(0x1d);
    let mut error = body.list();
    error.add(2);
    body.symbol(condition);
    body.string(description);
    body.close(&error);
    body.close(&close);
    let body = body.finish();
    let size = u32::try_from(body.len() + 8).expect("a close is short");
    [&size.to_be_bytes()[..], &[2, 0, 0, 0], &body].concat()
}
