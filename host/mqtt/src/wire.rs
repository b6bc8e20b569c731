//! The byte stream of one connection with its two buffers.
//!
//! The connection's loop polls reading and writing together through [`Wire::ready`], so that one task
//! serves both directions without a lock. Invariants:
//!
//! 1. A read takes all that is there, up to [`MAX_READ`], so that many small packets are one batch.
//! 2. What waits to be written is bounded by whoever asks [`Outgoing::has_room`] first.
//! 3. An idle connection holds no large buffer.

use bytes::{Buf, BytesMut};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

/// First size of a read buffer: a handful of messages.
const MIN_READ: usize = 4 * 1024;
/// Largest size, and so about the bytes of the largest batch.
const MAX_READ: usize = 64 * 1024;
/// Below this a read is not worth it: a new buffer is taken.
const MIN_SPARE: usize = 1024;
/// Bytes that may wait to be written before the connection stops producing more.
const MAX_UNWRITTEN: usize = 64 * 1024;
/// How long a closed connection is read to its end, so that the last bytes sent reach the client: bytes
/// that nobody reads would make the system answer with RST.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    buffer: BytesMut,
    written: u64,
}

impl Outgoing {
    /// To append packets to.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// True while more may be appended.
    pub(crate) fn has_room(&self) -> bool {
        self.buffer.len() < MAX_UNWRITTEN
    }

    /// True when nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes of the stream so far, with those that wait.
    pub(crate) fn enqueued(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Bytes of the stream that are with the socket.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    fn advance(&mut self, bytes: usize) {
        self.buffer.advance(bytes);
        self.written += bytes as u64;
        if self.buffer.is_empty() && self.buffer.capacity() > MAX_UNWRITTEN {
            self.buffer = BytesMut::new();
        }
    }
}

/// What has happened on the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// Bytes have come.
    Read,
    /// The other side has ended its half.
    End,
    /// Bytes were written, nothing has come.
    Written,
}

