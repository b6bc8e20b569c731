//! WASI `io`: streams and polling, as far as a guest without files and sockets has them.
//!
//! There are two output streams (stdout and stderr, to the module's log) and an input stream that is
//! at its end. Waiting ends with the call's deadline, which the epoch alone could not enforce while
//! the guest is in the host.

use crate::bindings::wasi::io::error::{Host as ErrorHost, HostError};
use crate::bindings::wasi::io::poll::{Host as PollHost, HostPollable};
use crate::bindings::wasi::io::streams::{
    Host as StreamsHost, HostInputStream, HostOutputStream, StreamError,
};
use crate::guest::{Guest, Stop, contract};
use crate::log::Stream;
use std::time::Duration;
use wasmtime::Result;
use wasmtime::component::Resource;
use weir_core::limits::EPOCH_TICK;

/// Bytes a stream takes at once.
const WRITE_BYTES: usize = 4_096;
/// Pollables in one `poll`.
const POLL_LIST: usize = 1_024;

/// Never made: no stream fails with a reason.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct IoError;

/// Something to wait for: a point on the guest's monotonic clock; streams are always ready.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Pollable(pub(crate) Option<Duration>);

/// An input at its end.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Input;

/// stdout or stderr.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Output(pub(crate) Stream);

impl Guest {
    fn is_ready(&self, pollable: &Resource<Pollable>) -> Result<bool> {
        let Pollable(at) = self.table.get(pollable)?;
        Ok(at.is_none_or(|at| self.started.elapsed() >= at))
    }

    /// Waits until one of the pollables is ready, or ends the call at its deadline.
    fn wait(&mut self, list: &[Resource<Pollable>]) -> Result<Vec<u32>> {
        loop {
            let mut ready = Vec::new();
            let mut next = Duration::MAX;
            for (at, pollable) in list.iter().enumerate() {
                match self.is_ready(pollable)? {
                    true => ready.push(u32::try_from(at).expect("the list has a limit")),
                    false => next = next.min(self.table.get(pollable)?.0.unwrap_or_default()),
                }
            }
            if !ready.is_empty() {
                return Ok(ready);
            }
            let left = self.remaining_ticks();
            if left == 0 {
                return Err(Stop::TimeOut.into());
            }
            let until_deadline = EPOCH_TICK * u32::try_from(left).unwrap_or(u32::MAX);
            std::thread::park_timeout(
                next.saturating_sub(self.started.elapsed()).min(until_deadline),
            );
        }
    }

    fn write_out(&mut self, stream: &Resource<Output>, bytes: &[u8]) -> Result<()> {
        let Output(stream) = *self.table.get(stream)?;
        self.log.stream(stream, bytes);
        Ok(())
    }
}

impl ErrorHost for Guest {}

impl HostError for Guest {
    fn to_debug_string(&mut self, _: Resource<IoError>) -> Result<String> {
        self.enter()?;
        Ok("error".to_owned())
    }

    fn drop(&mut self, error: Resource<IoError>) -> Result<()> {
        self.delete(error)
    }
}

impl PollHost for Guest {
    fn poll(&mut self, list: Vec<Resource<Pollable>>) -> Result<Vec<u32>> {
        self.enter()?;
        match list.len() {
            0 => Err(contract("it polled an empty list")),
            1..=POLL_LIST => self.wait(&list),
            _ => Err(contract(format!("it polled more than {POLL_LIST} things at once"))),
        }
    }
}

impl HostPollable for Guest {
    fn ready(&mut self, pollable: Resource<Pollable>) -> Result<bool> {
        self.enter()?;
        self.is_ready(&pollable)
    }

    fn block(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        self.enter()?;
        self.wait(&[pollable]).map(|_| ())
    }

    fn drop(&mut self, pollable: Resource<Pollable>) -> Result<()> {
        self.delete(pollable)
    }
}

impl StreamsHost for Guest {}

impl HostInputStream for Guest {
    fn read(&mut self, _: Resource<Input>, _: u64) -> Result<Result<Vec<u8>, StreamError>> {
        self.enter()?;
        Ok(Err(StreamError::Closed))
    }

    fn blocking_read(
        &mut self,
        _: Resource<Input>,
        _: u64,
    ) -> Result<Result<Vec<u8>, StreamError>> {
        self.enter()?;
        Ok(Err(StreamError::Closed))
    }

    fn skip(&mut self, _: Resource<Input>, _: u64) -> Result<Result<u64, StreamError>> {
        self.enter()?;
        Ok(Err(StreamError::Closed))
    }

    fn blocking_skip(&mut self, _: Resource<Input>, _: u64) -> Result<Result<u64, StreamError>> {
        self.enter()?;
        Ok(Err(StreamError::Closed))
    }

    fn subscribe(&mut self, _: Resource<Input>) -> Result<Resource<Pollable>> {
        self.enter()?;
        self.push(Pollable(None))
    }

    fn drop(&mut self, input: Resource<Input>) -> Result<()> {
        self.delete(input)
    }
}

impl HostOutputStream for Guest {
    fn check_write(&mut self, _: Resource<Output>) -> Result<Result<u64, StreamError>> {
        self.enter()?;
        Ok(Ok(WRITE_BYTES as u64))
    }

    fn write(&mut self, out: Resource<Output>, bytes: Vec<u8>) -> Result<Result<(), StreamError>> {
        self.enter()?;
        if bytes.len() > WRITE_BYTES {
            return Err(contract("it wrote more to a stream than check-write allows"));
        }
        self.write_out(&out, &bytes).map(Ok)
    }

    fn blocking_write_and_flush(
        &mut self,
        out: Resource<Output>,
        bytes: Vec<u8>,
    ) -> Result<Result<(), StreamError>> {
        self.write(out, bytes)
    }

    fn flush(&mut self, _: Resource<Output>) -> Result<Result<(), StreamError>> {
        self.enter()?;
        Ok(Ok(()))
    }

    fn blocking_flush(&mut self, out: Resource<Output>) -> Result<Result<(), StreamError>> {
        self.flush(out)
    }

    fn subscribe(&mut self, _: Resource<Output>) -> Result<Resource<Pollable>> {
        self.enter()?;
        self.push(Pollable(None))
    }

    fn write_zeroes(
        &mut self,
        out: Resource<Output>,
        length: u64,
    ) -> Result<Result<(), StreamError>> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.write(out, vec![0; length.min(WRITE_BYTES + 1)])
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        out: Resource<Output>,
        length: u64,
    ) -> Result<Result<(), StreamError>> {
        self.write_zeroes(out, length)
    }

    fn splice(
        &mut self,
        _: Resource<Output>,
        _: Resource<Input>,
        _: u64,
    ) -> Result<Result<u64, StreamError>> {
        self.enter()?;
        Ok(Err(StreamError::Closed))
    }

    fn blocking_splice(
        &mut self,
        out: Resource<Output>,
        from: Resource<Input>,
        length: u64,
    ) -> Result<Result<u64, StreamError>> {
        self.splice(out, from, length)
    }

    fn drop(&mut self, out: Resource<Output>) -> Result<()> {
        self.delete(out)
    }
}
