//! What a client's frames may be, checked before the library sees them. No I/O.
//!
//! The library trusts sizes, counts and handles. [`Frames::check`] looks at whole frames: the form of every
//! value in them, and the links and sessions that they are about. Invariants:
//!
//! 1. A frame that passes has no value that is cut off, too deep, or larger than what holds it.
//! 2. A client has no more sessions and links than it may have; before it has proven who it is, a few.

use crate::codec::{Malformed, Reader, Value, check_value};
use std::collections::BTreeSet;
use weir_core::limits;

/// Size field, data offset, type and channel.
pub(crate) const HEADER_BYTES: usize = 8;
const AMQP: u8 = 0;
const SASL: u8 = 1;

const OPEN: u64 = 0x10;
const BEGIN: u64 = 0x11;
const ATTACH: u64 = 0x12;
const FLOW: u64 = 0x13;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;
const DETACH: u64 = 0x16;
const END: u64 = 0x17;
const CLOSE: u64 = 0x18;

/// Longest delivery tag (2.8.7).
const TAG_BYTES: usize = 32;

/// A frame that a client may not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Larger or smaller than a frame can be.
    #[error("a frame declares {0} bytes")]
    Size(usize),
    /// Extended headers are not used by anyone.
    #[error("a frame has the data offset {0}")]
    Offset(u8),
    /// Neither AMQP nor SASL, or the other one.
    #[error("a frame of type {0} has no place here")]
    Kind(u8),
    /// Its values are not in order.
    #[error("a frame cannot be read")]
    Malformed(#[from] Malformed),
    /// Something other than a performative.
    #[error("{0:#x} is not a performative")]
    Performative(u64),
    /// Bytes after the performative.
    #[error("a frame has bytes after its performative")]
    Trailing,
    /// A channel or handle that is not, or is already, in use.
    #[error("{0}")]
    State(&'static str),
    /// More than a client may have.
    #[error("the client has more {0} than it may have")]
    TooMany(&'static str),
}

impl FrameError {
    /// The condition that the client is told.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Self::Size(_) | Self::Offset(_) | Self::Kind(_) => "amqp:connection:framing-error",
            Self::Malformed(_) | Self::Performative(_) | Self::Trailing => "amqp:decode-error",
            Self::State(_) => "amqp:not-allowed",
            Self::TooMany(_) => "amqp:resource-limit-exceeded",
        }
    }
}

/// The frames of one connection.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    opened: bool,
    channels: BTreeSet<u16>,
    links: BTreeSet<(u16, u32)>,
}

impl Frames {
    /// True after the client's Open.
    pub(crate) fn is_open(&self) -> bool {
        self.opened
    }

    /// Checks one whole frame of the AMQP layer.
    ///
    /// # Errors
    /// [`FrameError`]: the connection is to be closed.
    pub(crate) fn check(&mut self, frame: &[u8], proven: bool) -> Result<(), FrameError> {
        let (channel, body) = unwrap(frame, AMQP)?;
        // An empty frame keeps the connection alive.
        if body.is_empty() {
            return Ok(());
        }
        let mut reader = Reader(body);
        check_value(&mut reader)?;
        let payload = reader;
        let mut reader = Reader(body);
        let performative = reader.descriptor()?;
        let mut fields = Fields(reader.list()?.reader());
        if performative != TRANSFER && !payload.is_empty() {
            return Err(FrameError::Trailing);
        }
        if !self.opened && performative != OPEN {
            return Err(FrameError::State("the first frame must be an open"));
        }
        match performative {
            OPEN => self.open(&mut fields),
            BEGIN => self.begin(channel, proven),
            ATTACH => {
                fields.skip(1)?;
                self.attach(channel, fields.handle()?, proven)
            }
            FLOW => {
                fields.skip(4)?;
                match fields.optional_handle()? {
                    None => self.mapped(channel),
                    Some(handle) => self.attached(channel, handle),
                }
            }
            TRANSFER => self.transfer(channel, &mut fields),
            DISPOSITION => self.mapped(channel),
            DETACH => {
                let handle = fields.handle()?;
                self.attached(channel, handle)?;
                self.links.remove(&(channel, handle));
                Ok(())
            }
            END => {
                self.mapped(channel)?;
                self.channels.remove(&channel);
                self.links.retain(|(of, _)| *of != channel);
                Ok(())
            }
            CLOSE => Ok(()),
            other => Err(FrameError::Performative(other)),
        }
    }

