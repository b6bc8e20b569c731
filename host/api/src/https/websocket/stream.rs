//! A WebSocket as a stream of bytes, for heads that speak binary protocols.
//!
//! Where frames begin and end does not matter: a packet may span frames and a frame hold several
//! (IoT Hub's clients do both). Invariants:
//!
//! 1. Both directions push back: nothing is read while the head does not ask, nothing is taken to be
//!    written while frames wait for the client.
//! 2. Pings are answered; none is sent (the Java client does not answer them).
//! 3. Reader and writer may be two tasks: both are woken when the stream below has moved.

use super::frame::{self, Code, Decoder, Event};
use bytes::{Buf, Bytes, BytesMut};
use futures::task::AtomicWaker;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once.
const READ_BYTES: usize = 8 * 1024;
/// Payload of a frame that is written.
const WRITE_BYTES: usize = 16 * 1024;

/// A connection after the upgrade.
pub struct WebSocketStream<S> {
    stream: S,
    decoder: Decoder,
    /// Bytes of frames that are not decoded.
    incoming: BytesMut,
    /// Payload that the head has not read.
    unread: BytesMut,
    /// The client has said that it ends, or has gone.
    ended: bool,
    outgoing: BytesMut,
    /// The last ping that was not answered: earlier ones need no answer (section 5.5.3).
    ping: Option<Bytes>,
    close: Close,
    tasks: Arc<Tasks>,
    waker: Waker,
}

/// The close frame of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Close {
    Unsaid,
    Due(Code),
    Said,
}

/// Who waits for the stream below.
#[derive(Default)]
struct Tasks {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Tasks {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

impl<S> WebSocketStream<S> {
    /// `early` are bytes that came with the request for the upgrade.
    pub(crate) fn new(stream: S, early: &[u8]) -> Self {
        let tasks = Arc::<Tasks>::default();
        Self {
            stream,
            decoder: Decoder::default(),
            incoming: BytesMut::from(early),
            unread: BytesMut::new(),
            ended: false,
            outgoing: BytesMut::new(),
            ping: None,
            close: Close::Unsaid,
            waker: Waker::from(Arc::clone(&tasks)),
            tasks,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocketStream<S> {
    /// Hands frames to the stream below; ready when none waits.
    fn poll_drain(&mut self) -> Poll<io::Result<()>> {
        let mut context = Context::from_waker(&self.waker);
        loop {
            if self.outgoing.is_empty() {
                if let Some(ping) = self.ping.take() {
                    frame::put_pong(&ping, &mut self.outgoing);
                } else if let Close::Due(code) = self.close {
                    self.close = Close::Said;
                    frame::put_close(code, &mut self.outgoing);
                } else {
                    // An idle connection keeps no buffer.
                    self.outgoing = BytesMut::new();
                    return Poll::Ready(Ok(()));
                }
            }
            let stream = Pin::new(&mut self.stream);
            match ready!(stream.poll_write(&mut context, &self.outgoing))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.outgoing.advance(written),
            }
        }
    }

    /// Writes what reading has made due, as far as it goes; whoever writes next writes the rest.
    fn answer(&mut self) -> io::Result<()> {
        if let Poll::Ready(drained) = self.poll_drain() {
            drained?;
        }
        let mut context = Context::from_waker(&self.waker);
        match Pin::new(&mut self.stream).poll_flush(&mut context) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    /// Reads until there is payload or the end.
    fn poll_payload(&mut self) -> Poll<io::Result<()>> {
        while self.unread.is_empty() && !self.ended {
            match self.decoder.decode(&mut self.incoming) {
                Ok(Some(Event::Data(bytes))) => self.unread = bytes,
                Ok(Some(Event::Ping(bytes))) => self.ping = Some(bytes),
                Ok(Some(Event::Close)) => self.end(Code::Normal),
                Ok(None) => {
                    if self.incoming.is_empty() {
                        // An idle connection keeps no buffer.
                        self.incoming = BytesMut::new();
                    }
                    let mut bytes = [0; READ_BYTES];
                    let mut bytes = ReadBuf::new(&mut bytes);
                    let mut context = Context::from_waker(&self.waker);
                    ready!(Pin::new(&mut self.stream).poll_read(&mut context, &mut bytes))?;
                    self.incoming.extend_from_slice(bytes.filled());
                    self.ended = bytes.filled().is_empty();
                }
                Err(broken) => {
                    self.end(broken.code);
                    self.answer()?;
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, broken)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, code: Code) {
        self.ended = true;
        if self.close == Close::Unsaid {
            self.close = Close::Due(code);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocketStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.tasks.reader.register(context.waker());
        let read = this.poll_payload();
        if this.ping.is_some() || matches!(this.close, Close::Due(_)) {
            this.answer()?;
        }
        ready!(read)?;
        let length = this.unread.len().min(buffer.remaining());
        buffer.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        if this.unread.is_empty() {
            this.unread = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocketStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.tasks.writer.register(context.waker());
        if this.close != Close::Unsaid {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.poll_drain())?;
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES)];
        frame::put_data(bytes, &mut this.outgoing);
        if let Poll::Ready(drained) = this.poll_drain() {
            drained?;
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.tasks.writer.register(context.waker());
        ready!(this.poll_drain())?;
        let mut context = Context::from_waker(&this.waker);
        Pin::new(&mut this.stream).poll_flush(&mut context)
    }

    /// Says the end, then ends the stream below: its peer reads what was written, then the close frame.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.tasks.writer.register(context.waker());
        if this.close == Close::Unsaid {
            this.close = Close::Due(Code::Normal);
        }
        ready!(this.poll_drain())?;
        let mut context = Context::from_waker(&this.waker);
        Pin::new(&mut this.stream).poll_shutdown(&mut context)
    }
}

#[cfg(test)]
mod tests;