/// A stream and its buffers.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    /// Bytes that have come and are not decoded.
    pub(crate) incoming: BytesMut,
    /// Bytes that wait to be written.
    pub(crate) outgoing: Outgoing,
    read_size: usize,
    /// TLS may hold bytes that it has taken.
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            incoming: BytesMut::new(),
            outgoing: Outgoing::default(),
            read_size: MIN_READ,
            unflushed: false,
        }
    }

    /// Writes what waits and, where `reading`, reads what is there; resolves when something has
    /// happened. Cancel-safe.
    ///
    /// # Errors
    /// Of the stream.
    pub(crate) async fn ready(&mut self, reading: bool) -> io::Result<Ready> {
        poll_fn(|context| self.poll_ready(reading, context)).await
    }

    fn poll_ready(&mut self, reading: bool, context: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        let wrote = self.poll_write(context)?;
        if reading && let Poll::Ready(read) = self.poll_read(context) {
            return Poll::Ready(read);
        }
        match wrote {
            true => Poll::Ready(Ok(Ready::Written)),
            false => Poll::Pending,
        }
    }

    /// True when there was progress.
    fn poll_write(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.outgoing.is_empty() {
            let stream = Pin::new(&mut self.stream);
            match stream.poll_write(context, &self.outgoing.buffer) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    self.outgoing.advance(bytes);
                    (progress, self.unflushed) = (true, true);
                }
                Poll::Ready(Err(cause)) => return Err(cause),
                Poll::Pending => return Ok(progress),
            }
        }
        if self.unflushed && Pin::new(&mut self.stream).poll_flush(context)?.is_ready() {
            (progress, self.unflushed) = (true, false);
        }
        Ok(progress)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        let before = self.incoming.len();
        if self.incoming.capacity() - before < MIN_SPARE {
            self.incoming.reserve(self.read_size);
        }
        // TLS gives a record at a time.
        while self.incoming.len() - before < MAX_READ
            && self.incoming.capacity() > self.incoming.len()
        {
            match poll_read_buf(Pin::new(&mut self.stream), context, &mut self.incoming) {
                Poll::Ready(Ok(0)) if self.incoming.len() == before => {
                    return Poll::Ready(Ok(Ready::End));
                }
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(cause)) => return Poll::Ready(Err(cause)),
                Poll::Pending if self.incoming.len() == before => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if self.incoming.len() == self.incoming.capacity() {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(Ready::Read))
    }

    /// True while bytes wait for the other side to read.
    pub(crate) fn is_writing(&self) -> bool {
        !self.outgoing.is_empty() || self.unflushed
    }

    /// Gives back memory; called when nothing has come for long.
    pub(crate) fn rest(&mut self) {
        if self.incoming.is_empty() {
            (self.incoming, self.read_size) = (BytesMut::new(), MIN_READ);
        }
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// Of the stream.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while self.is_writing() {
            self.ready(false).await?;
        }
        Ok(())
    }

    /// Ends the stream in good order: what waits is written, then the end is said (close_notify, FIN),
    /// then what the client still sends is read and dropped. Takes no longer than two seconds.
    pub(crate) async fn close(mut self) {
        let farewell = async {
            self.flush().await?;
            self.stream.shutdown().await
        };
        if !matches!(tokio::time::timeout(LINGER, farewell).await, Ok(Ok(()))) {
            return;
        }
        let drain = async {
            loop {
                self.incoming.clear();
                match self.ready(true).await {
                    Ok(Ready::Read | Ready::Written) => {}
                    Ok(Ready::End) | Err(_) => return,
                }
            }
        };
        // The client may as well go on sending for ever.
        drop(tokio::time::timeout(LINGER, drain).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, duplex};

    #[tokio::test]
    async fn one_read_takes_all_that_is_there() {
        let (mut client, server) = duplex(1 << 20);
        let mut wire = Wire::new(server);
        client.write_all(&vec![7; 200_000]).await.unwrap();
        let mut sizes = Vec::new();
        let mut total = 0;
        while total < 200_000 {
            assert_eq!(wire.ready(true).await.unwrap(), Ready::Read);
            sizes.push(wire.incoming.len());
            total += wire.incoming.split().len();
        }
        assert!(sizes[0] >= MIN_READ, "{sizes:?}");
        assert!(sizes.iter().all(|size| *size <= 2 * MAX_READ), "{sizes:?}");
        assert!(
            sizes.iter().any(|size| *size >= MAX_READ),
            "the buffer grows with what comes: {sizes:?}"
        );
        drop(client);
        assert_eq!(wire.ready(true).await.unwrap(), Ready::End);
    }

    #[tokio::test]
    async fn writing_goes_on_while_nothing_is_read() {
        let (mut client, server) = duplex(10);
        let mut wire = Wire::new(server);
        wire.outgoing.buffer().extend_from_slice(&[1; 25]);
        assert_eq!(wire.ready(false).await.unwrap(), Ready::Written);
        assert_eq!((wire.outgoing.written(), wire.outgoing.enqueued()), (10, 25));
        let reader = async {
            let mut all = [0; 25];
            client.read_exact(&mut all).await.unwrap();
            all
        };
        let (all, flushed) = tokio::join!(reader, wire.flush());
        flushed.unwrap();
        assert_eq!(all, [1; 25]);
        assert!(!wire.is_writing());
    }

    #[tokio::test]
    async fn the_last_bytes_arrive_before_the_end() {
        let (mut client, server) = duplex(1000);
        let mut wire = Wire::new(server);
        wire.outgoing.buffer().extend_from_slice(b"last");
        client.write_all(b"not read by the hub").await.unwrap();
        let read = async {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            drop(client);
            all
        };
        let (all, ()) = tokio::join!(read, wire.close());
        assert_eq!(all, b"last");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_cannot_hold_the_close() {
        let (client, server) = duplex(2);
        let mut wire = Wire::new(server);
        wire.outgoing.buffer().extend_from_slice(b"last");
        let before = tokio::time::Instant::now();
        wire.close().await;
        assert!(before.elapsed() <= 2 * LINGER);
        drop(client);
    }

    #[tokio::test]
    async fn an_idle_connection_holds_no_buffer() {
        let (mut client, server) = duplex(1 << 20);
        let mut wire = Wire::new(server);
        client.write_all(&[7; 100]).await.unwrap();
        wire.ready(true).await.unwrap();
        wire.rest();
        assert_eq!(wire.incoming.len(), 100, "bytes that are not decoded stay");
        wire.incoming.clear();
        wire.rest();
        assert_eq!(wire.incoming.capacity(), 0);
    }
}