    fn open(&mut self, fields: &mut Fields<'_>) -> Result<(), FrameError> {
        if std::mem::replace(&mut self.opened, true) {
            return Err(FrameError::State("a connection is opened once"));
        }
        // The library answers an open that it cannot read by a close without a reason, and waits.
        let Some(Value::String(_)) = fields.next()? else {
            return Err(Malformed::Expected("a container id").into());
        };
        let wrong = |what| Err(FrameError::from(Malformed::Expected(what)));
        match fields.next()? {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(_) => return wrong("a host name"),
        }
        for (what, most) in [("a frame size", u32::MAX.into()), ("a largest channel", 0xffff)] {
            match fields.next()? {
                None | Some(Value::Null) => {}
                Some(Value::Unsigned(number)) if number <= most => {}
                Some(_) => return wrong(what),
            }
        }
        match fields.next()? {
            None | Some(Value::Null) => {}
            // The hub would have to speak all the time.
            Some(Value::Unsigned(1..1000)) => {
                return Err(FrameError::State("an idle time-out below 1 s"));
            }
            Some(Value::Unsigned(_)) => {}
            Some(_) => return wrong("an idle time-out"),
        }
        for what in ["locales", "locales", "capabilities", "capabilities"] {
            match fields.next()? {
                None | Some(Value::Null | Value::Symbol(_) | Value::Array) => {}
                Some(_) => return wrong(what),
            }
        }
        match fields.next()? {
            None | Some(Value::Null | Value::Map(_)) => Ok(()),
            Some(_) => wrong("properties"),
        }
    }

    fn begin(&mut self, channel: u16, proven: bool) -> Result<(), FrameError> {
        let most = match proven {
            true => limits::AMQP_SESSIONS,
            false => limits::AMQP_UNPROVEN_SESSIONS,
        };
        if self.channels.len() >= most || channel > limits::AMQP_CHANNEL_MAX {
            return Err(FrameError::TooMany("sessions"));
        }
        match self.channels.insert(channel) {
            true => Ok(()),
            false => Err(FrameError::State("the channel has a session already")),
        }
    }

    fn attach(&mut self, channel: u16, handle: u32, proven: bool) -> Result<(), FrameError> {
        self.mapped(channel)?;
        let most = match proven {
            true => limits::AMQP_LINKS,
            false => limits::AMQP_UNPROVEN_LINKS,
        };
        if self.links.len() >= most || handle > limits::AMQP_HANDLE_MAX {
            return Err(FrameError::TooMany("links"));
        }
        match self.links.insert((channel, handle)) {
            true => Ok(()),
            false => Err(FrameError::State("the handle has a link already")),
        }
    }

    fn transfer(&mut self, channel: u16, fields: &mut Fields<'_>) -> Result<(), FrameError> {
        self.attached(channel, fields.handle()?)?;
        fields.skip(1)?;
        match fields.next()? {
            Some(Value::Binary(tag)) if tag.len() > TAG_BYTES => {
                Err(FrameError::State("a delivery tag has at most 32 bytes"))
            }
            _ => Ok(()),
        }
    }

    fn mapped(&self, channel: u16) -> Result<(), FrameError> {
        match self.channels.contains(&channel) {
            true => Ok(()),
            false => Err(FrameError::State("the channel has no session")),
        }
    }

    fn attached(&self, channel: u16, handle: u32) -> Result<(), FrameError> {
        match self.links.contains(&(channel, handle)) {
            true => Ok(()),
            false => Err(FrameError::State("the handle has no link")),
        }
    }
}

/// Checks one whole frame of the SASL layer.
///
/// # Errors
/// [`FrameError`]: the connection is to be closed.
pub(crate) fn check_sasl(frame: &[u8]) -> Result<(), FrameError> {
    let (_, body) = unwrap(frame, SASL)?;
    let mut reader = Reader(body);
    check_value(&mut reader)?;
    if reader.is_empty() { Ok(()) } else { Err(FrameError::Trailing) }
}

/// How many bytes the next frame has, when its size is there.
///
/// # Errors
/// A size that no frame may have.
pub(crate) fn size_of(bytes: &[u8], most: usize) -> Result<Option<usize>, FrameError> {
    let Some(size) = bytes.first_chunk() else { return Ok(None) };
    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
    match size {
        HEADER_BYTES.. if size <= most => Ok(Some(size)),
        _ => Err(FrameError::Size(size)),
    }
}

fn unwrap(frame: &[u8], wanted: u8) -> Result<(u16, &[u8]), FrameError> {
    let Some((&[_, _, _, _, offset, kind, high, low], body)) = frame.split_first_chunk() else {
        return Err(FrameError::Size(frame.len()));
    };
    if offset != 2 {
        return Err(FrameError::Offset(offset));
    }
    if kind != wanted {
        return Err(FrameError::Kind(kind));
    }
    Ok((u16::from_be_bytes([high, low]), body))
}

/// Fields of a performative; those at its end may be left out.
struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Value<'a>>, Malformed> {
        match self.0.is_empty() {
            true => Ok(None),
            false => self.0.value().map(Some),
        }
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        for _ in 0..count {
            self.next()?;
        }
        Ok(())
    }

    fn handle(&mut self) -> Result<u32, Malformed> {
        self.optional_handle()?.ok_or(Malformed::Expected("a handle"))
    }

    fn optional_handle(&mut self) -> Result<Option<u32>, Malformed> {
        match self.next()? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Unsigned(handle)) => {
                u32::try_from(handle).map(Some).map_err(|_| Malformed::Expected("a handle"))
            }
            Some(_) => Err(Malformed::Expected("a handle")),
        }
    }
}
